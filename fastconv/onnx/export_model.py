"""``export``: a model as a file of ONNX. What each verb of the backend becomes stands in export_*.py beside this."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..arguments import flag, integer
from ..data.files import write_atomic
from ..errors import ArgumentError, DataError, GraphError, mismatch
from ..graph import Graph, Times, Value, trace
from ..nn.modes import in_mode
from .export_builder import OP, Builder, Written, load_writers
from .files import need_onnx

OLDEST, NEWEST = 13, 22  # opsets


def export(
    model: Callable, inputs: Any, path: str | os.PathLike[str] | None = None, opset: int = 18,
    dynamic_batch: bool = True, input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Any:  # fmt: skip
    """Return ``model`` in inference mode as a ``ModelProto`` of ONNX, and write it to ``path`` if there is one.

    The model is traced (``fastconv.trace``), so any model and function can be exported whose operations ONNX has.
    A convolution of images is a plain Conv over images in the file; batch norm, activations and pooling are what they
    are called; dropout is gone. Parameters and buffers keep their dotted names. The file is written atomically.

    Args:
        model: a Module (its mode is put back afterwards), or any function of Tensors that returns Tensors.
        inputs: an array or Tensor, or a tuple or list of them: examples of what the model takes.
        path: where to write the file; None does not.
        opset: the version of ONNX's operators, 13 to 22.
        dynamic_batch: the first axis of the inputs is the symbolic size 'batch', and the file takes any; False fixes
            all sizes to those of ``inputs``.
        input_names, output_names: names for the inputs (else those of the parameters of ``forward``) and the outputs
            (else 'output', or those of the dict or named tuple that the model returns, or 'output0', 'output1', ...).
        metadata: strings to store in the file.

    Raises:
        ImportError: the package onnx is missing.
        OperatorError: operations that ONNX does not have, with their modules.
        GraphError: the model cannot be traced; or not with a dynamic batch, and why.
        DataError: the file cannot be written, or is larger than ONNX's format allows (2 GB).

    >>> import numpy as np
    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> file = export(net, np.zeros((1, 1, 4, 4), np.float32))
    >>> [node.op_type for node in file.graph.node]
    ['Conv', 'BatchNormalization', 'Relu', 'Flatten', 'Gemm']
    """
    onnx = need_onnx()
    opset = integer(OP, "opset", opset, OLDEST)
    if opset > min(NEWEST, onnx.defs.onnx_opset_version()):
        expected = f"opset of {OLDEST} to {min(NEWEST, onnx.defs.onnx_opset_version())}"
        raise ArgumentError(mismatch(OP, expected, opset))
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    with in_mode(model, False):
        graph = trace(model, *given, dynamic=flag(OP, "dynamic_batch", dynamic_batch))
    if dynamic_batch and graph.fixed:
        expected = "a model that takes any batch (else dynamic_batch=False)"
        raise GraphError(mismatch(OP, expected, graph.fixed))
    for value, name in zip(graph.inputs, _named("input_names", input_names, len(graph.inputs)), strict=False):
        value.name = name
    load_writers()
    proto = _proto(onnx, graph, opset, output_names)
    if metadata:
        onnx.helper.set_model_props(proto, _strings(metadata))
    if path is not None:
        _write(path, proto)
    return proto


def _named(option: str, names: Sequence[str] | None, count: int) -> Sequence[str]:
    if names is None:
        return ()
    plain = isinstance(names, (list, tuple)) and all(isinstance(name, str) and name for name in names)
    if not plain or len(set(names)) != len(names) or len(names) != count:
        raise ArgumentError(mismatch(OP, f"{option} of {count} different names", names))
    return names


def _strings(metadata: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(metadata, Mapping) or not all(isinstance(s, str) for item in metadata.items() for s in item):
        raise ArgumentError(mismatch(OP, "metadata of strings by name", metadata))
    return dict(metadata)


def _write(path: str | os.PathLike[str], proto: Any) -> None:
    try:
        data = proto.SerializeToString()
    except Exception as error:  # the message and class of protobuf's errors differ between versions
        raise DataError(mismatch(OP, "a model of less than 2 GB", error)) from None
    try:
        write_atomic(path, data)
    except OSError as error:
        raise DataError(mismatch(OP, f"{path} to be writable", error.strerror or error)) from None


# -------------------------------------------------------------------------------------------------- the file


def _proto(onnx: Any, graph: Graph, opset: int, output_names: Sequence[str] | None) -> Any:
    from .. import __version__

    builder = Builder(graph, opset)
    builder.write_all()
    leaves = list(_leaves(graph.outputs))
    names = _named("output_names", output_names, len(leaves)) or [name for name, _ in leaves]
    outputs = [(builder.unique(name), value) for name, (_, value) in zip(names, leaves, strict=True)]
    lie = [builder.exact(value) for _, value in outputs]
    nodes = _alive(builder.nodes, lie)
    names = {}
    for (name, _), tensor in zip(outputs, lie, strict=True):
        if tensor.startswith("$") and tensor not in names:
            names[tensor] = name
        else:  # an input or a constant that is returned, or a tensor that is returned twice
            nodes.append(Written("Identity", [tensor], [name], {}, ""))
    opsets = [onnx.helper.make_opsetid("", opset)]
    proto = onnx.ModelProto(
        ir_version=onnx.helper.find_min_ir_version_for(opsets), opset_import=opsets, producer_name="fastconv",
        producer_version=__version__,
    )  # fmt: skip
    proto.graph.name = graph.name
    proto.graph.node.extend(_node_protos(onnx, builder, nodes, names))
    proto.graph.input.extend(_declared(onnx, builder.stored(value).name, value) for value in graph.inputs)
    proto.graph.output.extend(_declared(onnx, name, value) for name, value in outputs)
    used = {name for node in nodes for name in node.inputs}
    for name, array in builder.initializers.items():
        if name in used:  # filled in place: the weights are copied once
            _fill(onnx, proto.graph.initializer.add(), name, array)
    return proto


def _fill(onnx: Any, tensor: Any, name: str, array: np.ndarray) -> None:
    tensor.name, tensor.data_type = name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype.newbyteorder("="))
    tensor.dims.extend(array.shape)
    tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _leaves(tree: Any, name: str = "output") -> Iterator[tuple[str, Value]]:
    """Yield the values that a model returns, with names."""
    if isinstance(tree, Value):
        yield name, tree
    elif isinstance(tree, dict):
        for key, entry in tree.items():
            yield from _leaves(entry, str(key) if name == "output" else f"{name}.{key}")
    elif isinstance(tree, (tuple, list)):
        fields = getattr(tree, "_fields", range(len(tree)))
        for field, entry in zip(fields, tree, strict=True):
            inner = field if isinstance(field, str) and name == "output" else f"{name}{field}"
            yield from _leaves(entry, inner)


def _alive(nodes: Sequence[Written], needed: Sequence[str]) -> list[Written]:
    """Return the nodes on which ``needed`` tensors depend; the others were tried and are not used."""
    alive, wanted = [], set(needed)
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            alive.append(node)
            wanted.update(node.inputs)
    return alive[::-1]


def _node_protos(onnx: Any, builder: Builder, nodes: Sequence[Written], names: dict[str, str]) -> list[Any]:
    """Name tensors and nodes by their modules, and make the protos."""
    protos = []
    for node in nodes:
        name = builder.unique(f"{node.module}/{node.op}" if node.module else node.op)
        for i, output in enumerate(node.outputs):
            if output.startswith("$"):
                names.setdefault(output, name if i == 0 else f"{name}.{i}")
        inputs = [names.get(tensor, tensor) for tensor in node.inputs]
        results = [names.get(tensor, tensor) for tensor in node.outputs]
        protos.append(onnx.helper.make_node(node.op, inputs, results, name=name, **node.attributes))
    return protos


def _declared(onnx: Any, name: str, value: Value) -> Any:
    return onnx.helper.make_tensor_value_info(
        name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), [_size(size) for size in value.sizes]
    )


def _size(size: Any) -> int | str:
    if not isinstance(size, Times):
        return size
    return "batch" if size.count == 1 else f"{size.count}*batch"
