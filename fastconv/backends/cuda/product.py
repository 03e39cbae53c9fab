"""The product behind convolutions and linear layers: ``c = a b``, in tiles, with loaders that know what a and b are.

A block computes a tile of c. Slices of the depth come through registers into one of two stages of shared memory while
the slice before is multiplied, so that one barrier a slice is enough. A thread multiplies rows by columns of its own,
read 16 bytes at a time. Every element is one sum over k, in rising order or that of tensor cores, whatever the tile:
the same bits for every tile, batch and place in it. Where the depth is cut into parts (the third axis of the grid),
each part writes a c of its own, and another kernel adds them; or a block takes the parts in turn and adds each to c.
See ``parts.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import launch, warpgroups
from .array import DeviceArray
from .layouts import Layout, layout
from .loaders import Extent, loader
from .operands import words
from .problem import Problem, Tile
from .scalars import U, W, memory, quotient

cuda: Any = None  # put here by launch


class Form(NamedTuple):
    """What a product is compiled for."""

    dtype: str
    tile: Tile
    a: tuple  # loaders, see loaders.py
    b: tuple
    c: str  # "rows", "images" or "pixels": what the columns of c are, see ``column_offset``
    width: int = 1  # columns of c stored together
    bias: str | None = None  # "rows" or "columns"
    activation: str | None = None
    compute: str = "float32"
    cores: str = ""  # the instruction of tensor cores, "mma.sync" or "wgmma", see layouts.py and warpgroups.py
    in_turn: bool = False  # a block takes the parts of its sums one after the other


def column_offset(kind: str) -> Callable:
    """Return where a column of c lies: in a matrix, in images without gaps, or at the pixels of a phase."""
    quotient_of = launch.inline(quotient)

    def offset(p, column):
        if kind == "rows":
            return W(column)
        n = quotient_of(column, p.image_magic, p.image_shift)
        rest = U(column - U(n * p.image_size))
        at = W(n) * W(p.c_image)
        if kind == "images":
            return W(at + W(rest))
        z = quotient_of(rest, p.plane_magic, p.plane_shift)
        rest = U(rest - U(z * p.plane_size))
        y = quotient_of(rest, p.row_magic, p.row_shift)
        x = U(rest - U(y * p.row_size))
        return W(at + W(U(p.c_start + U(z * p.c_plane) + U(y * p.c_row) + U(x * p.c_step))))

    return launch.inline(offset)


def finisher(form: Any) -> Callable:
    """Return ``finish(value, bias, row, column)`` for the bias and the activation of a form."""
    zero = np.dtype(form.dtype).type(0)

    def finish(value, bias, row, column):
        """A value of c, bias added and activation applied; ``row`` and ``column`` are places in ``bias``."""
        if form.bias == "rows":
            value += bias[row]
        elif form.bias == "columns":
            value += bias[column]
        if form.activation == "relu" and value <= zero:  # as relu_forward: -0 becomes 0, NaN stays
            value = zero
        return value

    return launch.inline(finish)


def _passes(form: Form, where: Layout) -> tuple[Callable, Callable, Callable]:
    """Return three passes over a thread's part of c: ``carry`` adds to its sums what the parts before have left there,
    ``finish`` adds a bias and activates, ``store`` writes. (Apart: together they are too much for the compiler to
    unroll, and sums would lie in local memory.)"""
    tile, width, dtype = form.tile, form.width, np.dtype(form.dtype).type
    offset, end, access = column_offset(form.c), finisher(form), memory(dtype, width)
    read, write, row_step, column_step = access.load, access.store, where.row_step, where.column_step
    bias_rows, bias_columns = form.bias == "rows", form.bias == "columns"
    longest, stretch = max(tile.thread_rows, tile.thread_columns), min(16, tile.thread_columns)

    def over(visit: Callable) -> Callable:
        """Return the pass that visits neighbours stored together."""
        visit = launch.inline(visit)

        def some(c, p, base, first_row, first_column, sums, start, count):
            for j in range(start, start + count, width):
                column = U(first_column + column_step(j))
                if column < p.columns:
                    at = W(base + offset(p, column))
                    for i in range(tile.thread_rows):
                        row = U(first_row + row_step(i))
                        if row < p.rows:
                            visit(c, W(at + W(row) * W(p.c_stride)), sums, i, j)

        some = launch.inline(some)

        def walk(c, p, base, first_row, first_column, sums):
            some(c, p, base, first_row, first_column, sums, 0, stretch)
            if tile.thread_columns > stretch:
                some(c, p, base, first_row, first_column, sums, stretch, stretch)
            if tile.thread_columns > 2 * stretch:
                some(c, p, base, first_row, first_column, sums, 2 * stretch, stretch)
                some(c, p, base, first_row, first_column, sums, 3 * stretch, stretch)

        return launch.inline(walk)

    def carry(c, index, sums, i, j):
        if width == 1:
            sums[i, j] += c[index]
        else:
            before = read(c, index, U(0))
            for v in range(width):
                sums[i, j + v] += before[v]

    def store(c, index, sums, i, j):
        if width == 1:
            c[index] = sums[i, j]
        elif width == 2:
            write(c, index, U(0), (sums[i, j], sums[i, j + 1]))
        else:
            write(c, index, U(0), (sums[i, j], sums[i, j + 1], sums[i, j + 2], sums[i, j + 3]))

    def finish(bias, p, group, first_row, first_column, sums):
        beside = cuda.local.array(longest, dtype)
        if bias_rows:
            for i in range(tile.thread_rows):
                row = U(min(U(first_row + row_step(i)), U(p.rows - U(1))))
                beside[i] = bias[W(group * p.rows + row)]
        elif bias_columns:
            for j in range(tile.thread_columns):
                beside[j] = bias[W(min(U(first_column + column_step(j)), U(p.columns - U(1))))]
        for i in range(tile.thread_rows):
            for j in range(tile.thread_columns):
                sums[i, j] = end(sums[i, j], beside, i, j)

    return over(carry), launch.inline(finish), over(store)


@launch.factory
def product(form: Form) -> Callable:
    """Return the kernel ``(a, b, bias, c, table, problem)``; grid: tiles (rows side by side), groups, parts."""
    tile, dtype = form.tile, np.dtype(form.dtype).type
    kept = words(dtype, form.compute, form.cores)
    of_a, of_b = (Extent(size, tile, dtype, kept) for size in (tile.rows, tile.columns))
    hoist_a, fetch_a, slot_a, put_a, held_a, origins_a, state_a = loader(form.a, of_a)
    hoist_b, fetch_b, slot_b, put_b, held_b, origins_b, state_b = loader(form.b, of_b)
    rows, columns, depth, thread_rows, thread_columns, _ = tile
    lies_a, lies_b = of_a.slice, of_b.slice
    size_a, size_b, step_a, step_b = lies_a.size, lies_b.size, lies_a.step, lies_b.step
    both_a, both_b, element, at_once = 2 * size_a, 2 * size_b, kept.dtype, step_a == size_a
    alignment = None if launch.machine().simulated else 16
    whole, zero = np.int32, dtype(0)
    quotient_of, settle = launch.inline(quotient), memory(dtype, 1).settle
    where = layout(dtype, tile, form.compute, lies_a, lies_b)
    place, start, multiply, operand = where.place, where.start, where.multiply, where.operand
    wait, announce = where.wait, where.announce
    (carry, finish, store), in_turn = _passes(form, where), form.in_turn
    finishes = form.bias is not None or form.activation is not None

    def corner(p, block):
        """The first row and column of a block's tile."""
        tile_column = quotient_of(block, p.row_tiles_magic, p.row_tiles_shift)
        return U(U(block - U(tile_column * p.row_tiles_size)) * U(rows)), U(tile_column * U(columns))

    corner = launch.inline(corner)

    def kernel(a, b, bias, c, table, p):
        slices_a = cuda.shared.array(both_a, element, alignment)
        slices_b = cuda.shared.array(both_b, element, alignment)
        held_of_a = cuda.local.array(held_a, dtype)
        held_of_b = cuda.local.array(held_b, dtype)
        from_a = cuda.local.array(origins_a, W)
        from_b = cuda.local.array(origins_b, W)
        places_a = cuda.local.array(state_a, whole)
        places_b = cuda.local.array(state_b, whole)
        sums = cuda.local.array((thread_rows, thread_columns), dtype)
        left = cuda.local.array(thread_rows, operand)
        right = cuda.local.array(thread_columns, operand)
        t, group, part = U(cuda.threadIdx.x), U(cuda.blockIdx.y), U(cuda.blockIdx.z)
        row, column = corner(p, U(cuda.blockIdx.x))
        hoist_a(a, W(W(group) * W(p.a_group)), p.a_stride, p.a_image, table, p, row, p.rows, t, from_a, places_a)
        hoist_b(b, W(W(group) * W(p.b_group)), p.b_stride, p.b_image, table, p, column, p.columns, t, from_b, places_b)
        to_a, to_b = settle(slot_a(t)), settle(slot_b(t))
        at_a, at_b = start(t)
        at_a, at_b = settle(at_a), settle(at_b)
        k, goes_on = U(part * p.part), True
        while goes_on:
            end = U(min(U(k + p.part), p.depth))
            for i in range(thread_rows):
                for j in range(thread_columns):
                    sums[i, j] = zero
            if k < end:
                fetch_a(a, p.a_stride, p.a_image, table, p, k, end, t, from_a, places_a, held_of_a)
                fetch_b(b, p.b_stride, p.b_image, table, p, k, end, t, from_b, places_b, held_of_b)
                put_a(slices_a, to_a, t, held_of_a)
                put_b(slices_b, to_b, t, held_of_b)
                announce()
            cuda.syncthreads()
            stage = U(0)
            while k < end:
                k = U(k + U(depth))
                if k < end:
                    fetch_a(a, p.a_stride, p.a_image, table, p, k, end, t, from_a, places_a, held_of_a)
                    fetch_b(b, p.b_stride, p.b_image, table, p, k, end, t, from_b, places_b, held_of_b)
                slice_a, slice_b = U(at_a + U(stage * U(size_a))), U(at_b + U(stage * U(size_b)))
                if at_once:
                    multiply(slices_a, slices_b, slice_a, slice_b, left, right, sums)
                else:
                    last = U(slice_a + U(size_a))
                    while slice_a < last:
                        multiply(slices_a, slices_b, slice_a, slice_b, left, right, sums)
                        slice_a, slice_b = U(slice_a + U(step_a)), U(slice_b + U(step_b))
                stage = U(U(1) - stage)
                if k < end:
                    put_a(slices_a, U(to_a + U(stage * U(size_a))), t, held_of_a)
                    put_b(slices_b, U(to_b + U(stage * U(size_b))), t, held_of_b)
                    announce()
                wait(sums)
                cuda.syncthreads()
            ends = end >= p.depth
            goes_on = in_turn and not ends
            first_row, first_column = place(settle(t))  # walls: nothing of this is worked out before the sums
            row_, column_ = corner(p, settle(U(cuda.blockIdx.x)))
            group_ = settle(U(cuda.blockIdx.y))
            to = W(W(group_) * W(p.c_group) + W(part) * W(p.c_part))
            first_row, first_column = U(row_ + first_row), U(column_ + first_column)
            if in_turn and end > p.part:
                carry(c, p, to, first_row, first_column, sums)
            if finishes and (ends or not in_turn):
                finish(bias, p, group_, first_row, first_column, sums)
            store(c, p, to, first_row, first_column, sums)

    few = 64 if form.cores and rows < 64 else 0  # in 128 registers, mma.sync in tiles of 32 by 128 spilled two
    registers = max(128, few + thread_rows * thread_columns + 3 * (held_a + held_b))  # of 65,536 a multiprocessor
    kernel.options = {"launch_bounds": (tile.threads, max(1, (1 << 16) // (registers * tile.threads)))}
    if form.cores == "wgmma":
        kernel.capability = warpgroups.CAPABILITY
    return kernel


def run(
    op: str, form: Form, p: Problem, groups: int, a: DeviceArray, b: DeviceArray, bias: DeviceArray | None,
    c: DeviceArray, table: DeviceArray, parts: int = 1,
) -> None:  # fmt: skip
    """Start a product, its depth in parts that each write a c of their own; nothing where c is empty."""
    if p.rows and p.columns:
        grid = (int(p.row_tiles_size) * -(-int(p.columns) // form.tile.columns), groups, parts)
        launch.blocks(op, product, (form,), grid, form.tile.threads, a, b, c if bias is None else bias, c, table, p)
