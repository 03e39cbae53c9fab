"""The fully connected layer: the product of the convolutions, over matrices as they lie."""

from __future__ import annotations

from typing import Any

from . import tiles, windows
from .array import DeviceArray, empty
from .conv_backward_weight import add_parts
from .problem import Tile, problem
from .product import Form, run


def linear_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, frozen: bool | dict = False, compute: str = "float32"
) -> DeviceArray:
    compute = tiles.taken_up(compute, x.itemsize)
    (n, depth), outputs = x.shape, w.shape[0]
    y = empty((n, outputs), x.dtype)
    tile = tiles.pick(n, outputs, 1, x.itemsize, compute)
    a, b_ = ("rows", _width(depth, x), False), ("rows", _width(depth, w), False)
    strides = {"a_stride": depth, "b_stride": depth}
    _run("linear_forward", tile, (n, outputs, depth), a, b_, strides, (x, w, b, y), compute)
    return y


def linear_backward_input(dy: DeviceArray, w: DeviceArray, compute: str = "float32") -> DeviceArray:
    compute = tiles.taken_up(compute, dy.itemsize)
    (n, depth), inputs = dy.shape, w.shape[1]
    dx = empty((n, inputs), dy.dtype)
    tile = tiles.pick(n, inputs, 1, dy.itemsize, compute)
    a, b = ("rows", _width(depth, dy), False), ("columns", _width(inputs, w), False)
    strides = {"a_stride": depth, "b_stride": inputs}
    _run("linear_backward_input", tile, (n, inputs, depth), a, b, strides, (dy, w, None, dx), compute)
    return dx


def linear_backward_weight(dy: DeviceArray, x: DeviceArray, compute: str = "float32") -> DeviceArray:
    compute = tiles.taken_up(compute, x.itemsize)
    (depth, outputs), inputs = dy.shape, x.shape[1]
    tile, parts, part = tiles.pick_parts(outputs, inputs, depth, 1, x.itemsize, compute)
    sums = empty((parts, outputs * inputs), x.dtype)
    a, b = ("columns", _width(outputs, dy), False), ("columns", _width(inputs, x), False)
    strides = {"a_stride": outputs, "b_stride": inputs, "part": part, "c_part": outputs * inputs}
    _run("linear_backward_weight", tile, (outputs, inputs, depth), a, b, strides, (dy, x, None, sums), compute, parts)
    return add_parts("linear_backward_weight", [sums], (outputs, inputs))


def _width(neighbours: int, array: DeviceArray) -> int:
    """Return how many neighbours of a matrix may be read together."""
    wide = 16 // array.itemsize
    return wide if neighbours % wide == 0 and windows.aligned(array) else 1


def _run(
    op: str, tile: Tile, sizes: tuple[int, int, int], a: tuple, b: tuple, strides: dict[str, int],
    arrays: tuple[Any, ...], compute: str, parts: int = 1,
) -> None:  # fmt: skip
    rows, columns, depth = sizes
    left, right, bias, c = arrays
    width = tiles.width(tile, compute, columns, c.itemsize)
    biased = None if bias is None else "columns"
    form = Form(c.dtype.name, tile, a, b, "rows", width, biased, None, compute, tiles.cores(compute))
    p = problem(
        rows=rows, columns=columns, depth=depth, row_tiles=-(-rows // tile.rows), c_stride=columns,
        **{"part": depth} | strides,
    )  # fmt: skip
    run(op, form, p, 1, left, right, bias, c, windows.no_table(), parts)
