"""What several functionals share: geometry looked up by shapes, unbatched input, names for generated ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, mismatch
from ..geometry import check_same_shape, integer
from ..tensor import Tensor

RANKS = (1, 2, 3)


def remembered(geometry: Callable) -> Callable:
    """Cache a function of shapes and options: a network asks for the same few geometries at every step."""
    cached = lru_cache(maxsize=4096, typed=True)(geometry)

    def lookup(*args: Any) -> Any:
        try:
            return cached(*args)
        except TypeError:  # a list or an array among the options
            plain = [arg.tolist() if isinstance(arg, np.ndarray) else arg for arg in args]
        try:
            return geometry(*plain)
        except TypeError as error:
            raise ArgumentError(mismatch(args[0], "options that are integers, or one for each axis", error)) from None

    return lookup


def batched(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return the shape of an input, with a batch axis of 1 put before an unbatched ``(C, spatial)``."""
    return (1, *shape) if len(shape) == rank + 1 else tuple(shape)


def lowered(shape: Sequence[int], rank: int, channels: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the output's shape for an input's: its batch axis if it has one, ``channels``, the last ``rank`` sizes."""
    return (*shape[: len(shape) - rank - 1], channels, *sizes[3 - rank :])


def named(function: Callable, name: str) -> Callable:
    """Give a function that was made for one rank its public name."""
    function.__name__ = function.__qualname__ = name
    return function


def axis(op: str, name: str, dim: Any, ndim: int) -> int:
    """Return an axis number, counted from the end where negative, as 0 <= axis < ndim."""
    number = integer(op, name, dim, -(2**31))
    if not -ndim <= number < ndim:
        raise ArgumentError(mismatch(op, f"{name} in [{-ndim}, {ndim}) for {ndim} axes", number))
    return number % ndim


def bare(value: Any) -> Any:
    """Return a Tensor's array; anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def shape_of(op: str, name: str, value: Any) -> tuple[int, ...]:
    """Check that ``value`` is a shape: non-negative integers."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ShapeError(mismatch(op, f"{name} to be a sequence of sizes", repr(value)))
    return tuple([integer(op, name, size, 0) for size in value])


def check_gradient(op: str, shape: Sequence[int], dy: Any) -> None:
    """Check that ``dy`` has the output's shape."""
    check_same_shape(op, "the output", shape, "dy", dy.shape)


def integers(op: str, name: str, value: Any) -> np.ndarray:
    """Return an array of integers (labels, indices), as NumPy's.

    Raises:
        DTypeError: it holds anything else.
    """
    array = np.asarray(bare(value))
    if array.dtype.kind not in "iu":
        raise DTypeError(mismatch(op, f"{name} to be integers", array.dtype))
    return array
