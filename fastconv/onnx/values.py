"""Values that flow through a graph, and how to look at them.

Floating numbers are what the functionals take: Tensors, or arrays. Integers, booleans and everything else are NumPy
arrays on the host, computed by NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError, mismatch
from ..tensor import Tensor, converted

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def is_float(value: Any) -> bool:
    """Whether the functionals take ``value``: float32 or float64."""
    return value.dtype in _FLOATS


def host(value: Any) -> np.ndarray:
    """Return the value as a NumPy array; its history is left behind."""
    return value if isinstance(value, np.ndarray) else Tensor(value).numpy()


def beside(array: np.ndarray, value: Any) -> Any:
    """Return a host array on the device of ``value``."""
    return array if isinstance(value, np.ndarray) else converted(array, Tensor(value).device)


def number(value: Any) -> float:
    """Return a value of one element as a float."""
    return float(host(value).reshape(()))


def numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in host(value).reshape(-1))


def integers(value: Any) -> tuple[int, ...]:
    """Return the elements of an array of integers, or of a list of them."""
    array = np.asarray(value, np.int64) if isinstance(value, list | tuple) else host(value)
    if array.dtype.kind not in "iu":
        raise DTypeError(mismatch("onnx", "integers", array.dtype))
    return tuple(int(v) for v in array.reshape(-1))
