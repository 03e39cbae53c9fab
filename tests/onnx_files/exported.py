"""What the tests of export share: export, check the file, run it in onnxruntime with several batches, compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import Tensor, nn
from fastconv.onnx import export

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import onnx


def runtime(proto: Any) -> Any:
    """Return a session of onnxruntime, or skip the test that asked."""
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install fastconv[peers]")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    data = proto if isinstance(proto, bytes) else proto.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def arrays(shapes: Sequence[Sequence[int]], dtype: str = "float32", seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def outputs_of(model: Callable, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays that a model returns, in the order in which ``export`` names them."""
    with fastconv.no_grad():
        found = model(*(Tensor(x) for x in inputs))

    def leaves(tree: Any) -> list[np.ndarray]:
        if isinstance(tree, dict):
            tree = list(tree.values())
        if isinstance(tree, (tuple, list)):
            return [leaf for entry in tree for leaf in leaves(entry)]
        return [] if tree is None else [tree.numpy()]

    return leaves(found)


def assert_close(actual: np.ndarray, expected: np.ndarray, bound: float, what: str = "") -> None:
    """Assert dtype, shape, and differences of at most ``bound`` relative to the largest value."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    same = np.isnan(actual) & np.isnan(expected) if actual.dtype.kind == "f" else False
    difference = np.where(same | (actual == expected), 0, np.abs(actual.astype("f8") - expected.astype("f8")))
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    assert difference.max(initial=0) <= bound * largest, f"{what} {difference.max()} of {largest}"


def check(
    model: Callable, shapes: Sequence[Sequence[int]], *, opset: int = 18, batches: Sequence[int] = (1, 3),
    bound: float = 1e-5, **options: Any,
) -> Any:  # fmt: skip
    """Export ``model`` with inputs of ``shapes``; compare with onnxruntime for these and other batches."""
    if isinstance(model, nn.Module):
        model.eval()
    proto = export(model, arrays(shapes), opset=opset, **options)
    data = proto.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    session = runtime(data)
    names = [value.name for value in session.get_inputs()]
    for batch in (shapes[0][0], *batches) if options.get("dynamic_batch", True) else (shapes[0][0],):
        given = arrays([(batch, *shape[1:]) for shape in shapes], seed=batch)
        expected = outputs_of(model, given)
        actual = session.run(None, dict(zip(names, given, strict=True)))
        for mine, theirs in zip(actual, expected, strict=True):
            assert_close(mine, theirs, bound, f"batch {batch}")
    return proto


def ops(proto: Any) -> str:
    """The operators of a file, in their order."""
    return " ".join(node.op_type for node in proto.graph.node)


def settled(model: nn.Module) -> nn.Module:
    """Give a network values under which each layer sees numbers of about unit size, statistics included."""
    normal = np.random.default_rng(7).standard_normal(1_000_003, np.float32)
    for _, module, name, value in model._slots():
        array = np.asarray(value)
        if array.ndim > 1:
            new = np.resize(normal, array.shape) * np.float32(np.sqrt(2 / array[0].size))
        elif array.ndim == 1:
            new = (1 if name in ("weight", "running_var") else 0) + np.resize(normal, array.shape).clip(-3, 3) / 10
        else:
            continue
        if isinstance(value, nn.Parameter):
            value.data = new.astype(np.float32)
        else:
            setattr(module, name, new.astype(np.float32))
    return model
