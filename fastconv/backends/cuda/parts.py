"""Products of few tiles and great depth, whose sums are cut into parts: small images, many channels.

The shape of one sample says into how many parts, never the batch or the device: a sample has the bits that it has
alone. Parts are added in order, in the dtype, in one of two ways that give the same bits. *Apart*, each part's block
writes to memory of its own, and a second kernel adds them; where the batch has tiles enough, *in turn*: a block goes
through the parts of its tile and adds each to c.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from . import launch, tiles
from .array import DeviceArray, empty
from .problem import Problem, Tile
from .product import Form, column_offset, finisher, run
from .scalars import U, W

cuda: Any = None  # put here by launch

_EDGE = 64  # of the tiles that a sample is counted in
_SHORTEST = {"float32": 512, "bf16": 1024, "tf32": 1024}  # terms of a part, which has to pay for adding it
_MULTIPLE = 16  # of the terms of a part: whole slices of every tile
_ROUNDS = 2  # of blocks on each multiprocessor, from which on parts come in turn


class Plan(NamedTuple):
    """The tile, the terms of a part, how many parts there are, and whether they are computed apart."""

    tile: Tile
    part: int
    parts: int
    apart: bool


def planned(
    one: tuple[int, int], every: tuple[int, int], depth: int, groups: int, itemsize: int, compute: str
) -> Plan:  # fmt: skip
    """Return how a product runs whose c has ``every`` rows and columns, and for one sample ``one``."""
    blocks = prod(-(-size // _EDGE) for size in one) * groups
    shortest = launch.tile(_SHORTEST[compute], _MULTIPLE)
    parts, part = tiles.cut(depth, blocks, prod(one) * groups * itemsize, _MULTIPLE, shortest)
    tile = tiles.pick(*every, groups, itemsize, compute)
    if parts == 1:
        return Plan(tile, depth, 1, False)
    blocks = -(-every[0] // tile.rows) * -(-every[1] // tile.columns) * groups
    nbytes = parts * prod(every) * groups * itemsize
    if blocks >= _ROUNDS * launch.machine().processors or nbytes > tiles.MOST_BYTES:
        return Plan(tile, part, parts, False)
    return Plan(tiles.pick(*every, groups * parts, itemsize, compute), part, parts, True)


def run_planned(
    op: str, form: Form, plan: Plan, p: Problem, groups: int, a: DeviceArray, b: DeviceArray,
    bias: DeviceArray | None, c: DeviceArray, table: DeviceArray,
) -> None:  # fmt: skip
    """Start a product as planned; ``form`` is that of one which is not cut."""
    if not plan.apart:
        run(op, form._replace(in_turn=plan.parts > 1), p, groups, a, b, bias, c, table)
        return
    rows, columns = int(p.rows), int(p.columns)
    size = groups * rows * columns
    sums = empty((plan.parts, size), c.dtype)
    width = tiles.width(form.tile, form.compute, columns, c.itemsize)
    each = form._replace(c="rows", width=width, bias=None, activation=None)
    matrices = p._replace(c_stride=U(columns), c_group=U(rows * columns), c_part=U(size))
    run(op, each, matrices, groups, a, b, None, sums, table, plan.parts)
    key = (Ending(form.dtype, form.c, form.bias, form.activation),)
    launch.elements(
        op, add_apart, key, size, c, sums, c if bias is None else bias, p, np.int32(plan.parts), W(size)
    )  # fmt: skip


class Ending(NamedTuple):
    """What of a form the sum of its parts needs."""

    dtype: str
    c: str
    bias: str | None
    activation: str | None


@launch.factory
def add_apart(ending: Ending) -> Callable:
    """Return the kernel that adds parts in order and brings the sum to its place in c."""
    offset, finish, bias_rows = column_offset(ending.c), finisher(ending), ending.bias == "rows"

    def kernel(c, sums, bias, p, parts, size):
        i, step = W(cuda.grid(1)), W(cuda.gridsize(1))
        while i < size:
            total, at = sums[i], i
            for _ in range(1, parts):
                at += size
                total += sums[at]
            above = i // W(p.columns)  # the row among those of all groups
            group = above // W(p.rows)
            row, column = W(above - group * W(p.rows)), U(i - above * W(p.columns))
            place = above if bias_rows else row
            to = W(group * W(p.c_group) + row * W(p.c_stride) + offset(p, column))
            c[to] = finish(total, bias, place, column)
            i += step

    return kernel
