"""Neighbours that run as one: a convolution, its ReLU and the max-pool behind it; batch norm or a linear layer and its
ReLU; in training batch norm with the convolution before it, which takes the moments of its result on the way to memory,
and with its ReLU and a 1x1 convolution behind them, which normalises what it reads.

Found in a Sequential, and in ``chain``, by which the blocks of networks call their layers. Looked up at every call, so
that layers may be replaced and their options set; the rules are in _units.pyx.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..functional.conv import resolve_exact
from ..functional.conv_unit import run_conv_moments, run_unit
from ..functional.linear import linear_relu
from ..functional.norm import channel_moments
from ..functional.norm_conv import run_norm_conv
from . import _units
from ._units import NORM, POOLS, feeds_pointwise, is_genuine
from ._units import unit_length as unit_length  # known by this module's name
from .linear import Linear
from .module import Module

_NORMS = tuple(NORM.values())
_OPS = {kind: f"conv{kind.rank}d" for kind in POOLS}

Step = Module | Callable[[Any], Any]


def units(net: Any) -> list[tuple[str, ...]]:
    """Return the names of the layers of a Sequential that run as one, unit by unit.

    In training a 1x1 convolution behind a batch norm and its ReLU may join them: whether the device gains by that
    depends on the input, so it is not said here.

    >>> from fastconv.nn import Conv2d, MaxPool2d, ReLU, Sequential
    >>> units(Sequential(Conv2d(1, 8, 3), ReLU(), MaxPool2d(2), Conv2d(8, 8, 3), Conv2d(8, 8, 3), ReLU()))
    [('0', '1', '2'), ('4', '5')]
    """
    names, layers = zip(*net.named_children(), strict=True) if len(net) else ((), ())
    found, i = [], 0
    while i < len(layers):
        length = unit_length(layers, i)
        if length:
            found.append(names[i : i + length])
        i += max(length, 1)
    return found


def moments_for(step: Step, input: Any, known: Any = None) -> Any:
    """Return the moments of the input that ``chain`` takes for its first step, or None if that is no batch norm of the
    batch's own statistics. ``known``: those of its first channels."""
    if _units.ENABLED and type(step) in _NORMS and is_genuine(step) and step.by_batch:
        return channel_moments(input, known)
    return None


def _run(steps: Sequence[Any], first: int, length: int, input: Any, residual: Any, moments: Any) -> Any:
    """Run the unit of this length. ``residual``: added to batch norm's output in front of its ReLU. ``moments``: the
    input's, for a batch norm."""
    start, last = steps[first], steps[first + length - 1]
    kind = type(start)
    if kind is Linear:
        return linear_relu(input, start.weight, start.bias)
    if kind in _NORMS:
        return start.run(input, "relu", residual, moments)
    pool = last.kernel_size if type(last) is POOLS[kind] else None
    activation = None if length == 2 and pool is not None else "relu"
    return run_unit(_OPS[kind], input, start.weight, start.bias, (*_options(start), pool), activation)


def _options(conv: Any) -> tuple:
    return conv.stride, conv.padding, conv.dilation, conv.groups, resolve_exact(_OPS[type(conv)], conv.exact)


def _takes_moments(steps: Sequence[Any], i: int) -> bool:
    """Whether steps[i] is a batch norm of the batch's own statistics, with nothing put in its way."""
    return i < len(steps) and type(steps[i]) in _NORMS and steps[i].by_batch and is_genuine(steps[i])


def _run_into(conv: Any, input: Any, room: Any) -> Any:
    return run_unit(_OPS[type(conv)], input, conv.weight, conv.bias, (*_options(conv), None), None, room)


def _run_norm_conv(steps: Sequence[Any], i: int, input: Any, moments: Any, wants: bool) -> tuple | None:
    norm, conv = steps[i], steps[i + 2]
    w = conv.weight
    if input.dtype != w.dtype or len(input.shape) != len(w.shape) or input.shape[1] != norm.num_features:
        return None  # (N, C) is no image to the norm; what is wrong, the layers say themselves
    return run_norm_conv(
        _OPS[type(conv)], input, lambda: norm.begin(input), conv.weight, conv.bias, _options(conv), moments, wants
    )


def _run_alone(step: Step, input: Any, moments: Any, room: Any) -> Any:
    if moments is not None:  # of a batch norm's input
        return step.run(input, moments=moments)
    if room is not None and _units.ENABLED and type(step) in POOLS and is_genuine(step) and step._extended is None:
        return _run_into(step, input, room)
    return step(input)


def run_steps(steps: Sequence[Any], input: Any, residual: Any = None, moments: Any = None, room: Any = None) -> Any:
    """``chain`` of a list of steps."""
    i, count = 0, len(steps)
    last = count if residual is None else count - 1  # the step that the residual comes before
    while i < count:
        step, length, added = steps[i], unit_length(steps, i), None
        if length and type(step) in _OPS:
            if type(steps[i + 1]) in _NORMS and i + 1 != last:
                op = _OPS[type(step)]
                input, moments = run_conv_moments(op, input, step.weight, step.bias, _options(step))
                i += 1
                continue
        elif length and type(step) in _NORMS and i + 2 != last and feeds_pointwise(steps, i):
            into = room is not None and i + 3 == count
            wants = i + 3 != last and _takes_moments(steps, i + 3)
            done = None if into else _run_norm_conv(steps, i, input, moments, wants)
            if done is not None:
                input, moments = done
                i += 3
                continue
        if i < last < i + length:
            fits = type(step) in _NORMS and input.shape == residual.shape
            length, added = (length, residual) if fits else (0, None)
        if length:
            input = _run(steps, i, length, input, added, moments)
            i += length
        else:
            input = input + residual if i == last else input
            input = _run_alone(step, input, moments, room if i + 1 == count else None)
            i += 1
        moments = None
    return input


def chain(input: Any, *steps: Step, residual: Any = None, moments: Any = None, room: Any = None) -> Any:
    """Return ``input`` after one step after the other; neighbours that make a unit run as one, as in a Sequential.

    Args:
        steps: modules, or functions of one argument, such as ``functional.relu``.
        residual: is added in front of the last step, with broadcasting.
        moments: ``moments_for(steps[0], input)``, if ``steps`` begin with a batch norm and a ReLU.
        room: an array apart from all others, where the result may lie if the last step is a convolution.

    >>> import numpy as np
    >>> from fastconv.nn import BatchNorm1d, Identity, functional
    >>> norm = BatchNorm1d(2).eval()
    >>> chain(np.ones((1, 2), np.float32), norm, functional.relu, residual=np.float32([[-5, 1]])).numpy().round(3)
    array([[0., 2.]], dtype=float32)
    """
    return run_steps(steps, input, residual, moments, room)
