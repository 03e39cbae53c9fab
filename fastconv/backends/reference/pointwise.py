"""Functions of one variable, each with its slope: y = f(x; a, b) and dy/dx."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .activation import stable_sigmoid
from .wide import narrow, widen

Wide = np.ndarray  # float64


class Function(NamedTuple):
    forward: Callable[[Wide, float, float], Wide]
    slope: Callable[[Wide, float, float], Wide]


_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_HALF_ROOT = math.sqrt(0.5)
_CUBIC = 0.044715  # Hendrycks and Gimpel 2016: gelu by tanh


def _softplus(x: Wide) -> Wide:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Wide, a: float, b: float) -> Wide:
    """x, or below 0 a * (exp(x / b) - 1)."""
    return np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / b))


def _elu_slope(x: Wide, a: float, b: float) -> Wide:
    return np.where(x > 0, 1.0, a / b * np.exp(np.minimum(x, 0) / b))


def _gelu_slope(x: Wide, a: float, b: float) -> Wide:
    return 0.5 * _erfc(-x * _HALF_ROOT) + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _gelu_inner(x: Wide) -> Wide:
    return math.sqrt(2 / math.pi) * (x + _CUBIC * x**3)


def _gelu_tanh_slope(x: Wide, a: float, b: float) -> Wide:
    t = np.tanh(_gelu_inner(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * _CUBIC * x * x)


def _silu_slope(x: Wide, a: float, b: float) -> Wide:
    s = stable_sigmoid(x)
    return s * (1 + x * (1 - s))


def _mish_slope(x: Wide, a: float, b: float) -> Wide:
    t = np.tanh(_softplus(x))
    return t + x * (1 - t * t) * stable_sigmoid(x)


def _inside(x: Wide, low: float, high: float) -> Wide:
    return ((x > low) & (x < high)).astype(np.float64)


POINTWISE = {
    "elu": Function(_elu, _elu_slope),
    "gelu": Function(lambda x, a, b: x * 0.5 * _erfc(-x * _HALF_ROOT), _gelu_slope),
    "gelu_tanh": Function(lambda x, a, b: 0.5 * x * (1 + np.tanh(_gelu_inner(x))), _gelu_tanh_slope),
    "silu": Function(lambda x, a, b: x * stable_sigmoid(x), _silu_slope),
    "mish": Function(lambda x, a, b: x * np.tanh(_softplus(x)), _mish_slope),
    "hardswish": Function(
        lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x, a, b: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5)),
    ),
    "hardsigmoid": Function(
        lambda x, a, b: np.clip(a * x + b, 0, 1), lambda x, a, b: a * _inside(a * x + b, 0, 1)
    ),
    "softplus": Function(lambda x, a, b: _softplus(a * x) / a, lambda x, a, b: stable_sigmoid(a * x)),
    "softsign": Function(lambda x, a, b: x / (1 + np.abs(x)), lambda x, a, b: 1 / (1 + np.abs(x)) ** 2),
    "clip": Function(lambda x, a, b: np.clip(x, a, b), lambda x, a, b: ((x >= a) & (x <= b)).astype(np.float64)),
    "hardtanh": Function(lambda x, a, b: np.clip(x, a, b), _inside),
    "exp": Function(lambda x, a, b: np.exp(x), lambda x, a, b: np.exp(x)),
    "log": Function(lambda x, a, b: np.log(x), lambda x, a, b: 1 / x),
    "sqrt": Function(lambda x, a, b: np.sqrt(x), lambda x, a, b: 0.5 / np.sqrt(x)),
    "abs": Function(lambda x, a, b: np.abs(x), lambda x, a, b: np.sign(x)),
    "reciprocal": Function(lambda x, a, b: 1 / x, lambda x, a, b: -1 / (x * x)),
    "erf": Function(lambda x, a, b: _erf(x), lambda x, a, b: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "floor": Function(lambda x, a, b: np.floor(x), lambda x, a, b: np.zeros_like(x)),
    "ceil": Function(lambda x, a, b: np.ceil(x), lambda x, a, b: np.zeros_like(x)),
    "round": Function(lambda x, a, b: np.rint(x), lambda x, a, b: np.zeros_like(x)),
    "sign": Function(lambda x, a, b: np.sign(x), lambda x, a, b: np.zeros_like(x)),
    "sin": Function(lambda x, a, b: np.sin(x), lambda x, a, b: np.cos(x)),
    "cos": Function(lambda x, a, b: np.cos(x), lambda x, a, b: -np.sin(x)),
    "power": Function(lambda x, a, b: x**a, lambda x, a, b: a * x ** (a - 1) if a else np.zeros_like(x)),
}  # fmt: skip


def pointwise_forward(kind: str, x: np.ndarray, a: float = 0.0, b: float = 0.0) -> np.ndarray:
    return narrow(POINTWISE[kind].forward(widen(x), a, b), x)


def pointwise_backward(kind: str, dy: np.ndarray, x: np.ndarray, a: float = 0.0, b: float = 0.0) -> np.ndarray:
    return narrow(widen(dy) * POINTWISE[kind].slope(widen(x), a, b), dy)
