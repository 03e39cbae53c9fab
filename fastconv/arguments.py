"""Options: whether a number that a user gave is one, and within its limits. Shapes are checked in geometry.py."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from numbers import Real
from operator import index as as_index

import numpy as np

from .errors import ArgumentError, mismatch

Axes = tuple[int, int, int]  # one entry an axis: depth, height, width


def integer(op: str, name: str, value: object, minimum: int, maximum: int = 2**63 - 1) -> int:
    """Return ``value`` as an int within the limits, or raise naming the argument. A bool is no number here."""
    if type(value) is int and minimum <= value <= maximum:
        return value
    try:
        whole = as_index(str(value) if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(mismatch(op, f"{name} to be an integer", repr(value))) from None
    if not minimum <= whole <= maximum:
        limit = f"{name} >= {minimum}" if whole < minimum else f"{name} <= {maximum}"
        raise ArgumentError(mismatch(op, limit, whole))
    return whole


def number(op: str, name: str, value: object, low: float = -inf, high: float = inf) -> float:
    """Return ``value`` as a float in [low, high], or raise naming the argument."""
    if type(value) is float and low <= value <= high:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(mismatch(op, f"{name} to be a number", repr(value)))
    if not low <= value <= high:
        limit = "not NaN" if low == -inf else f">= {low:g}" if high == inf else f"in [{low:g}, {high:g}]"
        raise ArgumentError(mismatch(op, f"{name} {limit}", value))
    return float(value)


def per_axis(op: str, name: str, value: object, rank: int, minimum: int, fill: int) -> Axes:
    """Return an int, or a sequence of ``rank`` ints (or of one), as three axes, leading axes set to ``fill``."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        entries = tuple(value)
        if len(entries) == 1:
            entries *= rank
        if len(entries) != rank:
            raise ArgumentError(mismatch(op, f"{name} to be an int or {rank} ints", f"{len(entries)}: {value!r}"))
    else:
        entries = (value,) * rank
    return (fill,) * (3 - rank) + tuple(integer(op, name, entry, minimum, 2**31 - 1) for entry in entries)  # type: ignore


def both_ends(op: str, name: str, value: object, rank: int) -> tuple[Axes, Axes]:
    """Return sizes before and after each axis: an int, one for each axis, or twice as many (all before, all after)."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == 2 * rank:
        return per_axis(op, name, value[:rank], rank, 0, 0), per_axis(op, name, value[rank:], rank, 0, 0)
    both = per_axis(op, name, value, rank, 0, 0)
    return both, both


def flag(op: str, name: str, value: object) -> bool:
    """Return ``value`` if it is a bool, or raise naming the argument: a misplaced number is no yes."""
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise ArgumentError(mismatch(op, f"{name} to be a bool", repr(value)))
    return bool(value)
