"""Batch normalisation (`Ioffe and Szegedy 2015 <https://arxiv.org/abs/1502.03167>`_) over x (N, C, L)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .activation import relu_backward, relu_forward
from .wide import narrow, over_batch_and_space, widen, written


def _column(per_channel: np.ndarray | None) -> np.ndarray | float:
    """(C,) -> (C, 1) in float64; 1 where there is none."""
    return 1.0 if per_channel is None else widen(per_channel)[:, None]


def batch_norm_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = widen(x)
    count = max(1, x.shape[0] * x.shape[2])  # an empty batch has mean 0 and variance 0
    mean = over_batch_and_space(wide) / count
    variance = over_batch_and_space((wide - mean[:, None]) ** 2) / count  # two passes: no cancellation
    return narrow(mean, x), narrow(variance, x)


def reciprocal_root(variance: np.ndarray, eps: float) -> np.ndarray:
    return 1 / np.sqrt(variance + variance.dtype.type(eps))


def move_towards(running: np.ndarray, batch: np.ndarray, share: float, factor: float) -> None:
    number = running.dtype.type
    running += (batch * number(factor) - running) * number(share)


def batch_norm_forward(
    x: np.ndarray, mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None,
    activation: str | None = None, residual: np.ndarray | None = None, out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    y = (widen(x) - _column(mean)) * _column(rstd) * _column(weight)
    y = narrow(y if bias is None else y + _column(bias), x)
    y = y if residual is None else y + residual
    return written(relu_forward(y) if activation == "relu" else y, out)


def batch_norm_backward(
    dy: np.ndarray, x: np.ndarray, mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None, training: bool,
    needs: Sequence[bool] = (True, True, True), bias: np.ndarray | None = None, activation: str | None = None,
    residual: np.ndarray | None = None,
) -> tuple[np.ndarray | None, ...]:  # fmt: skip
    if activation == "relu":
        dy = relu_backward(dy, batch_norm_forward(x, mean, rstd, weight, bias))
    wide = widen(dy)
    normalised = (widen(x) - _column(mean)) * _column(rstd)
    dweight = over_batch_and_space(wide * normalised)
    dbias = over_batch_and_space(wide)
    dx = wide
    if training:  # mean and rstd move with x: take their share out of the gradient
        count = max(1, x.shape[0] * x.shape[2])
        dx = wide - (dbias[:, None] + normalised * dweight[:, None]) / count
    gradients = dx * _column(rstd) * _column(weight), dweight, dbias
    dx, dweight, dbias = [narrow(g, dy) if need else None for g, need in zip(gradients, needs, strict=True)]
    return dx if dx is None or residual is None else dx + residual, dweight, dbias


def _in_groups(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, L) -> (N, G, C / G * L)"""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups * x.shape[2])


def group_norm_forward(
    x: np.ndarray, groups: int, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wide = _in_groups(widen(x), groups)
    count = max(1, wide.shape[2])
    mean = wide.sum(2) / count
    variance = ((wide - mean[..., None]) ** 2).sum(2) / count
    mean, rstd = narrow(mean, x), reciprocal_root(narrow(variance, x), eps)
    y = ((wide - mean[..., None]) * rstd[..., None]).reshape(x.shape) * _column(weight)
    return narrow(y if bias is None else y + _column(bias), x), mean, rstd


def group_norm_backward(
    dy: np.ndarray, x: np.ndarray, mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None,
    needs: Sequence[bool] = (True, True, True),
) -> tuple[np.ndarray | None, ...]:  # fmt: skip
    groups, wide = mean.shape[1], widen(dy)
    normalised = (_in_groups(widen(x), groups) - widen(mean)[..., None]) * widen(rstd)[..., None]
    dx = _in_groups(wide * _column(weight), groups)
    count = max(1, dx.shape[2])
    dx = dx - (dx.sum(2, keepdims=True) + normalised * (dx * normalised).sum(2, keepdims=True)) / count
    dx = (dx * widen(rstd)[..., None]).reshape(x.shape)
    gradients = dx, over_batch_and_space(wide * normalised.reshape(x.shape)), over_batch_and_space(wide)
    return tuple([narrow(g, dy) if need else None for g, need in zip(gradients, needs, strict=True)])


def _window_sum(wide: np.ndarray, size: int, before: int) -> np.ndarray:
    """Sum over the channels c - before to c - before + size - 1, as far as they exist."""
    padded = np.pad(wide, ((0, 0), (before, size - 1 - before), (0, 0)))
    return sum((padded[:, i : i + wide.shape[1]] for i in range(size)), np.zeros_like(wide))


def local_response_norm_forward(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> tuple[np.ndarray, np.ndarray]:
    wide = widen(x)
    scale = k + alpha / size * _window_sum(wide * wide, size, size // 2)
    return narrow(wide * scale**-beta, x), narrow(scale, x)


def local_response_norm_backward(
    dy: np.ndarray, x: np.ndarray, scale: np.ndarray, size: int, alpha: float, beta: float
) -> np.ndarray:
    wide, gradient, scale = widen(x), widen(dy), widen(scale)
    inner = gradient * wide * scale ** (-beta - 1)  # what each output says of its scale
    reach = _window_sum(inner, size, size - 1 - size // 2)  # of the outputs whose window holds this channel
    return narrow(gradient * scale**-beta - 2 * alpha * beta / size * wide * reach, dy)
