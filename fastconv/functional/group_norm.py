"""Normalisation of each sample by itself: over groups of channels, single channels, or trailing axes.

Single channels are groups of one. Trailing axes are rows of numbers, brought to mean 0 and variance 1, then scaled and
shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..arguments import integer, number
from ..backends.base import Array, Backend
from ..errors import ArgumentError, ShapeError, mismatch
from ..geometry import channel_shape, check_per_channel
from ..tensor import operand, operands, record
from ._common import check_needs, through_tape
from .norm import batch_norm


def _constant(backend: Backend, value: float, count: int, like: Array) -> Array:
    return backend.from_numpy(np.full(count, value, like.dtype))


def _standardised(op: str, input: Any, rows: int, eps: float) -> Any:
    """Return ``input``, seen as ``rows`` rows of numbers, with each row's mean and variance brought to 0 and 1."""
    backend, x = operand(op, "input", input)
    shape = x.shape
    lifted = (1, rows, x.size // max(rows, 1))
    if not x.size:
        return record(backend.reshape(x, shape), (input,), lambda dy, needs: (dy,))
    rowed = backend.reshape(x, lifted)
    mean, var = backend.batch_norm_statistics(rowed)
    rstd = backend.reciprocal_root(var, eps)
    y = backend.batch_norm_forward(rowed, mean, rstd, None, None)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dy = backend.reshape(dy, lifted)
        dx, _, _ = backend.batch_norm_backward(dy, rowed, mean, rstd, None, True, (True, False, False))
        return (backend.reshape(dx, shape),)

    return record(backend.reshape(y, shape), (input,), backward)


def _affine(op: str, input: Any, weight: Any, bias: Any, lifted: tuple[int, int, int], parameter: tuple) -> Any:
    """Return ``input * weight + bias``, the parameters one for each of the channels of ``lifted`` (N, C, L)."""
    if weight is None and bias is None:
        return input
    backend, x, w, b = operands(op, ("weight", "bias"), input=input, weight=weight, bias=bias)
    shape = x.shape
    zeros, ones = _constant(backend, 0.0, lifted[1], x), _constant(backend, 1.0, lifted[1], x)
    x = backend.reshape(x, lifted)
    w, b = (None if p is None else backend.reshape(p, (lifted[1],)) for p in (w, b))
    y = backend.batch_norm_forward(x, zeros, ones, w, b)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dy = backend.reshape(dy, lifted)
        gradients = backend.batch_norm_backward(dy, x, zeros, ones, w, False, needs)
        shapes = shape, parameter, parameter
        return tuple(None if g is None else backend.reshape(g, s) for g, s in zip(gradients, shapes, strict=True))

    return record(backend.reshape(y, shape), (input, weight, bias), backward)


def _in_groups(op: str, input: Any, groups: int, weight: Any, bias: Any, eps: float) -> Any:
    """Return ``input`` (N, C, *) with each sample's groups of channels normalised, scaled and shifted."""
    backend, x, w, b = operands(op, ("weight", "bias"), input=input, weight=weight, bias=bias)
    shape, lifted = x.shape, channel_shape(op, x.shape)
    for name, array in (("weight", w), ("bias", b)):
        check_per_channel(op, name, None if array is None else array.shape, lifted[1])
    x = backend.reshape(x, lifted)
    y, mean, rstd = backend.group_norm_forward(x, groups, w, b, eps)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dx, dw, db = backend.group_norm_backward(backend.reshape(dy, lifted), x, mean, rstd, w, needs)
        return None if dx is None else backend.reshape(dx, shape), dw, db

    return record(backend.reshape(y, shape), (input, weight, bias), backward)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Return ``input`` (N, C, *) with each sample's groups of C / num_groups channels at mean 0 and variance 1, times
    ``weight`` (C,), plus ``bias`` (C,) (Wu and He 2018, https://arxiv.org/abs/1803.08494).

    Raises:
        ArgumentError: C is no multiple of ``num_groups``.

    >>> group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), 2, eps=0)
    array([[-1.,  1., -1.,  1.]])
    """
    op = "group_norm"
    _, x = operand(op, "input", input)
    _, c, _ = channel_shape(op, x.shape)
    groups, eps = integer(op, "num_groups", num_groups, 1), number(op, "eps", eps, 0)
    if c % groups:
        raise ArgumentError(mismatch(op, f"num_groups to divide the {c} channels", groups))
    return _in_groups(op, input, groups, weight, bias, eps)


def group_norm_backward(
    dy: Any, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    needs: Sequence[bool] = (True, True, True),
) -> tuple:  # fmt: skip
    """Return ``(dx, dweight, dbias)`` of ``group_norm``; None for what is not given or not needed."""
    check_needs("group_norm_backward", needs, 3)
    return through_tape(lambda x, w, b: group_norm(x, num_groups, w, b, eps), dy, (x, weight, bias), needs)


def instance_norm(
    input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """Return ``input`` (N, C, *) with each channel of each sample at mean 0 and variance 1, times ``weight`` (C,), plus
    ``bias`` (C,) (Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022). Without ``use_input_stats`` the running
    statistics normalise, as in ``batch_norm``; this function does not move them.

    Raises:
        ShapeError: no, or a single, value per channel.
    """
    op = "instance_norm"
    _, x = operand(op, "input", input)
    _, c, length = channel_shape(op, x.shape)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if length < 2:
        raise ShapeError(mismatch(op, "more than one value per channel", f"input {x.shape}"))
    return _in_groups(op, input, c, weight, bias, number(op, "eps", eps, 0))


def instance_norm_backward(
    dy: Any, x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    needs: Sequence[bool] = (True, True, True),
) -> tuple:  # fmt: skip
    """Return ``(dx, dweight, dbias)`` of ``instance_norm`` by the input's statistics."""
    check_needs("instance_norm_backward", needs, 3)
    return through_tape(lambda x, w, b: instance_norm(x, None, None, w, b, eps=eps), dy, (x, weight, bias), needs)


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Return ``input`` with its last axes, of ``normalized_shape``, at mean 0 and variance 1 together, times
    ``weight``, plus ``bias``, both of that shape (Ba et al. 2016, https://arxiv.org/abs/1607.06450)."""
    op = "layer_norm"
    _, x, w, b = operands(op, ("weight", "bias"), input=input, weight=weight, bias=bias)
    last = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    last = tuple(integer(op, "normalized_shape", size, 1) for size in last)
    if not last or x.shape[-len(last) :] != last:
        raise ShapeError(mismatch(op, f"input (*, {', '.join(map(str, last))})", f"shape {x.shape}"))
    for name, array in (("weight", w), ("bias", b)):
        if array is not None and array.shape != last:
            raise ShapeError(mismatch(op, f"{name} {last}", f"shape {array.shape}"))
    rows, columns = prod(x.shape[: x.ndim - len(last)]), prod(last)
    return _affine(
        op, _standardised(op, input, rows, number(op, "eps", eps, 0)), weight, bias, (rows, columns, 1), last
    )


def layer_norm_backward(
    dy: Any, x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5,
    needs: Sequence[bool] = (True, True, True),
) -> tuple:  # fmt: skip
    """Return ``(dx, dweight, dbias)`` of ``layer_norm``; None for what is not given or not needed."""
    check_needs("layer_norm_backward", needs, 3)
    return through_tape(lambda x, w, b: layer_norm(x, normalized_shape, w, b, eps), dy, (x, weight, bias), needs)
