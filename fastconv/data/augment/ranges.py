"""Options of transforms: ranges to draw from, given as a number, a pair, or a pair for each axis; and axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from ...arguments import integer, number
from ...errors import ArgumentError, ShapeError, mismatch

Interval = tuple[float, float]


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def finite(op: str, name: str, value: Any, low: float, high: float) -> float:
    """Return ``value`` as a finite float in [low, high]: what a record holds must be JSON."""
    checked = number(op, name, value, low, high)
    if not isfinite(checked):
        raise ArgumentError(mismatch(op, f"{name} to be finite", value))
    return checked


def around(value: float) -> Interval:
    """A single number a stands for (-a, a)."""
    return -value, value


def upto(value: float) -> Interval:
    """A single number a stands for (0, a)."""
    return 0.0, value


def fixed(value: float) -> Interval:
    """A single number stands for itself."""
    return value, value


def interval(
    op: str, name: str, value: Any, low: float, high: float, single: Callable[[float], Interval] = fixed
) -> Interval:
    """Return a pair within [low, high], the smaller first; ``single`` says what one number stands for.

    >>> interval("Gamma", "gamma", (0.7, 1.5), 0.1, 10)
    (0.7, 1.5)
    """
    if not _is_sequence(value):
        pair: tuple[Any, ...] = single(number(op, name, value))
    else:
        pair = tuple(value)
    if len(pair) != 2:
        raise ArgumentError(mismatch(op, f"{name} to be a number or a pair (low, high)", repr(value)))
    first, last = (finite(op, name, entry, low, high) for entry in pair)
    if first > last:
        raise ArgumentError(mismatch(op, f"{name} as (low, high), low <= high", repr(value)))
    return first, last


def intervals(
    op: str, name: str, value: Any, low: float, high: float, single: Callable[[float], Interval] = fixed
) -> tuple[Interval, ...]:
    """Return one interval, or where ``value`` is a sequence of ranges, one for each axis."""
    if _is_sequence(value) and any(map(_is_sequence, value)):
        return tuple(interval(op, name, entry, low, high, single) for entry in value)
    return (interval(op, name, value, low, high, single),)


def each(op: str, name: str, given: Sequence[Any], count: int) -> tuple[Any, ...]:
    """Return ``given`` for ``count`` axes: one entry serves them all."""
    if len(given) == 1:
        return tuple(given) * count
    if len(given) != count:
        raise ShapeError(mismatch(op, f"{name} for {count} axes, as image has", f"{len(given)} entries"))
    return tuple(given)


def choice(op: str, name: str, value: Any, among: Sequence[str]) -> str:
    """Return ``value``, one of ``among``."""
    if not isinstance(value, str) or value not in among:
        raise ArgumentError(mismatch(op, f"{name} to be one of {', '.join(among)}", repr(value)))
    return value


def spatial_axes(op: str, axes: Sequence[int], rank: int) -> list[int]:
    """Return axes of an image (C, spatial) counted from its end, so that they are those of a label map too.

    >>> spatial_axes("Flip", (1, -1), 3)
    [-3, -1]
    """
    found = []
    for axis in axes:
        place = axis - rank - 1 if axis >= 0 else axis
        if not -rank <= place < 0:
            raise ShapeError(mismatch(op, f"axes from 1 to {rank} or from {-rank} to -1", axis))
        if place in found:
            raise ArgumentError(mismatch(op, "axes that differ", tuple(axes)))
        found.append(place)
    return found


def whole_numbers(op: str, name: str, value: Any, minimum: int) -> tuple[int, ...]:
    """Return an int or a sequence of them as a tuple."""
    entries = tuple(value) if _is_sequence(value) else (value,)
    if not entries:
        raise ArgumentError(mismatch(op, f"{name} to have an entry", repr(value)))
    return tuple(integer(op, name, entry, minimum, 2**31 - 1) for entry in entries)
