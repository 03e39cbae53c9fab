"""Whole numbers in kernels: division by multiplication, bounds, and 128-bit accesses. Index arithmetic is unsigned:
signed indices carry numba's wrap-around, which doubles the registers of a kernel.

Inside a sample 32 bits suffice (plan.py sees to that); what counts samples, rows or groups is 64 bits wide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from . import launch

U = np.uint32
I = np.int32  # noqa: E741
W = np.uint64

LIMIT = 2**31  # numerators, and elements of a sample


def reciprocal(divisor: int) -> tuple[int, int]:
    """Return magic and shift with ``n // divisor == (2 * n * magic >> 32) >> shift`` for all ``n`` below 2**31.

    Granlund and Montgomery, Division by invariant integers using multiplication (1994): the magic is
    2**(31 + shift) / divisor rounded up, and its excess of at most 1 adds less than 1 / divisor to the quotient.

    >>> magic, shift = reciprocal(7)
    >>> (2 * 2147483647 * magic >> 32) >> shift == 2147483647 // 7
    True
    """
    shift = (divisor - 1).bit_length()
    return (1 << 31 + shift) // divisor + 1, shift


def quotient(n: Any, magic: Any, shift: Any) -> Any:
    """Inside kernels: ``n // divisor`` for the magic and the shift of ``reciprocal``."""
    return U((W(n) + W(n)) * W(magic) >> W(32)) >> shift


class Memory(NamedTuple):
    """Accesses to ``lanes`` neighbours together, 16 bytes aligned to 16 (a tuple), or to one number.

    ``load(array, base, offset)`` and ``store(array, base, offset, value)`` are for shared memory and tables. Global
    memory that no thread of the kernel writes is read by ``load_if(array, origin, offset, there)``: zeros where
    ``there`` is false, without a branch, and nothing is read then. ``origin(array, index)`` is what it counts from, and
    is worked out where it stands: as ``settle(number)``, it is a wall to compilers that would work a number out again
    in each turn of a loop to save its register.
    """

    load: Callable
    store: Callable
    load_if: Callable
    origin: Callable
    settle: Callable
    unit: int  # what an origin grows by from element to element


def memory(dtype: type, lanes: int) -> Memory:
    """Return the accesses to so many neighbours of a dtype; under the simulator they go one by one."""
    return _simulated(dtype, lanes) if launch.machine().simulated else _compiled(np.dtype(dtype).name, lanes)


def _simulated(dtype: type, lanes: int) -> Memory:
    zeros = dtype(0) if lanes == 1 else (dtype(0),) * lanes

    def load(array: Any, base: Any, offset: Any) -> Any:
        first = int(base) + int(offset)
        return array[first] if lanes == 1 else tuple(array[first + i] for i in range(lanes))

    def store(array: Any, base: Any, offset: Any, value: Any) -> None:
        first = int(base) + int(offset)
        if lanes == 1:
            array[first] = value
        else:
            for i in range(lanes):
                array[first + i] = value[i]

    def load_if(array: Any, origin: Any, offset: Any, there: bool) -> Any:
        return load(array, origin, offset) if there else zeros

    def origin(array: Any, index: Any) -> Any:
        return index

    def settle(number: Any) -> Any:
        return number

    return Memory(load, store, load_if, origin, settle, 1)


@cache
def _compiled(dtype: str, lanes: int) -> Memory:
    from llvmlite import ir
    from numba.core import types
    from numba.cuda import cgutils
    from numba.cuda.np import arrayobj
    from numba.extending import intrinsic

    word, wide, scalar = ir.IntType(32), ir.IntType(64), getattr(types, dtype)
    size = np.dtype(dtype).itemsize
    kinds = {"float32": ("f", "f32"), "float64": ("d", "f64"), "int32": ("r", "s32"), "uint32": ("r", "u32")}
    register, suffix = kinds[dtype]
    together = scalar if lanes == 1 else types.UniTuple(scalar, lanes)

    def element(context: Any, builder: Any, kind: Any, array: Any, *indices: Any) -> Any:
        """The address of an element: offsets that are constants stay so in the instruction."""
        at = arrayobj.make_array(kind)(context, builder, array).data
        for index in indices:
            at = builder.gep(at, [builder.zext(index, wide) if index.type == word else index])
        if lanes == 1:
            return at
        vector = ir.VectorType(at.type.pointee, lanes)
        return builder.bitcast(at, ir.PointerType(vector, at.type.addrspace))

    def packed(builder: Any, values: Any) -> Any:
        return cgutils.pack_array(builder, values)

    @intrinsic
    def load(typingctx, array, base, offset):
        def codegen(context, builder, signature, arguments):
            values = builder.load(element(context, builder, array, *arguments), align=size * lanes)
            if lanes == 1:
                return values
            return packed(builder, [builder.extract_element(values, word(i)) for i in range(lanes)])

        return together(array, base, types.uint32), codegen

    @intrinsic
    def store(typingctx, array, base, offset, value):
        def codegen(context, builder, signature, arguments):
            at, values = element(context, builder, array, *arguments[:3]), arguments[3]
            if lanes > 1:
                vector = at.type.pointee(ir.Undefined)
                for i in range(lanes):
                    vector = builder.insert_element(vector, builder.extract_value(values, i), word(i))
                values = vector
            builder.store(values, at, align=size * lanes)
            return context.get_dummy_value()

        return types.none(array, base, offset, together), codegen

    @intrinsic
    def load_if(typingctx, array, origin, offset, there):
        def codegen(context, builder, signature, arguments):
            _, start, steps, truth = arguments
            at = builder.add(start, builder.mul(builder.zext(steps, wide), wide(size)))
            truth = builder.zext(context.get_value_as_data(builder, types.boolean, truth), word)
            zeros = " ".join(f"mov.b{8 * size} ${i}, 0;" for i in range(lanes))
            names = ", ".join(f"${i}" for i in range(lanes))
            to, vector = (names, "") if lanes == 1 else (f"{{{names}}}", f".v{lanes}")
            text = (
                f"{{ .reg .pred there; setp.ne.u32 there, ${lanes + 1}, 0; {zeros} "
                f"@there ld.global.nc{vector}.{suffix} {to}, [${lanes}]; }}"
            )
            kind = context.get_data_type(scalar)
            result = kind if lanes == 1 else ir.LiteralStructType([kind] * lanes)
            constraints = ",".join([f"={register}"] * lanes + ["l", "r"])
            found = builder.asm(ir.FunctionType(result, [wide, word]), text, constraints, [at, truth], False)
            if lanes == 1:
                return found
            return packed(builder, [builder.extract_value(found, i) for i in range(lanes)])

        return together(array, types.uint64, types.uint32, types.boolean), codegen

    def settled(builder: Any, value: Any) -> Any:
        bits, kind = (64, "l") if value.type == wide else (32, "r")
        function = ir.FunctionType(value.type, [value.type])
        return builder.asm(function, f"mov.b{bits} $0, $1;", f"={kind},{kind}", [value], True)

    @intrinsic
    def origin(typingctx, array, index):
        def codegen(context, builder, signature, arguments):
            at = arrayobj.make_array(array)(context, builder, arguments[0]).data
            return settled(builder, builder.ptrtoint(builder.gep(at, [arguments[1]]), wide))

        return types.uint64(array, types.uint64), codegen

    @intrinsic
    def settle(typingctx, number):
        def codegen(context, builder, signature, arguments):
            return settled(builder, arguments[0])

        return number(number), codegen

    return Memory(load, store, load_if, origin, settle, size)
