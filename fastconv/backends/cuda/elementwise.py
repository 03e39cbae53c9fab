"""Loops over elements: one function of a few numbers at each, over arrays of one shape or under broadcasting.

A loop makes four strides of the grid at a time, so that as many loads are on their way from each thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import index, launch
from .array import DeviceArray, dense_strides, empty

cuda: Any = None
math: Any = None

# A function is made for a dtype, `make(number)`, so that its constants are of it; it takes the elements, then two
# numbers a and b.


@launch.factory
def unary(number: type, make: Callable) -> Callable:
    f = launch.inline(launch.function(make, number))

    def kernel(y, x, count, a, b):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i + 3 * step < count:
            x0, x1, x2, x3 = x[i], x[i + step], x[i + 2 * step], x[i + 3 * step]
            y[i] = f(x0, a, b)
            y[i + step] = f(x1, a, b)
            y[i + 2 * step] = f(x2, a, b)
            y[i + 3 * step] = f(x3, a, b)
            i += 4 * step
        while i < count:
            y[i] = f(x[i], a, b)
            i += step

    return kernel


@launch.factory
def binary(number: type, make: Callable) -> Callable:
    f = launch.inline(launch.function(make, number))

    def kernel(y, x, z, count, a, b):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i + 3 * step < count:
            x0, x1, x2, x3 = x[i], x[i + step], x[i + 2 * step], x[i + 3 * step]
            z0, z1, z2, z3 = z[i], z[i + step], z[i + 2 * step], z[i + 3 * step]
            y[i] = f(x0, z0, a, b)
            y[i + step] = f(x1, z1, a, b)
            y[i + 2 * step] = f(x2, z2, a, b)
            y[i + 3 * step] = f(x3, z3, a, b)
            i += 4 * step
        while i < count:
            y[i] = f(x[i], z[i], a, b)
            i += step

    return kernel


@launch.factory
def ternary(number: type, make: Callable) -> Callable:
    f = launch.inline(launch.function(make, number))

    def kernel(y, x, z, u, count, a, b):
        i, step = cuda.grid(1), cuda.gridsize(1)
        while i + step < count:
            x0, x1, z0, z1, u0, u1 = x[i], x[i + step], z[i], z[i + step], u[i], u[i + step]
            y[i] = f(x0, z0, u0, a, b)
            y[i + step] = f(x1, z1, u1, a, b)
            i += 2 * step
        while i < count:
            y[i] = f(x[i], z[i], u[i], a, b)
            i += step

    return kernel


@launch.factory
def broadcast(number: type, make: Callable, rank: int) -> Callable:
    f, offset_of = launch.inline(launch.function(make, number)), launch.inline(index.offset_of)

    def kernel(y, x, z, count, sizes, x_strides, z_strides, a, b):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            y[i] = f(x[offset_of(i, sizes, x_strides)], z[offset_of(i, sizes, z_strides)], a, b)

    return kernel


def map_unary(
    op: str, make: Callable, x: DeviceArray, a: float = 0.0, b: float = 0.0, dtype: Any = None
) -> DeviceArray:
    """Return f(x; a, b) of each element."""
    y, number = empty(x.shape, dtype or x.dtype), x.dtype.type
    a, b = _parameters(number, a, b)
    launch.elements(op, unary, (number, make), x.size, y, x, x.size, a, b)
    return y


def map_binary(op: str, make: Callable, x: DeviceArray, z: DeviceArray, a: float = 0.0, b: float = 0.0) -> DeviceArray:
    """Return f(x, z; a, b) of each pair of elements of two arrays that broadcast."""
    number = x.dtype.type
    a, b = _parameters(number, a, b)
    if x.shape == z.shape:
        y = empty(x.shape, x.dtype)
        launch.elements(op, binary, (number, make), y.size, y, x, z, y.size, a, b)
        return y
    shape = np.broadcast_shapes(x.shape, z.shape)
    y = empty(shape, x.dtype)
    strides = dense_strides(shape), index.broadcast_strides(x.shape, shape), index.broadcast_strides(z.shape, shape)
    sizes, _, of_x, of_z = index.collapsed(shape, *strides)
    launch.elements(op, broadcast, (number, make, len(sizes)), y.size, y, x, z, y.size, sizes, of_x, of_z, a, b)
    return y


def map_ternary(op: str, make: Callable, arrays: Sequence[DeviceArray], a: float = 0.0, b: float = 0.0) -> DeviceArray:
    """Return f(x, z, u; a, b) of each three elements of arrays of one shape."""
    x, z, u = arrays
    y, number = empty(x.shape, x.dtype), x.dtype.type
    a, b = _parameters(number, a, b)
    launch.elements(op, ternary, (number, make), y.size, y, x, z, u, y.size, a, b)
    return y


def _parameters(number: type, a: float, b: float) -> tuple[Any, Any]:
    with np.errstate(over="ignore"):
        return number(a), number(b)
