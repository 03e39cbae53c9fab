"""Pooling: each result is written once, by the thread that gathers what it sees, forward and backward.

Windows are tables on the device: where each output of an axis starts, how many elements it sees, what it divides by;
and, turned round, which outputs may see each input. Regular, dilated and adaptive windows are the same then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...geometry import AxisWindows, PoolGeometry
from . import launch
from .array import DeviceArray, empty, empty_like, from_numpy
from .shape import all_within

cuda: Any = None
math: Any = None


class Sizes(NamedTuple):
    """What kernels know of a pooling besides its tables: sizes, steps, and where each axis' part of a table begins."""

    d: int
    h: int
    w: int
    od: int
    oh: int
    ow: int
    step_d: int
    step_h: int
    step_w: int


def _sizes(geometry: PoolGeometry) -> Sizes:
    return Sizes(*geometry.input, *geometry.output, *(axis.step for axis in geometry.windows))


def seen_by(axis: AxisWindows, size: int) -> list[tuple[int, int]]:
    """Return, for each input of an axis, the first output whose window reaches it and the one after the last.

    Between them may be windows that step over it, with dilation. Starts never decrease.

    >>> seen_by(AxisWindows((0, 2), (3, 2), 1, (3, 2)), 5)
    [(0, 1), (0, 1), (0, 2), (1, 2), (2, 2)]
    """
    start, count = np.array(axis.start), np.array(axis.count)
    ends = np.maximum.accumulate(start + axis.step * (count - 1))
    inputs = np.arange(size)
    first = np.searchsorted(ends, inputs, side="left")
    last = np.searchsorted(start, inputs, side="right")
    return list(zip(first.tolist(), np.maximum(first, last).tolist(), strict=True))


@lru_cache(maxsize=256)
def _tables(
    windows: tuple[AxisWindows, ...], sizes: tuple[int, ...], _machine: launch.Machine
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """Return (start, count, divisor) of the outputs, and (first, last) of the inputs, axis by axis, int32."""
    outputs = [np.array([axis.start, axis.count, axis.divisor], np.int32) for axis in windows]
    inputs = [
        np.array(seen_by(axis, size), np.int32).reshape(-1, 2).T for axis, size in zip(windows, sizes, strict=True)
    ]
    return from_numpy(np.concatenate(outputs, axis=1)), from_numpy(np.concatenate(inputs, axis=1))


def _tables_of(geometry: PoolGeometry) -> tuple[DeviceArray, DeviceArray]:
    return _tables(geometry.windows, geometry.input, launch.machine())


# A table's row is as long as the three axes together: (start, count, divisor) are rows of the first, (first, last) of
# the second.


@launch.factory
def maximum(number: type, index: type) -> Callable:
    def kernel(y, where, x, outputs, count, g):
        row = g.od + g.oh + g.ow
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            ow = i % g.ow
            rest = i // g.ow
            oh = rest % g.oh
            rest //= g.oh
            od = rest % g.od
            plane = rest // g.od * (g.d * g.h * g.w)
            at_h, at_w = g.od + oh, g.od + g.oh + ow
            d0, h0, w0 = outputs[od], outputs[at_h], outputs[at_w]
            best = (d0 * g.h + h0) * g.w + w0
            most = x[plane + best]
            for jd in range(outputs[row + od]):
                for jh in range(outputs[row + at_h]):
                    line = ((d0 + jd * g.step_d) * g.h + h0 + jh * g.step_h) * g.w + w0
                    for jw in range(outputs[row + at_w]):
                        at = line + jw * g.step_w
                        value = x[plane + at]
                        if value > most or (value != value and most == most):
                            most, best = value, at
            y[i] = most
            where[i] = index(best)

    return kernel


@launch.factory
def maximum_gradient(number: type, index: type) -> Callable:
    """Each input gathers the gradients of the outputs whose maximum it is; ``where`` is of these windows."""
    zero = number(0)

    def kernel(dx, dy, where, inputs, count, g):
        row = g.d + g.h + g.w
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            w = i % g.w
            rest = i // g.w
            h = rest % g.h
            rest //= g.h
            d = rest % g.d
            plane = rest // g.d * (g.od * g.oh * g.ow)
            here = (d * g.h + h) * g.w + w
            at_h, at_w = g.d + h, g.d + g.h + w
            total = zero
            for od in range(inputs[d], inputs[row + d]):
                for oh in range(inputs[at_h], inputs[row + at_h]):
                    line = plane + (od * g.oh + oh) * g.ow
                    for ow in range(inputs[at_w], inputs[row + at_w]):
                        if where[line + ow] == here:
                            total += dy[line + ow]
            dx[i] = total

    return kernel


@launch.factory
def scattered(number: type, index: type) -> Callable:
    """Add dy up at any indices, a thread a plane, in order: no two threads write to one place."""
    zero = number(0)

    def kernel(dx, dy, where, planes, size, outputs):
        for plane in range(cuda.grid(1), planes, cuda.gridsize(1)):
            for i in range(plane * size, (plane + 1) * size):
                dx[i] = zero
            for o in range(plane * outputs, (plane + 1) * outputs):
                dx[plane * size + where[o]] += dy[o]

    return kernel


@launch.factory
def picked(number: type, index: type) -> Callable:
    def kernel(y, x, where, count, size, outputs):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            y[i] = x[i // outputs * size + where[i]]

    return kernel


def max_pool_forward(
    x: DeviceArray, geometry: PoolGeometry, keep: str = "indices", out: DeviceArray | None = None
) -> tuple[DeviceArray, DeviceArray]:
    index = np.int32 if prod(geometry.input) <= np.iinfo(np.int32).max else np.int64
    y = empty(geometry.output_shape, x.dtype) if out is None else out
    where = empty(geometry.output_shape, index)
    key = x.dtype.type, index
    launch.elements("max_pool", maximum, key, y.size, y, where, x, _tables_of(geometry)[0], y.size, _sizes(geometry))
    where.made_by = geometry
    return y, where


def max_pool_backward(dy: DeviceArray, winners: DeviceArray, geometry: PoolGeometry) -> DeviceArray:
    dx, key = empty(geometry.input_shape, dy.dtype), (dy.dtype.type, winners.dtype.type)
    if winners.made_by == geometry:
        tables = _tables_of(geometry)[1]
        arguments = dx, dy, winners, tables, dx.size, _sizes(geometry)
        launch.elements("max_pool_backward", maximum_gradient, key, dx.size, *arguments)
        return dx
    size = prod(geometry.input)
    if not all_within(winners, 0, size):
        raise IndexError("max pooling: an index outside the plane")
    planes = geometry.n * geometry.c
    arguments = dx, dy, winners, planes, size, prod(geometry.output)
    launch.elements("max_pool_backward", scattered, key, planes, *arguments)
    return dx


def max_unpool_backward(dy: DeviceArray, indices: DeviceArray) -> DeviceArray:
    dx = empty(indices.shape, dy.dtype)
    key, size, outputs = (dy.dtype.type, indices.dtype.type), prod(dy.shape[2:]), prod(indices.shape[2:])
    launch.elements("max_unpool_backward", picked, key, dx.size, dx, dy, indices, dx.size, size, outputs)
    return dx


# ------------------------------------------------------------------------------------------------ average


@launch.factory
def average(number: type) -> Callable:
    zero = number(0)

    def kernel(y, x, outputs, count, g, divisor):
        row = g.od + g.oh + g.ow
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            ow = i % g.ow
            rest = i // g.ow
            oh = rest % g.oh
            rest //= g.oh
            od = rest % g.od
            at_h, at_w = g.od + oh, g.od + g.oh + ow
            first = ((rest // g.od * g.d + outputs[od]) * g.h + outputs[at_h]) * g.w + outputs[at_w]
            total = zero
            for jd in range(outputs[row + od]):
                for jh in range(outputs[row + at_h]):
                    line = first + (jd * g.h * g.step_d + jh * g.step_h) * g.w
                    for jw in range(outputs[row + at_w]):
                        total += x[line + jw * g.step_w]
            own = outputs[2 * row + od] * outputs[2 * row + at_h] * outputs[2 * row + at_w]
            y[i] = total / number(own if divisor == 0 else divisor)

    return kernel


@launch.factory
def average_gradient(number: type) -> Callable:
    """Each input gathers its share of the outputs that see it. (Windows of an average have no dilation.)"""
    zero = number(0)

    def kernel(dx, dy, inputs, outputs, count, g, divisor):
        row, out = g.d + g.h + g.w, 2 * (g.od + g.oh + g.ow)
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            w = i % g.w
            rest = i // g.w
            h = rest % g.h
            rest //= g.h
            d = rest % g.d
            plane = rest // g.d * (g.od * g.oh * g.ow)
            at_h, at_w = g.d + h, g.d + g.h + w
            total = zero
            for od in range(inputs[d], inputs[row + d]):
                for oh in range(inputs[at_h], inputs[row + at_h]):
                    line = plane + (od * g.oh + oh) * g.ow
                    across = outputs[out + od] * outputs[out + g.od + oh]
                    for ow in range(inputs[at_w], inputs[row + at_w]):
                        own = across * outputs[out + g.od + g.oh + ow]
                        total += dy[line + ow] / number(own if divisor == 0 else divisor)
            dx[i] = total

    return kernel


def avg_pool_forward(x: DeviceArray, geometry: PoolGeometry, out: DeviceArray | None = None) -> DeviceArray:
    y, key = empty(geometry.output_shape, x.dtype) if out is None else out, (x.dtype.type,)
    arguments = y, x, _tables_of(geometry)[0], y.size, _sizes(geometry), geometry.divisor_override or 0
    launch.elements("avg_pool", average, key, y.size, *arguments)
    return y


def avg_pool_backward(dy: DeviceArray, geometry: PoolGeometry) -> DeviceArray:
    dx, (outputs, inputs) = empty(geometry.input_shape, dy.dtype), _tables_of(geometry)
    arguments = dx, dy, inputs, outputs, dx.size, _sizes(geometry), geometry.divisor_override or 0
    launch.elements("avg_pool_backward", average_gradient, (dy.dtype.type,), dx.size, *arguments)
    return dx


# ---------------------------------------------------------------------------------- places within windows
# What a unit keeps of a maximum: its place in a window without overlap, one byte.


@launch.factory
def places(number: type, rectified: bool) -> Callable:
    zero = number(0)

    def kernel(place, where, y, outputs, count, g, edge_h, edge_w, none):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            ow = i % g.ow
            rest = i // g.ow
            oh = rest % g.oh
            od = rest // g.oh % g.od
            at = where[i]
            d = at // (g.h * g.w) - outputs[od]
            h = at // g.w % g.h - outputs[g.od + oh]
            w = at % g.w - outputs[g.od + g.oh + ow]
            kept = (d * edge_h + h) * edge_w + w
            place[i] = none if rectified and y[i] <= zero else kept

    return kernel


@launch.factory
def positions(number: type) -> Callable:
    """The other way, with dy 0 where there is no place."""
    zero = number(0)

    def kernel(where, live, place, dy, outputs, count, g, edge_h, edge_w, edges):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            ow = i % g.ow
            rest = i // g.ow
            oh = rest % g.oh
            od = rest // g.oh % g.od
            kept = int(place[i])
            alive = kept < edges
            kept = kept if alive else 0
            d = outputs[od] + kept // (edge_h * edge_w)
            h = outputs[g.od + oh] + kept // edge_w % edge_h
            where[i] = (d * g.h + h) * g.w + outputs[g.od + g.oh + ow] + kept % edge_w
            live[i] = dy[i] if alive else zero

    return kernel


def to_places(y: DeviceArray, where: DeviceArray, geometry: PoolGeometry, rectified: bool, none: int) -> DeviceArray:
    """Return each maximum's place in its window, uint8; ``none`` where the rectified output y is 0."""
    place = empty(y.shape, np.uint8)
    _, height, width = (axis.count[0] for axis in geometry.windows)
    outputs, key = _tables_of(geometry)[0], (y.dtype.type, rectified)
    arguments = place, where, y, outputs, y.size, _sizes(geometry), height, width, none
    launch.elements("places", places, key, y.size, *arguments)
    return place


def from_places(dy: DeviceArray, place: DeviceArray, geometry: PoolGeometry) -> tuple[DeviceArray, DeviceArray]:
    """Return the maxima's positions, and dy where there is a maximum that the gradient goes to, else 0."""
    where, live = empty(dy.shape, np.int64), empty_like(dy)
    depth, height, width = (axis.count[0] for axis in geometry.windows)
    arguments = (where, live, place, dy, _tables_of(geometry)[0], dy.size, _sizes(geometry), height, width,
                 depth * height * width)  # fmt: skip
    launch.elements("places", positions, (dy.dtype.type,), dy.size, *arguments)
    where.made_by = geometry
    return where, live
