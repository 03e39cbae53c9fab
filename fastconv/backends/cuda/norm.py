"""Batch normalisation (`Ioffe and Szegedy 2015 <https://arxiv.org/abs/1502.03167>`_) and local response normalisation,
over x (N, C, L)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import elementwise, launch, reduce
from .activation import relu_backward
from .array import DeviceArray, empty_like
from .shape import add

cuda: Any = None
math: Any = None


def _squared_distance(number: type) -> Callable:
    def f(x, z, m, r):
        distance = x - m
        return distance * distance

    return f


def batch_norm_statistics(x: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
    count = max(1, x.shape[0] * x.shape[2])  # an empty batch has mean 0 and variance 0
    mean, _ = reduce.reduced("batch_norm_statistics", x, (0, 2), divisor=count)
    terms = reduce.Terms(_squared_distance)
    variance, _ = reduce.reduced("batch_norm_statistics", x, (0, 2), terms, by_row=(mean, mean), divisor=count)
    return mean, variance


def bias_backward(dy: DeviceArray) -> DeviceArray:
    return reduce.reduced("bias_backward", dy, (0, *range(2, dy.ndim)))[0]


def _reciprocal_root(number: type) -> Callable:
    one = number(1)
    return lambda x, a, b: one / math.sqrt(x + a)


def reciprocal_root(variance: DeviceArray, eps: float) -> DeviceArray:
    return elementwise.map_unary("reciprocal_root", _reciprocal_root, variance, eps)


@launch.factory
def towards(number: type) -> Callable:
    def kernel(running, batch, count, share, factor):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            running[i] += (batch[i] * factor - running[i]) * share

    return kernel


def move_towards(running: DeviceArray, batch: DeviceArray, share: float, factor: float) -> None:
    number = running.dtype.type
    arguments = running, batch, running.size, number(share), number(factor)
    launch.elements("move_towards", towards, (number,), running.size, *arguments)


# ------------------------------------------------------------------------------- elements of (N, C, L)
# A thread walks through the array with the stride of the grid and carries position and channel along, so that no
# element costs a division.


def steps_of(step: int, channels: int, length: int) -> tuple[int, int]:
    """Return by how many channels and positions a step moves.

    >>> steps_of(17, 3, 4)
    (1, 1)
    """
    return step // length % channels, step % length


def moved(c: int, at: int, dc: int, dl: int, channels: int, length: int) -> tuple[int, int]:
    """Return channel and position after a step.

    >>> moved(2, 3, 1, 1, 3, 4)
    (1, 0)
    """
    c, at = c + dc, at + dl
    if at >= length:
        at -= length
        c += 1
    if c >= channels:
        c -= channels
    return c, at


@launch.factory
def normalised(number: type, weighted: bool, shifted: bool, added: bool, rectified: bool) -> Callable:
    steps, move, zero = launch.inline(steps_of), launch.inline(moved), number(0)

    def kernel(y, x, mean, rstd, weight, bias, residual, count, channels, length):
        i, step = cuda.grid(1), cuda.gridsize(1)
        dc, dl = steps(step, channels, length)
        c, at = steps(i, channels, length)
        while i < count:
            value = (x[i] - mean[c]) * rstd[c]
            if weighted:
                value *= weight[c]
            if shifted:
                value += bias[c]
            if added:
                value += residual[i]
            if rectified and value <= zero:  # NaN stays NaN
                value = zero
            y[i] = value
            i += step
            c, at = move(c, at, dc, dl, channels, length)

    return kernel


@launch.factory
def normalised_gradient(number: type, weighted: bool, training: bool) -> Callable:
    steps, move = launch.inline(steps_of), launch.inline(moved)

    def kernel(dx, dy, x, mean, rstd, weight, dweight, dbias, count, channels, length, divisor):
        i, step = cuda.grid(1), cuda.gridsize(1)
        dc, dl = steps(step, channels, length)
        c, at = steps(i, channels, length)
        while i < count:
            value, scale = dy[i], rstd[c]
            if training:  # mean and rstd move with x: take their share out of the gradient
                value -= (dbias[c] + (x[i] - mean[c]) * scale * dweight[c]) / divisor
            value *= scale
            if weighted:
                value *= weight[c]
            dx[i] = value
            i += step
            c, at = move(c, at, dc, dl, channels, length)

    return kernel


def batch_norm_forward(
    x: DeviceArray, mean: DeviceArray, rstd: DeviceArray, weight: DeviceArray | None, bias: DeviceArray | None,
    activation: str | None = None, residual: DeviceArray | None = None, out: DeviceArray | None = None,
) -> DeviceArray:  # fmt: skip
    y, (_, channels, length) = empty_like(x) if out is None else out, x.shape
    key = x.dtype.type, weight is not None, bias is not None, residual is not None, activation == "relu"
    arrays = mean, rstd, weight or mean, bias or mean, x if residual is None else residual
    launch.elements("batch_norm", normalised, key, x.size, y, x, *arrays, x.size, channels, length)
    return y


def _times_normalised(number: type) -> Callable:
    return lambda dy, x, m, r: dy * ((x - m) * r)


_BOTH_SUMS = reduce.Terms(_times_normalised, reduce.value)


def batch_norm_backward(
    dy: DeviceArray, x: DeviceArray, mean: DeviceArray, rstd: DeviceArray, weight: DeviceArray | None, training: bool,
    needs: Sequence[bool] = (True, True, True), bias: DeviceArray | None = None, activation: str | None = None,
    residual: DeviceArray | None = None,
) -> tuple[DeviceArray | None, ...]:  # fmt: skip
    op, number = "batch_norm_backward", x.dtype.type
    if activation == "relu":
        dy = relu_backward(dy, batch_norm_forward(x, mean, rstd, weight, bias))
    n, channels, length = x.shape
    dx = dweight = dbias = None
    if needs[1] or needs[2] or (training and needs[0]):
        dweight, dbias = reduce.reduced(op, dy, (0, 2), _BOTH_SUMS, x, (mean, rstd))
    if needs[0]:
        dx = empty_like(x)
        divisor = number(max(1, n * length))
        arrays = mean, rstd, weight or mean, dweight or mean, dbias or mean
        key = number, weight is not None, training
        launch.elements(
            op, normalised_gradient, key, x.size, dx, dy, x, *arrays, x.size, channels, length, divisor
        )  # fmt: skip
        dx = dx if residual is None else add(dx, residual)
    return dx, dweight if needs[1] else None, dbias if needs[2] else None


# ------------------------------------------------------------------------------------ local response norm


@launch.factory
def local_response(number: type) -> Callable:
    def kernel(y, scale, x, count, channels, length, size, before, k, share, beta):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            c = i // length % channels
            total = number(0)
            for other in range(max(c - before, 0), min(c - before + size, channels)):
                value = x[i + (other - c) * length]
                total += value * value
            total = k + share * total
            scale[i] = total
            y[i] = x[i] * math.pow(total, -beta)

    return kernel


@launch.factory
def local_response_gradient(number: type) -> Callable:
    one = number(1)

    def kernel(dx, dy, x, scale, count, channels, length, size, before, factor, beta):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            c = i // length % channels
            reach = number(0)  # of the outputs whose window holds this channel
            for other in range(max(c - before, 0), min(c - before + size, channels)):
                at = i + (other - c) * length
                reach += dy[at] * x[at] * math.pow(scale[at], -beta - one)
            dx[i] = dy[i] * math.pow(scale[i], -beta) - factor * x[i] * reach

    return kernel


def local_response_norm_forward(
    x: DeviceArray, size: int, alpha: float, beta: float, k: float
) -> tuple[DeviceArray, DeviceArray]:
    y, scale, number = empty_like(x), empty_like(x), x.dtype.type
    launch.elements(
        "local_response_norm", local_response, (number,), x.size, y, scale, x, x.size, *x.shape[1:], size, size // 2,
        number(k), number(alpha / size), number(beta),
    )  # fmt: skip
    return y, scale


def local_response_norm_backward(
    dy: DeviceArray, x: DeviceArray, scale: DeviceArray, size: int, alpha: float, beta: float
) -> DeviceArray:
    dx, number = empty_like(x), x.dtype.type
    launch.elements(
        "local_response_norm_backward", local_response_gradient, (number,), x.size, dx, dy, x, scale, x.size,
        *x.shape[1:], size, size - 1 - size // 2, number(2 * alpha * beta / size), number(beta),
    )  # fmt: skip
    return dx
