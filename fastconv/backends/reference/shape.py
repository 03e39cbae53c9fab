"""Arithmetic with broadcasting, sums, and what moves elements about: reshape, cat, pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .wide import narrow, widen


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.add(a, b))


def subtract(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.subtract(a, b))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.multiply(a, b))


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(a, b))


def scale(a: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(a * a.dtype.type(factor))


def sum_(a: np.ndarray, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> np.ndarray:
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    return narrow(widen(a).sum(axis=axes, keepdims=keepdims), a)


def broadcast_to(a: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.broadcast_to(a, tuple(shape))


def reshape(a: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return a.reshape(tuple(shape))


def permute(a: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    return a.transpose(tuple(axes))


def maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(a, b))


def extremes(a: np.ndarray, axis: Sequence[int], largest: bool) -> tuple[np.ndarray, np.ndarray]:
    best = (np.max if largest else np.min)(a, axis=tuple(axis), keepdims=True)
    return best, ((a == best) | (np.isnan(a) & np.isnan(best))).astype(a.dtype)


def cat(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    return np.concatenate(arrays, axis=axis)


def sources(size: int, before: int, after: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which element each position of a padded axis copies, and whether it copies any.

    Negative widths crop what was padded; a circular axis is cropped before it is wrapped, as in PyTorch.
    """
    first, last = (max(-before, 0), size - max(-after, 0)) if mode == "circular" else (0, size)
    position = np.arange(-before, size + after)
    copies = np.ones(len(position), dtype=bool)
    if mode == "constant":
        copies = (position >= 0) & (position < size)
        position = np.where(copies, position, 0)
    elif mode == "reflect":
        position = size - 1 - np.abs(size - 1 - np.abs(position))
    elif mode == "replicate":
        position = np.clip(position, 0, size - 1)
    else:
        position = first + (position - first) % max(last - first, 1)
    return position, copies


def pad_forward(x: np.ndarray, widths: Sequence[tuple[int, int]], mode: str, value: float) -> np.ndarray:
    y = x.copy()
    for axis, (before, after) in enumerate(widths):
        if before or after:
            source, copies = sources(y.shape[axis], before, after, mode)
            moved = np.full((len(source), *np.delete(y.shape, axis)), value, dtype=x.dtype)
            moved[copies] = np.moveaxis(y, axis, 0)[source[copies]]
            y = np.moveaxis(moved, 0, axis)
    return y


def pad_backward(dy: np.ndarray, shape: Sequence[int], widths: Sequence[tuple[int, int]], mode: str) -> np.ndarray:
    dx = widen(dy)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            source, copies = sources(shape[axis], before, after, mode)
            gathered = np.zeros((shape[axis], *np.delete(dx.shape, axis)))
            np.add.at(gathered, source[copies], np.moveaxis(dx, axis, 0)[copies])
            dx = np.moveaxis(gathered, 0, axis)
    return narrow(dx, dy)
