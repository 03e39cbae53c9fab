"""Elementwise arithmetic, sums and reshaping, and the operators of Tensor, which are these functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from numbers import Real
from typing import Any

import numpy as np

from ..arguments import integer
from ..backends.base import Array, Backend
from ..errors import ArgumentError, ShapeError, mismatch
from ..tensor import Tensor, operand, operands, record
from ._common import axis, check_gradient, check_needs, shape_of


def broadcast_pair(op: str, a: Any, b: Any) -> tuple[Backend, Array, Array]:
    """Return the backend and two arrays that broadcast; a Python number takes the other's dtype."""
    if isinstance(a, Real):
        backend, b = operands(op, other=b)
        return backend, backend.from_numpy(np.asarray(a, b.dtype)), b
    if isinstance(b, Real):
        backend, a = operands(op, input=a)
        return backend, a, backend.from_numpy(np.asarray(b, a.dtype))
    backend, a, b = operands(op, input=a, other=b)
    if a.shape != b.shape:
        _broadcast(op, a.shape, b.shape)
    return backend, a, b


@lru_cache(maxsize=1024)
def _broadcast(op: str, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise ShapeError(mismatch(op, f"other to broadcast with input {tuple(a)}", f"shape {tuple(b)}")) from None


def summed_to(backend: Backend, dy: Array, shape: Sequence[int]) -> Array:
    """Undo broadcasting: the gradient of an array of ``shape`` that was broadcast to dy's shape."""
    if dy.shape == tuple(shape):
        return dy
    new = dy.ndim - len(shape)
    axes = [*range(new), *(new + i for i, size in enumerate(shape) if size == 1 and dy.shape[new + i] != 1)]
    return backend.reshape(backend.sum(dy, axes), shape)


def _both(backend: Backend, shapes: Sequence, needs: Sequence[bool], da: Callable, db: Callable) -> tuple:
    return tuple(
        summed_to(backend, gradient(), shape) if need else None
        for gradient, shape, need in zip((da, db), shapes, needs, strict=True)
    )


def add(input: Any, other: Any) -> Any:
    """Return ``input + other`` with NumPy's broadcasting.

    >>> add(np.float32([1, 2]), np.float32([[10], [20]]))
    array([[11., 12.],
           [21., 22.]], dtype=float32)
    """
    backend, a, b = broadcast_pair("add", input, other)
    shapes = a.shape, b.shape
    return record(
        backend.add(a, b), (input, other), lambda dy, needs: _both(backend, shapes, needs, lambda: dy, lambda: dy)
    )


def add_backward(
    dy: Any, shape: Sequence[int], other_shape: Sequence[int], needs: Sequence[bool] = (True, True)
) -> tuple:
    """Return the gradients of ``add`` for operands of two shapes: dy, summed where it was broadcast."""
    op = "add_backward"
    check_needs(op, needs, 2)
    shapes = shape_of(op, "shape", shape), shape_of(op, "other_shape", other_shape)
    backend, dy = operands(op, dy=dy)
    check_gradient(op, _broadcast(op, *shapes), dy)
    return _both(backend, shapes, needs, lambda: dy, lambda: dy)


def subtract(input: Any, other: Any) -> Any:
    """Return ``input - other`` with NumPy's broadcasting."""
    backend, a, b = broadcast_pair("subtract", input, other)
    shapes = a.shape, b.shape

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        return _both(backend, shapes, needs, lambda: dy, lambda: backend.scale(dy, -1.0))

    return record(backend.subtract(a, b), (input, other), backward)


def multiply(input: Any, other: Any) -> Any:
    """Return ``input * other`` with NumPy's broadcasting."""
    if isinstance(other, Real) or isinstance(input, Real):
        value, factor = (input, float(other)) if isinstance(other, Real) else (other, float(input))
        backend, a = operands("multiply", input=value)
        return record(backend.scale(a, factor), (value,), lambda dy, needs: (backend.scale(dy, factor),))
    backend, a, b = broadcast_pair("multiply", input, other)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        shapes = a.shape, b.shape
        return _both(backend, shapes, needs, lambda: backend.multiply(dy, b), lambda: backend.multiply(dy, a))

    return record(backend.multiply(a, b), (input, other), backward)


def divide(input: Any, other: Any) -> Any:
    """Return ``input / other`` with NumPy's broadcasting."""
    backend, a, b = broadcast_pair("divide", input, other)
    y = backend.divide(a, b)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        def db() -> Array:
            return backend.scale(backend.multiply(dy, backend.divide(y, b)), -1.0)

        return _both(backend, (a.shape, b.shape), needs, lambda: backend.divide(dy, b), db)

    return record(y, (input, other), backward)


def sum(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Return the sum over ``dim``, or over everything (0-d).

    >>> sum(np.ones((2, 3)), dim=1)
    array([3., 3.])
    """
    backend, x = operand("sum", "input", input)
    dims = range(x.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    axes = tuple([axis("sum", "dim", d, x.ndim) for d in dims])
    if len(set(axes)) < len(axes):
        raise ArgumentError(mismatch("sum", "each dim once", tuple(dims)))
    kept = tuple([1 if i in axes else size for i, size in enumerate(x.shape)])
    shape = x.shape

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        return (backend.broadcast_to(backend.reshape(dy, kept), shape),)

    return record(backend.sum(x, axes, keepdim), (input,), backward)


def mean(input: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Return the mean over ``dim``, or over everything (0-d); NaN where there is nothing.

    >>> mean(np.arange(4.0))
    array(1.5)
    """
    total = sum(input, dim, keepdim)
    size = prod(np.shape(input))
    return multiply(total, prod(total.shape) / size if size else float("nan"))


def reshape(input: Any, shape: Sequence[int]) -> Any:
    """Return the values, in logical (C) order, under another shape; one size may be -1.

    >>> reshape(np.arange(6.0), (2, -1)).shape
    (2, 3)
    """
    backend, x = operand("reshape", "input", input)
    old, new = x.shape, _resolved("reshape", x.shape, shape)
    return record(backend.reshape(x, new), (input,), lambda dy, needs: (backend.reshape(dy, old),))


def _resolved(op: str, old: Sequence[int], shape: Any, name: str = "input") -> tuple[int, ...]:
    """Return ``shape`` with its -1, if any, worked out."""
    if not isinstance(shape, Sequence):
        shape = (shape,)
    sizes = [integer(op, "shape", size, -1) for size in shape]
    total = prod(old)
    if sizes.count(-1) == 1:
        rest = -prod(sizes)
        if rest and total % rest == 0:
            sizes[sizes.index(-1)] = total // rest
    if -1 in sizes or prod(sizes) != total:
        raise ShapeError(mismatch(op, f"a shape of {total} elements like {name} {tuple(old)}", tuple(shape)))
    return tuple(sizes)


def reshape_backward(dy: Any, shape: Sequence[int]) -> Any:
    """Return the gradient of ``reshape`` for an input of ``shape``."""
    op = "reshape_backward"
    backend, dy = operands(op, dy=dy)
    return backend.reshape(dy, _resolved(op, dy.shape, shape_of(op, "shape", shape), "dy"))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Return the axes ``start_dim`` to ``end_dim``, inclusive, as one.

    >>> flatten(np.zeros((2, 3, 4, 5)), 1).shape
    (2, 60)
    """
    backend, x = operand("flatten", "input", input)
    old = x.shape or (1,)
    first, last = axis("flatten", "start_dim", start_dim, len(old)), axis("flatten", "end_dim", end_dim, len(old))
    if first > last:
        raise ShapeError(mismatch("flatten", "start_dim <= end_dim", f"{start_dim} > {end_dim}"))
    new = (*old[:first], prod(old[first : last + 1]), *old[last + 1 :])
    old = x.shape
    return record(backend.reshape(x, new), (input,), lambda dy, needs: (backend.reshape(dy, old),))


flatten_backward = reshape_backward


def _getitem(input: Tensor, index: Any) -> Tensor:
    """Return ``input[index]``, a view, for integers, slices, None and an ellipsis.

    >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> x[:, 0].sum().backward()
    >>> x.grad
    array([[1., 0.],
           [1., 0.]], dtype=float32)
    """
    backend, x = operand("index", "input", input)
    entries = index if isinstance(index, tuple) else (index,)
    entries = [e if e is None or e is ... or isinstance(e, slice) else integer("index", "index", e, -(2**63))
               for e in entries]  # fmt: skip
    key = tuple(entries if ... in entries else [*entries, ...])  # with an ellipsis NumPy gives an array, 0-d too
    try:
        y = x[key]
    except (IndexError, TypeError, ValueError) as error:
        raise ArgumentError(mismatch("index", f"an index within shape {x.shape}", error)) from None
    shape = x.shape

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dx = backend.from_numpy(np.zeros(shape, dy.dtype))
        dx[key] = dy
        return (dx,)

    return record(y, (input,), backward)


# ---------------------------------------------------------------------------------- the operators of Tensor


def _bind() -> None:
    def reshaped(self: Tensor, *shape: Any) -> Tensor:
        """``reshape(2, 3)`` or ``reshape((2, 3))``; see ``functional.reshape``."""
        return reshape(self, shape[0] if len(shape) == 1 else shape)

    for operator, function in {"add": add, "sub": subtract, "mul": multiply, "truediv": divide}.items():
        setattr(Tensor, f"__{operator}__", function)
        setattr(Tensor, f"__r{operator}__", lambda self, other, function=function: function(other, self))
    Tensor.__getitem__, Tensor.__iter__ = _getitem, lambda self: (self[i] for i in range(len(self)))
    Tensor.__neg__ = lambda self: multiply(self, -1.0)
    Tensor.reshape, Tensor.flatten, Tensor.sum, Tensor.mean = reshaped, flatten, sum, mean


_bind()
