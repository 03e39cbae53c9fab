"""Maxima and minima, of two arrays and along axes; other reductions; products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod as size_of
from typing import Any

import numpy as np

from ..backends.base import Array, Backend
from ..errors import ArgumentError, ShapeError, mismatch
from ..tensor import operand, operands, record
from ._common import axis
from .arithmetic import add, broadcast_pair, mean, multiply, reshape, subtract, sum, summed_to
from .linear import linear
from .pointwise import exp, log
from .shape import cat, permute, split


def maximum(input: Any, other: Any) -> Any:
    """Return the larger of both, elementwise with NumPy's broadcasting; NaN where either is. Where they are equal, each
    has half of the gradient.

    >>> maximum(np.array([1.0, 5.0]), 3.0)
    array([3., 5.])
    """
    return _larger("maximum", input, other, 1.0)


def minimum(input: Any, other: Any) -> Any:
    """Return the smaller of both; see ``maximum``."""
    return _larger("minimum", input, other, -1.0)


def _larger(op: str, input: Any, other: Any, sign: float) -> Any:
    backend, a, b = broadcast_pair(op, input, other)
    a, b = (a, b) if sign > 0 else (backend.scale(a, -1.0), backend.scale(b, -1.0))
    y = backend.maximum(a, b)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        taken = [backend.matches(backend.broadcast_to(array, y.shape), y) for array in (a, b)]
        shared = backend.divide(dy, backend.add(*taken))
        return tuple(
            summed_to(backend, backend.multiply(mask, shared), array.shape) if need else None
            for mask, array, need in zip(taken, (a, b), needs, strict=True)
        )

    return record(y if sign > 0 else backend.scale(y, -1.0), (input, other), backward)


def amax(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Return the maximum over ``dim``, or over everything (0-d). Equal maxima share the gradient evenly.

    >>> amax(np.array([[1.0, 3.0], [2.0, 0.0]]), dim=1)
    array([3., 2.])
    """
    return _extreme("amax", input, dim, keepdim, True)


def amin(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Return the minimum over ``dim``; see ``amax``."""
    return _extreme("amin", input, dim, keepdim, False)


def _extreme(op: str, input: Any, dim: Any, keepdim: bool, largest: bool) -> Any:
    backend, x = operand(op, "input", input)
    axes = _axes(op, dim, x.ndim)
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(mismatch(op, "axes with at least one element", f"input {x.shape}"))
    kept = backend.extremes(x, axes, largest) if axes else x
    shape = kept.shape if keepdim else tuple([size for i, size in enumerate(x.shape) if i not in axes])

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        mask = backend.matches(x, kept)
        shared = backend.divide(backend.reshape(dy, kept.shape), backend.sum(mask, axes, True))
        return (backend.multiply(mask, shared),)

    return record(backend.reshape(kept, shape), (input,), backward)


def _axes(op: str, dim: Any, ndim: int) -> tuple[int, ...]:
    dims = range(ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    axes = tuple([axis(op, "dim", d, ndim) for d in dims])
    if len(set(axes)) < len(axes):
        raise ArgumentError(mismatch(op, "each dim once", tuple(dims)))
    return axes


def matmul(input: Any, other: Any) -> Any:
    """Return the product of matrices (..., M, K) and (..., K, P), their leading axes broadcast; a vector is a row on
    the left, a column on the right, and loses that axis in the result.

    >>> matmul(np.array([[1.0, 2.0]]), np.array([3.0, 4.0]))
    array([11.])
    """
    op = "matmul"
    backend, a, b = operands(op, input=input, other=other)
    if not a.ndim or not b.ndim:
        raise ShapeError(mismatch(op, "arrays of at least one axis", f"shapes {a.shape} and {b.shape}"))
    left = (1, *a.shape) if a.ndim == 1 else a.shape
    right = (*b.shape, 1) if b.ndim == 1 else b.shape
    if left[-1] != right[-2]:
        raise ShapeError(f"{op}: expected other (..., {left[-1]}, P) to match input (..., {left[-1]}), got {b.shape}")
    try:
        lead = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        expected = f"other to broadcast with input {a.shape}"
        raise ShapeError(mismatch(op, expected, f"shape {b.shape}")) from None
    if a.ndim > 1 and b.ndim == 2:  # all rows at once
        return linear(input, permute(other, (1, 0)))
    rows, columns = backend.reshape(a, left), backend.reshape(b, right)
    full = *lead, left[-2], right[-1]
    out = (*lead, *([full[-2]] if a.ndim > 1 else []), *([full[-1]] if b.ndim > 1 else []))

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dy = backend.reshape(dy, full)
        da = db = None
        if needs[0]:
            da = backend.matmul(dy, _turned(backend, columns))
            da = backend.reshape(summed_to(backend, da, left), a.shape)
        if needs[1]:
            db = backend.matmul(_turned(backend, rows), dy)
            db = backend.reshape(summed_to(backend, db, right), b.shape)
        return da, db

    return record(backend.reshape(backend.matmul(rows, columns), out), (input, other), backward)


def _turned(backend: Backend, matrices: Array) -> Array:
    """(..., M, K) -> (..., K, M)"""
    last = matrices.ndim - 1
    return backend.permute(matrices, (*range(last - 1), last, last - 1))


def prod(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Return the product over ``dim``, or over everything (0-d): 1 where there is nothing. Halves are multiplied with
    each other until one element is left.

    >>> prod(np.array([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    array([3., 8.])
    """
    op = "prod"
    backend, x = operand(op, "input", input)
    shape, axes = x.shape, _axes(op, dim, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    lead, count = [shape[i] for i in rest], size_of([shape[i] for i in axes])
    out = [1 if i in axes else size for i, size in enumerate(shape)] if keepdim else lead
    if not count:
        return record(backend.from_numpy(np.ones(out, x.dtype)), (input,), lambda dy, needs: (backend.scale(x, 0.0),))
    y = reshape(permute(input, [*rest, *axes]), (*lead, count))
    while count > 1:
        half = count // 2
        parts = split(y, [half, half, count % 2], len(lead))
        y = multiply(parts[0], parts[1])
        y = cat([y, parts[2]], len(lead)) if count % 2 else y
        count = half + count % 2
    return reshape(y, out)


def logsumexp(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Return ``log(sum(exp(input)))`` over ``dim``, without overflow.

    >>> logsumexp(np.array([1000.0, 1000.0]))
    array(1000.69314718)
    """
    op = "logsumexp"
    backend, x = operand(op, "input", input)
    axes = _axes(op, dim, x.ndim)
    if any(x.shape[i] == 0 for i in axes):
        raise ShapeError(mismatch(op, "axes with at least one element", f"input {x.shape}"))
    most = backend.to_numpy(backend.extremes(x, axes, True) if axes else x)
    most = backend.from_numpy(np.where(np.isfinite(most), most, 0).astype(x.dtype))
    total = sum(exp(subtract(input, most)), axes, keepdim)
    return add(log(total), backend.reshape(most, total.shape))


def variance(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Return the biased variance over ``dim``: the mean of the squared distances from the mean."""
    _, x = operand("variance", "input", input)
    distance = subtract(input, mean(input, range(x.ndim) if dim is None else dim, True))
    return mean(multiply(distance, distance), dim, keepdim)
