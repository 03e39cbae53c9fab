"""What several functionals share: geometry looked up by shapes, unbatched input, names for generated ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import is_
from typing import Any

import numpy as np

from .. import backends
from ..arguments import integer
from ..errors import ArgumentError, DTypeError, ShapeError, mismatch
from ..geometry import check_same_shape
from ..tensor import Tensor
from ..tensor import is_frozen as is_frozen  # known by this module's name

RANKS = (1, 2, 3)
_CONSTANT = (int, bool, str, float, type(None))


def remembered(geometry: Callable, shapes: int = 0) -> Callable:
    """Cache a function of shapes and options: a network asks for the same few geometries at every step.

    Args:
        geometry: called as ``geometry(op, rank, *shapes, *options)``.
        shapes: how many shapes, tuples of ints or None, come after op and rank. With them known the options need not
            be compared: it is enough that they are the very objects of an earlier call, if those cannot change.
    """
    cached = lru_cache(maxsize=4096, typed=True)(geometry)
    plain_entry = {int, type(None)}.issuperset
    known: dict[tuple, list] = {}  # holds the options too: while it does, no other object has their identity
    first = 2 + shapes

    def lookup(*args: Any) -> Any:
        if not shapes:
            return compared(args)
        key, options = args[:first], args[first:]
        for seen, found in known.get(key, ()):
            if len(seen) == len(options) and all(map(is_, seen, options)):
                return found
        found = compared(args)
        if all(type(arg) in _CONSTANT or (type(arg) is tuple and plain_entry(map(type, arg))) for arg in args):
            if len(known) >= 4096:
                known.clear()
            known[key] = [(options, found), *known.get(key, ())[:7]]
        return found

    def compared(args: tuple) -> Any:
        try:
            # Keys that are equal must mean the same: (2.0, 2.0) == (2, 2), yet is no size.
            if all(type(arg) is not tuple or plain_entry(map(type, arg)) for arg in args):
                return cached(*args)
        except TypeError:  # a list or an array among the options
            pass
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


def sizes_of(geometry: Callable, channels: str) -> Callable:
    """Make a function of the unbatched or batched shapes that returns the geometry and the output's shape.

    ``channels`` names the geometry's field that counts the output's channels.
    """

    def sizes(op: str, rank: int, shape: Sequence[int], *rest: Any) -> tuple[Any, tuple[int, ...]]:
        found = geometry(op, rank, batched(shape, rank), *rest)
        return found, lowered(shape, rank, getattr(found, channels), found.output)

    return sizes


def named(function: Callable, name: str) -> Callable:
    """Give a function that was made for one rank its public name."""
    function.__name__ = function.__qualname__ = name
    return function


def axis(op: str, name: str, dim: Any, ndim: int) -> int:
    """Return an axis number, counted from the end where negative, as 0 <= axis < ndim."""
    if type(dim) is int and -ndim <= dim < ndim:
        return dim % ndim
    number = integer(op, name, dim, -(2**31))
    if not -ndim <= number < ndim:
        raise ArgumentError(mismatch(op, f"{name} in [{-ndim}, {ndim}) for {ndim} axes", number))
    return number % ndim


def bare(value: Any) -> Any:
    """Return a Tensor's array; anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def shape_of(op: str, name: str, value: Any) -> tuple[int, ...]:
    """Check that ``value`` is a shape: non-negative integers."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ShapeError(mismatch(op, f"{name} to be a sequence of sizes", repr(value)))
    return tuple([integer(op, name, size, 0) for size in value])


def check_needs(op: str, needs: Any, count: int) -> None:
    """Check that ``needs`` says yes or no to each of ``count`` gradients."""
    if type(needs) in (tuple, list) and len(needs) == count:
        return
    if not isinstance(needs, Sequence) or isinstance(needs, str) or len(needs) != count:
        raise ArgumentError(mismatch(op, f"needs of {count} booleans", repr(needs)))


def check_gradient(op: str, shape: Sequence[int], dy: Any, name: str = "dy") -> None:
    """Check that ``dy`` has the output's shape."""
    if dy.shape != shape:
        check_same_shape(op, "the output", shape, name, dy.shape)


def host_array(op: str, name: str, value: Any) -> np.ndarray:
    """Return ``value``, a Tensor, an array or a nested sequence, as a NumPy array."""
    value = bare(value)
    if type(value) is np.ndarray:
        return value
    if not isinstance(value, np.ndarray) and any(backend.owns(value) for backend in backends.loaded()):
        return backends.of(value).to_numpy(value)
    try:
        return np.asarray(value)
    except ValueError:
        raise ShapeError(mismatch(op, f"{name} to be an array", "a ragged sequence")) from None


def integers(op: str, name: str, value: Any) -> np.ndarray:
    """Return an array of integers (labels, indices) as an aligned NumPy one in native byte order.

    Raises:
        DTypeError: it holds anything else.
    """
    array = host_array(op, name, value)
    if array.dtype.kind not in "iu":
        if array.size or hasattr(value, "dtype"):
            raise DTypeError(mismatch(op, f"{name} to be integers", array.dtype))
        array = array.astype(np.int64)  # an empty sequence
    return array if array.dtype.isnative and array.flags.aligned else array.astype(array.dtype.newbyteorder("="))


def through_tape(function: Callable, dy: Any, inputs: Sequence[Any], needs: Sequence[bool]) -> tuple:
    """Return the gradients of ``function(*inputs)``, an operation made of others: recorded, and walked back.

    None for an input that is None or not needed.
    """
    leaves = [
        None if value is None else Tensor(bare(value), requires_grad=bool(need))
        for value, need in zip(inputs, needs, strict=True)
    ]
    y = function(*leaves)
    if any(leaf is not None and leaf.requires_grad for leaf in leaves):
        y.backward(bare(dy))
    return tuple(None if leaf is None else leaf.grad for leaf in leaves)
