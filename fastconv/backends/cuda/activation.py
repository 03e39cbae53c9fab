"""Activations, elementwise or over the channels of (N, C, L), and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import elementwise, launch, reduce
from .array import DeviceArray, empty_like

cuda: Any = None
math: Any = None


def _relu(number: type) -> Callable:
    zero = number(0)

    def f(x, a, b):
        return zero if x <= zero else x  # NaN stays NaN

    return f


def _relu_slope(number: type) -> Callable:
    zero = number(0)

    def f(dy, y, a, b):
        return zero if y <= zero else dy  # NaN lets the gradient through

    return f


def _leaky_relu(number: type) -> Callable:
    zero = number(0)

    def f(x, a, b):
        return x if x > zero else x * a

    return f


def _leaky_relu_slope(number: type) -> Callable:
    zero = number(0)

    def f(dy, x, a, b):
        return dy if x > zero else dy * a

    return f


def sigmoid(number: type) -> Callable:
    zero, one = number(0), number(1)

    def f(x, a, b):
        small = math.exp(-math.fabs(x))  # never overflows; small results keep their relative precision
        return (one if x >= zero else small) / (one + small)

    return f


def _sigmoid_slope(number: type) -> Callable:
    one = number(1)
    return lambda dy, y, a, b: dy * y * (one - y)


def _tanh(number: type) -> Callable:
    return lambda x, a, b: math.tanh(x)


def _tanh_slope(number: type) -> Callable:
    one = number(1)
    return lambda dy, y, a, b: dy * (one - y * y)


def relu_forward(x: DeviceArray) -> DeviceArray:
    return elementwise.map_unary("relu", _relu, x)


def relu_backward(dy: DeviceArray, y: DeviceArray) -> DeviceArray:
    return elementwise.map_binary("relu_backward", _relu_slope, dy, y)


def leaky_relu_forward(x: DeviceArray, negative_slope: float) -> DeviceArray:
    return elementwise.map_unary("leaky_relu", _leaky_relu, x, negative_slope)


def leaky_relu_backward(dy: DeviceArray, x: DeviceArray, negative_slope: float) -> DeviceArray:
    return elementwise.map_binary("leaky_relu_backward", _leaky_relu_slope, dy, x, negative_slope)


def sigmoid_forward(x: DeviceArray) -> DeviceArray:
    return elementwise.map_unary("sigmoid", sigmoid, x)


def sigmoid_backward(dy: DeviceArray, y: DeviceArray) -> DeviceArray:
    return elementwise.map_binary("sigmoid_backward", _sigmoid_slope, dy, y)


def tanh_forward(x: DeviceArray) -> DeviceArray:
    return elementwise.map_unary("tanh", _tanh, x)


def tanh_backward(dy: DeviceArray, y: DeviceArray) -> DeviceArray:
    return elementwise.map_binary("tanh_backward", _tanh_slope, dy, y)


# ------------------------------------------------------------------------------------- over the channels
# A row is a sample's position: C numbers, L apart. Lanes share a row, and their number depends on C alone.


@launch.factory
def softmax(number: type, log: bool, rows: int, lanes: int, across: bool) -> Callable:
    tree, place_of = launch.inline(reduce.tree), launch.inline(reduce.place_of)
    add = launch.inline(launch.function(reduce.plus, number))
    larger = launch.inline(launch.function(reduce.larger, number))
    zero, low, threads = number(0), number(-float("inf")), rows * lanes

    def kernel(y, x, count, channels, length):
        shared = cuda.shared.array(threads, number)
        row, lane = place_of(cuda.threadIdx.x, rows, lanes, across)
        i, here = cuda.blockIdx.x * rows + row, row * lanes + lane
        base = i // length * channels * length + i % length
        most = low
        if i < count:
            for c in range(lane, channels, lanes):
                most = larger(most, x[base + c * length])
        shared[here] = most
        tree(shared, here, lane, lanes, larger)
        most = shared[row * lanes]
        cuda.syncthreads()
        total = zero
        if i < count:
            for c in range(lane, channels, lanes):
                total += math.exp(x[base + c * length] - most)
        shared[here] = total
        tree(shared, here, lane, lanes, add)
        total = shared[row * lanes]
        if i < count:
            scale = math.log(total) if log else number(1) / total
            for c in range(lane, channels, lanes):
                shifted = x[base + c * length] - most
                y[base + c * length] = shifted - scale if log else math.exp(shifted) * scale

    return kernel


@launch.factory
def softmax_gradient(number: type, log: bool, rows: int, lanes: int, across: bool) -> Callable:
    tree, place_of = launch.inline(reduce.tree), launch.inline(reduce.place_of)
    add, zero, threads = launch.inline(launch.function(reduce.plus, number)), number(0), rows * lanes

    def kernel(dx, dy, y, count, channels, length):
        shared = cuda.shared.array(threads, number)
        row, lane = place_of(cuda.threadIdx.x, rows, lanes, across)
        i, here = cuda.blockIdx.x * rows + row, row * lanes + lane
        base = i // length * channels * length + i % length
        total = zero
        if i < count:
            for c in range(lane, channels, lanes):
                at = base + c * length
                total += dy[at] if log else dy[at] * y[at]
        shared[here] = total
        tree(shared, here, lane, lanes, add)
        total = shared[row * lanes]
        if i < count:
            for c in range(lane, channels, lanes):
                at = base + c * length
                dx[at] = dy[at] - math.exp(y[at]) * total if log else y[at] * (dy[at] - total)

    return kernel


def _rows(op: str, make: Callable, log: bool, *arrays: DeviceArray) -> DeviceArray:
    y = empty_like(arrays[0])
    n, channels, length = y.shape
    if y.size:
        rows, lanes = reduce.shared_out(channels)
        key = y.dtype.type, log, rows, lanes, length == 1
        grid = -(-n * length // rows)
        launch.blocks(op, make, key, grid, rows * lanes, y, *arrays, n * length, channels, length)
    return y


def softmax_forward(x: DeviceArray) -> DeviceArray:
    return _rows("softmax", softmax, False, x)


def softmax_backward(dy: DeviceArray, y: DeviceArray) -> DeviceArray:
    return _rows("softmax_backward", softmax_gradient, False, dy, y)


def log_softmax_forward(x: DeviceArray) -> DeviceArray:
    return _rows("log_softmax", softmax, True, x)


def log_softmax_backward(dy: DeviceArray, y: DeviceArray) -> DeviceArray:
    return _rows("log_softmax_backward", softmax_gradient, True, dy, y)
