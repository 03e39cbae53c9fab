"""What moves elements about or changes their type, and constants."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from .. import functional as F
from ..errors import ArgumentError, OperatorError, mismatch
from ..tensor import Tensor
from .registry import Node, Run, operator
from .values import host, integers, is_float, number


def reshaped(x: Any, shape: Any) -> Any:
    return F.reshape(x, tuple(shape)) if is_float(x) else host(x).reshape(tuple(shape))


def permuted(x: Any, order: Any) -> Any:
    return F.permute(x, list(order)) if is_float(x) else host(x).transpose(order)


@operator("Identity", last=25)
def identity(node: Node) -> Run:
    return lambda x: x


@operator("Constant", last=25)
def constant(node: Node) -> Run:
    for name in ("sparse_value", "value_string", "value_strings"):
        node.refuse(name)
    dtypes = {"value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
              "value_ints": np.int64}  # fmt: skip
    (value,) = (np.asarray(node.attributes[name], dtype) for name, dtype in dtypes.items() if name in node.attributes)
    return lambda: value


@operator("ConstantOfShape", last=25)
def constant_of_shape(node: Node) -> Run:
    value = np.asarray(node.get("value", np.zeros(1, np.float32))).reshape(())
    return lambda shape: np.full(integers(shape), value, value.dtype)


@operator("Shape", last=25)
def shape_of(node: Node) -> Run:
    start, end = node.get("start", 0), node.get("end", None)
    return lambda x: np.array(tuple(x.shape)[start:end], np.int64)


@operator("Size", last=25)
def size_of(node: Node) -> Run:
    return lambda x: np.array(prod(x.shape), np.int64)


@operator("Range", last=27)
def arange(node: Node) -> Run:
    def run(start: Any, limit: Any, delta: Any) -> Any:
        start, limit, delta = (host(v).reshape(()) for v in (start, limit, delta))
        count = max(int(np.ceil((limit - start) / delta)), 0)
        return (start + delta * np.arange(count)).astype(start.dtype)

    return run


@operator("Reshape", last=25)
def reshape(node: Node) -> Run:
    fixed, keep_zeros = node.get("shape"), node.get("allowzero", 0)

    def run(x: Any, shape: Any = None) -> Any:
        sizes = integers(fixed if shape is None else shape)
        if not keep_zeros:
            sizes = tuple(x.shape[i] if size == 0 else size for i, size in enumerate(sizes))
        return reshaped(x, _without_batch(x.shape, sizes))

    return run


def _without_batch(old: Sequence[int], new: Sequence[int]) -> Sequence[int]:
    """Resolve -1 for an array without elements as if its empty axes had one: a batch of none keeps its features."""
    if 0 not in old or 0 not in new or -1 not in new:
        return new
    rest = prod(size or 1 for size in old) // prod(size or 1 for size in new if size != -1)
    return [rest if size == -1 else size for size in new]


@operator("Flatten", last=25)
def flatten(node: Node) -> Run:
    axis = node.get("axis", 1)

    def run(x: Any) -> Any:
        first = axis if axis >= 0 else axis + len(x.shape)
        return reshaped(x, (prod(x.shape[:first]), prod(x.shape[first:])))

    return run


@operator("Squeeze", last=25)
def squeeze(node: Node) -> Run:
    fixed = node.get("axes")

    def run(x: Any, axes: Any = None) -> Any:
        given = integers(axes) if axes is not None else tuple(fixed or ())
        gone = {a % len(x.shape) for a in given} or {i for i, size in enumerate(x.shape) if size == 1}
        if any(x.shape[i] != 1 for i in gone):
            raise ArgumentError(mismatch(node.where, f"axes of size 1 of {tuple(x.shape)}", sorted(gone)))
        return reshaped(x, [size for i, size in enumerate(x.shape) if i not in gone])

    return run


@operator("Unsqueeze", last=25)
def unsqueeze(node: Node) -> Run:
    fixed = node.get("axes")

    def run(x: Any, axes: Any = None) -> Any:
        given = integers(axes) if axes is not None else tuple(fixed)
        ndim, old = len(x.shape) + len(given), iter(x.shape)
        new = {a % ndim for a in given}
        return reshaped(x, [1 if i in new else next(old) for i in range(ndim)])

    return run


@operator("Transpose", last=25)
def transpose(node: Node) -> Run:
    order = node.get("perm")
    return lambda x: permuted(x, order if order is not None else range(len(x.shape))[::-1])


@operator("Expand", last=13)
def expand(node: Node) -> Run:
    def run(x: Any, shape: Any) -> Any:
        full = np.broadcast_shapes(tuple(x.shape), integers(shape))
        return F.broadcast_to(x, full) if is_float(x) else np.broadcast_to(host(x), full)

    return run


@operator("Tile", first=6, last=13)
def tile(node: Node) -> Run:
    def run(x: Any, repeats: Any) -> Any:
        counts = integers(repeats)
        return F.tile(x, counts) if is_float(x) else np.tile(host(x), counts)

    return run


# --------------------------------------------------------------------------------------- joining, cutting


@operator("Concat", last=13)
def concat(node: Node) -> Run:
    axis = node.get("axis", 1)

    def run(*parts: Any) -> Any:
        if all(is_float(part) for part in parts):
            return F.cat(parts, axis)
        return np.concatenate([host(part) for part in parts], axis)

    return run


@operator("Split", last=18)
def split(node: Node) -> Run:
    axis, fixed = node.get("axis", 0), node.get("split")
    count = node.get("num_outputs", len(node.outputs))

    def run(x: Any, sizes: Any = None) -> tuple:
        total = x.shape[axis]
        each = -(-total // count)
        if sizes is None and not fixed:
            parts = [min(each, max(total - i * each, 0)) for i in range(count)]
        else:
            parts = list(integers(sizes) if sizes is not None else fixed)
        if is_float(x):
            return F.split(x, parts, axis)
        return tuple(np.split(host(x), list(accumulate(parts))[:-1], axis))

    return run


_PADDINGS = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad", last=25, options=(1, 2, 3))
def pad(node: Node) -> Run:
    mode = node.choice("mode", "constant", *_PADDINGS)
    fixed = node.get("pads", node.get("paddings"))

    def run(x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
        ndim = len(x.shape)
        ends = integers(pads) if pads is not None else tuple(fixed)
        chosen = [a % ndim for a in (integers(axes) if axes is not None else range(ndim))]
        widths = [(0, 0)] * ndim
        for axis, before, after in zip(chosen, ends[: len(chosen)], ends[len(chosen) :], strict=True):
            widths[axis] = before, after
        filling = node.get("value", 0.0) if value is None or not value.size else number(value)
        if is_float(x):
            return F.pad(x, [end for width in widths[::-1] for end in width], _PADDINGS[mode], filling)
        if min(ends, default=0) < 0:
            raise OperatorError(mismatch(node.where, f"pads of at least 0 for {x.dtype}", ends))
        options = {"constant_values": host(value) if value is not None else 0} if mode == "constant" else {}
        return np.pad(host(x), widths, mode, **options)

    return run


@operator("DepthToSpace", last=28)
def depth_to_space(node: Node) -> Run:
    b, columns_first = node.get("blocksize"), node.choice("mode", "DCR", "DCR", "CRD") == "CRD"

    def run(x: Any) -> Any:
        n, c, h, w = x.shape
        c //= b * b
        if columns_first:
            y = permuted(reshaped(x, (n, c, b, b, h, w)), (0, 1, 4, 2, 5, 3))
        else:
            y = permuted(reshaped(x, (n, b, b, c, h, w)), (0, 3, 4, 1, 5, 2))
        return reshaped(y, (n, c, h * b, w * b))

    return run


@operator("SpaceToDepth", last=28)
def space_to_depth(node: Node) -> Run:
    b, columns_first = node.get("blocksize"), node.choice("mode", "DCR", "DCR", "CRD") == "CRD"

    def run(x: Any) -> Any:
        n, c, h, w = x.shape
        blocks = reshaped(x, (n, c, h // b, b, w // b, b))
        y = permuted(blocks, (0, 1, 3, 5, 2, 4) if columns_first else (0, 3, 5, 1, 2, 4))
        return reshaped(y, (n, c * b * b, h // b, w // b))

    return run


# ---------------------------------------------------------------------------------------------- types


def _cast(x: Any, dtype: np.dtype) -> Any:
    if x.dtype == dtype:
        return x
    if is_float(x) and dtype in (np.float32, np.float64):
        return x.to(dtype) if isinstance(x, Tensor) else x.astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # beyond an integer's range the result is undefined
        return host(x).astype(dtype)


_TYPES = {"FLOAT": np.float32, "DOUBLE": np.float64, "FLOAT16": np.float16, "BOOL": np.bool_} | {
    f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)
}


@operator("Cast", last=28)
def cast(node: Node) -> Run:
    import onnx

    to = node.get("to")
    name = to if isinstance(to, str) else onnx.TensorProto.DataType.Name(to)
    if name not in _TYPES:
        raise OperatorError(mismatch(node.where, f"a type to cast to among {', '.join(_TYPES)}", name))
    dtype = np.dtype(_TYPES[name])
    return lambda x: _cast(x, dtype)


@operator("CastLike", last=28)
def cast_like(node: Node) -> Run:
    def run(x: Any, target: Any) -> Any:
        if target.dtype not in _TYPES.values():
            raise OperatorError(mismatch(node.where, f"a type to cast to among {', '.join(_TYPES)}", target.dtype))
        return _cast(x, target.dtype)

    return run
