"""Who multiplies what within a tile: which rows and columns of it are a thread's, and how a slice is multiplied.

In *lanes* a thread reads rows and columns 16 bytes at a time and multiplies all pairs. In *fragments* a warp does that
together, on tensor cores (``mma.sync``, compute capability 8.0 and later), of words as operands.py makes them; their
sums are float32. ``wgmma`` (9.0) is in warpgroups.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from . import launch, warpgroups
from .operands import Slice, line
from .problem import Tile
from .scalars import U, memory

cuda: Any = None  # put here by launch


class Layout(NamedTuple):
    """``place(t)`` gives a thread's first row and column, ``row_step(i)`` and ``column_step(j)`` what others add.

    ``start(t)`` gives its first places in slices of a and b, from which ``multiply`` takes a step (operands.py), to be
    waited for by ``wait(sums)``. ``announce()`` comes between writing a slice and the barrier.
    """

    place: Callable
    row_step: Callable
    column_step: Callable
    start: Callable
    multiply: Callable
    wait: Callable
    announce: Callable
    operand: type  # of what ``multiply`` keeps in the registers it is given


def _at_once(sums: Any) -> None:
    """Sums are there as ``multiply`` ends."""


def _nothing() -> None:
    """A barrier is enough."""


def layout(dtype: type, tile: Tile, compute: str, a: Slice, b: Slice) -> Layout:
    """Return the layout of a tile whose operands lie so."""
    if a.cores == "wgmma":
        return Layout(*warpgroups.functions(tile, compute, a, b), np.uint32)
    return _fragments(tile, compute, a, b) if a.cores else _lanes(dtype, tile, a, b)


# ------------------------------------------------------------------------------------------------- lanes


def _lanes(dtype: type, tile: Tile, a: Slice, b: Slice) -> Layout:
    thread_rows, thread_columns = tile.thread_rows, tile.thread_columns
    vector = min(16 // np.dtype(dtype).itemsize, thread_rows, thread_columns)
    across = tile.columns // thread_columns  # threads along the columns, and of a warp
    lanes = min(8, across)
    down = max(1, min(32 // lanes, tile.threads // across))
    warp, warps = lanes * down, across // lanes
    run_a, run_b = vector * (tile.rows // thread_rows), vector * (tile.columns // thread_columns)
    pitch_a, pitch_b = a.pitch, b.pitch
    load = memory(dtype, vector).load

    def place(t):
        lane, number = U(t % U(warp)), U(t // U(warp))
        row = U(lane // U(lanes) + U(number // U(warps)) * U(down))
        column = U(lane % U(lanes) + U(number % U(warps)) * U(lanes))
        return U(row * U(vector)), U(column * U(vector))

    def row_step(i):
        return U(i // vector * run_a + i % vector)

    def column_step(j):
        return U(j // vector * run_b + j % vector)

    def one(slices_a, slices_b, at_a, at_b, k, left, right, sums):
        for i in range(0, thread_rows, vector):
            values = load(slices_a, at_a, U(k * pitch_a + i // vector * run_a))
            for v in range(vector):
                left[i + v] = values[v]
        for j in range(0, thread_columns, vector):
            values = load(slices_b, at_b, U(k * pitch_b + j // vector * run_b))
            for v in range(vector):
                right[j + v] = values[v]
        for i in range(thread_rows):
            for j in range(thread_columns):
                sums[i, j] += left[i] * right[j]

    one, first = launch.inline(one), launch.inline(place)

    def multiply(slices_a, slices_b, at_a, at_b, left, right, sums):
        one(slices_a, slices_b, at_a, at_b, 0, left, right, sums)  # two at a time: four and more spill registers
        one(slices_a, slices_b, at_a, at_b, 1, left, right, sums)

    def start(t):
        return first(t)

    functions = (launch.inline(f) for f in (row_step, column_step, start, multiply))
    return Layout(first, *functions, launch.inline(_at_once), launch.inline(_nothing), dtype)


# --------------------------------------------------------------------------------------------- fragments


def _fragments(tile: Tile, compute: str, a: Slice, b: Slice) -> Layout:
    """The layouts of m16n8k16 (bfloat16) and m16n8k8 (TF32) in the PTX ISA, chapter on mma.sync.

    Lane 4 r + q has rows r and r + 8 of every sixteen and columns 2 q and 2 q + 1 of every eight.
    """
    thread_rows, thread_columns = tile.thread_rows, tile.thread_columns
    pitch_a, pitch_b, four_a, four_b = a.pitch, b.pitch, a.four, b.four
    down, across = thread_rows * 8, thread_columns * 4  # what a warp has
    warps = tile.columns // across
    load, multiply_add = memory(np.uint32, 1).load, _multiply_add(compute == "bf16")

    def place(t):
        lane, number = U(t % U(32)), U(t // U(32))
        row = U(U(number // U(warps)) * U(down) + lane // U(4))
        column = U(U(number % U(warps)) * U(across) + U(lane % U(4)) * U(2))
        return row, column

    def row_step(i):
        return U(i // 2 * 16 + i % 2 * 8)

    def column_step(j):
        return U(j // 2 * 8 + j % 2)

    def start(t):
        lane, number = U(t % U(32)), U(t // U(32))
        r, q = U(lane // U(4)), U(lane % U(4))
        row, column = U(U(number // U(warps)) * U(down) + r), U(U(number % U(warps)) * U(across) + r)
        return U(q * U(pitch_a) + row), U(q * U(pitch_b) + column)

    def multiply(slices_a, slices_b, at_a, at_b, left, right, sums):
        for j in range(0, thread_columns, 2):
            right[j] = load(slices_b, at_b, U(j * 4))
            right[j + 1] = load(slices_b, at_b, U(j * 4 + four_b))
        for i in range(0, thread_rows, 2):
            a0 = load(slices_a, at_a, U(i * 8))
            a1 = load(slices_a, at_a, U(i * 8 + 8))
            a2 = load(slices_a, at_a, U(i * 8 + four_a))
            a3 = load(slices_a, at_a, U(i * 8 + 8 + four_a))
            for j in range(0, thread_columns, 2):
                k, l = i + 1, j + 1  # noqa: E741
                sums[i, j], sums[i, l], sums[k, j], sums[k, l] = multiply_add(
                    a0, a1, a2, a3, right[j], right[l], sums[i, j], sums[i, l], sums[k, j], sums[k, l]
                )

    functions = (launch.inline(f) for f in (place, row_step, column_step, start, multiply))
    return Layout(*functions, launch.inline(_at_once), launch.inline(_nothing), np.uint32)


@cache
def _multiply_add(pairs: bool) -> Callable:
    """One instruction of a warp: a 16 x 16 (TF32: 16 x 8) times b 16 x 8 (8 x 8), added to c 16 x 8."""
    from numba.core.types import UniTuple, float32, uint32
    from numba.extending import intrinsic

    shape = "m16n8k16.row.col.f32.bf16.bf16.f32" if pairs else "m16n8k8.row.col.f32.tf32.tf32.f32"
    text = f"mma.sync.aligned.{shape} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$10,$11,$12,$13}};"
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    sums = UniTuple(float32, 4)
    signature, codegen = sums(*(uint32,) * 6, *(float32,) * 4), line(text, sums, constraints, True)

    @intrinsic
    def multiply_add(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        return signature, codegen

    return multiply_add
