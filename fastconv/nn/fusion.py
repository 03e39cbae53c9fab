"""Which neighbours run as one: a convolution, its ReLU and the max-pool behind it; batch norm or a linear layer and its
ReLU; in training batch norm with the convolution before it, which takes the moments of its result on the way to memory.

Found in a Sequential, and in ``chain``, by which the blocks of networks call their layers. Looked up at every call, so
that layers may be replaced and their options set; a layer of a derived class, or whose forward (its own, or its
class') or ``__call__`` was replaced, as hooks do, is never part of a unit. FASTCONV_FUSE=0 turns units off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from .. import config
from ..functional.activation import relu
from ..functional.conv import resolve_exact
from ..functional.conv_unit import MOST_PLACES, run_conv_moments, run_unit
from ..functional.linear import linear_relu
from ..functional.norm import channel_moments
from .activation import ReLU
from .conv import Conv1d, Conv2d, Conv3d
from .linear import Linear
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .pool import MaxPool1d, MaxPool2d, MaxPool3d

ENABLED = config.fuse()
_CALL = Module.__call__
_POOLS = {Conv1d: MaxPool1d, Conv2d: MaxPool2d, Conv3d: MaxPool3d}
_NORM = {Conv1d: BatchNorm1d, Conv2d: BatchNorm2d, Conv3d: BatchNorm3d}
_NORMS = tuple(_NORM.values())
_OPS = {kind: f"conv{kind.rank}d" for kind in _POOLS}
_FORWARDS = {kind: kind.forward for kind in (Linear, ReLU, *_NORMS, *_POOLS, *_POOLS.values())}
_BEFORE_RELU = frozenset((Linear, *_NORMS))  # a ReLU behind them is all that can follow in a unit
_STARTS = frozenset((*_BEFORE_RELU, *_POOLS))
_SIZES = frozenset((int, tuple)).issuperset

Step = Module | Callable[[Any], Any]


def unit_length(steps: Sequence[Step], first: int) -> int:
    """Return how many steps, from ``steps[first]`` on, are a unit: 2 or 3, or 0 where there is none."""
    start = steps[first]
    kind = type(start)
    if kind not in _STARTS or not ENABLED or first + 1 == len(steps) or not _is_genuine(start):
        return 0
    second = steps[first + 1]
    if kind in _BEFORE_RELU:
        return 2 if _is_relu(second) else 0
    if start._extended is not None:
        return 0
    if type(second) is _NORM[kind]:
        if not second.by_batch or not _is_genuine(second):
            return 0
        return 3 if first + 2 < len(steps) and _is_relu(steps[first + 2]) else 2
    length = 1
    if _is_relu(second):
        length = 2
        second = steps[first + 2] if first + 2 < len(steps) else None
    if type(second) is _POOLS[kind] and _is_genuine(second) and _has_whole_windows(second):
        return length + 1
    return length if length == 2 else 0


def _is_relu(step: Any) -> bool:
    return step is relu or (type(step) is ReLU and _is_genuine(step))


def _is_genuine(layer: Any) -> bool:
    """Whether calling a layer of a known class does what the class was written to do."""
    kind = type(layer)
    return kind.forward is _FORWARDS[kind] and kind.__call__ is _CALL and "forward" not in layer.__dict__


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


def _has_whole_windows(pool: Any) -> bool:
    """Whether the windows neither overlap, nor leave gaps, nor reach beyond the input, and a byte counts their places.

    Options that are no sizes at all are left to the layer, which says so.
    """
    size = pool.kernel_size
    if not _SIZES((type(pool.stride), type(pool.padding), type(pool.dilation))):
        return False
    if pool.return_indices is not False or pool.ceil_mode is not False or pool.padding != 0 or pool.dilation != 1:
        return False
    if type(size) is int:
        return pool.stride == size and 0 < size**pool.rank <= MOST_PLACES
    plain = type(size) is tuple and len(size) == pool.rank and all(type(edge) is int and edge > 0 for edge in size)
    return plain and pool.stride == size and prod(size) <= MOST_PLACES


def moments_for(step: Step, input: Any, known: Any = None) -> Any:
    """Return the moments of the input that ``chain`` takes for its first step, or None if that is no batch norm of the
    batch's own statistics. ``known``: those of its first channels."""
    if ENABLED and type(step) in _NORMS and _is_genuine(step) and step.by_batch:
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
    if type(steps[first + 1]) is _NORM[kind]:
        return _run_normalised(start, steps[first + 1], last, input, residual)
    op = _OPS[kind]
    pool = last.kernel_size if type(last) is _POOLS[kind] else None
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
            into = room is not None and i + 1 == count and ENABLED and type(steps[i]) in _POOLS
            if into and _is_genuine(steps[i]) and steps[i]._extended is None:
                return _run_into(steps[i], input, room)
            input = steps[i](input)
        i += max(length, 1)
    return input
