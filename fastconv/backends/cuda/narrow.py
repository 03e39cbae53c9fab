"""Correlations of few rows: first layers on the way back, depthwise convolution, groups of few channels.

A tile of them would be mostly empty. Here a thread has a few pixels, a block apart, and all rows of its group: each
window is read once for all rows, and weights and taps, the same for all threads, come from the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...geometry import ConvGeometry
from . import launch, tiles, windows
from .array import DeviceArray, empty
from .conv_backward_weight import weight_numbers
from .correlate import Correlation
from .loaders import pixel_place, window_test
from .problem import problem
from .product import column_offset, finisher
from .scalars import I, U, W, memory, quotient

MOST_ROWS = {"conv_forward": 8, "conv_backward_input": 8, "conv_backward_weight": 2}  # a group
cuda: Any = None  # put here by launch


class Narrow(NamedTuple):
    """What the kernel is compiled for; ``axes`` and ``c`` as in loaders.py and product.py."""

    dtype: str
    rows: int
    axes: int
    c: str
    threads: int
    pixels: int
    bias: str | None = None
    activation: str | None = None


@launch.factory
def narrow(form: Narrow) -> Callable:
    """Return the kernel ``(a, b, bias, c, table, problem)``; grid: blocks of pixels, groups."""
    dtype, rows, pixels, threads = np.dtype(form.dtype).type, form.rows, form.pixels, form.threads
    inside, place = window_test(form.axes), pixel_place()
    offset, finish = column_offset(form.c), finisher(form)
    load_if, origin, settle = memory(dtype, 1)[2:5]
    tap, whole, zero = memory(np.int32, 4).load, np.int32, dtype(0)

    def kernel(a, b, bias, c, table, p):
        sums = cuda.local.array((rows, pixels), dtype)
        weights = cuda.local.array(rows, dtype)
        origins = cuda.local.array(pixels, W)
        starts = cuda.local.array((pixels, 4), whole)
        group, t = U(cuda.blockIdx.y), U(cuda.threadIdx.x)
        first = U(U(cuda.blockIdx.x) * U(threads * pixels) + t)
        from_a = origin(a, W(group) * W(p.a_group))
        for i in range(pixels):
            n, at, z, y, x = place(p, U(min(U(first + U(i * threads)), U(p.columns - U(1)))))
            origins[i] = origin(b, W(W(group) * W(p.b_group) + W(n) * W(p.b_image)))
            starts[i, 0], starts[i, 1], starts[i, 2], starts[i, 3] = settle(at), settle(z), settle(y), settle(x)
            for row in range(rows):
                sums[row, i] = zero
        k = U(0)
        while k < p.depth:
            moved, dz, dy, dx = tap(table, U(k * U(4)), U(0))
            for row in range(rows):
                weights[row] = load_if(a, from_a, U(U(k * p.a_image) + U(U(row) * p.a_stride)), True)
            for i in range(pixels):
                there = inside(p, I(starts[i, 1] + dz), I(starts[i, 2] + dy), I(starts[i, 3] + dx))
                value = load_if(b, origins[i], U(I(starts[i, 0] + moved)), there)
                for row in range(rows):
                    sums[row, i] += weights[row] * value
            k = U(k + U(1))
        for i in range(pixels):
            column = U(first + U(i * threads))
            if column < p.columns:
                to = W(W(group) * W(p.c_group) + offset(p, column))
                for row in range(rows):
                    index = W(to + W(U(U(row) * p.c_stride)))
                    c[index] = finish(sums[row, i], bias, W(group * U(rows) + U(row)), column)

    kernel.options = {"launch_bounds": threads}
    return kernel


def by_pixels(
    what: Correlation, a: DeviceArray, b: DeviceArray, bias: DeviceArray | None, c: DeviceArray,
    activation: str | None,
) -> None:  # fmt: skip
    """Run a correlation of few rows."""
    rows, depth, columns = (what.numbers[name] for name in ("rows", "depth", "columns"))
    if not columns:
        return
    threads, pixels = launch.tile(128, 4), launch.tile(4, 2)
    form = Narrow(
        c.dtype.name, rows, windows.checked(what.axes), "images" if what.dense else "pixels", threads, pixels,
        None if bias is None else "rows", activation,
    )  # fmt: skip
    stride, step = (1, rows) if what.turned else (depth, 1)
    p = what.problem(a_stride=stride, a_image=step)
    grid = (-(-columns // (threads * pixels)), what.groups)
    table = windows.table(what.axes, what.channels)
    launch.blocks(what.op, narrow, (form,), grid, threads, a, b, c if bias is None else bias, c, table, p)


# ------------------------------------------------------------------------------------------ weight gradient

_TAPS = 8  # of a block: each value of dy is read once for so many


class NarrowWeight(NamedTuple):
    dtype: str
    taps: int
    axes: int
    threads: int


@launch.factory
def narrow_weight(form: NarrowWeight) -> Callable:
    """Return the kernel ``(dy, x, sums, table, problem)``; grid: runs of taps (rows side by side), groups, parts.

    A thread sums every so many pixels of its part; a block adds what its threads have as a tree.
    """
    dtype, taps, threads = np.dtype(form.dtype).type, form.taps, form.threads
    inside, place, quotient_of = window_test(form.axes), pixel_place(), launch.inline(quotient)
    load_if, origin, settle, unit = memory(dtype, 1)[2:]
    tap, whole, zero, size = memory(np.int32, 4).load, np.int32, dtype(0), threads * taps

    def kernel(a, b, c, table, p):
        shared = cuda.shared.array(size, dtype)
        sums = cuda.local.array(taps, dtype)
        shifts = cuda.local.array((taps, 4), whole)
        block, t = U(cuda.blockIdx.x), U(cuda.threadIdx.x)
        group, part = U(cuda.blockIdx.y), U(cuda.blockIdx.z)
        run = quotient_of(block, p.row_tiles_magic, p.row_tiles_shift)
        row, first = U(block - U(run * p.row_tiles_size)), U(run * U(taps))
        from_a = origin(a, W(W(group) * W(p.a_group) + W(row) * W(p.a_stride)))
        from_b = origin(b, W(group) * W(p.b_group))
        for j in range(taps):
            moved, dz, dy, dx = tap(table, U(first * U(4)), U(4 * j))
            shifts[j, 0], shifts[j, 1], shifts[j, 2], shifts[j, 3] = settle(moved), settle(dz), settle(dy), settle(dx)
            sums[j] = zero
        k = U(U(part * p.part) + t)
        end = U(min(U(U(part + U(1)) * p.part), p.depth))
        while k < end:
            n, at, z, y, x = place(p, k)
            value = load_if(a, W(from_a + W(n) * W(p.a_image) * W(unit)), U(k - U(n * p.image_size)), True)
            image = W(from_b + W(n) * W(p.b_image) * W(unit))
            for j in range(taps):
                there = inside(p, I(z + shifts[j, 1]), I(y + shifts[j, 2]), I(x + shifts[j, 3]))
                sums[j] += value * load_if(b, image, U(I(at + shifts[j, 0])), there & (U(first + U(j)) < p.columns))
            k = U(k + U(threads))
        for j in range(taps):
            shared[U(U(j * threads) + t)] = sums[j]
        half = threads // 2
        while half > 0:
            cuda.syncthreads()
            if t < U(half):
                for j in range(taps):
                    shared[U(U(j * threads) + t)] += shared[U(U(j * threads) + t + U(half))]
            half = half // 2
        cuda.syncthreads()
        if t < U(taps) and U(first + t) < p.columns:
            to = W(W(group) * W(p.c_group) + W(part) * W(p.c_part))
            c[W(to + W(U(U(row * p.c_stride) + first + t)))] = shared[U(t * U(threads))]

    kernel.options = {"launch_bounds": threads}
    return kernel


def parts_by_pixels(dy: DeviceArray, x: DeviceArray, geometry: ConvGeometry) -> DeviceArray:
    """Return the parts of the gradient of weights with few output channels a group."""
    threads, axes, numbers = launch.tile(256, 4), windows.forward_axes(geometry), weight_numbers(geometry)
    rows, columns, depth, size = (numbers[name] for name in ("rows", "columns", "depth", "c_part"))
    taps = min(launch.tile(_TAPS, 4), columns)
    blocks = -(-columns // taps) * rows
    parts, part = tiles.cut(depth, blocks * geometry.groups, size * x.itemsize, threads)
    sums = empty((parts, size), x.dtype)
    form = NarrowWeight(x.dtype.name, taps, windows.checked(axes), threads)
    p = problem(**numbers, **windows.numbers(axes), part=part, row_tiles=rows)
    table = windows.table(axes, geometry.ic // geometry.groups)
    grid = (blocks, geometry.groups, parts)
    launch.blocks("conv_backward_weight", narrow_weight, (form,), grid, threads, dy, x, sums, table, p)
    return sums
