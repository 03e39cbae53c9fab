"""Neighbours that run as one: a convolution, its ReLU and the max-pool behind it; batch norm or a linear layer and its
ReLU; in training batch norm with the convolution before it, which takes the moments of its result on the way to memory.

Found in a Sequential, and in ``chain``, by which the blocks of networks call their layers. Looked up at every call, so
that layers may be replaced and their options set; the rules are in _units.pyx.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..functional.activation import relu
from ..functional.conv import resolve_exact
from ..functional.conv_unit import run_conv_moments, run_unit
from ..functional.linear import linear_relu
from ..functional.norm import channel_moments
from . import _units
from ._units import NORM, POOLS, is_genuine
from ._units import unit_length as unit_length  # known by this module's name
from .linear import Linear
from .module import Module

_NORMS = tuple(NORM.values())
_OPS = {kind: f"conv{kind.rank}d" for kind in POOLS}

Step = Module | Callable[[Any], Any]


def units(net: Any) -> list[tuple[str, ...]]:
    """Return the names of the layers of a Sequential that run as one, unit by unit.

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


def run(steps: Sequence[Any], first: int, length: int, input: Any, residual: Any = None, moments: Any = None) -> Any:
    """Run the unit of this length. ``residual``: added to batch norm's output in front of its ReLU. ``moments``: the
    input's, for a batch norm."""
    start, last = steps[first], steps[first + length - 1]
    kind = type(start)
    if kind is Linear:
        return linear_relu(input, start.weight, start.bias)
    if kind in _NORMS:
        return start.run(input, "relu", residual, moments)
    if type(steps[first + 1]) is NORM[kind]:
        return _run_normalised(start, steps[first + 1], last, input, residual)
    op = _OPS[kind]
    pool = last.kernel_size if type(last) is POOLS[kind] else None
    activation = None if length == 2 and pool is not None else "relu"
    options = (start.stride, start.padding, start.dilation, start.groups, resolve_exact(op, start.exact), pool)
    return run_unit(op, input, start.weight, start.bias, options, activation)


def _takes(start: Step, second: Step, length: int, input: Any, residual: Any) -> bool:
    """Whether a unit adds a residual in front of its last step, a ReLU."""
    if type(start) in _NORMS:
        return input.shape == residual.shape
    return length == 3 and type(second) in _NORMS


def _run_normalised(conv: Any, norm: Any, last: Step, input: Any, residual: Any) -> Any:
    op = _OPS[type(conv)]
    options = (conv.stride, conv.padding, conv.dilation, conv.groups, resolve_exact(op, conv.exact))
    input, moments = run_conv_moments(op, input, conv.weight, conv.bias, options)
    if last is norm:
        return norm.run(input, moments=moments)
    if residual is None or input.shape == residual.shape:
        return norm.run(input, "relu", residual, moments)
    return relu(norm.run(input, moments=moments) + residual)


def _run_into(conv: Any, input: Any, room: Any) -> Any:
    op = _OPS[type(conv)]
    options = (conv.stride, conv.padding, conv.dilation, conv.groups, resolve_exact(op, conv.exact), None)
    return run_unit(op, input, conv.weight, conv.bias, options, None, room)


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
    i, count = 0, len(steps)
    while i < count:
        length = unit_length(steps, i)
        ends = residual is not None and i + max(length, 1) == count
        if ends and length and not _takes(steps[i], steps[i + 1], length, input, residual):
            length = 0
        if length:
            input = run(steps, i, length, input, residual if ends else None, moments if i == 0 else None)
        else:
            if residual is not None and i + 1 == count:
                input = input + residual
            into = room is not None and i + 1 == count and _units.ENABLED and type(steps[i]) in POOLS
            if into and is_genuine(steps[i]) and steps[i]._extended is None:
                return _run_into(steps[i], input, room)
            input = steps[i](input)
        i += max(length, 1)
    return input
