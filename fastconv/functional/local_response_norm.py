"""Local response normalisation (Krizhevsky, Sutskever and Hinton 2012, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arguments import integer, number
from ..backends.base import Array
from ..geometry import channel_shape, check_same_shape
from ..tensor import operand, operands, record


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Return ``input / (k + alpha * mean(input**2))**beta``, the mean over ``size`` neighbouring channels (as many as
    there are, divided by ``size`` all the same). The paper's alpha multiplies the sum: its 1e-4 is 5e-4 here.

    Args:
        input: (N, C, *).

    >>> import numpy as np
    >>> local_response_norm(np.array([[1.0, 2.0]]), 2, alpha=2.0, beta=1.0)
    array([[0.5       , 0.33333333]])
    """
    op = "local_response_norm"
    backend, x = operand(op, "input", input)
    shape, options = x.shape, _options(op, size, alpha, beta, k)
    x = backend.reshape(x, channel_shape(op, shape))
    y, scale = backend.local_response_norm_forward(x, *options)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dx = backend.local_response_norm_backward(backend.reshape(dy, x.shape), x, scale, *options[:3])
        return (backend.reshape(dx, shape),)

    return record(backend.reshape(y, shape), (input,), backward)


def _options(op: str, size: Any, alpha: Any, beta: Any, k: Any) -> tuple[int, float, float, float]:
    return integer(op, "size", size, 1), number(op, "alpha", alpha), number(op, "beta", beta), number(op, "k", k)


def local_response_norm_backward(
    dy: Any, x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Return dx of ``local_response_norm`` for the input ``x``."""
    op = "local_response_norm_backward"
    backend, dy, x = operands(op, dy=dy, x=x)
    check_same_shape(op, "x", x.shape, "dy", dy.shape)
    options = _options(op, size, alpha, beta, k)
    lifted = channel_shape(op, x.shape)
    dy, flat = backend.reshape(dy, lifted), backend.reshape(x, lifted)
    _, scale = backend.local_response_norm_forward(flat, *options)
    return backend.reshape(backend.local_response_norm_backward(dy, flat, scale, *options[:3]), x.shape)
