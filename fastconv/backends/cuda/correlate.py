"""A correlation, which is what convolution and its input gradient are: c[row, pixel] = sum of a[row, tap] b[window].

Here it becomes a product in tiles; ``narrow.py`` has the way for few rows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from . import tiles, windows
from .array import DeviceArray
from .parts import planned, run_planned
from .problem import Problem, problem
from .product import Form
from .windows import Axis


class Correlation(NamedTuple):
    """What is summed, without its arrays: shape and memory of the operands of one launch."""

    op: str
    axes: tuple[Axis, ...]
    groups: int
    channels: int  # of b, a group
    numbers: dict[str, int]  # of its problem: sizes and strides
    turned: bool  # a lies as (tap, row), else as (row, tap)
    dense: bool  # the pixels of c lie side by side, else every so many

    @property
    def pixels(self) -> int:
        return prod(axis.output for axis in self.axes)

    def problem(self, **more: int) -> Problem:
        return problem(**self.numbers, **windows.numbers(self.axes), **more)


# How a correlation runs: (correlation, a, b, bias, c, activation)
Way = Callable[[Correlation, DeviceArray, DeviceArray, "DeviceArray | None", DeviceArray, "str | None"], None]


def by_tiles(
    what: Correlation, a: DeviceArray, b: DeviceArray, bias: DeviceArray | None, c: DeviceArray,
    activation: str | None, compute: str = "float32",
) -> None:  # fmt: skip
    """Run a correlation as a product in tiles."""
    rows, depth, columns = (what.numbers[name] for name in ("rows", "depth", "columns"))
    wide, one = 16 // c.itemsize, (rows, what.pixels)
    plan = planned(one, (rows, columns), depth, what.groups, c.itemsize, compute)
    tile = plan.tile
    plain, whole = windows.plain(what.axes), what.pixels % wide == 0
    beside = rows if what.turned else depth
    width_a = wide if beside % wide == 0 and windows.aligned(a) else 1
    form = Form(
        dtype=c.dtype.name,
        tile=tile,
        a=("columns" if what.turned else "rows", width_a, False),
        b=("columns", wide if whole and windows.aligned(b) else 1, True)
        if plain
        else ("pixels", windows.checked(what.axes)),
        c="images" if what.dense else "pixels",
        width=tiles.width(tile, compute, what.pixels, c.itemsize) if what.dense and windows.aligned(c) else 1,
        bias=None if bias is None else "rows",
        activation=activation,
        compute=compute,
        cores=tiles.cores(compute),
    )
    p = what.problem(part=plan.part, row_tiles=-(-rows // tile.rows), a_stride=beside)
    table = windows.no_table() if plain else windows.table(what.axes, what.channels)
    run_planned(what.op, form, plan, p, what.groups, a, b, bias, c, table)
