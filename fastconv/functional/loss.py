"""Losses, forward and backward. A backend returns one value a position; reductions and label checks are here.

``reduction`` is 'mean' (0-d), 'sum' (0-d) or 'none'. A backward takes ``dloss``, the gradient of the reduced loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import backends
from ..arguments import integer, number
from ..backends.base import Array, Backend
from ..errors import ArgumentError, DataError, ShapeError, mismatch
from ..geometry import channel_shape, check_per_channel, check_same_shape
from ..tensor import Tensor, operand, operands, record
from ._common import bare, check_gradient, integers

_INT64 = np.dtype(np.int64)

# --------------------------------------------------------------------------------------------- reductions


def _check_reduction(op: str, reduction: str) -> None:
    if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
        raise ArgumentError(mismatch(op, "reduction to be 'mean', 'sum' or 'none'", repr(reduction)))


def _reduced(backend: Backend, loss: Array, reduction: str, total: Array | None) -> Array:
    """Reduce; a mean divides by ``total`` (0-d), or by the number of values where that is None."""
    if reduction == "none":
        return loss
    value = backend.sum(loss)
    if reduction == "sum":
        return value
    return backend.divide(value, total) if total is not None else backend.scale(value, _reciprocal(loss.shape))


def _spread(backend: Backend, dloss: Array, shape: Sequence[int], reduction: str, total: Array | None) -> Array:
    """The gradient of ``_reduced``: one value a position."""
    if reduction == "none":
        return backend.reshape(dloss, shape)
    if reduction == "mean":
        dloss = backend.divide(dloss, total) if total is not None else backend.scale(dloss, _reciprocal(shape))
    return backend.broadcast_to(dloss, shape)


def _reciprocal(shape: Sequence[int]) -> float:
    count = prod(shape)
    return 1 / count if count else float("nan")


def _constant(op: str, **named: Any) -> None:
    for name, value in named.items():
        if isinstance(value, Tensor) and value.requires_grad:
            raise ArgumentError(mismatch(op, f"{name} without requires_grad", "one that requires it"))


# ------------------------------------------------------------------------------------------ class indices


def _labels(backend: Backend, op: str, input_shape: Sequence[int], target: Any, ignore_index: int) -> Array:
    """Return class indices as int64 (N, L), checked: the input's shape without C, values in [0, C) or ignored.

    A copy: kernels take them as offsets, and the user may write to the array that was checked.
    """
    plain = type(target) is np.ndarray and target.dtype is _INT64
    labels = target if plain else integers(op, "target", target)
    channels = input_shape[0] if len(input_shape) == 1 else input_shape[1]
    expected = (*input_shape[:1], *input_shape[2:]) if len(input_shape) > 1 else ()
    if labels.shape != expected:
        raise ShapeError(mismatch(op, f"target {expected} for input {tuple(input_shape)}", f"shape {labels.shape}"))
    n = expected[0] if expected else 1
    if not plain and labels.dtype.kind == "u" and labels.dtype.itemsize == 8:
        labels = np.minimum(labels, np.uint64(2**63 - 1))  # which no class has, while some above it wrap to any
    rows = np.array(labels, _INT64, order="C").reshape(n, prod(expected[1:]))
    if not backends.for_numpy().all_within(rows, 0, channels):  # here, where a device need not be waited for
        values = rows.reshape(expected)
        bad = ((values < 0) | (values >= channels)) & (values != ignore_index)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            allowed = f"target in [0, {channels}) or ignore_index {ignore_index}"
            raise DataError(mismatch(op, allowed, f"{values[where]} at position {where}"))
    return backend.from_numpy(rows)


def _lifted(op: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """(C,) or (N, C, *) -> (N, C, L)."""
    return (1, shape[0], 1) if len(shape) == 1 else channel_shape(op, shape)


def _checked_logits(op: str, input: Any, weight: Any, reduction: str, smoothing: float) -> tuple:
    _check_reduction(op, reduction)
    number(op, "label_smoothing", smoothing, 0, 1)
    if weight is None:
        backend, x = operand(op, "input", input)
        w = None
    else:
        _constant(op, weight=weight)
        backend, x, w = operands(op, ("weight",), input=input, weight=weight)
    lifted = _lifted(op, x.shape)
    if lifted[1] < 1:
        raise ShapeError(mismatch(op, "input with at least one class", f"shape {x.shape}"))
    if w is not None:
        check_per_channel(op, "weight", w.shape, lifted[1])
    return backend, x, w, lifted


def _classification(
    op: str,
    input: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    kernels: Callable,
) -> tuple[Array, Callable]:
    """Return the loss and its backward; ``kernels(backend)`` gives the pair over (N, C, L)."""
    backend, x, w, lifted = _checked_logits(op, input, weight, reduction, smoothing)
    ignore_index, shape = integer(op, "ignore_index", ignore_index, -(2**63)), x.shape
    t = _labels(backend, op, shape, target, ignore_index)
    forward, gradient = kernels(backend)
    loss, scale, saved = forward(backend.reshape(x, lifted), t, w, ignore_index, smoothing)
    total = backend.sum(scale) if reduction == "mean" else None
    loss_shape = (*shape[:1], *shape[2:]) if len(shape) > 1 else ()

    def backward(dloss: Array, needs: Sequence[bool] = ()) -> tuple:
        dloss = _spread(backend, dloss, (lifted[0], lifted[2]), reduction, total)
        return (backend.reshape(gradient(dloss, saved, t, w, ignore_index, smoothing), shape),)

    return _reduced(backend, backend.reshape(loss, loss_shape), reduction, total), backward


def _cross_entropy_kernels(backend: Backend) -> tuple[Callable, Callable]:
    return backend.cross_entropy_forward, backend.cross_entropy_backward


def _nll_kernels(backend: Backend) -> tuple[Callable, Callable]:
    def forward(x: Array, *rest: Any) -> tuple:
        return (*backend.nll_forward(x, *rest), x.shape[1])

    def gradient(dloss: Array, channels: int, t: Array, *rest: Any) -> Array:
        return backend.nll_backward(dloss, t, channels, *rest)

    return forward, gradient


def _loss_backward(op: str, dloss: Any, loss: Array, backward: Callable) -> Array:
    _, _, dloss = operands(op, loss=loss, dloss=dloss)
    check_gradient(op, loss.shape, dloss, "dloss")
    return backward(dloss)[0]


def cross_entropy(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """Return the cross-entropy between ``target`` and the softmax of ``input`` over the channels.

    Args:
        input: (N, C, *) or (C,): logits; float32 or float64.
        target: class indices, integers of the input's shape without C; or probabilities, floats of its whole shape.
        weight: (C,), a factor for each class; 'mean' divides by the targets' weights then.
        ignore_index: positions with this class count nothing (indices only).
        label_smoothing: mix the target with this share of the uniform distribution (Szegedy et al. 2016,
            https://arxiv.org/abs/1512.00567, section 7).

    Raises:
        DataError: a class index outside [0, C). DTypeError: class indices that are not integers.

    >>> cross_entropy(np.array([[0.0, 0.0]]), [1])
    array(0.69314718)
    """
    op = "cross_entropy"
    if _are_probabilities(input, target):
        loss, backward = _soft(op, input, target, weight, ignore_index, reduction, label_smoothing)
    else:
        options = (ignore_index, reduction, label_smoothing, _cross_entropy_kernels)
        loss, backward = _classification(op, input, target, weight, *options)
    return record(loss, (input,), backward)


def cross_entropy_backward(
    dloss: Any, input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """Return dinput of ``cross_entropy`` for the gradient ``dloss`` of its result."""
    op = "cross_entropy_backward"
    if _are_probabilities(input, target):
        return _loss_backward(op, dloss, *_soft(op, input, target, weight, ignore_index, reduction, label_smoothing))
    options = (ignore_index, reduction, label_smoothing, _cross_entropy_kernels)
    return _loss_backward(op, dloss, *_classification(op, input, target, weight, *options))


def nll_loss(input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """Return the negative log-likelihood of class indices; ``input`` holds log-probabilities. See ``cross_entropy``."""
    options = (ignore_index, reduction, 0.0, _nll_kernels)
    loss, backward = _classification("nll_loss", input, target, weight, *options)
    return record(loss, (input,), backward)


def nll_loss_backward(
    dloss: Any, input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    """Return dinput of ``nll_loss`` for the gradient ``dloss`` of its result."""
    op = "nll_loss_backward"
    options = (ignore_index, reduction, 0.0, _nll_kernels)
    return _loss_backward(op, dloss, *_classification(op, input, target, weight, *options))


# -------------------------------------------------------------------------------------- class probabilities


def _are_probabilities(input: Any, target: Any) -> bool:
    """Whether ``target`` holds floats of the input's shape; what it is otherwise is for the check of labels to say."""
    target = bare(target)
    try:
        dtype = target.dtype if hasattr(target, "dtype") else np.asarray(target).dtype
        return dtype.kind == "f" and np.shape(target) == np.shape(bare(input))
    except ValueError:  # a ragged sequence
        return False


def _soft(
    op: str, input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> tuple[Array, Callable]:
    """``-sum_c weight[c] * ((1 - s) * target[c] + s / C) * log_prob[c]``; 'mean' divides by the positions."""
    if integer(op, "ignore_index", ignore_index, -(2**63)) >= 0:
        raise ArgumentError(mismatch(op, "no ignore_index with probabilities", ignore_index))
    backend, x, w, lifted = _checked_logits(op, input, weight, reduction, smoothing)
    _constant(op, target=target)
    _, _, t = operands(op, input=x, target=target)
    shape, channels = x.shape, lifted[1]
    t = backend.reshape(t, lifted)
    if smoothing:
        even = np.full((1, 1, 1), smoothing / channels, t.dtype)
        t = backend.add(backend.scale(t, 1 - smoothing), backend.from_numpy(even))
    if w is not None:
        t = backend.multiply(t, backend.reshape(w, (1, channels, 1)))
    log_prob = backend.log_softmax_forward(backend.reshape(x, lifted))
    loss = backend.scale(backend.sum(backend.multiply(t, log_prob), (1,)), -1.0)  # (N, L)

    def backward(dloss: Array, needs: Sequence[bool] = ()) -> tuple:
        dloss = _spread(backend, dloss, (lifted[0], lifted[2]), reduction, None)
        dloss = backend.reshape(dloss, (lifted[0], 1, lifted[2]))
        dlog_prob = backend.scale(backend.multiply(t, dloss), -1.0)
        return (backend.reshape(backend.log_softmax_backward(dlog_prob, log_prob), shape),)

    loss_shape = (*shape[:1], *shape[2:]) if len(shape) > 1 else ()
    return _reduced(backend, backend.reshape(loss, loss_shape), reduction, None), backward


# ------------------------------------------------------------------------------------------- regression, BCE


def _mse(op: str, input: Any, target: Any, reduction: str) -> tuple[Array, Callable]:
    _check_reduction(op, reduction)
    backend, x, t = operands(op, input=input, target=target)
    check_same_shape(op, "input", x.shape, "target", t.shape)

    def backward(dloss: Array, needs: Sequence[bool] = (True, False)) -> tuple:
        dx = backend.mse_backward(_spread(backend, dloss, x.shape, reduction, None), x, t)
        return dx, backend.scale(dx, -1.0) if needs[1] else None

    return _reduced(backend, backend.mse_forward(x, t), reduction, None), backward


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Return the squared error of two arrays of one shape (nothing is broadcast).

    >>> mse_loss(np.array([1.0, 2.0]), np.array([0.0, 0.0]), reduction="sum")
    array(5.)
    """
    loss, backward = _mse("mse_loss", input, target, reduction)
    return record(loss, (input, target), backward)


def mse_loss_backward(dloss: Any, input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Return dinput of ``mse_loss``; the target's gradient is its negative."""
    op = "mse_loss_backward"
    return _loss_backward(op, dloss, *_mse(op, input, target, reduction))


def _bce(op: str, input: Any, target: Any, weight: Any, reduction: str, pos_weight: Any) -> tuple[Array, Callable]:
    _check_reduction(op, reduction)
    _constant(op, target=target, weight=weight, pos_weight=pos_weight)
    backend, x, t, w, p = operands(
        op, ("weight", "pos_weight"), input=input, target=target, weight=weight, pos_weight=pos_weight
    )
    check_same_shape(op, "input", x.shape, "target", t.shape)
    w, p = _like(op, backend, "weight", w, x.shape), _like(op, backend, "pos_weight", p, x.shape)

    def backward(dloss: Array, needs: Sequence[bool] = ()) -> tuple:
        dloss = _spread(backend, dloss, x.shape, reduction, None)
        return (backend.bce_with_logits_backward(dloss, x, t, w, p),)

    return _reduced(backend, backend.bce_with_logits_forward(x, t, w, p), reduction, None), backward


def _like(op: str, backend: Backend, name: str, array: Array | None, shape: Sequence[int]) -> Array | None:
    if array is None:
        return None
    try:
        return backend.broadcast_to(array, shape)
    except ValueError:
        raise ShapeError(mismatch(op, f"{name} to broadcast to input {tuple(shape)}", f"shape {array.shape}")) from None


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Return the cross-entropy of independent yes-or-no targets and the sigmoid of ``input``, without overflow.

    Args:
        input: logits. target: probabilities of yes, of the same shape and dtype.
        weight: a factor for each element; pos_weight: a factor for the yes term. Both broadcast to the input.

    >>> binary_cross_entropy_with_logits(np.array([0.0]), np.array([1.0]))
    array(0.69314718)
    """
    loss, backward = _bce("binary_cross_entropy_with_logits", input, target, weight, reduction, pos_weight)
    return record(loss, (input,), backward)


def binary_cross_entropy_with_logits_backward(
    dloss: Any, input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Return dinput of ``binary_cross_entropy_with_logits`` for the gradient ``dloss`` of its result."""
    op = "binary_cross_entropy_with_logits_backward"
    return _loss_backward(op, dloss, *_bce(op, input, target, weight, reduction, pos_weight))
