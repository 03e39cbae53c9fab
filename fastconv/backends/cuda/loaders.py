"""How a block's threads bring the operands of a product to shared memory: four ways, each for either operand.

An operand is seen as ``(r, k)``: r its rows (of a) or columns (of b), k the depth that is summed over. Threads lie
*along the depth* where neighbours in memory are neighbours in k, else *along r*. ``hoist`` works out once what a thread
needs of its rows, ``fetch`` reads a slice of the depth into registers, and ``put`` writes these to shared memory, as
words of one k or several (operands.py). What lies beyond the depth is 0, and so is padding; rows beyond the last repeat
it and are not stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import launch
from .scalars import I, U, W, memory, quotient
from .ways import Extent, along_depth, along_rows

NOWHERE = 1 << 30  # the shift of a tap that reaches no position: what pads a table of taps
cuda: Any = None  # put here by launch


class Loader(NamedTuple):
    """The functions, and how many numbers, addresses and whole numbers a thread holds between them.

    ``hoist(array, base, stride, image, table, p, first, count, t, origins, state)``
    ``fetch(array, stride, image, table, p, start, end, t, origins, state, held)``
    ``slot(t)`` is the thread's first place in a stage, ``put(shared, place, t, held)`` goes on from there.
    """

    hoist: Callable
    fetch: Callable
    slot: Callable
    put: Callable
    held: int
    origins: int
    state: int


def loader(kind: tuple, extent: Extent) -> Loader:
    """Return the loader of ``kind``, a name and its options."""
    name, *options = kind
    return _LOADERS[name](extent, *options)


def _reader(dtype: type, width: int) -> Callable:
    """Return ``read(array, origin, offset, there, held, place)``: ``width`` neighbours, or zeros."""
    load_if = memory(dtype, width).load_if

    def read(array, origin, offset, there, held, place):
        if width == 1:
            held[place] = load_if(array, origin, offset, there)
        else:
            values = load_if(array, origin, offset, there)
            for i in range(width):
                held[place + i] = values[i]

    return launch.inline(read)


# ---------------------------------------------------------------------------------------------- matrices


def _rows(extent: Extent, width: int, images: bool) -> Loader:
    """``array[r * stride + k]``; where k counts pixels of all images, ``array[image(k) + r * stride + pixel(k)]``."""
    (_, step, passes, exact), span, thread_at, row_of, slot, put = along_depth(extent, width)
    rows, dtype = extent.rows, extent.dtype
    read, quotient_of = _reader(dtype, width), launch.inline(quotient)
    origin, unit = memory(dtype, 1).origin, memory(dtype, 1).unit

    def hoist(array, base, stride, image, table, p, first, count, t, origins, state):
        r, _ = thread_at(t)
        for j in range(passes):
            row = U(min(U(first + row_of(U(r + U(j * step)))), U(count - U(1))))
            origins[j] = origin(array, W(base + W(row) * W(stride)))

    def fetch(array, stride, image, table, p, start, end, t, origins, state, held):
        r, part = thread_at(t)
        for i in range(0, span, width):
            k = U(start + U(part * U(span) + U(i)))
            if images:
                n = quotient_of(k, p.image_magic, p.image_shift)
                before, place = W(W(n) * W(image)) * W(unit), U(k - U(n * p.image_size))
            else:
                before, place = W(0), k
            for j in range(passes):
                there = (k < end) & (exact or U(r + U(j * step)) < U(rows))
                read(array, W(origins[j] + before), place, there, held, j * span + i)

    return Loader(launch.inline(hoist), launch.inline(fetch), slot, put, passes * span, passes, 1)


def _columns(extent: Extent, width: int, images: bool) -> Loader:
    """``array[k * stride + r]``; where r counts pixels of all images, ``array[image(r) + k * stride + pixel(r)]``."""
    (_, step, passes, exact), each, thread_at, row_of, slot, put = along_rows(extent, width)
    dtype, depth = extent.dtype, extent.tile.depth
    read, quotient_of = _reader(dtype, width), launch.inline(quotient)
    origin, unit = memory(dtype, 1).origin, memory(dtype, 1).unit

    def hoist(array, base, stride, image, table, p, first, count, t, origins, state):
        r, _ = thread_at(t)
        r = U(min(U(first + row_of(r)), U(count - U(width))))
        n = quotient_of(r, p.image_magic, p.image_shift) if images else U(0)
        origins[0] = origin(array, W(base + W(n) * W(image) + W(U(r - U(n * p.image_size)))))

    def fetch(array, stride, image, table, p, start, end, t, origins, state, held):
        _, part = thread_at(t)
        for j in range(passes):
            for i in range(each):
                slice_ = U(U(part + U(j * step)) * U(each) + U(i))
                k = U(start + slice_)
                there = (k < end) & (exact or slice_ < U(depth))
                at = W(origins[0] + W(k) * W(stride) * W(unit))
                read(array, at, U(0), there, held, (j * each + i) * width)

    return Loader(launch.inline(hoist), launch.inline(fetch), slot, put, passes * each * width, 1, 1)


# ----------------------------------------------------------------------------------- windows of a convolution
# A pixel is where a window starts, a tap an offset from there: (offset, dz, dy, dx) in a table. ``axes`` says how many
# axes can leave the array, the innermost first: 0, 2 or 3.


def window_test(axes: int) -> Callable:
    """Return ``inside(p, z, y, x)``: whether an element lies in the array, of the axes that are looked at."""

    def inside(p, z, y, x):
        if axes == 0:
            return True
        if axes == 2:
            return (U(y) < p.size_h) & (U(x) < p.size_w)
        return (U(z) < p.size_d) & (U(y) < p.size_h) & (U(x) < p.size_w)

    return launch.inline(inside)


def pixel_place() -> Callable:
    """Return ``place(p, pixel)``: where the window of a pixel starts."""
    quotient_of = launch.inline(quotient)

    def place(p, pixel):
        """Return the image, the position in it of the window's first element, and that element's three indices."""
        n = quotient_of(pixel, p.image_magic, p.image_shift)
        rest = U(pixel - U(n * p.image_size))
        z = quotient_of(rest, p.plane_magic, p.plane_shift)
        rest = U(rest - U(z * p.plane_size))
        y = quotient_of(rest, p.row_magic, p.row_shift)
        x = U(rest - U(y * p.row_size))
        first_z = I(I(z * p.stride_d) + I(p.start_d))
        first_y = I(I(y * p.stride_h) + I(p.start_h))
        first_x = I(I(x * p.stride_w) + I(p.start_w))
        at = I(I(I(I(first_z * I(p.size_h)) + first_y) * I(p.size_w)) + first_x)
        return n, at, first_z, first_y, first_x

    return launch.inline(place)


def _pixels(extent: Extent, axes: int) -> Loader:
    """r counts pixels, k taps: the windows of a convolution. The table is padded to whole slices of the depth."""
    (_, step, passes, exact), each, thread_at, row_of, slot, put = along_rows(extent, 1)
    dtype, depth = extent.dtype, extent.tile.depth
    read, inside, place = _reader(dtype, 1), window_test(axes), pixel_place()
    tap, origin, settle = memory(np.int32, 4).load, memory(dtype, 1).origin, memory(dtype, 1).settle

    def hoist(array, base, stride, image, table, p, first, count, t, origins, state):
        r, _ = thread_at(t)
        n, at, z, y, x = place(p, U(min(U(first + row_of(r)), U(count - U(1)))))
        origins[0] = origin(array, W(base + W(n) * W(image)))
        state[0], state[1], state[2], state[3] = settle(at), settle(z), settle(y), settle(x)

    def fetch(array, stride, image, table, p, start, end, t, origins, state, held):
        _, part = thread_at(t)
        first = U(start + U(part * U(each)))
        for j in range(passes):
            if exact or U(U(part + U(j * step)) * U(each)) < U(depth):
                for i in range(each):
                    ahead = j * step * each + i
                    offset, dz, dy, dx = tap(table, U(first * U(4)), U(4 * ahead))
                    if axes == 0:
                        there = U(first + U(ahead)) < end
                    else:
                        there = inside(p, I(state[1] + dz), I(state[2] + dy), I(state[3] + dx))
                    read(array, origins[0], U(I(state[0] + offset)), there, held, j * each + i)

    return Loader(launch.inline(hoist), launch.inline(fetch), slot, put, passes * each, 1, 4)


def _taps(extent: Extent, axes: int) -> Loader:
    """r counts taps, k pixels: the same windows, turned."""
    (_, step, passes, exact), span, thread_at, row_of, slot, put = along_depth(extent, 1)
    rows, dtype = extent.rows, extent.dtype
    read, inside, place = _reader(dtype, 1), window_test(axes), pixel_place()
    origin, settle, tap = memory(dtype, 1).origin, memory(dtype, 1).settle, memory(np.int32, 4).load
    unit = memory(dtype, 1).unit

    def hoist(array, base, stride, image, table, p, first, count, t, origins, state):
        origins[0] = origin(array, base)
        r, _ = thread_at(t)
        first_tap = U(U(first + row_of(r)) * U(4))
        if axes == 3:
            state[0] = settle(I(first_tap))
        else:
            for j in range(passes):
                offset, _, dy, dx = tap(table, first_tap, U(row_of(U(j * step)) * U(4)))
                state[3 * j], state[3 * j + 1], state[3 * j + 2] = settle(offset), settle(dy), settle(dx)

    def fetch(array, stride, image, table, p, start, end, t, origins, state, held):
        r, part = thread_at(t)
        for i in range(span):
            k = U(start + U(part * U(span) + U(i)))
            n, at, z, y, x = place(p, k)
            first = W(origins[0] + W(n) * W(image) * W(unit))
            for j in range(passes):
                if axes == 3:  # registers are few: the taps are read again
                    offset, dz, dy, dx = tap(table, U(state[0]), U(row_of(U(j * step)) * U(4)))
                else:
                    offset, dz, dy, dx = state[3 * j], I(0), state[3 * j + 1], state[3 * j + 2]
                there = inside(p, I(z + dz), I(y + dy), I(x + dx))
                there = there & (k < end) & (exact or U(r + U(j * step)) < U(rows))
                read(array, first, U(I(at + offset)), there, held, j * span + i)

    return Loader(launch.inline(hoist), launch.inline(fetch), slot, put, passes * span, 1, 3 * passes)


_LOADERS = {"rows": _rows, "columns": _columns, "pixels": _pixels, "taps": _taps}


def tap_table(offsets: np.ndarray, shifts: np.ndarray, multiple: int) -> np.ndarray:
    """Return offsets (K,), shifts (K, 3) as an int32 table (K', 4), K' the next multiple, the rest reaching nothing."""
    count = -(-max(1, len(offsets)) // multiple) * multiple
    table = np.full((count, 4), NOWHERE, np.int32)
    table[:, 0] = 0
    table[: len(offsets), 0] = offsets
    table[: len(offsets), 1:] = shifts
    return table
