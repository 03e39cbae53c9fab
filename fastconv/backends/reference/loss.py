"""Losses, one value a position, and their gradients. Reductions live in ``functional/loss.py``."""

from __future__ import annotations

import numpy as np

from .activation import log_softmax_backward, log_softmax_forward, stable_sigmoid
from .wide import narrow, widen


def _targets(
    target: np.ndarray, channels: int, weight: np.ndarray | None, ignore_index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> targets, 0 for ignored ones (N, L); their weights, 0 where ignored (N, L); class weights (C, 1)."""
    counts = target != ignore_index
    safe = np.where(counts, target, 0)
    classes = np.ones(channels) if weight is None else widen(weight)
    return safe, np.where(counts, classes[safe], 0.0), classes[:, None]


def nll_forward(
    log_prob: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    channels = log_prob.shape[1]
    safe, scale, classes = _targets(target, channels, weight, ignore_index)
    wide = widen(log_prob)
    loss = -scale * np.take_along_axis(wide, safe[:, None, :], axis=1)[:, 0, :]
    if label_smoothing:
        smooth = -(classes * wide).sum(axis=1) / channels
        loss = (1.0 - label_smoothing) * loss + label_smoothing * smooth
    # An ignored position is 0 even where its log-probability is infinite or NaN.
    return narrow(np.where(target != ignore_index, loss, 0.0), log_prob), narrow(scale, log_prob)


def nll_backward(
    dloss: np.ndarray, target: np.ndarray, channels: int, weight: np.ndarray | None, ignore_index: int,
    label_smoothing: float,
) -> np.ndarray:  # fmt: skip
    safe, scale, classes = _targets(target, channels, weight, ignore_index)
    gradient = np.where(target != ignore_index, widen(dloss), 0.0)
    n, length = target.shape
    dlog_prob = np.zeros((n, channels, length))
    if label_smoothing:
        dlog_prob -= label_smoothing / channels * classes * gradient[:, None, :]
    at_target = np.arange(n)[:, None], safe, np.arange(length)
    dlog_prob[at_target] -= (1.0 - label_smoothing) * scale * gradient
    return narrow(dlog_prob, dloss)


def cross_entropy_forward(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    log_prob = log_softmax_forward(x)
    return *nll_forward(log_prob, target, weight, ignore_index, label_smoothing), log_prob


def cross_entropy_backward(
    dloss: np.ndarray, log_prob: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int,
    label_smoothing: float,
) -> np.ndarray:  # fmt: skip
    dlog_prob = nll_backward(dloss, target, log_prob.shape[1], weight, ignore_index, label_smoothing)
    return log_softmax_backward(dlog_prob, log_prob)


def mse_forward(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    return narrow((widen(x) - target) ** 2, x)


def mse_backward(dloss: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    return narrow(2.0 * widen(dloss) * (widen(x) - target), dloss)


def _softplus(wide: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)) where the exponential never overflows."""
    return np.maximum(wide, 0.0) + np.log1p(np.exp(-np.abs(wide)))


def _factors(
    target: np.ndarray, weight: np.ndarray | None, pos_weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """What softplus(-x) and softplus(x) are multiplied by."""
    positive, negative = widen(target), 1.0 - widen(target)
    if pos_weight is not None:
        positive = positive * pos_weight
    return (positive, negative) if weight is None else (weight * positive, weight * negative)


def bce_with_logits_forward(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray | None, pos_weight: np.ndarray | None
) -> np.ndarray:
    positive, negative = _factors(target, weight, pos_weight)
    return narrow(positive * _softplus(-widen(x)) + negative * _softplus(widen(x)), x)


def bce_with_logits_backward(
    dloss: np.ndarray, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None, pos_weight: np.ndarray | None
) -> np.ndarray:
    positive, negative = _factors(target, weight, pos_weight)
    slope = negative * stable_sigmoid(widen(x)) - positive * stable_sigmoid(-widen(x))
    return narrow(widen(dloss) * slope, x)
