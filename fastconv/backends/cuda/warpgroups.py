"""The layout of ``wgmma``, which tensor cores of compute capability 9.0 have: four warps multiply 64 rows of a tile by
all of its columns, both as they lie in shared memory.

The instruction reads core matrices (operands.py) by a *descriptor*: an address, and how far apart matrices lie in k and
across it. It runs beside what its warps do next. So ``multiply`` only starts it, the next slice is written to the other
stage meanwhile, and ``wait`` waits; until then nothing may touch the sums. What was written to shared memory is
announced to it by a fence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from . import launch
from .operands import MATRIX, WORDS, Slice, line, matrix_row
from .problem import Tile
from .scalars import U, W

CAPABILITY = (9, 0, "a")  # what has the instruction, and what it is compiled for: an architecture, no family
_ROWS = 64  # of an instruction, and as many columns as the tile has
_THREADS = 128
_STATEMENT = """{{
.reg .pred add;
setp.eq.u32 add, 0, 0;
wgmma.fence.sync.aligned;
{multiply}
wgmma.commit_group.sync.aligned;
}}"""


def registers(columns: int) -> list[tuple[int, int]]:
    """Return which sum of a thread, as row and column of these, is in which register of an instruction.

    The n-th register is of column 8 (n // 4) + 2 q + n % 2 of the slice, for lane q of four, and of row n // 2 % 2 of a
    thread's two (PTX ISA, accumulators of wgmma). Of the tile, four columns side by side are a thread's, then those 16
    further on: ``matrix_row``.
    """
    return [(n // 2 % 2, n // 16 * 8 + n % 2 * 4 + n // 4 % 4) for n in range(columns // 2)]


def descriptor(address: Any, fixed: Any) -> Any:
    """Inside kernels: the descriptor of core matrices from a byte of shared memory on; ``fixed`` is the rest of it."""
    return W(W(U(address >> U(4)) & U(0x3FFF)) | W(fixed))


def distances(lies: Slice) -> int:
    """Return what descriptors of a slice have in common: bytes from core matrices to the next in k, bits 16 to 29, and
    to the next across, bits 32 to 45, both in sixteens. Bits 62 and 63 are 0: no swizzling."""
    return (4 * lies.pitch >> 4) << 16 | (4 * MATRIX >> 4) << 32


def functions(tile: Tile, compute: str, a: Slice, b: Slice) -> tuple[Callable, ...]:
    """Return the functions of a ``Layout``."""
    pairs, columns = compute == "bf16", tile.columns
    steps = a.size // (WORDS // 4 * a.pitch)  # instructions of a slice, one after the other along the depth
    fixed_a, fixed_b, ahead_a, ahead_b = distances(a), distances(b), 8 * a.pitch, 8 * b.pitch  # bytes
    across, row_of, describe = a.across, launch.inline(matrix_row), launch.inline(descriptor)
    start_of, begin, waited, announced = address(), instructions(pairs, columns, steps), wait(columns), announce()

    def place(t):
        return row_of(U(t // U(32) * U(16) + t % U(32) // U(4))), U(t % U(4) * U(4))

    def row_step(i):
        return U(i)

    def column_step(j):
        return U(j // 4 * 16 + j % 4)

    def start(t):
        return U(t // U(_THREADS) * U(_ROWS * across)), U(0)

    def multiply(slices_a, slices_b, at_a, at_b, left, right, sums):
        byte_a, byte_b = U(start_of(slices_a) + at_a * U(4)), U(start_of(slices_b) + at_b * U(4))
        first_a, first_b = describe(byte_a, W(fixed_a)), describe(byte_b, W(fixed_b))
        if steps == 1:
            begin((first_a,), (first_b,), sums)
        else:
            next_a, next_b = describe(U(byte_a + U(ahead_a)), W(fixed_a)), describe(U(byte_b + U(ahead_b)), W(fixed_b))
            begin((first_a, next_a), (first_b, next_b), sums)

    return (*(launch.inline(f) for f in (place, row_step, column_step, start, multiply)), waited, announced)


# -------------------------------------------------------------------------------------------- instructions


def statement(pairs: bool, columns: int, steps: int) -> str:
    """Return the PTX that adds the product of ``steps`` times 16 bfloat16, or 8 TF32, to the sums.

    Operands: the sums, once as results and once as what they were; descriptors of a; those of b.
    """
    count = columns // 2
    shape = f"m64n{columns}k16.f32.bf16.bf16" if pairs else f"m64n{columns}k8.f32.tf32.tf32"
    sums, options = ", ".join(f"${n}" for n in range(count)), "1, 1, 0, 0" if pairs else "1, 1"
    each = (
        f"wgmma.mma_async.sync.aligned.{shape} {{{sums}}}, ${2 * count + i}, ${2 * count + steps + i}, add, {options};"
        for i in range(steps)
    )
    return _STATEMENT.format(multiply="\n".join(each))


@cache
def instructions(pairs: bool, columns: int, steps: int) -> Callable:
    """Return ``begin(descriptors of a, descriptors of b, sums)``: all instructions of a slice, started."""
    from numba.core.types import UniTuple, none, uint64
    from numba.extending import intrinsic

    descriptors, text = UniTuple(uint64, steps), statement(pairs, columns, steps)

    @intrinsic
    def begin(typingctx, of_a, of_b, sums):
        def codegen(context, builder, signature, arguments):
            values = [builder.extract_value(each, i) for each in arguments[:2] for i in range(steps)]
            _through(context, builder, sums, arguments[2], registers(columns), text, values)
            return context.get_dummy_value()

        return none(descriptors, descriptors, sums), codegen

    return begin


@cache
def wait(columns: int) -> Callable:
    """Return ``waited(sums)``: until all instructions have come to their end. The sums go through it, so that nothing
    that is done with them afterwards is done before."""
    from numba.core.types import none
    from numba.extending import intrinsic

    @intrinsic
    def waited(typingctx, sums):
        def codegen(context, builder, signature, arguments):
            text = "wgmma.wait_group.sync.aligned 0;"
            _through(context, builder, sums, arguments[0], registers(columns), text, [])
            return context.get_dummy_value()

        return none(sums), codegen

    return waited


def _through(
    context: Any, builder: Any, kind: Any, sums: Any, order: list[tuple[int, int]], text: str, values: list[Any]
) -> None:  # fmt: skip
    """Emit PTX whose first operands are the sums, in an order, in place: what they become is kept."""
    from llvmlite import ir
    from numba.cuda.np import arrayobj

    data, number, count = arrayobj.make_array(kind)(context, builder, sums).data, ir.FloatType(), len(order)
    columns = max(column for _, column in order) + 1
    places = [builder.gep(data, [ir.IntType(64)(row * columns + column)]) for row, column in order]
    constraints = ["=f"] * count + [str(n) for n in range(count)] + ["l"] * len(values) + ["~{memory}"]
    shape = ir.FunctionType(ir.LiteralStructType([number] * count), [number] * count + [each.type for each in values])
    before = [builder.load(place) for place in places]
    after = builder.asm(shape, text, ",".join(constraints), before + values, True)
    for n, place in enumerate(places):
        builder.store(builder.extract_value(after, n), place)


@cache
def announce() -> Callable:
    """Return ``announced()``: what this thread wrote to shared memory is there for instructions that come."""
    from numba.core.types import none, uint32
    from numba.extending import intrinsic

    codegen = line("fence.proxy.async.shared::cta; mov.b32 $0, 0;", uint32, "=r,~{memory}", True)

    @intrinsic
    def announced(typingctx):
        def emit(context, builder, signature, arguments):
            codegen(context, builder, uint32(), arguments)
            return context.get_dummy_value()

        return none(), emit

    return announced


@cache
def address() -> Callable:
    """Return ``address(array)``: where an array of shared memory begins there, in bytes."""
    from llvmlite import ir
    from numba.core.types import uint32
    from numba.cuda.np import arrayobj
    from numba.extending import intrinsic

    @intrinsic
    def address(typingctx, array):
        def codegen(context, builder, signature, arguments):
            data = arrayobj.make_array(array)(context, builder, arguments[0]).data
            shared = builder.addrspacecast(data, ir.PointerType(data.type.pointee, 3))
            return builder.ptrtoint(shared, ir.IntType(32))

        return uint32(array), codegen

    return address
