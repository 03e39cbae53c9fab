"""What slices of a product hold of its operands, and where: numbers as they are, or rounded, or words of tensor cores.

Numbers are rounded on their way to shared memory, once a block: to bfloat16, ties to even, of which a word holds two
neighbours in k; or to TF32, ties away from zero. Where there are no such cores bfloat16 is rounded in software and kept
as float32; in the simulator TF32 too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from . import launch
from .problem import Tile
from .scalars import U

WORDS = 8  # along the depth, of an instruction of tensor cores: 16 numbers of bfloat16, 8 of TF32
MATRIX = 32  # words of a core matrix


class Words(NamedTuple):
    """``each`` neighbours in k are one element of ``dtype``: ``pack(low, high)``, where one is given twice."""

    dtype: type
    each: int
    pack: Callable
    cores: str = ""  # the instruction that multiplies them on tensor cores, which says where they lie, see ``Slice``


def words(dtype: type, compute: str, cores: str) -> Words:
    """Return what operands become; ``cores``: the instruction of tensor cores, or nothing."""
    if cores:
        pairs = compute == "bf16"
        return Words(np.uint32, 2 if pairs else 1, _packed(pairs), cores)
    return Words(dtype, 1, _rounded(compute))


def same_row(m: Any) -> Any:
    """The rows of a slice are those of the tile."""
    return m


class Slice(NamedTuple):
    """Where a slice of an operand lies in shared memory: word k of the slice's row m at ``place(k) + across * m``.

    Words for ``mma.sync`` lie in fours, one of each quarter of the slice. An instruction takes two fours, and lane
    4 r + q of a warp the q-th words of them: it reads 4 words of 8 rows at a time, from 32 banks, as the pitch is 8
    more than a multiple of 32. A thread that reads along the depth has neighbours in k, words of several fours, and
    writes each along with those of other quarters. Where it has half a quarter, both halves are written at once: 4
    words are left free between them.

    Words for ``wgmma`` lie in core matrices, see ``matrix_row``.
    """

    place: Callable
    size: int
    pitch: int  # from a word to the next, of the slice or of its four; from core matrices to the next in k
    four: int  # to the next four of an instruction
    step: int  # to what is multiplied next: two words, or two fours; all of core matrices is multiplied at once
    cores: str
    across: int = 1
    row: Callable = same_row  # ``row(m)``: which row of the tile is the slice's row m


def sliced(rows: int, tile: Tile, words: Words) -> Slice:
    """Return where so many rows of a tile lie."""
    pitch, count = rows + tile.pad, tile.depth // words.each
    if words.cores == "wgmma":
        return _core_matrices(rows, count)
    if not words.cores:

        def place(k):
            return U(k * U(pitch))

        return Slice(place, count * pitch, pitch, 0, 2 * pitch, "")
    quarter, free = count // 4, 4
    half = quarter // 2

    def place_in_fours(k):
        four = U(k % U(quarter))
        return U(U(k // U(quarter)) * U(pitch) + four * U(4 * pitch) + U(four // U(half)) * U(free))

    four = 4 * pitch + (free if half == 1 else 0)
    step = WORDS * pitch + free
    return Slice(place_in_fours, count // WORDS * step, pitch, four, step, words.cores)


def matrix_row(m: Any) -> Any:
    """Return which row of the tile is row m of core matrices.

    A core matrix is four words of each of eight rows, 16 bytes a row, one row after the other. Those of the next rows
    follow it, those of the next four words follow all of these. Which row of c is the m-th of an instruction is free to
    choose. Of every 32 rows a core matrix has each fourth: what a thread reads of four neighbours goes to four of them,
    and the eight threads beside it fill these; of c, a thread has four neighbours, and the four beside it the next.

    >>> [int(matrix_row(np.uint32(m))) for m in (0, 1, 2, 3, 7, 8, 16, 31, 32)]
    [0, 16, 4, 20, 28, 1, 2, 31, 32]
    """
    return U(U(m // U(32) * U(32) + m % U(2) * U(16)) + U(m // U(2) % U(4) * U(4) + m // U(8) % U(4)))


def _core_matrices(rows: int, count: int) -> Slice:
    """Return where ``count`` words of so many rows lie for ``wgmma``, without swizzling: see ``matrix_row``."""
    pitch = MATRIX // 8 * rows

    def place(k):
        return U(k // U(4) * U(pitch) + k % U(4))

    size = count // 4 * pitch
    return Slice(place, size, pitch, 0, size, "wgmma", MATRIX // 8, matrix_row)


@cache
def _rounded(compute: str) -> Callable:
    """Return the function that rounds a float32 as the compute mode wants."""
    if compute == "float32":
        return launch.inline(_itself)
    if launch.machine().simulated:
        return {"bf16": _as_bfloat16, "tf32": _as_tf32}[compute]
    bits, number = _bits()

    def rounded(low, high):
        word = bits(low)
        even = U(U(word + U(0x7FFF)) + U(U(word >> U(16)) & U(1)))
        return low if low != low else number(U(even & U(0xFFFF0000)))

    return launch.inline(rounded)


def _itself(low: Any, high: Any) -> Any:
    return low


def _as_bfloat16(low: Any, high: Any) -> Any:
    return to_bfloat16(low)


def _as_tf32(low: Any, high: Any) -> Any:
    return to_tf32(low)


def to_bfloat16(x: Any) -> Any:
    """To nearest, ties to even; for the simulator."""
    word = int(np.float32(x).view(np.uint32))
    even = (word + 0x7FFF + (word >> 16 & 1)) & 0xFFFF0000
    return x if x != x else np.uint32(even).view(np.float32)


def to_tf32(x: Any) -> Any:
    """To nearest, ties away from zero, as the instruction does; for the simulator."""
    word = int(np.float32(x).view(np.uint32))
    return x if x != x or np.isinf(x) else np.uint32((word + 0x1000) & 0xFFFFE000).view(np.float32)


def line(text: str, result: Any, constraints: str, effects: bool = False) -> Callable:
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
def _packed(pairs: bool) -> Callable:
    """Two float32 as a word of bfloat16, the first one low; or the first as TF32."""
    from numba.core.types import float32, uint32
    from numba.extending import intrinsic

    text = "cvt.rn.bf16x2.f32 $0, $2, $1;" if pairs else "cvt.rna.tf32.f32 $0, $1;"
    codegen = line(text, uint32, "=r,f,f")

    @intrinsic
    def pack(typingctx, low, high):
        return uint32(float32, float32), codegen

    return pack


@cache
def _bits() -> tuple[Callable, Callable]:
    """A float32 as a word, and a word as a float32."""
    from numba.core.types import float32, uint32
    from numba.extending import intrinsic

    to_word, to_number = line("mov.b32 $0, $1;", uint32, "=r,f"), line("mov.b32 $0, $1;", float32, "=f,r")

    @intrinsic
    def bits(typingctx, x):
        return uint32(float32), to_word

    @intrinsic
    def number(typingctx, word):
        return float32(uint32), to_number

    return bits, number
