"""Choosing and repeating elements: by a condition, by indices along an axis, by broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..arguments import number
from ..backends.base import Array
from ..errors import ArgumentError, DataError, DTypeError, ShapeError, mismatch
from ..resampling import AxisTaps, nearest_taps
from ..tensor import Tensor, operand, record
from ._common import axis, bare, host_array, integers, shape_of
from .activation import relu
from .arithmetic import add, broadcast_pair, multiply, reshape, summed_to
from .pointwise import clip


def where(condition: Any, input: Any, other: Any) -> Any:
    """Return ``input`` where ``condition`` (bool) holds, else ``other``, with NumPy's broadcasting of all three.

    >>> where(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
    array([1., 0.])
    """
    op = "where"
    mask = host_array(op, "condition", condition)
    if mask.dtype != bool:
        raise DTypeError(mismatch(op, "condition to be bool", mask.dtype))
    backend, a, b = broadcast_pair(op, input, other)
    try:
        shape = np.broadcast_shapes(mask.shape, a.shape, b.shape)
    except ValueError:
        expected = f"condition to broadcast with input {a.shape} and other {b.shape}"
        raise ShapeError(mismatch(op, expected, f"shape {mask.shape}")) from None
    yes, no = (backend.from_numpy(np.array(np.broadcast_to(m, shape), order="C")) for m in (mask, ~mask))
    shapes = a.shape, b.shape

    def chosen(array: Array, those: Array) -> Array:
        return backend.dropout_apply(backend.broadcast_to(array, shape), those, 1.0)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        parts = zip((yes, no), shapes, needs, strict=True)
        return tuple(
            summed_to(backend, backend.dropout_apply(dy, those, 1.0), old) if need else None
            for those, old, need in parts
        )

    return record(backend.add(chosen(a, yes), chosen(b, no)), (input, other), backward)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """Return ``input`` where it is above ``threshold`` (or NaN), else ``value``. ``inplace`` changes nothing.

    >>> threshold(np.array([0.5, 2.0]), 1.0, 0.0)
    array([0., 2.])
    """
    op = "threshold"
    backend, x = operand(op, "input", input)
    numbers = number(op, "threshold", threshold), number(op, "value", value), 1.0
    limit, other, one = (backend.from_numpy(np.asarray(each, x.dtype)) for each in numbers)
    below = backend.matches(backend.broadcast_to(limit, x.shape), backend.maximum(x, limit))  # 1 or 0; 0 of NaN
    above = backend.subtract(one, below)
    kept = backend.relu_backward(x, above)  # chooses, where a product would make NaN of infinities
    replaced = backend.relu_backward(backend.broadcast_to(other, x.shape), below)
    return record(backend.add(kept, replaced), (input,), lambda dy, needs: (backend.relu_backward(dy, above),))


def prelu(input: Any, weight: Any) -> Any:
    """Return ``input`` (N, C, *) where positive, else ``weight * input``: ``weight`` (C,) or (1,) is trained
    (He et al. 2015, https://arxiv.org/abs/1502.01852).

    >>> prelu(np.array([[1.0, -2.0]]), np.array([0.5, 0.25]))
    array([[ 1. , -0.5]])
    """
    op = "prelu"
    shape, slopes = np.shape(bare(input)), np.shape(bare(weight))
    channels = shape[1] if len(shape) > 1 else 1
    if slopes not in ((1,), (channels,)):
        raise ShapeError(mismatch(op, f"weight (1,) or ({channels},) for input {shape}", f"shape {slopes}"))
    if slopes != (1,):
        weight = reshape(weight, (channels, *(1,) * (len(shape) - 2)))
    return add(relu(input), multiply(clip(input, max=0.0), weight))


# ---------------------------------------------------------------------------------- along axes, by tables


def resample(input: Any, axes: Sequence[AxisTaps | None]) -> Any:
    """Return ``input`` with each axis replaced by weighted sums along it, as its table says; None leaves an axis alone.

    ``axes`` holds a table for each axis of ``input``; see ``fastconv.resampling``.

    >>> resample(np.array([1.0, 2.0, 3.0]), [nearest_taps(np.array([2, 2, 0]))])
    array([3., 3., 1.])
    """
    op = "resample"
    _, x = operand(op, "input", input)
    if len(axes) != x.ndim:
        raise ArgumentError(mismatch(op, f"a table for each of {x.ndim} axes", len(axes)))
    for i, taps in enumerate(axes):
        if taps is not None and taps.index.size and not 0 <= taps.index.min() <= taps.index.max() < x.shape[i]:
            raise DataError(mismatch(op, f"indices in [0, {x.shape[i]})", f"{taps.index.min()} to {taps.index.max()}"))
    resampled = [i for i, taps in enumerate(axes) if taps is not None]
    last = x.ndim - 3
    if resampled and resampled[0] >= max(last, 0):  # all among the last three: at once
        lead = prod(x.shape[: max(last, 0)])
        tail = (1,) * max(-last, 0) + x.shape[max(last, 0) :]
        tables = [None] * max(-last, 0) + list(axes[max(last, 0) :])
        return _weighed(op, input, (1, lead, *tail), tables, _sizes(x.shape, axes))
    input = input if isinstance(input, Tensor) else x
    for i in resampled:
        shape = np.shape(bare(input))
        lifted = (1, 1, prod(shape[:i]), shape[i], prod(shape[i + 1 :]))
        input = _weighed(op, input, lifted, [None, axes[i], None], _sizes(shape, [axes[i]], i))
    return input


def _sizes(shape: Sequence[int], axes: Sequence[AxisTaps | None], first: int = 0) -> tuple[int, ...]:
    sizes = list(shape)
    for i, taps in enumerate(axes, start=first):
        if taps is not None:
            sizes[i] = len(taps.index)
    return tuple(sizes)


def _weighed(op: str, input: Any, lifted: tuple[int, ...], tables: list[AxisTaps | None], out: tuple) -> Any:
    backend, x = operand(op, "input", input)
    shape, wide = x.shape, _sizes(lifted, tables, 2)
    if not prod(shape) or not prod(out):
        empty = backend.from_numpy(np.zeros(out, x.dtype))
        return record(empty, (input,), lambda dy, needs: (backend.from_numpy(np.zeros(shape, x.dtype)),))
    y = backend.resample_forward(backend.reshape(x, lifted), tables)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        return (backend.reshape(backend.resample_backward(backend.reshape(dy, wide), tables, lifted), shape),)

    return record(backend.reshape(y, out), (input,), backward)


def index_select(input: Any, dim: int, index: Any) -> Any:
    """Return the elements ``index`` (integers, one axis) of axis ``dim``; an index may stand there more than once.

    Raises:
        DataError: an index outside the axis.

    >>> index_select(np.array([[1.0, 2.0, 3.0]]), 1, [2, 0])
    array([[3., 1.]])
    """
    op = "index_select"
    _, x = operand(op, "input", input)
    dim, where = axis(op, "dim", dim, x.ndim), integers(op, "index", index)
    if where.ndim != 1:
        raise ShapeError(mismatch(op, "index of one axis", f"shape {where.shape}"))
    if where.size and not 0 <= where.min() <= where.max() < x.shape[dim]:
        raise DataError(mismatch(op, f"index in [0, {x.shape[dim]})", f"{where.min()} to {where.max()}"))
    return resample(input, [nearest_taps(where) if i == dim else None for i in range(x.ndim)])


# ---------------------------------------------------------------------------------------------- repetition


def broadcast_to(input: Any, size: Sequence[int]) -> Any:
    """Return ``input`` repeated to ``size`` by NumPy's broadcasting: a view where the device has them.

    >>> broadcast_to(np.array([[1.0], [2.0]]), (2, 3)).shape
    (2, 3)
    """
    op = "broadcast_to"
    backend, x = operand(op, "input", input)
    shape, size = x.shape, shape_of(op, "size", size)
    if not _broadcasts(shape, size):
        raise ShapeError(mismatch(op, f"size that {shape} broadcasts to", size))
    return record(backend.broadcast_to(x, size), (input,), lambda dy, needs: (summed_to(backend, dy, shape),))


def _broadcasts(shape: Sequence[int], size: Sequence[int]) -> bool:
    tail = size[len(size) - len(shape) :] if len(shape) <= len(size) else None
    return tail is not None and all(a in (1, b) for a, b in zip(shape, tail, strict=True))


def tile(input: Any, dims: Sequence[int]) -> Any:
    """Return ``input`` repeated as a whole, ``dims[i]`` times along axis i (the shorter of both has 1s before it).

    >>> tile(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2., 1., 2.],
           [1., 2., 1., 2.]])
    """
    op = "tile"
    _, x = operand(op, "input", input)
    counts = shape_of(op, "dims", dims)
    ndim = max(len(counts), x.ndim)
    shape, counts = (1,) * (ndim - x.ndim) + x.shape, (1,) * (ndim - len(counts)) + counts
    apart = [size for s in shape for size in (1, s)]
    repeated = [size for s, c in zip(shape, counts, strict=True) for size in (c, s)]
    whole = [s * c for s, c in zip(shape, counts, strict=True)]
    return reshape(broadcast_to(reshape(input, apart), repeated), whole)
