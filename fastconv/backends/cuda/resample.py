"""Sums along one axis, as sparse matrices on the device: resampling, its adjoint, and padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...resampling import AxisTaps, padding_sources
from . import launch
from .array import DeviceArray, empty, from_numpy

cuda: Any = None
math: Any = None


class Matrix(NamedTuple):
    """Rows of (column, weight), compressed: row o has the entries ``begin[o]`` to ``begin[o + 1]``."""

    begin: DeviceArray
    column: DeviceArray
    weight: DeviceArray


@lru_cache(maxsize=256)
def _matrix(rows: bytes, columns: bytes, weights: bytes, count: int, dtype: str, _machine: launch.Machine) -> Matrix:
    row, column = np.frombuffer(rows, np.int64), np.frombuffer(columns, np.int64)
    order = np.argsort(row, kind="stable")
    begin = np.searchsorted(row[order], np.arange(count + 1))
    weight = np.frombuffer(weights, np.float64)[order].astype(dtype)
    return Matrix(from_numpy(begin), from_numpy(column[order]), from_numpy(weight))


def _compressed(row: np.ndarray, column: np.ndarray, weight: np.ndarray, count: int, dtype: np.dtype) -> Matrix:
    """Return the matrix of ``count`` rows with these entries, in the order given within a row; remembered."""
    as_bytes = (np.ascontiguousarray(a, t).tobytes() for a, t in ((row, "i8"), (column, "i8"), (weight, "f8")))
    return _matrix(*as_bytes, count, dtype.str, launch.machine())


@launch.factory
def along(number: type) -> Callable:
    def kernel(y, x, begin, column, weight, count, outputs, inputs, inner, fill):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            row = i // inner
            outer = row // outputs
            o = row - outer * outputs
            base = outer * inputs * inner + i % inner
            first, last = begin[o], begin[o + 1]
            total = fill
            if first < last:
                total = weight[first] * x[base + column[first] * inner]
                for k in range(first + 1, last):
                    total += weight[k] * x[base + column[k] * inner]
            y[i] = total

    return kernel


def _along(op: str, x: DeviceArray, axis: int, outputs: int, matrix: Matrix, fill: float = 0.0) -> DeviceArray:
    """Return the product of a matrix and each line of x along an axis; ``fill`` where a row is empty."""
    shape, number = (*x.shape[:axis], outputs, *x.shape[axis + 1 :]), x.dtype.type
    y = empty(shape, x.dtype)
    with np.errstate(over="ignore"):
        value = number(fill)
    launch.elements(
        op, along, (number,), y.size, y, x, *matrix, y.size, outputs, x.shape[axis], prod(shape[axis + 1 :]), value
    )  # fmt: skip
    return y


def resample_forward(x: DeviceArray, axes: Sequence[AxisTaps | None]) -> DeviceArray:
    for axis, taps in enumerate(axes, start=2):
        if taps is not None:
            outputs, per = taps.index.shape
            rows = np.repeat(np.arange(outputs), per)
            x = _along("resample", x, axis, outputs, _compressed(rows, taps.index, taps.weight, outputs, x.dtype))
    return x


def resample_backward(dy: DeviceArray, axes: Sequence[AxisTaps | None], shape: Sequence[int]) -> DeviceArray:
    for axis, taps in enumerate(axes, start=2):
        if taps is not None:
            outputs, per = taps.index.shape
            columns = np.repeat(np.arange(outputs), per)
            matrix = _compressed(taps.index.reshape(-1), columns, taps.weight.reshape(-1), shape[axis], dy.dtype)
            dy = _along("resample_backward", dy, axis, shape[axis], matrix)
    return dy


def pad_forward(x: DeviceArray, widths: Sequence[tuple[int, int]], mode: str, value: float) -> DeviceArray:
    for axis, (before, after) in enumerate(widths):
        if before or after:
            source, copies = padding_sources(x.shape[axis], before, after, mode)
            rows = np.flatnonzero(copies)
            matrix = _compressed(rows, source[copies], np.ones(len(rows)), len(source), x.dtype)
            x = _along("pad", x, axis, len(source), matrix, value)
    return x


def pad_backward(dy: DeviceArray, shape: Sequence[int], widths: Sequence[tuple[int, int]], mode: str) -> DeviceArray:
    for axis, (before, after) in enumerate(widths):
        if before or after:
            source, copies = padding_sources(shape[axis], before, after, mode)
            columns = np.flatnonzero(copies)
            matrix = _compressed(source[copies], columns, np.ones(len(columns)), shape[axis], dy.dtype)
            dy = _along("pad_backward", dy, axis, shape[axis], matrix)
    return dy
