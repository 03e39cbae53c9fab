"""Which thread of a block brings what of an operand, and how it writes it to shared memory.

Threads lie *along the depth* where neighbours in memory are neighbours in k, else *along the rows*. What they write
together lies in 32 banks (operands.py says where).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from . import launch
from .operands import MATRIX, Slice, Words, sliced
from .problem import Tile
from .scalars import U, memory


class Extent(NamedTuple):
    """What a loader brings: so many rows of a tile, as words of numbers of a dtype."""

    rows: int
    tile: Tile
    dtype: type
    words: Words

    @property
    def slice(self) -> Slice:
        return sliced(self.rows, self.tile, self.words)


class Lanes(NamedTuple):
    """Threads side by side, what a pass of all of them covers across, and passes; ``exact``: none are idle."""

    lanes: int
    step: int
    passes: int
    exact: bool


def _lanes(along: int, across: int, tile: Tile, width: int) -> Lanes:
    lanes = along // width
    step = tile.threads // lanes
    return Lanes(lanes, step, -(-across // step), across % step == 0)


class Way(NamedTuple):
    """How threads lie, the numbers that one reads side by side in k, its ``slot`` and ``put``.

    ``at(t)`` gives a thread's numbers across and along the depth, ``row(r)`` the first row of a tile that threads of
    number r across bring.
    """

    lanes: Lanes
    span: int
    at: Callable
    row: Callable
    slot: Callable
    put: Callable


def _writer(kept: type, pack: Callable, count: int, stride: int, apart: int) -> Callable:
    """Return ``write(shared, place, offset, held, at)``: so many words side by side, of numbers that lie ``apart`` in a
    word, and ``stride`` from word to word."""
    store = memory(kept, count).store

    def word(held, at):
        return pack(held[at], held[at + apart])

    word = launch.inline(word)

    def write(shared, place, offset, held, at):
        if count == 4:
            second, third, fourth = word(held, at + stride), word(held, at + 2 * stride), word(held, at + 3 * stride)
            store(shared, place, offset, (word(held, at), second, third, fourth))
        elif count == 2:
            store(shared, place, offset, (word(held, at), word(held, at + stride)))
        else:
            store(shared, place, offset, word(held, at))

    return launch.inline(write)


def _within_matrices(across: int) -> Callable:
    """Return ``at(t)`` by which a warp writes core matrices: eight threads across, four of these along the depth; then
    as many as make ``across`` threads, and the rest along the depth."""

    def at(t):
        rest_across, rest_along = U(t // U(32) % U(across // 8)), U(t // U(4 * across))
        return U(t % U(8) + rest_across * U(8)), U(t // U(8) % U(4) + rest_along * U(4))

    return launch.inline(at)


def along_depth(extent: Extent, width: int) -> Way:
    """``width`` neighbours in k go to as many places of shared memory as they make words. On tensor cores there are two
    at least: a warp has four rows then, and writes to 32 banks."""
    rows, tile, _, (kept, each, pack, cores) = extent
    lies, span = extent.slice, max(width, 2 if cores else 1)
    lanes, step, passes, exact = layout = _lanes(tile.depth, rows, tile, span)
    matrices, across = cores == "wgmma", lies.across
    together = span // each if matrices else 1
    place_of, write = launch.inline(lies.place), _writer(kept, pack, together, each, each - 1)

    def in_turn(t):
        return U(t // U(lanes)), U(t % U(lanes))

    at = _within_matrices(step) if matrices else launch.inline(in_turn)

    def slot(t):
        r, k = at(t)
        return U(place_of(U(k * U(span // each))) + U(r * U(across)))

    def put(shared, place, t, held):
        r, _ = at(t)
        for j in range(passes):
            if exact or U(r + U(j * step)) < U(rows):
                for i in range(0, span, each * together):
                    write(shared, place, U(place_of(U(i // each)) + U(j * step * across)), held, j * span + i)

    return Way(layout, span, at, launch.inline(lies.row), launch.inline(slot), launch.inline(put))


def along_rows(extent: Extent, width: int) -> Way:
    """``width`` neighbours in r stay together, or go to as many core matrices; a thread reads the numbers of a word one
    after the other, and of core matrices four words where it reads one row."""
    rows, tile, _, (kept, each, pack, cores) = extent
    lies, matrices = extent.slice, cores == "wgmma"
    run = 4 if matrices and width == 1 else 1
    depth, span = tile.depth // each // run, each * run
    lanes, step, passes, exact = layout = _lanes(rows, depth, tile, width)
    scattered, across, row_of = matrices and width > 1, lies.across, launch.inline(lies.row)
    writes, beside = (width, MATRIX) if scattered else (1, 0)
    count, stride = (run, each) if matrices else (width, 1)
    place_of, write = launch.inline(lies.place), _writer(kept, pack, count, stride, (each - 1) * width)

    def in_turn(t):
        return U(t % U(lanes)), U(t // U(lanes))

    def first(r):
        """The slice's row that a thread begins with."""
        if scattered:
            return U(r % U(8) + r // U(8) * U(32))
        return U(r * U(width))

    at, first = _within_matrices(lanes) if scattered else launch.inline(in_turn), launch.inline(first)

    def row(r):
        return row_of(first(r))

    def slot(t):
        r, k = at(t)
        return U(place_of(U(k * U(run))) + U(first(r) * U(across)))

    def put(shared, place, t, held):
        _, k = at(t)
        for j in range(passes):
            if exact or U(k + U(j * step)) < U(depth):
                for i in range(writes):
                    to = U(place_of(U(j * step * run)) + U(i * beside))
                    write(shared, place, to, held, j * span * width + i)

    return Way(layout, span, at, launch.inline(row), launch.inline(slot), launch.inline(put))
