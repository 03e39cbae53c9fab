"""Batch normalisation, forward and backward (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import flag, number
from ..backends.base import Array, Backend
from ..errors import ArgumentError, ShapeError, mismatch
from ..geometry import channel_shape, check_per_channel
from ..tensor import operand, operands, record
from ._common import bare, check_gradient, check_needs

_OPTIONAL = ("running_mean", "running_var", "weight", "bias", "residual")


def batch_norm(
    input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """Return ``(input - mean) / sqrt(var + eps) * weight + bias``, per channel.

    In training mean and (biased) variance are the batch's, and the running statistics, where given, move towards
    them in place: ``running = (1 - momentum) * running + momentum * batch``, the variance unbiased. Otherwise the
    running statistics normalise. An empty batch leaves them alone.

    Args:
        input: (N, C, *); float32 or float64.
        running_mean, running_var, weight, bias: (C,) of the same dtype; any may be None (the running ones in training).

    Raises:
        ShapeError: shapes that do not fit, or a single value per channel in training.

    >>> batch_norm(np.array([[1.0], [3.0]]), None, None, training=True, eps=0)
    array([[-1.],
           [ 1.]])
    """
    return run_batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def run_batch_norm(
    input: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: bool, momentum: float,
    eps: float, activation: str | None = None, residual: Any = None, moments: Sequence[Array] | None = None,
) -> Any:  # fmt: skip
    """``activation(batch_norm(...) + residual)`` as one operation, with the bits of the operations one by one.

    ``activation``: 'relu', or None where there is no residual. ``residual``: of input's shape, or None. ``moments``: of
    the input by ``batch_norm_statistics``, where they are known.
    """
    op = "batch_norm"
    backend, x, mean, var, w, b, added = operands(
        op, _OPTIONAL, input=input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
        residual=residual,
    )  # fmt: skip
    flag(op, "training", training)
    shape, x, count = _checked(op, backend, x, training, (mean, var, w, b))
    given = (running_mean, mean), (running_var, var)
    mean, rstd = normaliser(op, backend, x, shape, given, training, momentum, eps, moments)
    moves = training and count > 0
    if added is not None:
        added = backend.reshape(added, x.shape)
    y = backend.reshape(backend.batch_norm_forward(x, mean, rstd, w, b, activation, added), shape)
    from_x = added is None and moves and activation is not None  # the kernel finds from x where y > 0

    def backward(
        dy: Array, needs: Sequence[bool], waiting: Array | None = None, gates: bool = False, spare: bool = False
    ) -> tuple:
        ending = (b, activation) if from_x else (None, None)
        gradients = _gradients(backend, dy, x, mean, rstd, w, moves, needs[:3], shape, *ending, waiting)
        if gates:
            gradients = backend.relu_backward(gradients[0], backend.reshape(x, shape)), *gradients[1:]
        return gradients if added is None else (*gradients, dy)

    inputs = (input, weight, bias) if added is None else (input, weight, bias, residual)
    return record(y, inputs, backward, None if from_x or activation is None else y, completes=True)


def normaliser(
    op: str, backend: Backend, x: Array, shape: Sequence[int], running: Sequence[tuple[Any, Array | None]],
    training: bool, momentum: float, eps: float, moments: Sequence[Array] | None,
) -> tuple[Array, Array]:  # fmt: skip
    """Return mean and 1 / sqrt(variance + eps) with which batch norm normalises x (N, C, L), and move the running ones
    in training. ``shape``: of x as the user gave it; ``running``: mean and variance, as given and as arrays."""
    count = x.shape[0] * x.shape[2]
    momentum, eps = number(op, "momentum", momentum), number(op, "eps", eps, 0)
    (given_mean, mean), (given_var, var) = running
    if training and count:
        if count == 1:
            raise ShapeError(mismatch(op, "more than one value per channel in training", f"input {shape}"))
        _check_writable(op, "running_mean", given_mean)
        _check_writable(op, "running_var", given_var)
        mean_, var_ = moments or backend.batch_norm_statistics(x)
        if mean is not None:
            _move(backend, given_mean, mean, mean_, momentum, 1.0)
        if var is not None:
            _move(backend, given_var, var, var_, momentum, count / (count - 1))
        mean, var = mean_, var_
    elif training:  # nothing to take statistics of, nor to normalise
        mean, var = backend.sum(x, (0, 2)), backend.sum(x, (0, 2))
    rstd = backend.reciprocal_root(var, eps)
    return mean if training else backend.scale(mean, 1.0), rstd  # the running one may move before the walk back


def channel_moments(input: Any, known: Sequence[Array] | None = None) -> tuple[Array, ...]:
    """Return what ``batch_norm`` finds in training: mean and biased variance (C,) of the input's channels, those of the
    first channels ``known`` from before."""
    backend, x = operand("batch_norm", "input", input)
    n, c, length = channel_shape("batch_norm", x.shape)
    first = 0 if known is None else known[0].shape[0]
    own = backend.batch_norm_statistics(backend.reshape(x[:, first:], (n, c - first, length)))
    return own if known is None else tuple(backend.cat(pair, 0) for pair in zip(known, own, strict=True))


def batch_norm_backward(
    dy: Any, x: Any, running_mean: Any, running_var: Any, weight: Any = None, training: bool = False,
    eps: float = 1e-5, needs: Sequence[bool] = (True, True, True),
) -> tuple:  # fmt: skip
    """Return ``(dx, dweight, dbias)`` of ``batch_norm``; in training the batch's statistics are taken again."""
    op = "batch_norm_backward"
    backend, dy, x, mean, var, w = operands(
        op, _OPTIONAL, dy=dy, x=x, running_mean=running_mean, running_var=running_var, weight=weight
    )
    check_needs(op, needs, 3)
    eps, training = number(op, "eps", eps, 0), flag(op, "training", training)
    check_gradient(op, x.shape, dy)
    shape, x, count = _checked(op, backend, x, training, (mean, var, w))
    if training:
        mean, var = backend.batch_norm_statistics(x) if count else (backend.sum(x, (0, 2)), backend.sum(x, (0, 2)))
    rstd = backend.reciprocal_root(var, eps)
    return _gradients(backend, dy, x, mean, rstd, w, training and count > 0, needs, shape)


def _checked(op: str, backend: Backend, x: Array, training: bool, per_channel: tuple[Array | None, ...]) -> tuple:
    """Return the input's shape, the input as (N, C, L), and the number of values per channel.

    ``per_channel``: running_mean, running_var, weight and perhaps bias.
    """
    shape = x.shape
    n, c, length = channel_shape(op, shape)
    for name, array in zip(_OPTIONAL, per_channel, strict=False):
        if array is not None:
            check_per_channel(op, name, array.shape, c)
        elif not training and name.startswith("running"):
            raise ArgumentError(mismatch(op, f"{name} where training is False", None))
    return shape, backend.reshape(x, (n, c, length)), n * length


def _check_writable(op: str, name: str, value: Any) -> None:
    array = bare(value)
    if (isinstance(array, np.ndarray) and not array.flags.writeable) or isinstance(array, Sequence):
        raise ArgumentError(mismatch(op, f"{name} to be an array that can be written to in training", "another"))


def _move(backend: Backend, given: Any, running: Array, batch: Array, momentum: float, factor: float) -> None:
    """Move the statistics ``given`` in place; ``running`` is their array, or a copy of it in native byte order."""
    backend.move_towards(running, batch, momentum, factor)
    given = bare(given)
    if given is not running:
        given[...] = running


def _gradients(
    backend: Backend, dy: Array, x: Array, mean: Array, rstd: Array, w: Array | None, training: bool,
    needs: Sequence[bool], shape: tuple[int, ...], b: Array | None = None, activation: str | None = None,
    waiting: Array | None = None,
) -> tuple:  # fmt: skip
    """x (N, C, L), dy and what is added to dx of the user's shape."""
    dy = backend.reshape(dy, x.shape)
    waiting = None if waiting is None else backend.reshape(waiting, x.shape)
    dx, dw, db = backend.batch_norm_backward(dy, x, mean, rstd, w, training, needs, b, activation, waiting)
    return None if dx is None else backend.reshape(dx, shape), dw, db
