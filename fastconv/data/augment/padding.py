"""What lies outside an array: a constant, its edge or its mirror image; and windows that reach beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, mismatch

PADDING = ("constant", "edge", "reflect")


def constant(name: str, value: float, dtype: np.dtype) -> Any:
    """Return ``value`` in ``dtype``; an integer or bool dtype must be able to hold it."""
    with np.errstate(all="ignore"):
        found = np.asarray(value).astype(dtype)
    if dtype.kind in "iub" and found != value:
        raise ArgumentError(mismatch("augment", f"{name} to be a value of {dtype}", value))
    return found[()]


def fold(index: np.ndarray, size: int, padding: str) -> np.ndarray:
    """Bring indices into an axis: to the mirror image about the centre of the edge's element, else to the edge.

    >>> fold(np.arange(-2, 5), 3, "reflect").tolist(), fold(np.arange(-2, 5), 3, "edge").tolist()
    ([2, 1, 0, 1, 2, 1, 0], [0, 0, 0, 1, 2, 2, 2])
    """
    if padding != "reflect" or size == 1:
        return index.clip(0, size - 1)
    period = 2 * (size - 1)
    index = index % period
    return np.minimum(index, period - index)


def window(
    array: np.ndarray, start: Sequence[int], size: Sequence[int], padding: str = "constant", value: float = 0
) -> np.ndarray:
    """Return ``size`` elements from ``start`` on along the last axes; what lies outside is padded.

    A view where nothing does. ``padding`` is 'constant' (``value``), 'edge' (the nearest element) or 'reflect'
    (mirrored about the edge's centre), as of ``np.pad``.

    >>> window(np.array([1, 2, 3]), [-1], [3])
    array([0, 1, 2])
    """
    rank = len(size)
    widths, inside = [(0, 0)] * (array.ndim - rank), [slice(None)] * (array.ndim - rank)
    for first, length, n in zip(start, size, array.shape[array.ndim - rank :], strict=True):
        low, high = max(first, 0), min(first + length, n)
        if low >= high:
            raise ArgumentError(mismatch("window", f"start and size to meet an axis of {n}", f"{first} and {length}"))
        inside.append(slice(low, high))
        widths.append((low - first, first + length - high))
    if not any(map(any, widths)):
        return array[tuple(inside)]
    if padding == "constant":
        return np.pad(array[tuple(inside)], widths, constant_values=constant("value", value, array.dtype))
    for axis, (first, length) in enumerate(zip(start, size, strict=True), array.ndim - rank):
        array = array.take(fold(np.arange(first, first + length), array.shape[axis], padding), axis)
    return array
