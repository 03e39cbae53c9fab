"""Dropout: a mask of counter-based random words, the same on every device, and its application."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np


def dropout_mask(shape: Sequence[int], p: float, key: tuple[int, int]) -> np.ndarray:
    words = np.random.Philox(key=np.array(key, dtype=np.uint64)).random_raw(prod(shape))
    threshold = np.uint64(int(p * 2.0**64))  # exact: the product only moves the exponent
    return (words >= threshold).reshape(tuple(shape))


def dropout_apply(x: np.ndarray, mask: np.ndarray, factor: float) -> np.ndarray:
    return np.where(mask, x * x.dtype.type(factor), x.dtype.type(0))
