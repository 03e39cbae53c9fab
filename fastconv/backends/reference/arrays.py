"""What the contract asks about arrays, for NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def _plain(array: object) -> bool:
    return type(array) is np.ndarray and array.dtype.char in "fd" and array.dtype.isnative and array.flags.aligned


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    memory = np.empty((shape[0], *shape[2:], shape[1]), dtype)
    return memory.transpose(0, memory.ndim - 1, *range(1, memory.ndim - 1))


def usable(operands: Sequence[object]) -> bool:
    arrays = [array for array in operands if array is not None]
    return all(map(_plain, arrays)) and len({array.dtype for array in arrays}) == 1


def steppable(params: Sequence[object], grads: Sequence[object]) -> bool:
    return all(
        _plain(p) and _plain(g) and p.flags.writeable and p.dtype == g.dtype and p.shape == g.shape
        for p, g in zip(params, grads, strict=True)
    )


def captured(step: Callable[[], Any], arrays: Sequence[Any]) -> Any:
    return None


def may_share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    return np.may_share_memory(a, b)


def all_within(array: np.ndarray, low: int, high: int) -> bool:
    return array.size == 0 or bool(low <= array.min() and array.max() < high)
