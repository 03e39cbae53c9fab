"""Reductions in a fixed tree: lanes of a block share a row of numbers, and long rows are cut into parts.

How many lanes and parts there are follows from the row's length and from which axes are summed, never from the number
of rows or the device, so the same row gives the same bits. There are no atomic operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import index, launch
from .array import DeviceArray, dense_strides, empty

cuda: Any = None
math: Any = None

_SERIAL = 32  # terms that one lane adds up, at most: then a tree over lanes, then one over parts


def shared_out(terms: int) -> tuple[int, int]:
    """Return rows and lanes of a block for rows of so many terms, both powers of two."""
    threads = launch.tile(256, 4)
    lanes = 1
    while lanes < threads and lanes * 4 < terms:
        lanes *= 2
    return threads // lanes, lanes


def place_of(thread: int, rows: int, lanes: int, across: bool) -> tuple[int, int]:
    """Return row and lane of a thread: neighbours are lanes of a row (``across``), or rows."""
    if across:
        return thread // lanes, thread % lanes
    return thread % rows, thread // rows


def tree(shared: Any, here: int, lane: int, lanes: int, combine: Callable) -> None:
    """Combine the lanes of each row into its lane 0. All threads of the block take part; ``here`` is the thread's
    place, those of a row side by side."""
    half = lanes // 2
    while half > 0:
        cuda.syncthreads()
        if lane < half:
            shared[here] = combine(shared[here], shared[here + half])
        half //= 2
    cuda.syncthreads()


# --------------------------------------------------------------------- how two are combined, and what is


def plus(number: type) -> Callable:
    return lambda x, y: x + y


def larger(number: type) -> Callable:
    def f(x, y):
        return x if x != x or x >= y else y  # NaN wins

    return f


def smaller(number: type) -> Callable:
    def f(x, y):
        return x if x != x or x <= y else y

    return f


class Row(NamedTuple):
    """Where the terms of a sum lie: ``outer`` groups of ``inner``; and how lanes step through them."""

    total: int
    part: int
    parts: int
    inner: int
    outer_stride: int
    inner_stride: int
    jump: int  # lanes // inner
    rest: int  # lanes % inner


def value(number: type) -> Callable:
    """The term of a plain sum. A term is of x and z, and of two numbers that belong to the row or to all rows."""
    return lambda x, z, m, r: number(x)


def both(number: type) -> Callable:
    """The second term where there is none."""
    zero = number(0)
    return lambda x, z, m, r: zero


@launch.factory
def reduction(
    number: type, first: Callable, second: Callable, combine: Callable, neutral: float, by_row: bool, dual: bool,
    mean: bool, rows: int, lanes: int, across: bool, rank: int,
) -> Callable:  # fmt: skip
    """Combine ``first`` (and, if ``dual``, ``second``) of x and z over the rows that ``sizes`` and ``strides`` list.

    ``by_row``: m and r are arrays with a number for each row. ``mean``: the result is divided.
    """
    tree_, place_of_, offset_of = launch.inline(tree), launch.inline(place_of), launch.inline(index.offset_of)
    f, g = launch.inline(launch.function(first, number)), launch.inline(launch.function(second, number))
    join, start = launch.inline(launch.function(combine, number)), number(neutral)
    threads, threads2 = rows * lanes, rows * lanes if dual else 1

    def kernel(y, y2, x, z, m, r, count, row, sizes, strides, divisor):
        shared = cuda.shared.array(threads, number)
        shared2 = cuda.shared.array(threads2, number)
        line, lane = place_of_(cuda.threadIdx.x, rows, lanes, across)
        blocks = (count + rows - 1) // rows
        part = cuda.blockIdx.x // blocks
        o, here = cuda.blockIdx.x % blocks * rows + line, line * lanes + lane
        total, total2 = start, start
        if o < count:
            base = offset_of(o, sizes, strides)
            m_, r_ = m[o if by_row else 0], r[o if by_row else 0]
            i, end = part * row.part + lane, min((part + 1) * row.part, row.total)
            outer = i // row.inner
            inner = i - outer * row.inner
            while i < end:
                at = base + outer * row.outer_stride + inner * row.inner_stride
                a, b = x[at], z[at]
                total = join(total, f(a, b, m_, r_))
                if dual:
                    total2 = join(total2, g(a, b, m_, r_))
                i += lanes
                outer += row.jump
                inner += row.rest
                if inner >= row.inner:
                    inner -= row.inner
                    outer += 1
        shared[here] = total
        if dual:
            shared2[here] = total2
        tree_(shared, here, lane, lanes, join)
        if dual:
            tree_(shared2, here, lane, lanes, join)
        if lane == 0 and o < count:
            y[o * row.parts + part] = shared[here] / divisor if mean else shared[here]
            if dual:
                y2[o * row.parts + part] = shared2[here] / divisor if mean else shared2[here]

    return kernel


class Terms(NamedTuple):
    """What is combined, and how."""

    first: Callable = value
    second: Callable | None = None
    combine: Callable = plus
    neutral: float = 0.0


def reduced(
    op: str, x: DeviceArray, axes: Sequence[int], terms: Terms = Terms(), z: DeviceArray | None = None,  # noqa: B008
    by_row: tuple[DeviceArray, DeviceArray] | None = None, numbers: DeviceArray | None = None,
    divisor: float | None = None, dtype: Any = None,
) -> tuple[DeviceArray, DeviceArray]:  # fmt: skip
    """Combine terms of ``x`` (and z, of its shape) over ``axes``; return both results, without these axes.

    ``by_row`` has the numbers m and r of each row, ``numbers`` the one m = r of all. ``divisor``: the result is a mean.
    The second result means nothing where there is no second term.
    """
    shape = tuple(size for i, size in enumerate(x.shape) if i not in axes)
    dtype = np.dtype(dtype or x.dtype)
    y = empty(shape, dtype)
    y2 = empty(shape, dtype) if terms.second else y
    if not y.size:
        return y, y2
    groups = _groups(x.shape, axes)
    if sum(reduces for *_, reduces in groups) > 2:
        if z is not None or by_row is not None:
            raise NotImplementedError("terms of two arrays over axes that lie in more than two groups")
        last = max(axes)
        whole, _ = reduced(op, x, [last], terms, None, None, numbers, None, dtype)
        rest = [axis - (axis > last) for axis in axes if axis != last]
        return reduced(op, whole, rest, _again(terms), None, None, None, divisor, dtype)
    m, r = by_row or ((numbers, numbers) if numbers is not None else (x, x))
    _run(op, y, y2, x, x if z is None else z, m, r, groups, terms, by_row is not None, divisor)
    return y, y2


def _again(terms: Terms) -> Terms:
    """How partial results are combined."""
    return Terms(value, None, terms.combine, terms.neutral)


def _groups(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, int, bool]]:
    """Return (size, stride, whether it is reduced) of the axes, neighbours of one kind joined, those of 1 left out."""
    found: list[tuple[int, int, bool]] = []
    for i, (size, stride) in enumerate(zip(shape, dense_strides(shape), strict=True)):
        if size == 1:
            continue
        if found and found[-1][2] == (i in axes):
            found[-1] = (found[-1][0] * size, stride, i in axes)
        else:
            found.append((size, stride, i in axes))
    return found


def _run(
    op: str, y: DeviceArray, y2: DeviceArray, x: DeviceArray, z: DeviceArray, m: DeviceArray, r: DeviceArray,
    groups: list[tuple[int, int, bool]], terms: Terms, by_row: bool, divisor: float | None,
) -> None:  # fmt: skip
    """Reduce at most two groups; results into y and y2."""
    kept = [(size, stride) for size, stride, reduces in groups if not reduces] or [(1, 0)]
    (outer, outer_stride), (inner, inner_stride) = (
        [(1, 0), (1, 0)] + [(size, stride) for size, stride, reduces in groups if reduces]
    )[-2:]
    total, inner, number = outer * inner, max(inner, 1), y.dtype.type
    rows, lanes = shared_out(total)
    part = _SERIAL * lanes
    parts = max(1, -(-total // part))
    across = not groups or groups[-1][2]  # the numbers of a row are neighbours
    row = Row(total, part, parts, inner, outer_stride, inner_stride, lanes // inner, lanes % inner)
    sizes, strides = zip(*kept, strict=True)
    second = terms.second or both
    key = (number, terms.first, second, terms.combine, terms.neutral, by_row, terms.second is not None)
    partial = [empty((y.size, parts), y.dtype) for _ in range(1 + key[-1])] if parts > 1 else [y, y2]
    mean = divisor is not None and parts == 1
    grid = -(-y.size // rows) * parts
    launch.blocks(
        op, reduction, (*key, mean, rows, lanes, across, len(sizes)), grid, rows * lanes, partial[0], partial[-1],
        x, z, m, r, y.size, row, sizes, strides, number(divisor or 1),
    )  # fmt: skip
    if parts > 1:
        for target, some in zip((y, y2), partial, strict=False):
            gathered = [(y.size, parts, False), (parts, 1, True)]
            _run(op, target, target, some, some, some, some, gathered, _again(terms), False, divisor)
