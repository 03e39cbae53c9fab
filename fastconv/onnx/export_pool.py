"""Export of pooling. A geometry has lists of windows; ONNX wants kernels, strides and paddings, which are found here.

Windows that are not regular (adaptive pooling, where sizes do not divide) become products with a matrix for each axis,
or maxima over gathered elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from ..geometry import AxisWindows, PoolGeometry
from ..graph import Node, Value
from .export_builder import Builder, Stored, geometry_of, lowered, product, put_lowered, writes


class Regular(NamedTuple):
    """The windows of one axis as ONNX says them."""

    kernel: int
    stride: int
    begin: int  # padding
    end: int
    dilation: int


def regular(axis: AxisWindows, size: int) -> Regular | None:
    """Return a kernel, stride and padding with these windows on an axis of ``size``; None if there are none.

    >>> regular(AxisWindows((0, 1, 3), (2, 3, 2), 1, (3, 3, 3)), 5)
    Regular(kernel=3, stride=2, begin=1, end=1, dilation=1)
    """
    d, count = axis.step, len(axis.start)
    if count == 1:
        strides = [1]
    else:  # the last windows start inside the axis, unless all are cut off by its beginning
        strides = [axis.start[-1] - axis.start[-2], *range(1, size + 1)]
    for stride in strides:
        if stride < 1:
            continue
        last = stride * (count - 1) - axis.start[-1]
        for begin in (last, *range(max(last, 0), size + 1)):
            found = _fitted(axis, size, stride, begin, d) if begin >= 0 else None
            if found is not None:
                return found
    return None


def _fitted(axis: AxisWindows, size: int, stride: int, begin: int, d: int) -> Regular | None:
    firsts = [o * stride - begin for o in range(len(axis.start))]
    skipped = [max(0, -(first // d)) for first in firsts]
    if any(f + s * d != start for f, s, start in zip(firsts, skipped, axis.start, strict=True)):
        return None
    kernel = max(s + c for s, c in zip(skipped, axis.count, strict=True))
    lasts = [min(kernel, -((first - size) // d)) for first in firsts]
    if any(last - s != c for last, s, c in zip(lasts, skipped, axis.count, strict=True)):
        return None
    span = d * (kernel - 1) + 1
    end = max(0, firsts[-1] + span - size)
    if len(firsts) == 1:  # any stride that leaves one window; the kernel's, if it does
        stride = max(kernel, size + begin + end - span + 1)
    if (size + begin + end - span) // stride + 1 != len(firsts) or max(begin, end) >= kernel:
        return None  # onnxruntime refuses paddings from the kernel's size on, which dilation allows
    return Regular(kernel, stride, begin, end, d)


def along(b: Builder, x: Stored, axis: int, matrix: np.ndarray) -> str:
    """Multiply an axis, one behind the first, by ``matrix`` (outputs, inputs)."""
    behind = x.sizes[axis + 1 :]
    if not behind:
        return b.emit("MatMul", [x.name, b.constant(np.ascontiguousarray(matrix.T), "weights")])
    rows = b.constant(np.ascontiguousarray(matrix), "weights")
    if len(behind) == 1:
        return b.emit("MatMul", [rows, x.name])
    flat = b.reshaped(x, (*x.sizes[: axis + 1], product(behind)))
    made = b.emit("MatMul", [rows, flat])
    return b.reshaped(Stored(made, (*x.sizes[:axis], len(matrix), product(behind))),
                      (*x.sizes[:axis], len(matrix), *behind))  # fmt: skip


def _plain(b: Builder, x: Value, g: PoolGeometry) -> tuple[str, int, list[Regular | None]]:
    """Return the name of the input, its rank, and the windows of its axes."""
    name, rank = lowered(b, x)
    if any(size != 1 for size in g.output[: 3 - rank]):
        name, rank = b.exact(x), 3
    found = [regular(axis, size) for axis, size in zip(g.windows, g.input, strict=True)]
    return name, rank, found[3 - rank :]


def _attributes(found: Sequence[Regular]) -> dict[str, list[int]]:
    kernels, strides, begins, ends, dilations = (list(column) for column in zip(*found, strict=True))
    more = {"dilations": dilations} if any(d != 1 for d in dilations) else {}
    return {"kernel_shape": kernels, "strides": strides, "pads": begins + ends, **more}


def _is_global(g: PoolGeometry, rank: int) -> bool:
    return all(axis.count == (size,) for axis, size in zip(g.windows[3 - rank :], g.input[3 - rank :], strict=True))


# ------------------------------------------------------------------------------------------------------ maxima


@writes("max_pool_forward")
def _max_pool_forward(b: Builder, node: Node) -> None:
    indices = node.results[1] if node.results[1] in b.used else None
    max_pool(b, node, node["x"], geometry_of(node), node.result, indices)


def max_pool(b: Builder, node: Node, x: Value, g: PoolGeometry, y: Value, indices: Value | None) -> None:
    """Write the maxima of the windows, and where they stand if ``indices`` are asked for."""
    name, rank, found = _plain(b, x, g)
    if None in found:
        if indices is not None:
            raise b.refused(node, "regular windows where indices are asked for", "others")
        put_lowered(b, y, _gathered_maxima(b, name, 3 - rank, g), rank)
    elif indices is not None:
        made, where = b.emit("MaxPool", [name], 2, **_attributes(found))
        plane = b.number(prod(g.input), np.int64)  # ONNX counts through the batch and the channels
        where = b.emit("Mod", [where, plane])
        if indices.dtype != np.int64:
            narrow = b.cast(where, indices.dtype)
            b.indices[narrow], where = where, narrow
        put_lowered(b, y, made, rank)
        put_lowered(b, indices, where, rank)
    elif _is_global(g, rank):
        put_lowered(b, y, b.emit("GlobalMaxPool", [name]), rank)
    else:
        made = b.emit("MaxPool", [name], 2 if _padded(b, name) else 1, **_attributes(found))
        put_lowered(b, y, made if isinstance(made, str) else made[0], rank)


def _padded(b: Builder, name: str) -> list[int]:
    """Return the widths of the constant Pad that a tensor comes from, if it does.

    onnxruntime folds such a Pad into the pooling behind it (https://github.com/microsoft/onnxruntime/pull/18136), zeros
    even into MaxPool, which pads with minus infinity, and widths that it then refuses. It does not where MaxPool has a
    second output; means are computed in another way where it would refuse.
    """
    before = b.written(name)
    if before is None or before.op != "Pad" or before.attributes["mode"] != "constant":
        return []
    return b.initializers[before.inputs[1]].tolist()


def _gathered_maxima(b: Builder, name: str, first: int, g: PoolGeometry) -> str:
    """Axis by axis: gather each window's elements, the last one again where a window has fewer, and reduce."""
    for i, (axis, size) in enumerate(zip(g.windows[first:], g.input[first:], strict=True)):
        if axis.start == tuple(range(size)) and set(axis.count) == {1}:
            continue
        places = np.arange(max(axis.count)).clip(max=np.array(axis.count)[:, None] - 1)
        table = (np.array(axis.start)[:, None] + axis.step * places).astype(np.int64)
        gathered = b.emit("Gather", [name, b.constant(table, "index")], axis=2 + i)
        name = b.reduce("ReduceMax", gathered, (3 + i,))
    return name


# ------------------------------------------------------------------------------------------------------- means


@writes("avg_pool_forward")
def _avg_pool_forward(b: Builder, node: Node) -> None:
    g, x = geometry_of(node), node["x"]
    name, rank, found = _plain(b, x, g)
    exact = g.divisor_override is None and all(axis.divisor == axis.count for axis in g.windows)
    padded = max(_padded(b, name), default=0)
    if None in found or any(_is_beyond(entry, padded, b.opset) for entry in found):
        put_lowered(b, node.result, _by_matrices(b, name, x, rank, g), rank)
    elif exact and _is_global(g, rank):
        put_lowered(b, node.result, b.emit("GlobalAveragePool", [name]), rank)
    elif exact:
        put_lowered(b, node.result, b.emit("AveragePool", [name], count_include_pad=0, **_attributes(found)), rank)
    else:
        made = b.emit("AveragePool", [name], count_include_pad=1, **_attributes(found))
        factor = _correction(g, rank, found).astype(x.dtype)
        if (factor != 1).any():
            same = (factor == factor.flat[0]).all()
            made = b.emit("Mul", [made, b.number(factor.flat[0], x.dtype) if same else b.constant(factor, "factor")])
        put_lowered(b, node.result, made, rank)


def _is_beyond(axis: Regular, padded: int, opset: int) -> bool:
    """Whether AveragePool cannot be used: with dilation in older opsets, or behind a Pad that is folded into it."""
    too_wide = padded and padded + max(axis.begin, axis.end) >= axis.kernel
    return bool(too_wide) or (axis.dilation != 1 and opset < 19)


def _correction(g: PoolGeometry, rank: int, found: Sequence[Regular]) -> np.ndarray:
    """What an average over whole windows, padding included, is to be multiplied by, at each output."""
    whole = prod(entry.kernel for entry in found)
    if g.divisor_override is not None:
        return np.full(g.output[3 - rank :], whole / g.divisor_override)
    divisor = np.ones(())
    for axis in g.windows[3 - rank :]:
        divisor = np.multiply.outer(divisor, np.array(axis.divisor, np.float64))
    return whole / divisor


def _by_matrices(b: Builder, name: str, x: Value, rank: int, g: PoolGeometry) -> str:
    sizes = (*x.sizes[:2], *x.sizes[5 - rank :])
    whole = g.divisor_override is not None
    for i, (axis, size) in enumerate(zip(g.windows[3 - rank :], g.input[3 - rank :], strict=True)):
        matrix = np.zeros((len(axis.start), size))
        for o, (start, count, divisor) in enumerate(zip(axis.start, axis.count, axis.divisor, strict=True)):
            matrix[o, start : start + count * axis.step : axis.step] = 1.0 if whole else 1.0 / divisor
        if whole and i == 0:
            matrix /= g.divisor_override
        if not np.array_equal(matrix, np.eye(size)):
            name = along(b, Stored(name, sizes), 2 + i, matrix.astype(x.dtype))
        sizes = (*sizes[: 2 + i], len(axis.start), *sizes[3 + i :])
    return name
