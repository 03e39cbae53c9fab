"""Losses, one value a position, and their gradients. Reductions live in ``functional/loss.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import elementwise, launch, shape
from .activation import log_softmax_forward, sigmoid
from .array import DeviceArray, empty
from .pointwise import softplus

cuda: Any = None
math: Any = None


@launch.factory
def nll(number: type, weighted: bool, smoothed: bool) -> Callable:
    zero, one = number(0), number(1)

    def kernel(loss, scale, log_prob, target, weight, count, channels, length, ignored, smoothing):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            t = target[i]
            value, own = zero, zero
            if t != ignored:
                base = i // length * channels * length + i % length
                own = weight[t] if weighted else one
                value = -own * log_prob[base + t * length]
                if smoothed:
                    smooth = zero
                    for c in range(channels):
                        smooth -= (weight[c] if weighted else one) * log_prob[base + c * length]
                    value = (one - smoothing) * value + smoothing * (smooth / number(channels))
            loss[i] = value
            scale[i] = own

    return kernel


@launch.factory
def nll_gradient(number: type, weighted: bool, smoothed: bool, through_softmax: bool) -> Callable:
    """The gradient with respect to the log-probabilities, or through their softmax to the logits."""
    zero, one = number(0), number(1)

    def kernel(dx, dloss, log_prob, target, weight, total, count, channels, length, ignored, smoothing):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            row = i // length
            sample = row // channels
            c = row - sample * channels
            at = sample * length + i % length
            t = target[at]
            value = zero
            if t != ignored:
                gradient = dloss[at]
                hit = (one - smoothing) * (weight[t] if weighted else one) * gradient
                even = zero
                if smoothed:
                    even = smoothing / number(channels) * gradient
                    value = -even * (weight[c] if weighted else one)
                if c == t:
                    value -= hit
                if through_softmax:
                    value += math.exp(log_prob[i]) * (hit + even * (total[0] if weighted else number(channels)))
            dx[i] = value

    return kernel


def nll_forward(
    log_prob: DeviceArray, target: DeviceArray, weight: DeviceArray | None, ignore_index: int, label_smoothing: float
) -> tuple[DeviceArray, DeviceArray]:
    number, (n, channels, length) = log_prob.dtype.type, log_prob.shape
    loss, scale = empty((n, length), number), empty((n, length), number)
    key = number, weight is not None, label_smoothing != 0
    launch.elements(
        "nll", nll, key, loss.size, loss, scale, log_prob, target, weight or log_prob, loss.size, channels, length,
        ignore_index, number(label_smoothing),
    )  # fmt: skip
    return loss, scale


def _gradient(
    op: str, dloss: DeviceArray, log_prob: DeviceArray | None, target: DeviceArray, channels: int,
    weight: DeviceArray | None, ignore_index: int, label_smoothing: float,
) -> DeviceArray:  # fmt: skip
    number, (n, length) = dloss.dtype.type, dloss.shape
    dx = empty((n, channels, length), number)
    key = number, weight is not None, label_smoothing != 0, log_prob is not None
    total = dloss if weight is None or log_prob is None or not label_smoothing else shape.sum_(weight)
    launch.elements(
        op, nll_gradient, key, dx.size, dx, dloss, log_prob or dloss, target, weight or dloss, total, dx.size, channels,
        length, ignore_index, number(label_smoothing),
    )  # fmt: skip
    return dx


def nll_backward(
    dloss: DeviceArray, target: DeviceArray, channels: int, weight: DeviceArray | None, ignore_index: int,
    label_smoothing: float,
) -> DeviceArray:  # fmt: skip
    return _gradient("nll_backward", dloss, None, target, channels, weight, ignore_index, label_smoothing)


def cross_entropy_forward(
    x: DeviceArray, target: DeviceArray, weight: DeviceArray | None, ignore_index: int, label_smoothing: float
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    log_prob = log_softmax_forward(x)
    return *nll_forward(log_prob, target, weight, ignore_index, label_smoothing), log_prob


def cross_entropy_backward(
    dloss: DeviceArray, log_prob: DeviceArray, target: DeviceArray, weight: DeviceArray | None, ignore_index: int,
    label_smoothing: float,
) -> DeviceArray:  # fmt: skip
    channels = log_prob.shape[1]
    op = "cross_entropy_backward"
    return _gradient(op, dloss, log_prob, target, channels, weight, ignore_index, label_smoothing)


def _squared_error(number: type) -> Callable:
    def f(x, z, a, b):
        error = x - z
        return error * error

    return f


def _squared_error_slope(number: type) -> Callable:
    two = number(2)
    return lambda dloss, x, z, a, b: two * dloss * (x - z)


def mse_forward(x: DeviceArray, target: DeviceArray) -> DeviceArray:
    return elementwise.map_binary("mse", _squared_error, x, target)


def mse_backward(dloss: DeviceArray, x: DeviceArray, target: DeviceArray) -> DeviceArray:
    return elementwise.map_ternary("mse_backward", _squared_error_slope, (dloss, x, target))


def _bce(number: type) -> Callable:
    plus, one = launch.inline(launch.function(softplus, number)), number(1)
    return lambda x, t, p, a, b: p * t * plus(-x) + (one - t) * plus(x)


def _bce_slope(number: type) -> Callable:
    logistic, zero, one = launch.inline(launch.function(sigmoid, number)), number(0), number(1)
    return lambda x, t, p, a, b: (one - t) * logistic(x, zero, zero) - p * t * logistic(-x, zero, zero)


def _plain(make: Callable) -> Callable:
    def without_factor(number: type) -> Callable:
        f, one = launch.inline(launch.function(make, number)), number(1)
        return lambda x, t, a, b: f(x, t, one, a, b)

    return without_factor


_plain_bce, _plain_bce_slope = _plain(_bce), _plain(_bce_slope)


def bce_with_logits_forward(
    x: DeviceArray, target: DeviceArray, weight: DeviceArray | None, pos_weight: DeviceArray | None
) -> DeviceArray:
    op = "bce_with_logits"
    if pos_weight is None:
        loss = elementwise.map_binary(op, _plain_bce, x, target)
    else:
        loss = elementwise.map_ternary(op, _bce, (x, target, pos_weight))
    return loss if weight is None else shape.multiply(loss, weight)


def bce_with_logits_backward(
    dloss: DeviceArray, x: DeviceArray, target: DeviceArray, weight: DeviceArray | None, pos_weight: DeviceArray | None
) -> DeviceArray:
    op = "bce_with_logits_backward"
    if pos_weight is None:
        slope = elementwise.map_binary(op, _plain_bce_slope, x, target)
    else:
        slope = elementwise.map_ternary(op, _bce_slope, (x, target, pos_weight))
    dx = shape.multiply(dloss, slope)
    return dx if weight is None else shape.multiply(dx, weight)
