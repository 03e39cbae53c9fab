"""Which numbers of a traced network go with the batch: found by comparing two traces, worked out for any batch.

A ``Times(k)`` stands for k times the batch. It takes the place of an integer in a shape, in the key of an index, or of
a geometry's ``n``; everything else about an operation is the same for every batch, or the network is fixed to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..geometry import ConvGeometry, PoolGeometry
from ..resampling import AxisTaps

GEOMETRIES = (ConvGeometry, PoolGeometry)


class Differs(Exception):
    """Two traces differ by more than sizes that go with the batch. The message says where."""


@dataclass(frozen=True, slots=True)
class Times:
    """``count`` times the batch."""

    count: int

    def __str__(self) -> str:
        return "N" if self.count == 1 else f"{self.count}N"


@dataclass(frozen=True, slots=True)
class Resized:
    """A geometry, but for its ``n``."""

    geometry: ConvGeometry | PoolGeometry
    n: Times


def common(a: Any, b: Any, n: int, m: int) -> Any:
    """Return what stands for ``a`` with a batch of ``n`` and for ``b`` with a batch of ``m``: ``a`` itself where they
    are equal.

    Raises:
        Differs: nothing does.

    >>> common((2, 3, 12), (5, 3, 30), 2, 5)
    (Times(count=1), 3, Times(count=6))
    """
    if a is b:
        return a
    if type(a) is not type(b):
        raise Differs(f"{a!r} for a batch of {n}, {b!r} for a batch of {m}")
    if isinstance(a, (tuple, list)) and len(a) == len(b):
        found = [common(x, y, n, m) for x, y in zip(a, b, strict=True)]
        return a if all(x is y for x, y in zip(found, a, strict=True)) else type(a)(found)
    if isinstance(a, slice):
        ends = [common(getattr(a, end), getattr(b, end), n, m) for end in ("start", "stop", "step")]
        return slice(*ends)
    if isinstance(a, AxisTaps):
        same = np.array_equal(a.index, b.index) and np.array_equal(a.weight, b.weight)
    elif isinstance(a, GEOMETRIES):
        if a == b:
            return a
        same = replace(a, n=b.n) == b
        count = _factor(a.n, b.n, n, m)
        if same and count:
            return Resized(a, Times(count))
        same = False
    else:
        same = a == b or (a != a and b != b)
    if same:
        return a
    count = _factor(a, b, n, m) if type(a) is int else None
    if count:
        return Times(count)
    raise Differs(f"{a!r} for a batch of {n}, {b!r} for a batch of {m}")


def _factor(a: int, b: int, n: int, m: int) -> int | None:
    count, rest = divmod(a, n)
    return count if not rest and count * m == b else None


def resolved(value: Any, batch: int) -> Any:
    """Return ``value`` with each ``Times`` worked out.

    >>> resolved((Times(1), 3, Times(6)), 4)
    (4, 3, 24)
    """
    if isinstance(value, Times):
        return value.count * batch
    if isinstance(value, (tuple, list)):
        return type(value)([resolved(entry, batch) for entry in value])
    if isinstance(value, slice):
        return slice(*(resolved(getattr(value, end), batch) for end in ("start", "stop", "step")))
    return replace(value.geometry, n=value.n.count * batch) if isinstance(value, Resized) else value


def text(shape: Sequence[int | Times]) -> str:
    """Return a shape as it is printed.

    >>> text((Times(1), 3, 32, 32)), text((Times(2),))
    ('(N, 3, 32, 32)', '(2N,)')
    """
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
