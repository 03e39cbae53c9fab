"""Layouts: which axis of the volume lies in which axis of each array of a network. Nothing here knows an operation.

An array's axis is a tuple of factors. A factor ``(axis, size)`` is a whole axis of the volume at the resolution that it
has there; ``(None, size)`` is anything else: batch, channels. Reshapes put factors together and take them apart again.
A window of an array is an interval for each axis of the volume, in the array's own resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Factor = tuple[int | None, int]
Layout = tuple[tuple[Factor, ...], ...]
Window = tuple[tuple[int, int], ...]  # (start, stop) for each axis of the volume


def plain(shape: Sequence[int]) -> Layout:
    """The layout of an array in which no axis of the volume lies.

    >>> plain((8, 1, 3))
    (((None, 8),), (), ((None, 3),))
    """
    return tuple(((None, size),) if size != 1 else () for size in shape)


def volume(channels: int, sizes: Sequence[int]) -> Layout:
    """The layout of ``(1, channels, *sizes)``.

    >>> volume(1, (5, 6))
    ((), (), ((0, 5),), ((1, 6),))
    """
    return (*plain((1, channels)), *(((axis, size),) for axis, size in enumerate(sizes)))


def whole(layout: Layout, rank: int) -> Window:
    """The window that is all of an array; (0, 1) for axes of the volume that it has not."""
    sizes = {axis: size for factors in layout for axis, size in factors if axis is not None}
    return tuple((0, sizes.get(axis, 1)) for axis in range(rank))


def tracked(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """The factors that are axes of the volume."""
    return tuple(factor for factor in factors if factor[0] is not None)


def windowed(factors: tuple[Factor, ...], window: Window) -> int:
    """The size of an array's axis within a window."""
    return prod(size if axis is None else window[axis][1] - window[axis][0] for axis, size in factors)


def shape_in(layout: Layout, window: Window) -> tuple[int, ...]:
    """The shape of a window of an array."""
    return tuple(windowed(factors, window) for factors in layout)


def reshaped(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """The layout after a reshape, or None where it would split an axis of the volume.

    Factors are dealt out from the last axis to the first, so that sizes of 1 that a reshape adds in front of an axis
    leave it where it is. Channels may be split.

    >>> reshaped(volume(4, (5, 6)), (1, 4, 1, 5, 6))
    ((), ((None, 4),), (), ((0, 5),), ((1, 6),))
    >>> reshaped(volume(4, (5, 6)), (1, 4, 30))
    ((), ((None, 4),), ((0, 5), (1, 6)))
    >>> reshaped(volume(4, (5, 6)), (1, 4, 15, 2)) is None
    True
    """
    waiting = [factor for factors in layout for factor in factors]
    found: list[tuple[Factor, ...]] = []
    for size in reversed(shape):
        factors: list[Factor] = []
        left = size
        while waiting and (left > 1 or (not factors and waiting[-1][1] == 1)):
            axis, length = waiting.pop()
            if left % length:
                if axis is not None or length % left:
                    return None
                waiting.append((None, length // left))
                length = left
            factors.append((axis, length))
            left //= length
        if left != 1:
            return None
        found.append(tuple(reversed(factors)))
    if any(axis is not None or length != 1 for axis, length in waiting):
        return None
    return tuple(reversed(found))
