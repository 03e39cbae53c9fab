"""Arithmetic with broadcasting, sums, and what moves elements about: reshape, cat, pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...resampling import padding_sources
from .wide import narrow, widen


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.add(a, b))


def subtract(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.subtract(a, b))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.multiply(a, b))


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(a, b))


def power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return narrow(widen(a) ** widen(b), a)


def power_slope(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    base, exponent = widen(a), widen(b)
    return narrow(np.where(exponent == 0, 0.0, exponent * base ** (exponent - 1)), a)


def power_exponent_slope(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    base, exponent = widen(a), widen(b)
    return narrow(np.where((base == 0) & (exponent >= 0), 0.0, base**exponent * np.log(base)), a)


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


def extremes(a: np.ndarray, axis: Sequence[int], largest: bool) -> np.ndarray:
    return (np.max if largest else np.min)(a, axis=tuple(axis), keepdims=True)


def matches(a: np.ndarray, best: np.ndarray) -> np.ndarray:
    return ((a == best) | (np.isnan(a) & np.isnan(best))).astype(a.dtype)


def cat(arrays: Sequence[np.ndarray], axis: int, out: np.ndarray | None = None) -> np.ndarray:
    return np.concatenate(arrays, axis=axis, out=out)


def pad_forward(x: np.ndarray, widths: Sequence[tuple[int, int]], mode: str, value: float) -> np.ndarray:
    y = x.copy()
    for axis, (before, after) in enumerate(widths):
        if before or after:
            source, copies = padding_sources(y.shape[axis], before, after, mode)
            moved = np.full((len(source), *np.delete(y.shape, axis)), value, dtype=x.dtype)
            moved[copies] = np.moveaxis(y, axis, 0)[source[copies]]
            y = np.moveaxis(moved, 0, axis)
    return y


def pad_backward(dy: np.ndarray, shape: Sequence[int], widths: Sequence[tuple[int, int]], mode: str) -> np.ndarray:
    dx = widen(dy)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            source, copies = padding_sources(shape[axis], before, after, mode)
            gathered = np.zeros((shape[axis], *np.delete(dx.shape, axis)))
            np.add.at(gathered, source[copies], np.moveaxis(dx, axis, 0)[copies])
            dx = np.moveaxis(gathered, 0, axis)
    return narrow(dx, dy)
