"""Activations: each forward, and under it the backward that belongs to it. None works in place."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..arguments import number
from ..backends.base import Array
from ..geometry import check_same_shape
from ..tensor import operand, operands, record
from ._common import axis


def _gradient(op: str, verb: str, dy: Any, name: str, saved: Any, *options: Any) -> Array:
    """Call an elementwise backward on dy and what its forward saved."""
    backend, dy, saved = operands(op, dy=dy, **{name: saved})
    check_same_shape(op, name, saved.shape, "dy", dy.shape)
    return getattr(backend, verb)(dy, saved, *options)


def relu(input: Any, inplace: bool = False) -> Any:
    """Return ``max(input, 0)``; NaN stays NaN. ``inplace`` is accepted and changes nothing: the result is new.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    backend, x = operand("relu", "input", input)
    y = backend.relu_forward(x)
    return record(y, (input,), lambda dy, needs: (dy,), gate=y)


def relu_backward(dy: Any, y: Any) -> Any:
    """Return 0 where the output ``y`` (or the input) is at most 0, else dy: also where y is NaN."""
    return _gradient("relu_backward", "relu_backward", dy, "y", y)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """Return input where it is positive, else ``negative_slope * input``. ``inplace`` changes nothing."""
    negative_slope = number("leaky_relu", "negative_slope", negative_slope)
    backend, x = operand("leaky_relu", "input", input)
    y = backend.leaky_relu_forward(x, negative_slope)
    return record(y, (input,), lambda dy, needs: (backend.leaky_relu_backward(dy, x, negative_slope),))


def leaky_relu_backward(dy: Any, x: Any, negative_slope: float = 0.01) -> Any:
    """Return dy where the input ``x`` is positive, else ``negative_slope * dy``."""
    op = "leaky_relu_backward"
    return _gradient(op, op, dy, "x", x, number(op, "negative_slope", negative_slope))


def sigmoid(input: Any) -> Any:
    """Return ``1 / (1 + exp(-input))``."""
    backend, x = operand("sigmoid", "input", input)
    y = backend.sigmoid_forward(x)
    return record(y, (input,), lambda dy, needs: (backend.sigmoid_backward(dy, y),))


def sigmoid_backward(dy: Any, y: Any) -> Any:
    """Return ``dy * y * (1 - y)`` for the output ``y``."""
    return _gradient("sigmoid_backward", "sigmoid_backward", dy, "y", y)


def tanh(input: Any) -> Any:
    """Return the hyperbolic tangent."""
    backend, x = operand("tanh", "input", input)
    y = backend.tanh_forward(x)
    return record(y, (input,), lambda dy, needs: (backend.tanh_backward(dy, y),))


def tanh_backward(dy: Any, y: Any) -> Any:
    """Return ``dy * (1 - y * y)`` for the output ``y``."""
    return _gradient("tanh_backward", "tanh_backward", dy, "y", y)


def _around(op: str, shape: Sequence[int], dim: Any) -> tuple[int, int, int]:
    """Return ``shape`` as (before, C, after) around the axis ``dim``."""
    dim = axis(op, "dim", dim, len(shape))
    return prod(shape[:dim]), shape[dim], prod(shape[dim + 1 :])


def _over_channels(op: str, input: Any, dim: Any) -> Any:
    backend, x = operand(op, "input", input)
    shape = x.shape
    lifted = _around(op, shape, dim)
    y = getattr(backend, f"{op}_forward")(backend.reshape(x, lifted))
    gradient = getattr(backend, f"{op}_backward")

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        return (backend.reshape(gradient(backend.reshape(dy, lifted), y), shape),)

    return record(backend.reshape(y, shape), (input,), backward)


def _over_channels_backward(op: str, dy: Any, y: Any, dim: Any) -> Any:
    backend, dy, y = operands(op, dy=dy, y=y)
    check_same_shape(op, "y", y.shape, "dy", dy.shape)
    lifted = _around(op, y.shape, dim)
    dx = getattr(backend, op)(backend.reshape(dy, lifted), backend.reshape(y, lifted))
    return backend.reshape(dx, y.shape)


def softmax(input: Any, dim: int) -> Any:
    """Return ``exp(input) / sum(exp(input))`` along ``dim``, which has no default here.

    >>> import numpy as np
    >>> softmax(np.array([0.0, np.log(3.0)]), 0)
    array([0.25, 0.75])
    """
    return _over_channels("softmax", input, dim)


def softmax_backward(dy: Any, y: Any, dim: int) -> Any:
    """Return ``y * (dy - sum(dy * y))`` for the output ``y``."""
    return _over_channels_backward("softmax_backward", dy, y, dim)


def log_softmax(input: Any, dim: int) -> Any:
    """Return the logarithm of ``softmax``, computed without overflow."""
    return _over_channels("log_softmax", input, dim)


def log_softmax_backward(dy: Any, y: Any, dim: int) -> Any:
    """Return ``dy - exp(y) * sum(dy)`` for the output ``y``."""
    return _over_channels_backward("log_softmax_backward", dy, y, dim)
