"""Plans: which tiles a volume is cut into, so that what they take stays within a budget, and how one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..backends.cpu.runtime import empty_cache
from ..errors import ArgumentError, ShapeError, mismatch
from ..graph import Graph, Value, outline
from .blending import Axis, Blender, Tile
from .layout import Window
from .memory import MARGIN, keep_packed, peak, readable
from .regions import Regions
from .sources import Source

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)  # that a network may ask of its sizes


class Plan:
    """Tiles of an answer, and what computes them.

    Attributes:
        outputs: the answer's shape: (channels, spatial...).
        count: how many tiles there are.
    """

    outputs: tuple[int, ...]
    count: int

    def run(self, source: Source, slow: int) -> Iterator[tuple[Window, np.ndarray, bool]]:
        """Yield windows of the answer with their values (channels, *window); at the last of each tile True."""
        raise NotImplementedError


def one_array(op: str, graph: Graph) -> Graph:
    """Require that the network returns one array (1, channels, spatial...)."""
    value = graph.outputs
    if not isinstance(value, Value) or len(value.shape) != len(graph.inputs[0].shape) or value.shape[0] != 1:
        found = repr(value) if isinstance(value, Value) else type(value).__name__
        shape = "(1, channels, spatial...)"
        raise ArgumentError(mismatch(op, f"model to return one array {shape} for {graph.inputs[0]!r}", found))
    return graph


def smaller(tile: Sequence[int], multiple: int = 1) -> tuple[int, ...] | None:
    """The next smaller tile: three quarters of its longest axis, in whole multiples; None where nothing is left.

    >>> smaller((6, 9)), smaller((16, 8), 8), smaller((1, 1))
    ((6, 7), (8, 8), None)
    """
    longest = max(range(len(tile)), key=lambda i: tile[i])
    size = min(-(-3 * tile[longest] // (4 * multiple)) * multiple, tile[longest] - multiple)
    return (*tile[:longest], size, *tile[longest + 1 :]) if size >= multiple else None


def fitting(
    op: str, budget: int, first: tuple[int, ...], chosen: bool, multiple: int, takes: Callable[[tuple[int, ...]], int]
) -> tuple[int, ...]:
    """Return the first tile, from ``first`` down, that takes no more than the budget; ``first`` alone if ``chosen``.

    Raises:
        ArgumentError: none does; the message says how much the least of them takes.
    """
    tile: tuple[int, ...] | None = first
    least = None
    while tile is not None:
        try:
            bytes_ = takes(tile)
        except ShapeError:  # the network takes nothing that small
            if least is None:
                raise
            break
        if bytes_ <= budget:
            return tile
        least = bytes_ if least is None else min(least, bytes_)
        tile = None if chosen else smaller(tile, multiple)
    what = f"tile {first}" if chosen else "this model and volume"
    raise ArgumentError(mismatch(op, f"max_memory of at least {readable(least or 0)} for {what}", readable(budget)))


# ----------------------------------------------------------------------------------------------- exact


class ExactPlan(Plan):
    """Tiles of the answer that do not overlap, each with all that it sees."""

    def __init__(
        self, op: str, model: Any, source: Source, dtype: np.dtype, tile: tuple[int, ...] | None, budget: int,
        held: Callable[[tuple[int, ...]], int],
    ) -> None:  # fmt: skip
        graph = one_array(op, outline(model, (1, *source.shape), dtype=dtype))
        self._regions, self._dtype = Regions(op, graph), dtype
        self.outputs = graph.outputs.shape[1:]
        sizes = self.outputs[1:]
        first = tuple(min(t, size) for t, size in zip(tile, sizes, strict=True)) if tile else sizes
        fixed = held(self.outputs) + MARGIN
        itemsizes = source.dtype.itemsize + dtype.itemsize

        def takes(tile: tuple[int, ...]) -> int:
            graph, read = self._regions.graph(self._largest(tile))
            voxels = prod(stop - start for start, stop in read)
            return fixed + peak(graph) + voxels * source.shape[0] * itemsizes + prod(tile) * self.outputs[0] * 8

        self.tile = fitting(op, budget, first, tile is not None, 1, takes)
        self._parts = [_parts(size, t) for size, t in zip(sizes, self.tile, strict=True)]
        self.count = prod(map(len, self._parts))

    def _largest(self, tile: tuple[int, ...]) -> Window:
        """A tile that sees as much as any, as axes do not know of each other: for each, the part that reads most."""
        every = [_parts(size, t) for size, t in zip(self.outputs[1:], tile, strict=True)]
        most, found = [-1] * len(every), [parts[0] for parts in every]
        for place in (0, 1, 2, 0.5, -3, -2, -1):
            window = tuple(parts[_at(place, len(parts))] for parts in every)
            made, _ = self._regions.windows(window)
            for axis, part in enumerate(window):
                seen = sum(w[axis][1] - w[axis][0] for w in made.values())
                if seen > most[axis]:
                    most[axis], found[axis] = seen, part
        return tuple(found)

    def run(self, source: Source, slow: int) -> Iterator[tuple[Window, np.ndarray, bool]]:
        order = [slow, *(axis for axis in range(len(self._parts)) if axis != slow)]
        before: object = None
        for found in product(*(self._parts[axis] for axis in order)):
            window = tuple(found[order.index(axis)] for axis in range(len(order)))
            graph, read = self._regions.graph(window)
            if graph.inputs[0].shape != before:  # what the pool has kept is of other sizes
                empty_cache()
                before = graph.inputs[0].shape
            yield window, graph(_batch(source.read(read), self._dtype))[0], True


def _at(place: float, count: int) -> int:
    """The index of a part: counted from the first, from the last, or a share of all."""
    return count // 2 if place == 0.5 else max(-count, min(int(place), count - 1))


def _parts(size: int, tile: int) -> list[tuple[int, int]]:
    return [(start, min(start + tile, size)) for start in range(0, size, tile)]


def _batch(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(channels, *window) as a batch of one, in C order."""
    return np.ascontiguousarray(values, dtype)[None]


# ------------------------------------------------------------------------------------------- overlapping


class BlendPlan(Plan):
    """Tiles of one size that overlap; the network is asked about each by itself."""

    def __init__(
        self, op: str, model: Any, source: Source, dtype: np.dtype, tile: tuple[int, ...] | None, budget: int,
        held: Callable[[tuple[int, ...]], int], blend: str, overlap: float, slow: int,
    ) -> None:  # fmt: skip
        self._sizes, self._dtype, self._blend, self._overlap = source.shape[1:], dtype, blend, overlap
        channels = source.shape[0]

        @lru_cache(maxsize=2)
        def graph_of(tile: tuple[int, ...]) -> Graph:
            graph = one_array(op, outline(model, (1, channels, *tile), dtype=dtype))
            if graph.outputs.shape[2:] != tile:
                expected = f"model to keep the size of a tile {tile} (blend='exact' does not ask that)"
                raise ArgumentError(mismatch(op, expected, graph.outputs.shape[2:]))
            keep_packed(graph)
            return graph

        def takes(tile: tuple[int, ...]) -> int:
            graph = graph_of(tile)
            outputs = (graph.outputs.shape[1], *self._sizes)
            blender = Blender.bytes(self._axes(tile), slow, outputs[0], graph.outputs.dtype)
            read = prod(tile) * channels * (source.dtype.itemsize + dtype.itemsize)
            return held(outputs) + MARGIN + blender + read + peak(graph)

        multiple, first = 1, tile
        if first is None:
            multiple = _multiple(graph_of, self._sizes)
            first = tuple(-(-size // multiple) * multiple for size in self._sizes)
        self.tile = fitting(op, budget, first, tile is not None, multiple, takes)
        self._graph = graph_of(self.tile)
        self.outputs = (self._graph.outputs.shape[1], *self._sizes)
        self.count = prod(map(len, self._axes(self.tile)))

    def _axes(self, tile: tuple[int, ...]) -> list[Axis]:
        overlaps = [min(int(self._overlap * t), t - 1) for t in tile]
        return [Axis(*sizes, self._blend) for sizes in zip(self._sizes, tile, overlaps, strict=True)]

    def run(self, source: Source, slow: int) -> Iterator[tuple[Window, np.ndarray, bool]]:
        blender = Blender(self._axes(self.tile), slow, self.outputs[0], self._graph.outputs.dtype)
        for tile in blender.tiles():
            blender.add(tile, self._values(source, tile))
            yield from ((window, values, False) for window, values in blender.finished(tile))
            yield tile.window, np.empty((0, *([0] * len(self.tile)))), True

    def _values(self, source: Source, tile: Tile) -> np.ndarray:
        """The network's answer on a tile, beyond the volume zeros."""
        inside = tuple(slice(0, stop - start) for start, stop in tile.window)
        values = source.read(tile.window)
        if values.shape[1:] != self.tile:
            padded = np.zeros((len(values), *self.tile), self._dtype)
            padded[(slice(None), *inside)] = values
            values = padded
        return self._graph(_batch(values, self._dtype))[(0, slice(None), *inside)]


def _multiple(graph_of: Callable[[tuple[int, ...]], Graph], sizes: Sequence[int]) -> int:
    """The least power of two that the network's sizes have to be multiples of."""
    refusal: ShapeError | None = None
    for multiple in MULTIPLES:
        try:
            graph_of(tuple(-(-size // (2 * multiple)) * 2 * multiple - multiple for size in sizes))
            graph_of(tuple(-(-size // multiple) * multiple for size in sizes))
        except (ShapeError, ArgumentError) as error:
            refusal = error
            continue
        return multiple
    raise refusal
