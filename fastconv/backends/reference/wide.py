"""The one numeric habit of the reference: compute in float64 on a fresh C-ordered copy, round once at the end.

The copy has one memory layout whatever the strides of the argument, so that NumPy and BLAS take the same path, and
give the same bits, for every layout and every batch.
"""

from __future__ import annotations

import numpy as np


def widen(a: np.ndarray) -> np.ndarray:
    """Return a float64 copy in C order."""
    return np.array(a, dtype=np.float64, order="C")


def operand(a: np.ndarray, compute: str) -> np.ndarray:
    """Return what is multiplied in a compute mode: with 'bf16' a float32 array rounded to bfloat16, ties to even."""
    if compute != "bf16" or a.dtype != np.float32:
        return a
    bits = np.array(a, order="C").view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(a), a, rounded.view(np.float32))


def narrow(a: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return ``a`` rounded to the dtype of ``like``, an array even where NumPy's arithmetic made a scalar of it."""
    return np.asarray(a, dtype=like.dtype)


def over_batch_and_space(a: np.ndarray) -> np.ndarray:
    """Sum a widened array (N, C, ...) over every axis but the channels."""
    return a.sum(axis=(0, *range(2, a.ndim)))


def written(y: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Return ``y``, copied to ``out`` if there is one."""
    if out is None:
        return y
    np.copyto(out, y)
    return out
