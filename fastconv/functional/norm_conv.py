"""Batch norm, its ReLU and a 1x1 convolution behind it as one operation: the normalised array is nowhere in memory.

Forward the convolution normalises what it reads, and so does its weight gradient; the gradient of the input goes
through ReLU and batch norm on its way to memory. What mean and variance owe the input follows later (``Deferred``): in
a dense block, where many such operations see one array, once for all. Values, moments and the weight's gradient have
the bits of the operations one by one; the other gradients add up in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..backends.base import Array
from ..backends.base.norm_conv import rows
from ..deferred import Deferred
from ..precision import compute_mode
from ..tensor import layer_operands, operands, record
from ._common import is_frozen
from .conv_unit import _unit_geometries
from .norm import normaliser


def run_norm_conv(
    op: str, input: Any, norm: Callable[[], tuple], weight: Any, bias: Any, options: tuple,
    moments: Sequence[Array] | None, wants: bool,
) -> tuple[Any, tuple[Array, Array] | None] | None:  # fmt: skip
    """Return the convolution of ReLU of batch norm by the batch's statistics, and its moments if ``wants``; or None
    where the device does better with the operations one by one, before anything has happened.

    Args:
        op: of the convolution, for messages.
        norm: gives running_mean, running_var, weight, bias, momentum and eps; called once, if at all.
        weight, bias, options: of the convolution, as in ``run_conv_moments``.
        moments: of the input, if they are known.
    """
    backend, x, w, b = layer_operands(op, input, weight, bias)
    x_shape, w_shape = x.shape, w.shape
    shapes = x_shape, w_shape, None if b is None else b.shape
    conv, _, y_shape = _unit_geometries(op, len(w_shape) - 2, *shapes, *options, None, compute_mode())
    x = backend.reshape(x, conv.input_shape)  # (N, IC, ID, IH, IW)
    if not backend.fuses_norm_conv(x, conv):
        return None
    w = backend.reshape(w, conv.weight_shape)  # (OC, IC, 1, 1, 1)
    mean, var, gamma, beta, momentum, eps = norm()
    m, v, g, h = operands(
        "batch_norm", ("running_mean", "running_var", "weight", "bias"), input=input, running_mean=mean,
        running_var=var, weight=gamma, bias=beta,
    )[2:]  # fmt: skip
    flat, running = backend.reshape(x, rows(x.shape)), ((mean, m), (var, v))
    mean, rstd = normaliser("batch_norm", backend, flat, x_shape, running, True, momentum, eps, moments)
    constants = mean, rstd, g, h
    y, *found = backend.norm_conv_forward(x, *constants, w, b, conv, wants, is_frozen(weight))

    def backward(
        dy: Array, needs: Sequence[bool], waiting: Any = None, gates: bool = False, spare: bool = False
    ) -> tuple:
        dy = dy.settle() if type(dy) is Deferred else dy
        dy = backend.reshape(dy, conv.output_shape)
        dx = dg = dh = dw = db = None
        if any(needs[:3]):
            dx, dg, dh = _input_gradients(backend, dy, w, x, constants, conv, waiting, spare, x_shape)
            dx = backend.relu_backward(dx.settle(), backend.reshape(x, x_shape)) if gates else dx
        if needs[3]:
            dw = backend.reshape(backend.norm_conv_backward_weight(dy, x, *constants, conv), w_shape)
        if needs[4]:
            db = backend.bias_backward(dy)
        return dx, dg, dh, dw, db

    inputs = input, gamma, beta, weight, bias
    y = record(backend.reshape(y, y_shape), inputs, backward, completes=True, defers=True)
    return y, tuple(found) if wants else None


def _input_gradients(
    backend: Any, dy: Array, w: Array, x: Array, constants: tuple, conv: Any, waiting: Any, spare: bool,
    shape: tuple[int, ...],
) -> tuple:  # fmt: skip
    """The gradients of input, weight and bias of the norm. ``waiting``: what came to the input before; a Deferred is of
    the same x, whose mean does not depend on who asks for it."""
    mean, rstd, gamma, _ = constants
    late = type(waiting) is Deferred
    residual = waiting.array if late else waiting
    residual = None if residual is None else backend.reshape(residual, x.shape)
    out = residual if spare else None
    count = x.size // x.shape[1]
    dx, dg, dh = backend.norm_conv_backward_input(dy, w, x, *constants, conv, residual, out)
    scale = rstd if gamma is None else backend.multiply(rstd, gamma)
    slope = backend.scale(backend.multiply(backend.multiply(rstd, dg), scale), 1 / count)
    shift = backend.scale(backend.multiply(scale, dh), 1 / count)
    if late:
        slope, shift = backend.add(waiting.slope, slope), backend.add(waiting.shift, shift)
    dx, x = backend.reshape(dx, shape), backend.reshape(x, shape)
    return Deferred(backend, dx, x, mean, slope, shift), dg, dh
