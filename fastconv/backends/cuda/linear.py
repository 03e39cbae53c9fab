"""The fully connected layer: the product of the convolutions, over matrices as they lie."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from . import shape, tiles, windows
from .array import DeviceArray, empty
from .conv_backward_weight import add_parts
from .parts import planned, run_planned
from .problem import Problem, Tile, problem
from .product import Form, run


def linear_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, frozen: bool | dict = False, compute: str = "float32"
) -> DeviceArray:
    compute = tiles.taken_up(compute, x.itemsize)
    (n, depth), outputs = x.shape, w.shape[0]
    y = empty((n, outputs), x.dtype)
    a, b_ = ("rows", _width(depth, x), False), ("rows", _width(depth, w), False)
    _planned("linear_forward", (n, outputs, depth), (a, b_), (depth, depth), (x, w, b, y), compute)
    return y


def linear_backward_input(dy: DeviceArray, w: DeviceArray, compute: str = "float32") -> DeviceArray:
    compute = tiles.taken_up(compute, dy.itemsize)
    (n, depth), inputs = dy.shape, w.shape[1]
    dx = empty((n, inputs), dy.dtype)
    a, b = ("rows", _width(depth, dy), False), ("columns", _width(inputs, w), False)
    _planned("linear_backward_input", (n, inputs, depth), (a, b), (depth, inputs), (dy, w, None, dx), compute)
    return dx


def linear_backward_weight(dy: DeviceArray, x: DeviceArray, compute: str = "float32") -> DeviceArray:
    compute = tiles.taken_up(compute, x.itemsize)
    (depth, outputs), inputs = dy.shape, x.shape[1]
    tile, parts, part = tiles.pick_parts(outputs, inputs, depth, 1, x.itemsize, compute)
    sums = empty((parts, outputs * inputs), x.dtype)
    a, b = ("columns", _width(outputs, dy), False), ("columns", _width(inputs, x), False)
    sizes, strides = (outputs, inputs, depth), (outputs, inputs)
    form, p = _product(tile, part, sizes, (a, b), strides, None, sums, compute)
    run("linear_backward_weight", form, p, 1, dy, x, None, sums, windows.no_table(), parts)
    return add_parts("linear_backward_weight", [sums], (outputs, inputs))


def matmul(a: DeviceArray, b: DeviceArray) -> DeviceArray:
    """One product after the other."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns = (
        shape.reshape(shape.broadcast_to(x, (*lead, *x.shape[-2:])), (prod(lead), *x.shape[-2:])) for x in (a, b)
    )
    full = *lead, a.shape[-2], b.shape[-1]
    if not prod(lead):
        return empty(full, a.dtype)
    each = [linear_forward(rows[i], shape.permute(columns[i], (1, 0)), None) for i in range(len(rows))]
    return shape.reshape(shape.cat(each, 0), full)


def _width(neighbours: int, array: DeviceArray) -> int:
    """Return how many neighbours of a matrix may be read together."""
    wide = 16 // array.itemsize
    return wide if neighbours % wide == 0 and windows.aligned(array) else 1


def _planned(
    op: str, sizes: tuple[int, int, int], loaders: tuple[tuple, tuple], strides: tuple[int, int],
    arrays: tuple[Any, ...], compute: str,
) -> None:  # fmt: skip
    """Start a product whose rows are samples."""
    rows, columns, depth = sizes
    a, b, bias, c = arrays
    plan = planned((1, columns), (rows, columns), depth, 1, c.itemsize, compute)
    biased = None if bias is None else "columns"
    form, p = _product(plan.tile, plan.part, sizes, loaders, strides, biased, c, compute)
    run_planned(op, form, plan, p, 1, a, b, bias, c, windows.no_table())


def _product(
    tile: Tile, part: int, sizes: tuple[int, int, int], loaders: tuple[tuple, tuple], strides: tuple[int, int],
    bias: str | None, c: DeviceArray, compute: str,
) -> tuple[Form, Problem]:  # fmt: skip
    rows, columns, depth = sizes
    width = tiles.width(tile, compute, columns, c.itemsize)
    form = Form(c.dtype.name, tile, *loaders, "rows", width, bias, None, compute, tiles.cores(compute))
    a_stride, b_stride = strides
    return form, problem(
        rows=rows, columns=columns, depth=depth, part=part, row_tiles=-(-rows // tile.rows), c_stride=columns,
        a_stride=a_stride, b_stride=b_stride, c_part=rows * columns,
    )  # fmt: skip
