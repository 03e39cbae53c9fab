"""Who multiplies what within a tile: which rows and columns of it are a thread's, and how a slice is multiplied.

In *lanes* a thread reads rows and columns 16 bytes at a time and multiplies all pairs. In *fragments* a warp does that
together, on tensor cores (``mma.sync``, compute capability 8.0 and later): their operands are rounded to bfloat16 or
TF32, their sums are float32. Where there are no such cores, lanes round to bfloat16; in the simulator to TF32 too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from . import launch
from .problem import Tile
from .scalars import U, memory

cuda: Any = None  # put here by launch


class Layout(NamedTuple):
    """``place(t)`` gives a thread's first row and column, ``row_step(i)`` and ``column_step(j)`` what others add.

    ``start(t)`` gives its first places in slices of a and b, from which ``multiply`` takes ``terms`` of the depth.
    """

    place: Callable
    row_step: Callable
    column_step: Callable
    start: Callable
    multiply: Callable
    terms: int
    operand: type  # of what ``multiply`` keeps in the registers it is given


def layout(dtype: type, tile: Tile, compute: str, cores: bool) -> Layout:
    """Return the layout of a tile; ``cores``: on tensor cores."""
    return _fragments(tile, compute) if cores else _lanes(dtype, tile, compute)


# ------------------------------------------------------------------------------------------------- lanes


def _lanes(dtype: type, tile: Tile, compute: str) -> Layout:
    thread_rows, thread_columns = tile.thread_rows, tile.thread_columns
    vector = min(16 // np.dtype(dtype).itemsize, thread_rows, thread_columns)
    across = tile.columns // thread_columns  # threads along the columns, and of a warp
    lanes = min(8, across)
    down = max(1, min(32 // lanes, tile.threads // across))
    warp, warps = lanes * down, across // lanes
    run_a, run_b = vector * (tile.rows // thread_rows), vector * (tile.columns // thread_columns)
    pitch_a, pitch_b = tile.rows + tile.pad, tile.columns + tile.pad
    load, rounded = memory(dtype, vector).load, _rounded(compute)

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
                left[i + v] = rounded(values[v])
        for j in range(0, thread_columns, vector):
            values = load(slices_b, at_b, U(k * pitch_b + j // vector * run_b))
            for v in range(vector):
                right[j + v] = rounded(values[v])
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
    return Layout(first, *functions, 2, dtype)


@cache
def _rounded(compute: str) -> Callable:
    """Return the function that rounds a float32 as the compute mode wants."""
    if compute == "float32":
        return launch.inline(_itself)
    if launch.machine().simulated:
        return {"bf16": _to_bfloat16, "tf32": _to_tf32}[compute]
    bits, number = _bits()

    def rounded(x):
        word = bits(x)
        even = U(U(word + U(0x7FFF)) + U(U(word >> U(16)) & U(1)))
        return x if x != x else number(U(even & U(0xFFFF0000)))

    return launch.inline(rounded)


def _itself(x: Any) -> Any:
    return x


def _to_bfloat16(x: Any) -> Any:
    """To nearest, ties to even; for the simulator."""
    word = int(np.float32(x).view(np.uint32))
    even = (word + 0x7FFF + (word >> 16 & 1)) & 0xFFFF0000
    return x if x != x else np.uint32(even).view(np.float32)


def _to_tf32(x: Any) -> Any:
    """To nearest, ties away from zero, as the instruction does; for the simulator."""
    word = int(np.float32(x).view(np.uint32))
    return x if x != x or np.isinf(x) else np.uint32((word + 0x1000) & 0xFFFFE000).view(np.float32)


# --------------------------------------------------------------------------------------------- fragments


def _fragments(tile: Tile, compute: str) -> Layout:
    """The layouts of m16n8k16 (bfloat16) and m16n8k8 (TF32) in the PTX ISA, chapter on mma.sync.

    Lane 4 r + q has rows r and r + 8 of every sixteen and columns 2 q and 2 q + 1 of every eight.
    """
    thread_rows, thread_columns = tile.thread_rows, tile.thread_columns
    pitch_a, pitch_b = tile.rows + tile.pad, tile.columns + tile.pad
    down, across = thread_rows * 8, thread_columns * 4  # what a warp has
    warps = tile.columns // across
    pairs = compute == "bf16"
    terms, each = (16, 2) if pairs else (8, 1)  # terms of an instruction, and neighbours in k that a lane has
    load, multiply_add, pack = memory(np.float32, 1).load, _multiply_add(pairs), _pack(pairs)

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
        r, k = U(lane // U(4)), U(U(lane % U(4)) * U(each))
        row, column = U(U(number // U(warps)) * U(down) + r), U(U(number % U(warps)) * U(across) + r)
        return U(k * U(pitch_a) + row), U(k * U(pitch_b) + column)

    def operand(slices, at, pitch, offset):
        """The lane's register of a fragment: two neighbours in k, or one number."""
        return pack(load(slices, at, U(offset)), load(slices, at, U(offset + (each - 1) * pitch)))

    operand = launch.inline(operand)

    def multiply(slices_a, slices_b, at_a, at_b, left, right, sums):
        for j in range(0, thread_columns, 2):
            right[j] = operand(slices_b, at_b, pitch_b, j * 4)
            right[j + 1] = operand(slices_b, at_b, pitch_b, j * 4 + terms // 2 * pitch_b)
        for i in range(0, thread_rows, 2):
            a0 = operand(slices_a, at_a, pitch_a, i * 8)
            a1 = operand(slices_a, at_a, pitch_a, i * 8 + 8)
            a2 = operand(slices_a, at_a, pitch_a, i * 8 + terms // 2 * pitch_a)
            a3 = operand(slices_a, at_a, pitch_a, i * 8 + 8 + terms // 2 * pitch_a)
            for j in range(0, thread_columns, 2):
                k, l = i + 1, j + 1  # noqa: E741
                sums[i, j], sums[i, l], sums[k, j], sums[k, l] = multiply_add(
                    a0, a1, a2, a3, right[j], right[l], sums[i, j], sums[i, l], sums[k, j], sums[k, l]
                )

    functions = (launch.inline(f) for f in (place, row_step, column_step, start, multiply))
    return Layout(*functions, terms, np.uint32)


def _line(text: str, result: Any, constraints: str, effects: bool = False) -> Callable:
    """Return what generates the code of an intrinsic that is one line of PTX; ``result`` is a type of numba's."""
    from llvmlite import ir
    from numba.core import types
    from numba.cuda import cgutils

    count = result.count if isinstance(result, types.UniTuple) else 0

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = [context.get_data_type(kind) for kind in signature.args]
        one = context.get_data_type(result.dtype if count else result)
        gives = ir.LiteralStructType([one] * count) if count else one
        found = builder.asm(ir.FunctionType(gives, kinds), text, constraints, list(values), effects)
        return cgutils.pack_array(builder, [builder.extract_value(found, i) for i in range(count)]) if count else found

    return codegen


@cache
def _multiply_add(pairs: bool) -> Callable:
    """One instruction of a warp: a 16 x 16 (TF32: 16 x 8) times b 16 x 8 (8 x 8), added to c 16 x 8."""
    from numba.core.types import UniTuple, float32, uint32
    from numba.extending import intrinsic

    shape = "m16n8k16.row.col.f32.bf16.bf16.f32" if pairs else "m16n8k8.row.col.f32.tf32.tf32.f32"
    text = f"mma.sync.aligned.{shape} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$10,$11,$12,$13}};"
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    sums = UniTuple(float32, 4)
    signature, codegen = sums(*(uint32,) * 6, *(float32,) * 4), _line(text, sums, constraints, True)

    @intrinsic
    def multiply_add(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        return signature, codegen

    return multiply_add


@cache
def _pack(pairs: bool) -> Callable:
    """Two float32 as a word of bfloat16, the first one low; or the first as TF32."""
    from numba.core.types import float32, uint32
    from numba.extending import intrinsic

    text = "cvt.rn.bf16x2.f32 $0, $2, $1;" if pairs else "cvt.rna.tf32.f32 $0, $1;"
    codegen = _line(text, uint32, "=r,f,f")

    @intrinsic
    def pack(typingctx, low, high):
        return uint32(float32, float32), codegen

    return pack


@cache
def _bits() -> tuple[Callable, Callable]:
    """A float32 as a word, and a word as a float32."""
    from numba.core.types import float32, uint32
    from numba.extending import intrinsic

    to_word, to_number = _line("mov.b32 $0, $1;", uint32, "=r,f"), _line("mov.b32 $0, $1;", float32, "=f,r")

    @intrinsic
    def bits(typingctx, x):
        return uint32(float32), to_word

    @intrinsic
    def number(typingctx, word):
        return float32(uint32), to_number

    return bits, number
