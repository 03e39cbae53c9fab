"""Small graphs of ONNX, made for tests; and onnxruntime, the oracle for what old opsets mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import onnx
from onnx import helper, numpy_helper


def model(
    nodes: Sequence[Any], inputs: Mapping[str, Sequence | None], outputs: Sequence[str],
    initial: Mapping[str, np.ndarray] | None = None, opset: int = 17, types: Mapping[str, Any] | None = None,
    **options: Any,
):  # fmt: skip
    """Return a ModelProto. ``inputs``: name -> shape, whose sizes may be names; ``types``: NumPy's, float32 if left
    out, for inputs and outputs."""
    types = types or {}

    def described(name: str, shape: Sequence | None):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(types.get(name, np.float32)))
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        list(nodes), "test",
        [described(*entry) for entry in inputs.items()], [described(name, ["?"]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (initial or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **options)


def node(
    op: str, inputs: Sequence[np.ndarray | None], opset: int, outputs: int = 1, constant: int = 0, **attributes: Any
):
    """Return a ModelProto of one node; its last ``constant`` inputs are initializers, None is an input left out."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(inputs)]
    given = {name: value for name, value in zip(names, inputs, strict=True) if name}
    kept = dict(list(given.items())[len(given) - constant :]) if constant else {}
    free = {name: value for name, value in given.items() if name not in kept}
    made = [f"y{i}" for i in range(outputs)]
    proto = model(
        [helper.make_node(op, names, made, name="it", **attributes)],
        {name: [f"{name}_{i}" for i in range(np.ndim(value))] for name, value in free.items()},
        made, kept, opset, {name: value.dtype for name, value in free.items()},
    )  # fmt: skip
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in made)
    proto = onnx.shape_inference.infer_shapes(proto)
    for entry in proto.graph.output:
        entry.type.tensor_type.shape.SetInParent()  # one must be there, where it is not known too
    return proto, free


def runtime(proto: Any, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return onnxruntime's outputs, or skip the test that asked."""
    package = pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install fastconv[peers]")
    options = package.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = package.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))
