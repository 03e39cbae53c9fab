"""Optimiser steps, in place and in the parameters' own dtype, with PyTorch's formulas."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np


def accumulate(into: np.ndarray, value: np.ndarray) -> None:
    into += value


def sgd_step(
    params: Sequence[np.ndarray], grads: Sequence[np.ndarray], buffers: Sequence[np.ndarray | None], *, lr: float,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool, first: bool,
) -> None:  # fmt: skip
    for p, g, buffer in zip(params, grads, buffers, strict=True):
        if weight_decay:
            g = g + weight_decay * p
        if buffer is not None:
            buffer[...] = g if first else momentum * buffer + (1.0 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        p -= lr * g


def adam_step(
    params: Sequence[np.ndarray], grads: Sequence[np.ndarray], means: Sequence[np.ndarray],
    squares: Sequence[np.ndarray], *, step: int, lr: float, beta1: float, beta2: float, eps: float,
    weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    rate = lr / (1.0 - beta1**step)
    correction = sqrt(1.0 - beta2**step)
    for p, g, mean, square in zip(params, grads, means, squares, strict=True):
        if weight_decay and decoupled:
            p *= 1.0 - lr * weight_decay
        elif weight_decay:
            g = g + weight_decay * p
        mean += (1.0 - beta1) * (g - mean)
        square[...] = beta2 * square + (1.0 - beta2) * g * g
        p -= rate * mean / (np.sqrt(square) / correction + eps)
