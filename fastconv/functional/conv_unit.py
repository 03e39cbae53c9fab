"""A convolution with its activation and max-pool as one operation, forward and backward.

What the unit computes is what the three functions compute; only x and a byte a pooled output are kept for the gradient,
and a backend may use that a window has one gradient at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..backends.base import Array, Backend
from ..errors import ArgumentError, ShapeError, mismatch
from ..geometry import ConvGeometry, PoolGeometry, conv_geometry, pool_geometry
from ..precision import compute_mode
from ..tensor import layer_operands, operands, record
from ._common import batched, check_gradient, check_needs, is_frozen, lowered, remembered
from .conv import completing, conv_gradients, resolve_exact

MOST_PLACES = 254  # conv outputs a window: the place of a maximum is a byte

_ACTIVATIONS = (None, "relu")


def _geometries(
    op: str, rank: int, x: tuple[int, ...], w: tuple[int, ...], b: tuple[int, ...] | None, stride: Any, padding: Any,
    dilation: Any, groups: int, exact: bool, pool: Any, compute: str,
) -> tuple[ConvGeometry, PoolGeometry | None, tuple[int, ...]]:  # fmt: skip
    """Return both geometries (no second one without a pool) and the output's shape."""
    if rank not in (1, 2, 3):
        raise ShapeError(mismatch(op, "weight of 3, 4 or 5 axes", f"shape {w}"))
    options = stride, padding, dilation, groups, exact, compute
    conv = conv_geometry(f"conv{rank}d", rank, batched(x, rank), w, b, *options)
    if pool is None:
        return conv, None, lowered(x, rank, conv.oc, conv.output)
    pooling = pool_geometry(f"max_pool{rank}d", rank, (conv.n, conv.oc, *conv.output[3 - rank :]), pool)
    if prod(axis.count[0] for axis in pooling.windows) > MOST_PLACES:
        raise ArgumentError(mismatch(op, f"pool of at most {MOST_PLACES} outputs a window", repr(pool)))
    return conv, pooling, lowered(x, rank, conv.oc, pooling.output)


_unit_geometries = remembered(_geometries, shapes=3)


def _check(op: str, activation: Any) -> None:
    if activation not in _ACTIVATIONS:
        raise ArgumentError(mismatch(op, "activation 'relu' or None", repr(activation)))


def conv_unit(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    activation: str | None = "relu", pool: Any = None, exact: bool | None = None,
) -> Any:  # fmt: skip
    """Return ``max_pool(activation(conv(input, weight, bias)))`` as one operation.

    The same values as the functions one after the other, without the two arrays between them. The backward pass knows
    that at most one output of the convolution in each window has a gradient.

    Args:
        input, weight, bias, stride, padding, dilation, groups, exact: as ``conv1d`` to ``conv3d``.
        activation: 'relu' or None.
        pool: the edges of the windows, an int or one for each axis, of at most 254 outputs together; they do not
            overlap, and outputs beyond the last whole window are left out. None: no pooling.

    Returns:
        (N, OC, sizes), or without N.

    Raises:
        ShapeError: shapes that do not fit. ArgumentError: an option out of range. DTypeError: mixed or other dtypes.

    >>> import numpy as np
    >>> conv_unit(np.ones((1, 1, 28, 28)), np.ones((32, 1, 5, 5)), pool=2).shape
    (1, 32, 12, 12)
    >>> conv_unit(np.arange(6.0).reshape(1, 6), np.ones((1, 1, 1)), -3 * np.ones(1), pool=2)
    array([[0., 0., 2.]])
    """
    _check("conv_unit", activation)
    options = stride, padding, dilation, groups, resolve_exact("conv_unit", exact), pool
    return run_unit("conv_unit", input, weight, bias, options, activation)


def run_unit(
    op: str, input: Any, weight: Any, bias: Any, options: tuple, activation: str | None, room: Array | None = None
) -> Any:
    """``conv_unit`` under another name in messages; options: stride, padding, dilation, groups, exact and pool.

    ``room``: where the result of a unit without a pool may lie, if it is of its shape.
    """
    backend, x, w, b = layer_operands(op, input, weight, bias)
    x_shape, w_shape = x.shape, w.shape
    shapes = x_shape, w_shape, None if b is None else b.shape
    conv, pooling, y_shape = _unit_geometries(op, len(w_shape) - 2, *shapes, *options, compute_mode())
    x = backend.reshape(x, conv.input_shape)  # (N, IC, ID, IH, IW)
    w = backend.reshape(w, conv.weight_shape)  # (OC, IC/G, KD, KH, KW)
    if pooling is None:
        fits = room is not None and (room.shape, room.dtype) == (y_shape, x.dtype)
        out = backend.reshape(room, conv.output_shape) if fits else None
        y = backend.conv_act_forward(x, w, b, conv, activation, None, is_frozen(weight), out)
        y = room if fits and y is out else backend.reshape(y, y_shape)
        backward = completing(backend, x, w, conv, x_shape, w_shape)
        return record(y, (input, weight, bias), backward, None if activation is None else y, completes=True)
    y, saved = backend.conv_act_pool_forward(x, w, b, conv, activation, pooling, is_frozen(weight))

    def pooled(dy: Array, needs: Sequence[bool]) -> tuple:
        return _pooled_gradients(backend, dy, saved, x, w, conv, pooling, needs, x_shape, w_shape)

    return record(backend.reshape(y, y_shape), (input, weight, bias), pooled)


def run_conv_moments(op: str, input: Any, weight: Any, bias: Any, options: tuple) -> tuple[Any, tuple[Array, Array]]:
    """Return the convolution, and the mean and variance (OC,) of its result for a batch norm behind it.

    ``options``: stride, padding, dilation, groups and exact.
    """
    backend, x, w, b = layer_operands(op, input, weight, bias)
    x_shape, w_shape = x.shape, w.shape
    shapes = x_shape, w_shape, None if b is None else b.shape
    conv, _, y_shape = _unit_geometries(op, len(w_shape) - 2, *shapes, *options, None, compute_mode())
    x = backend.reshape(x, conv.input_shape)  # (N, IC, ID, IH, IW)
    w = backend.reshape(w, conv.weight_shape)  # (OC, IC/G, KD, KH, KW)
    y, *moments = backend.conv_moments_forward(x, w, b, conv, is_frozen(weight))
    backward = completing(backend, x, w, conv, x_shape, w_shape)
    return record(backend.reshape(y, y_shape), (input, weight, bias), backward, completes=True), moments


def conv_unit_backward(
    dy: Any, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1, activation: str | None = "relu", pool: Any = None,
    needs: Sequence[bool] = (True, True, True), exact: bool | None = None,
) -> tuple:  # fmt: skip
    """Return ``(dx, dw, db)`` of ``conv_unit`` for the gradient ``dy`` of its output.

    The forward pass is done again to find the maxima. ``needs`` says which to compute; the others are None.

    >>> import numpy as np
    >>> x, w = np.arange(6.0).reshape(1, 1, 6), np.ones((1, 1, 1))
    >>> dx, dw, db = conv_unit_backward(np.ones((1, 1, 3)), x, w, -3 * np.ones(1), pool=2)
    >>> dx, dw, db
    (array([[[0., 0., 0., 0., 0., 1.]]]), array([[[5.]]]), array([1.]))
    """
    op = "conv_unit_backward"
    _check(op, activation)
    check_needs(op, needs, 3)
    backend, dy, x, w, b = operands(op, ("bias",), dy=dy, x=x, weight=weight, bias=bias)
    options = stride, padding, dilation, groups, resolve_exact(op, exact), pool, compute_mode()
    shapes = x.shape, w.shape, None if b is None else b.shape
    conv, pooling, y_shape = _unit_geometries(op, w.ndim - 2, *shapes, *options)
    check_gradient(op, y_shape, dy)
    x5, w5 = backend.reshape(x, conv.input_shape), backend.reshape(w, conv.weight_shape)
    if pooling is not None:
        _, saved = backend.conv_act_pool_forward(x5, w5, b, conv, activation, pooling)
        return _pooled_gradients(backend, dy, saved, x5, w5, conv, pooling, needs, x.shape, w.shape)
    if activation is not None:
        dy = backend.reshape(dy, conv.output_shape)  # (N, OC, OD, OH, OW)
        dy = backend.relu_backward(dy, backend.conv_act_forward(x5, w5, b, conv, activation))
    return conv_gradients(backend, dy, x5, w5, conv, needs, x.shape, w.shape)


def _pooled_gradients(
    backend: Backend, dy: Array, index: Array, x: Array, w: Array, conv: ConvGeometry, pooling: PoolGeometry,
    needs: Sequence[bool], x_shape: tuple[int, ...], w_shape: tuple[int, ...],
) -> tuple:  # fmt: skip
    dy = backend.reshape(dy, pooling.output_shape)
    dx, dw, db = backend.conv_act_pool_backward(dy, index, x, w, conv, pooling, needs)
    if dx is not None:
        dx = backend.reshape(dx, x_shape)
    return dx, None if dw is None else backend.reshape(dw, w_shape), db
