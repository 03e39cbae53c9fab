"""Activations, elementwise or over the channels of (N, C, L), and their gradients."""

from __future__ import annotations

import numpy as np

from .wide import narrow, widen


def relu_forward(x: np.ndarray) -> np.ndarray:
    return narrow(np.maximum(x, x.dtype.type(0)), x)


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(y <= 0, dy.dtype.type(0), dy)  # NaN lets the gradient through


def leaky_relu_forward(x: np.ndarray, negative_slope: float) -> np.ndarray:
    return np.where(x > 0, x, x * x.dtype.type(negative_slope))


def leaky_relu_backward(dy: np.ndarray, x: np.ndarray, negative_slope: float) -> np.ndarray:
    return np.where(x > 0, dy, dy * dy.dtype.type(negative_slope))


def stable_sigmoid(wide: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) where the exponential never overflows; small results keep their relative precision."""
    small = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1.0, small) / (1.0 + small)


def sigmoid_forward(x: np.ndarray) -> np.ndarray:
    return narrow(stable_sigmoid(widen(x)), x)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    wide = widen(y)
    return narrow(widen(dy) * wide * (1.0 - wide), dy)


def tanh_forward(x: np.ndarray) -> np.ndarray:
    return narrow(np.tanh(widen(x)), x)


def tanh_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    wide = widen(y)
    return narrow(widen(dy) * (1.0 - wide * wide), dy)


def _shifted(x: np.ndarray) -> np.ndarray:
    """x minus its maximum over the channels: exponentials then lie in [0, 1]."""
    wide = widen(x)
    return wide - wide.max(axis=1, keepdims=True, initial=-np.inf)


def softmax_forward(x: np.ndarray) -> np.ndarray:
    powers = np.exp(_shifted(x))
    return narrow(powers / powers.sum(axis=1, keepdims=True), x)


def softmax_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    gradient, wide = widen(dy), widen(y)
    return narrow(wide * (gradient - (gradient * wide).sum(axis=1, keepdims=True)), dy)


def log_softmax_forward(x: np.ndarray) -> np.ndarray:
    shifted = _shifted(x)
    return narrow(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), x)


def log_softmax_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    gradient = widen(dy)
    return narrow(gradient - np.exp(widen(y)) * gradient.sum(axis=1, keepdims=True), dy)
