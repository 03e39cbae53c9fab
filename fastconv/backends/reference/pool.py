"""Pooling as a loop over window positions: regular, dilated and adaptive windows are the same lists of index ranges.

Windows of one axis may differ in length; a shorter one repeats its last element, which cannot win a maximum again and
is masked out of an average.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np

from ...geometry import Axes, AxisWindows, PoolGeometry
from .wide import narrow, widen, written


def _open(d: np.ndarray, h: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    """Three lists, one an axis, shaped to broadcast to (D, H, W). (np.ix_ would turn a mask into indices.)"""
    return d[:, None, None], h[:, None], w


def _axis_taps(windows: AxisWindows) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each position j in the longest window: the input index of every output, and whether its window has a j."""
    start, count = np.array(windows.start), np.array(windows.count)
    return [(start + windows.step * np.minimum(j, count - 1), j < count) for j in range(count.max())]


def _taps(geometry: PoolGeometry) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
    """Yield, D slowest, the indices (OD, OH, OW) of the elements that stand at one window position, and the mask."""
    for axes in product(*(_axis_taps(windows) for windows in geometry.windows)):
        indices, masks = zip(*axes, strict=True)
        d, h, w = _open(*masks)
        yield _open(*indices), d & h & w


def _flat(indices: tuple[np.ndarray, ...], size: Axes) -> np.ndarray:
    """Indices of the three axes -> flat positions in the (D, H, W) plane."""
    d, h, w = indices
    return (d * size[1] + h) * size[2] + w


def _scatter(values: np.ndarray, positions: np.ndarray, geometry: PoolGeometry, dx: np.ndarray) -> None:
    """Add values (N, C, OD, OH, OW) at flat plane positions, which broadcast to their shape, into dx (N*C, D*H*W)."""
    rows = geometry.n * geometry.c, prod(geometry.output)
    flat = np.broadcast_to(positions, values.shape).reshape(rows)
    np.add.at(dx, (np.arange(rows[0])[:, None], flat), values.reshape(rows))


def max_pool_forward(
    x: np.ndarray, geometry: PoolGeometry, keep: str = "indices", out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    plane = prod(geometry.input)
    index_dtype = np.int32 if plane <= np.iinfo(np.int32).max else np.int64
    y = best = None
    for indices, _ in _taps(geometry):
        value = x[(..., *indices)]
        position = np.broadcast_to(_flat(indices, geometry.input), value.shape)
        if y is None:
            y, best = value.copy(), position.astype(index_dtype)
        else:
            wins = (value > y) | (np.isnan(value) & ~np.isnan(y))
            np.copyto(y, value, where=wins)
            np.copyto(best, position, where=wins, casting="same_kind")
    return written(y, out), best


def max_pool_backward(dy: np.ndarray, winners: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    plane = prod(geometry.input)
    if winners.size and not 0 <= winners.min() <= winners.max() < plane:
        raise IndexError("max pooling: an index outside the plane")
    dx = np.zeros((geometry.n * geometry.c, plane))
    _scatter(widen(dy), winners, geometry, dx)
    return narrow(dx.reshape(geometry.input_shape), dy)


def _divisors(geometry: PoolGeometry) -> np.ndarray | int:
    if geometry.divisor_override is not None:
        return geometry.divisor_override
    d, h, w = _open(*(np.array(axis.divisor) for axis in geometry.windows))
    return d * h * w


def avg_pool_forward(x: np.ndarray, geometry: PoolGeometry, out: np.ndarray | None = None) -> np.ndarray:
    y = np.zeros(geometry.output_shape)
    for indices, mask in _taps(geometry):
        y += np.where(mask, x[(..., *indices)], 0)
    return written(narrow(y / _divisors(geometry), x), out)


def avg_pool_backward(dy: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    share = widen(dy) / _divisors(geometry)
    dx = np.zeros((geometry.n * geometry.c, prod(geometry.input)))
    for indices, mask in _taps(geometry):
        _scatter(np.where(mask, share, 0), _flat(indices, geometry.input), geometry, dx)
    return narrow(dx.reshape(geometry.input_shape), dy)


def max_unpool_backward(dy: np.ndarray, indices: np.ndarray) -> np.ndarray:
    planes, places = ((*a.shape[:2], prod(a.shape[2:])) for a in (dy, indices))
    return np.take_along_axis(dy.reshape(planes), indices.reshape(places), axis=2).reshape(indices.shape)
