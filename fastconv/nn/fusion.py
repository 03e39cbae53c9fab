"""Which neighbours in a Sequential run as one unit: a convolution, the ReLU behind it, the max-pool behind that.

Looked up at every call, so that layers may be replaced and their options set; a layer of a derived class, or whose
forward (its own, or its class') or ``__call__`` was replaced, is never part of a unit. FASTCONV_FUSE=0 turns units off.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from .. import config
from ..functional.conv import resolve_exact
from ..functional.conv_unit import MOST_PLACES, run_unit
from .activation import ReLU
from .conv import Conv1d, Conv2d, Conv3d
from .module import Module
from .pool import MaxPool1d, MaxPool2d, MaxPool3d

ENABLED = config.fuse()
_CALL = Module.__call__
_POOLS = {Conv1d: MaxPool1d, Conv2d: MaxPool2d, Conv3d: MaxPool3d}
_FORWARDS = {kind: kind.forward for kind in (ReLU, *_POOLS, *_POOLS.values())}


def unit_length(layers: Sequence[Module], first: int) -> int:
    """Return how many layers, from ``layers[first]`` on, are a unit: 2 or 3, or 0 where there is none."""
    conv = layers[first]
    pool_type = _POOLS.get(type(conv))
    if pool_type is None or not ENABLED or first + 1 == len(layers):
        return 0
    if conv._extended is not None or not _is_genuine(conv):
        return 0
    second = layers[first + 1]
    length = 1
    if type(second) is ReLU and _is_genuine(second):
        length = 2
        second = layers[first + 2] if first + 2 < len(layers) else None
    if type(second) is pool_type and _is_genuine(second) and _has_whole_windows(second):
        return length + 1
    return length if length == 2 else 0


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
    lengths = [unit_length(layers, i) for i in range(len(layers))]
    return [names[i : i + length] for i, length in enumerate(lengths) if length]


def _has_whole_windows(pool: Any) -> bool:
    """Whether the windows neither overlap, nor leave gaps, nor reach beyond the input, and a byte counts their places.

    Options that are no sizes at all are left to the layer, which says so.
    """
    size = pool.kernel_size
    if any(type(option) not in (int, tuple) for option in (pool.stride, pool.padding, pool.dilation)):
        return False
    if pool.return_indices is not False or pool.ceil_mode is not False or pool.padding != 0 or pool.dilation != 1:
        return False
    if type(size) is int:
        return pool.stride == size and 0 < size**pool.rank <= MOST_PLACES
    plain = type(size) is tuple and len(size) == pool.rank and all(type(edge) is int and edge > 0 for edge in size)
    return plain and pool.stride == size and prod(size) <= MOST_PLACES


def run(layers: Sequence[Module], first: int, length: int, input: Any) -> Any:
    """Run the unit of this length."""
    conv, last = layers[first], layers[first + length - 1]
    pool = None if type(last) is ReLU else last.kernel_size
    activation = "relu" if type(layers[first + 1]) is ReLU else None
    op = f"conv{conv.rank}d"
    options = (conv.stride, conv.padding, conv.dilation, conv.groups, resolve_exact(op, conv.exact), pool)
    return run_unit(op, input, conv.weight, conv.bias, options, activation)
