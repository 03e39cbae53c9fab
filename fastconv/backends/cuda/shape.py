"""Arithmetic with broadcasting, and what moves elements about: casts, slices, permutation, cat, pad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from . import elementwise, index, launch, reduce
from .array import DeviceArray, dense_strides, empty, from_numpy

cuda: Any = None
math: Any = None


def _add(number: type) -> Callable:
    return lambda x, z, a, b: x + z


def _subtract(number: type) -> Callable:
    return lambda x, z, a, b: x - z


def _multiply(number: type) -> Callable:
    return lambda x, z, a, b: x * z


def _divide(number: type) -> Callable:
    return lambda x, z, a, b: x / z


def _scale(number: type) -> Callable:
    return lambda x, a, b: x * a


def _maximum(number: type) -> Callable:
    def f(x, z, a, b):
        return x if x != x or x > z else z  # a NaN in x, or in z: no comparison with it holds

    return f


def _power(number: type) -> Callable:
    return lambda x, z, a, b: math.pow(x, z)


def _power_slope(number: type) -> Callable:
    zero, one = number(0), number(1)

    def f(x, z, a, b):
        return zero if z == zero else z * math.pow(x, z - one)

    return f


def _power_exponent_slope(number: type) -> Callable:
    zero = number(0)

    def f(x, z, a, b):
        return zero if x == zero and z >= zero else math.pow(x, z) * math.log(x)

    return f


def _verb(name: str, make: Callable) -> Callable[[DeviceArray, DeviceArray], DeviceArray]:
    """Return the verb that makes one array of two which broadcast."""

    def verb(a: DeviceArray, b: DeviceArray) -> DeviceArray:
        return elementwise.map_binary(name, make, a, b)

    verb.__name__ = verb.__qualname__ = name
    return verb


add = _verb("add", _add)
subtract = _verb("subtract", _subtract)
multiply = _verb("multiply", _multiply)
divide = _verb("divide", _divide)
maximum = _verb("maximum", _maximum)
power = _verb("power", _power)
power_slope = _verb("power_slope", _power_slope)
power_exponent_slope = _verb("power_exponent_slope", _power_exponent_slope)


def scale(a: DeviceArray, factor: float) -> DeviceArray:
    return elementwise.map_unary("scale", _scale, a, factor)


def reshape(a: DeviceArray, shape: Sequence[int]) -> DeviceArray:
    return a.reshape(tuple(shape))


# ------------------------------------------------------------------------------------------ strided copies


@launch.factory
def copy(source: type, target: type, rank: int) -> Callable:
    """y[...] = x[...]: the elements of a box, each array by its own start and strides."""
    offset_of = launch.inline(index.offset_of)

    def kernel(y, x, count, sizes, y_start, y_strides, x_start, x_strides):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            value = x[x_start + offset_of(i, sizes, x_strides)]
            y[y_start + offset_of(i, sizes, y_strides)] = target(value)

    return kernel


def _copy(
    op: str, y: DeviceArray, x: DeviceArray, shape: Sequence[int], y_at: tuple[int, Sequence[int]],
    x_at: tuple[int, Sequence[int]],
) -> None:  # fmt: skip
    """Copy a box of ``shape``; ``y_at`` and ``x_at`` are where it starts and its strides, in elements."""
    sizes, of_y, of_x = index.collapsed(shape, y_at[1], x_at[1])
    key = x.dtype.type, y.dtype.type, len(sizes)
    count = prod(sizes) if prod(shape) else 0
    launch.elements(op, copy, key, count, y, x, count, sizes, y_at[0], of_y, x_at[0], of_x)


def is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements lie in C order without gaps."""
    wanted = dense_strides(shape)
    return all(size == 1 or step == want for size, step, want in zip(shape, strides, wanted, strict=True))


def gathered(x: DeviceArray, start: int, shape: Sequence[int], strides: Sequence[int]) -> DeviceArray:
    """Return the box of ``shape`` that lies in x's memory from ``start`` on: a view where it is dense, else a copy."""
    if is_dense(shape, strides) and prod(shape):
        return x.part(start, shape)
    y = empty(shape, x.dtype)
    _copy("copy", y, x, shape, (0, dense_strides(shape)), (start, strides))
    return y


def cast(x: DeviceArray, dtype: np.dtype) -> DeviceArray:
    """Return a copy with another dtype, or the same."""
    y = empty(x.shape, dtype)
    _copy("astype", y, x, (x.size,), (0, (1,)), (0, (1,)))
    return y


def _box(x: DeviceArray, key: Any) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Return start, shape and strides, in elements, of what NumPy's basic indexing selects."""
    entries = key if isinstance(key, tuple) else (key,)
    if not all(e is None or e is ... or isinstance(e, int | np.integer | slice) for e in entries):
        raise IndexError("only integers, slices, None and an ellipsis are indices of an array on a device")
    dummy = np.lib.stride_tricks.as_strided(np.empty(1, np.uint8), x.shape, dense_strides(x.shape))  # never read
    seen = dummy[entries if ... in entries else (*entries, ...)]
    return seen.__array_interface__["data"][0] - dummy.__array_interface__["data"][0], seen.shape, seen.strides


def take(x: DeviceArray, key: Any) -> DeviceArray:
    """Return ``x[key]``."""
    return gathered(x, *_box(x, key))


def put(x: DeviceArray, key: Any, value: DeviceArray) -> None:
    """Make ``x[key]`` equal to ``value``, an array of its dtype that broadcasts to it."""
    start, shape, strides = _box(x, key)
    _copy("setitem", x, value, shape, (start, strides), (0, index.broadcast_strides(value.shape, shape)))


def broadcast_to(a: DeviceArray, shape: Sequence[int]) -> DeviceArray:
    """A copy: arrays of this device are dense."""
    shape = tuple(shape)
    if np.broadcast_shapes(a.shape, shape) != shape:
        raise ValueError(f"cannot broadcast shape {a.shape} to {shape}")
    if a.shape == shape:
        return a
    return gathered(a, 0, shape, index.broadcast_strides(a.shape, shape))


def permute(a: DeviceArray, axes: Sequence[int]) -> DeviceArray:
    strides = dense_strides(a.shape)
    return gathered(a, 0, [a.shape[axis] for axis in axes], [strides[axis] for axis in axes])


def cat(arrays: Sequence[DeviceArray], axis: int, out: DeviceArray | None = None) -> DeviceArray:
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    y, strides, start = empty(shape, arrays[0].dtype) if out is None else out, dense_strides(shape), 0
    for array in arrays:
        _copy("cat", y, array, array.shape, (start * strides[axis], strides), (0, dense_strides(array.shape)))
        start += array.shape[axis]
    return y


# ---------------------------------------------------------------------------------------------- reductions


def _axes(a: DeviceArray, axis: int | Sequence[int] | None) -> tuple[int, ...]:
    axes = range(a.ndim) if axis is None else axis if isinstance(axis, Sequence) else (axis,)
    return tuple(sorted(one % a.ndim for one in axes))


def sum_(a: DeviceArray, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> DeviceArray:
    axes = _axes(a, axis)
    y, _ = reduce.reduced("sum", a, axes)
    return y.reshape(tuple(1 if i in axes else size for i, size in enumerate(a.shape))) if keepdims else y


_LARGEST = reduce.Terms(combine=reduce.larger, neutral=-float("inf"))
_SMALLEST = reduce.Terms(combine=reduce.smaller, neutral=float("inf"))


def _equal(number: type) -> Callable:
    zero, one = number(0), number(1)

    def f(x, z, a, b):
        return one if x == z or (x != x and z != z) else zero

    return f


def extremes(a: DeviceArray, axis: Sequence[int], largest: bool) -> DeviceArray:
    axes = _axes(a, tuple(axis))
    best, _ = reduce.reduced("extremes", a, axes, _LARGEST if largest else _SMALLEST)
    return best.reshape(tuple(1 if i in axes else size for i, size in enumerate(a.shape)))


def matches(a: DeviceArray, best: DeviceArray) -> DeviceArray:
    return elementwise.map_binary("matches", _equal, a, best)


def _outside(number: type) -> Callable:
    zero, one = number(0), number(1)
    return lambda x, z, m, r: one if x < m or x > r else zero


def all_within(array: DeviceArray, low: int, high: int) -> bool:
    if not array.size:
        return True
    limits = np.iinfo(array.dtype)
    if low > limits.max or high <= limits.min:
        return False
    bounds = from_numpy(np.array([max(low, limits.min), min(high - 1, limits.max)], array.dtype))
    flat = array.reshape((array.size,))
    wrong, _ = reduce.reduced(
        "all_within", flat, (0,), reduce.Terms(_outside), by_row=(bounds.part(0, (1,)), bounds.part(1, (1,))),
        dtype=np.int64,
    )  # fmt: skip
    return not wrong.numpy()
