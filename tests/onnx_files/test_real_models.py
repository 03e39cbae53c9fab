"""The networks that come with the package onnx, filled with random weights: the same outputs as onnxruntime's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import onnx
from onnx import numpy_helper

import fastconv
import fastconv.onnx

SMALL = ("squeezenet", "shufflenet", "inception_v1", "inception_v2", "densenet121", "resnet50")
LARGE = ("bvlc_alexnet", "zfnet512", "vgg19")


def filled(name: str):
    """Return a light model with random weights in place of constants, its outputs those before the softmax too."""
    model = onnx.load(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t).tolist() for t in graph.initializer}
    made = {node.output[0]: shapes[node.input[0]] for node in graph.node if node.op_type == "ConstantOfShape"}
    keep(graph.node, lambda node: node.op_type != "ConstantOfShape")
    used = {value for node in graph.node for value in node.input}
    keep(graph.initializer, lambda entry: entry.name in used)
    keep(graph.input, lambda entry: entry.name in used and entry.name not in shapes)
    for node in graph.node:
        if node.op_type == "Softmax":
            scores = graph.output.add()
            scores.CopyFrom(graph.output[0])
            scores.name = node.input[0]
    model.ir_version = 8  # from 4 on initializers need not be inputs too
    for value, shape in made.items():
        if len(shape) > 1:  # as He et al. 2015, but uniform
            weights = rng.random(shape, np.float32) - np.float32(0.5)
            weights *= np.float32(np.sqrt(24 / np.prod(shape[1:])))
        else:  # biases, and batch normalisation's four
            weights = rng.random(shape, np.float32) + np.float32(0.5)
        graph.initializer.append(numpy_helper.from_array(weights, value))
    return model


def keep(entries, wanted) -> None:
    for i in range(len(entries) - 1, -1, -1):
        if not wanted(entries[i]):
            del entries[i]


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


@pytest.mark.skipif(not os.environ.get("CI"), reason="half a gigabyte of weights: CI=true runs them")
@pytest.mark.parametrize("name", LARGE)
def test_larger_ones_like_onnxruntime(name):
    like_onnxruntime(name)
