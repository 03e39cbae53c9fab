"""The networks that come with the package onnx, filled with random weights: the same outputs as onnxruntime's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx.checker", reason="onnx is missing: pip install fastconv[onnx]")
import onnx
from onnx import numpy_helper

import fastconv
import fastconv.onnx
from fastconv import optim
from fastconv import functional as F

SMALL = ("squeezenet", "shufflenet", "inception_v1")
LARGE = ("densenet121", "inception_v2", "resnet50", "zfnet512", "bvlc_alexnet", "vgg19")


def filled(name: str):
    """Return a light model with random weights in place of constants, its outputs those before the softmax too."""
    model = onnx.load(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t).tolist() for t in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shape = shapes[node.input[0]]
        if len(shape) > 1:  # He et al. 2015
            values = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        else:  # biases, and batch normalisation's four
            values = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for entries in (graph.input, graph.initializer):
        for entry in [entry for entry in entries if entry.name not in used]:
            entries.remove(entry)
    for entry in [entry for entry in graph.input if entry.name in {t.name for t in graph.initializer}]:
        graph.input.remove(entry)
    for node in [node for node in graph.node if node.op_type == "Softmax"]:
        graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    return model


def like_onnxruntime(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install fastconv[peers]")
    proto = filled(name)
    model = fastconv.onnx.load(proto)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    del proto
    (entry,) = session.get_inputs()
    x = np.random.default_rng(1).standard_normal(entry.shape).astype(np.float32)
    with fastconv.no_grad():
        results = model(x)
    results = results if isinstance(results, tuple) else (results,)
    for ours, theirs in zip(results, session.run(None, {entry.name: x}), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours.numpy() - theirs).max() <= 1e-4 * np.abs(theirs).max()
        assert np.ptp(theirs) > 1e-3 * np.abs(theirs).max()  # not all one value


@pytest.mark.parametrize("name", SMALL)
def test_like_onnxruntime(name):
    like_onnxruntime(name)


@pytest.mark.parametrize("name", LARGE)
def test_larger_ones_like_onnxruntime(name):
    like_onnxruntime(name)
