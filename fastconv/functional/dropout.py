"""Dropout, forward and backward (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import random
from ..arguments import flag, number
from ..errors import ArgumentError, mismatch
from ..geometry import check_same_shape
from ..tensor import operand, operands, record
from ._common import host_array


def _factor(op: str, p: float) -> float:
    p = number(op, "p", p, 0, 1)
    return 1 / (1 - p) if p < 1 else 0.0


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Set elements to 0 with probability ``p`` and scale the others by ``1 / (1 - p)``; identity unless training.

    The mask follows from ``fastconv.manual_seed`` and the number of masks since. ``inplace`` changes nothing.
    """
    factor = _factor("dropout", p)
    backend, x = operand("dropout", "input", input)
    if not flag("dropout", "training", training) or p == 0:
        return record(x, (input,), lambda dy, needs: (dy,))
    if p == 1:
        mask = backend.from_numpy(np.zeros(x.shape, bool))
    else:
        mask = backend.dropout_mask(x.shape, p, random.dropout_key())
    y = backend.dropout_apply(x, mask, factor)
    return record(y, (input,), lambda dy, needs: (backend.dropout_apply(dy, mask, factor),))


def dropout_backward(dy: Any, mask: Any, p: float = 0.5) -> Any:
    """Return ``dy / (1 - p)`` where ``mask`` (bool, of dy's shape) is True, else 0.

    >>> dropout_backward(np.array([1.0, 1.0]), np.array([True, False]))
    array([2., 0.])
    """
    op = "dropout_backward"
    factor = _factor(op, p)
    backend, dy = operands(op, dy=dy)
    mask = host_array(op, "mask", mask)
    if mask.dtype != bool:
        raise ArgumentError(mismatch(op, "mask to be bool", mask.dtype))
    check_same_shape(op, "dy", dy.shape, "mask", mask.shape)
    return backend.dropout_apply(dy, backend.from_numpy(mask), factor)
