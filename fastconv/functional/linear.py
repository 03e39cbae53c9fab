"""The fully connected layer, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends.base import Array, Backend
from ..geometry import check_linear
from ..precision import compute_mode
from ..tensor import gradient_operands, layer_operands, record
from ._common import check_gradient, check_needs, is_frozen


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """Return ``input @ weight.T + bias``.

    Args:
        input: (*, I); float32 or float64.
        weight: (O, I), of the same dtype.
        bias: (O,), or None.

    Returns:
        (*, O).

    >>> import numpy as np
    >>> linear(np.float32([1, 2]), np.float32([[1, 0], [1, 1]]), np.float32([0, 10]))
    array([ 1., 13.], dtype=float32)
    """
    return _linear(input, weight, bias, False)


def linear_relu(input: Any, weight: Any, bias: Any = None) -> Any:
    """Return ``relu(linear(input, weight, bias))`` as one operation."""
    return _linear(input, weight, bias, True)


def _linear(input: Any, weight: Any, bias: Any, relu: bool) -> Any:
    backend, x, w, b = layer_operands("linear", input, weight, bias)
    x_shape, w_shape, compute = x.shape, w.shape, compute_mode()
    check_linear("linear", x_shape, w_shape, None if b is None else b.shape)
    x = x if len(x_shape) == 2 else _rows(backend, x)
    y = backend.linear_forward(x, w, b, is_frozen(weight), compute)
    if relu:
        y = backend.relu_forward(y)
    saved = y if relu else None  # (N, O)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dy = dy if len(x_shape) == 2 else _rows(backend, dy)
        if saved is not None:
            dy = backend.relu_backward(dy, saved)
        return _gradients(backend, dy, x, w, needs, x_shape, compute)

    if len(x_shape) != 2:
        y = backend.reshape(y, (*x_shape[:-1], w_shape[0]))
    return record(y, (input, weight, bias), backward)


def linear_backward(dy: Any, x: Any, weight: Any, needs: Sequence[bool] = (True, True, True)) -> tuple:
    """Return ``(dx, dw, db)`` of ``linear`` for the gradient ``dy`` (*, O) of its output; None where not needed."""
    op = "linear_backward"
    if type(needs) not in (tuple, list) or len(needs) != 3:  # the call would be a tenth of the smallest layers
        check_needs(op, needs, 3)
    backend, dy, x, w = gradient_operands(op, dy, x, weight)
    x_shape, w_shape = x.shape, w.shape
    matrices = len(x_shape) == len(w_shape) == 2
    if not (matrices and x_shape[1] == w_shape[1] and dy.shape == (x_shape[0], w_shape[0])):
        check_linear(op, x_shape, w_shape, None)
        check_gradient(op, (*x_shape[:-1], w_shape[0]), dy)
        dy, x = _rows(backend, dy), _rows(backend, x)
    return _gradients(backend, dy, x, w, needs, x_shape, compute_mode())


def _rows(backend: Backend, x: Array) -> Array:
    """(*, I) -> (N, I); the leading sizes are multiplied here because -1 is undefined for an empty array."""
    count = 1
    for size in x.shape[:-1]:
        count *= size
    return backend.reshape(x, (count, x.shape[-1]))


def _gradients(
    backend: Backend, dy: Array, x: Array, w: Array, needs: Sequence[bool], x_shape: tuple[int, ...], compute: str
) -> tuple:
    """dy (N, O), x (N, I), w (O, I)."""
    dx = dw = db = None
    if needs[0]:
        dx = backend.linear_backward_input(dy, w, compute)
        dx = dx if len(x_shape) == 2 else backend.reshape(dx, x_shape)
    if needs[1]:
        dw = backend.linear_backward_weight(dy, x, compute)
    if needs[2]:
        db = backend.bias_backward(dy)
    return dx, dw, db
