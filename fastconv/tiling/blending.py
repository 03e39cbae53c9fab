"""Blending: tiles that overlap, weighted and added up as a running mean, a slab of the volume at a time.

A mean that moves by ``(value - mean) * share`` stays where it is while values are equal, so an identity network gives
back the volume bit for bit: shares of a sum and a division afterwards would not. The shares follow from the plan of
tiles alone, and tiles come in the order of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np

from .layout import Window

SIGMA = 1 / 8  # of a tile's size: Isensee et al. 2021 (nnU-Net), https://doi.org/10.1038/s41592-020-01008-z
FLOOR = 1e-3  # of the largest weight: corners count for something


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along an axis: as few as overlap by ``overlap`` or more, evenly spread.

    >>> starts(10, 4, 1), starts(10, 16, 4)
    ([0, 3, 6], [0])
    """
    count = max(0, -(-(size - tile) // (tile - overlap))) + 1
    return [round(i * (size - tile) / (count - 1)) if count > 1 else 0 for i in range(count)]


def profile(tile: int, blend: str) -> np.ndarray:
    """The weights of a tile along one axis.

    >>> profile(3, "average")
    array([1., 1., 1.])
    """
    if blend == "average":
        return np.ones(tile)
    distance = (np.arange(tile) - (tile - 1) / 2) / (SIGMA * tile)
    return np.maximum(np.exp(-0.5 * distance**2), FLOOR)


class Axis:
    """The tiles along one axis: ``parts[i]`` is what a tile covers, ``share[i]`` its share there of all tiles, and
    ``before[i]`` that of the tiles before it."""

    def __init__(self, size: int, tile: int, overlap: int, blend: str) -> None:
        self.size = size
        self.parts = [(start, min(start + tile, size)) for start in starts(size, tile, overlap)]
        weight = profile(tile, blend)
        total = np.zeros(size)
        for start, stop in self.parts:
            total[start:stop] += weight[: stop - start]
        self.share, self.before = [], []
        sofar = np.zeros(size)
        for start, stop in self.parts:
            self.share.append(weight[: stop - start] / total[start:stop])
            self.before.append(sofar[start:stop].copy())
            sofar[start:stop] += self.share[-1]

    def __len__(self) -> int:
        return len(self.parts)


class Tile(NamedTuple):
    """A tile: which one along each axis, and what it covers."""

    index: tuple[int, ...]
    window: Window


class Blender:
    """The mean of overlapping tiles, as far as it is not finished: a slab along ``slow``, the slowest axis."""

    def __init__(self, axes: list[Axis], slow: int, channels: int, dtype: np.dtype) -> None:
        self._axes, self._slow, self._channels, self._dtype = axes, slow, channels, dtype
        self._order = [slow, *(axis for axis in range(len(axes)) if axis != slow)]
        self._first = 0  # the row of the volume that the slab begins with
        self._slab = np.empty((channels, self._rows(), *(axes[axis].size for axis in self._order[1:])), dtype)

    def _rows(self) -> int:
        return max(stop - start for start, stop in self._axes[self._slow].parts)

    @staticmethod
    def bytes(axes: list[Axis], slow: int, channels: int, dtype: np.dtype) -> int:
        """What a blender of these takes."""
        rows = max(stop - start for start, stop in axes[slow].parts)
        rest = prod(axis.size for i, axis in enumerate(axes) if i != slow)
        return (rows + 3) * channels * rest * dtype.itemsize + 4 * rest * 8  # and what it takes to blend a row

    def tiles(self) -> Iterator[Tile]:
        """The tiles in the order in which they must be added."""
        for found in product(*(range(len(self._axes[axis])) for axis in self._order)):
            index = tuple(found[self._order.index(axis)] for axis in range(len(self._axes)))
            yield Tile(index, tuple(axis.parts[i] for axis, i in zip(self._axes, index, strict=True)))

    def add(self, tile: Tile, values: np.ndarray) -> None:
        """Blend a tile (channels, *window) into the slab."""
        values = np.moveaxis(values, self._slow + 1, 1)
        (start, _), *others = (tile.window[axis] for axis in self._order)
        place = tuple(slice(*part) for part in others)
        share, sofar = np.ones(()), np.ones(())
        for axis in reversed(self._order[1:]):
            share, sofar = self._shares(axis, tile.index[axis], share, sofar)
        along, i = self._axes[self._slow], tile.index[self._slow]
        for row in range(values.shape[1]):
            inner = along.share[i][row] * share
            moves = (inner / (along.before[i][row] + along.share[i][row] * sofar)).astype(self._dtype)
            _move(self._slab[(slice(None), start - self._first + row, *place)], values[:, row], moves)

    def _shares(self, axis: int, i: int, share: np.ndarray, sofar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tile's share of all tiles, and that of the tiles up to it, with one more axis in front."""
        own, before = self._axes[axis].share[i], self._axes[axis].before[i]
        column = (slice(None), *(None,) * share.ndim)
        return own[column] * share, before[column] + own[column] * sofar

    def finished(self, tile: Tile) -> Iterator[tuple[Window, np.ndarray]]:
        """What is finished once ``tile`` was added: windows of the volume, and their values (channels, *window)."""
        if any(tile.index[axis] + 1 < len(self._axes[axis]) for axis in self._order[1:]):
            return
        along, i = self._axes[self._slow], tile.index[self._slow]
        stop = along.parts[i + 1][0] if i + 1 < len(along) else along.size
        for row in range(self._first, stop):
            window = [(0, axis.size) for axis in self._axes]
            window[self._slow] = (row, row + 1)
            part = self._slab[:, row - self._first : row - self._first + 1]
            yield tuple(window), np.moveaxis(part, 1, self._slow + 1)
        for row in range(stop, along.parts[i][1]):  # what the next tiles overlap comes to the front
            self._slab[:, row - stop] = self._slab[:, row - self._first]
        self._first = stop


def _move(mean: np.ndarray, values: np.ndarray, moves: np.ndarray) -> None:
    """mean += (values - mean) * moves, where they differ; where ``moves`` is 1 nothing was there before."""
    new = moves >= 1
    if new.all():
        mean[...] = values
        return
    with np.errstate(all="ignore"):  # the mean is not a number where nothing was there
        step = values - mean
        step *= moves
        np.add(mean, step, out=mean, where=values != mean)
    np.copyto(mean, values, where=new)
