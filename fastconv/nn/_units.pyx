"""Which steps that follow each other run as one: asked at every call of a Sequential, so it is compiled.

A layer of a derived class, or whose forward (its own or its class') or ``__call__`` was replaced, as hooks do, is never
part of a unit. What runs the units is in fusion.py.
"""

from math import prod

from fastconv import config
from fastconv.functional.activation import relu
from fastconv.functional.conv_unit import MOST_PLACES
from fastconv.nn.activation import ReLU
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d
from fastconv.nn.linear import Linear
from fastconv.nn.module import Module
from fastconv.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fastconv.nn.pool import MaxPool1d, MaxPool2d, MaxPool3d

ENABLED = config.fuse()  # FASTCONV_FUSE=0 turns units off
POOLS = {Conv1d: MaxPool1d, Conv2d: MaxPool2d, Conv3d: MaxPool3d}
NORM = {Conv1d: BatchNorm1d, Conv2d: BatchNorm2d, Conv3d: BatchNorm3d}

cdef object _CALL = Module.__call__
cdef dict _FORWARDS = {kind: kind.forward for kind in (Linear, ReLU, *NORM.values(), *POOLS, *POOLS.values())}
cdef frozenset _BEFORE_RELU = frozenset((Linear, *NORM.values()))  # a ReLU behind them is all that can follow in a unit
cdef frozenset _STARTS = frozenset((*_BEFORE_RELU, *POOLS))


cpdef bint is_genuine(layer):
    """Whether calling a layer of a known class does what the class was written to do."""
    kind = type(layer)
    return kind.forward is _FORWARDS[kind] and kind.__call__ is _CALL and "forward" not in layer.__dict__


cdef bint is_relu(step):
    return step is relu or (type(step) is ReLU and is_genuine(step))


cdef bint is_size(value):
    return type(value) is int or type(value) is tuple


cdef bint has_whole_windows(pool):
    """Whether the windows neither overlap, nor leave gaps, nor reach beyond the input, and a byte counts their places.

    Options that are no sizes at all are left to the layer, which says so.
    """
    size = pool.kernel_size
    if not (is_size(pool.stride) and is_size(pool.padding) and is_size(pool.dilation)):
        return False
    if pool.return_indices is not False or pool.ceil_mode is not False or pool.padding != 0 or pool.dilation != 1:
        return False
    if type(size) is int:
        return pool.stride == size and 0 < size**pool.rank <= MOST_PLACES
    plain = type(size) is tuple and len(size) == pool.rank and all([type(edge) is int and edge > 0 for edge in size])
    return plain and pool.stride == size and prod(size) <= MOST_PLACES


def unit_length(steps, Py_ssize_t first):
    """Return how many steps, from ``steps[first]`` on, are a unit: 2 or 3, or 0 where there is none."""
    cdef Py_ssize_t length = 1, count = len(steps)
    start = steps[first]
    kind = type(start)
    if kind not in _STARTS or not ENABLED or first + 1 == count or not is_genuine(start):
        return 0
    second = steps[first + 1]
    if kind in _BEFORE_RELU:
        return 2 if is_relu(second) else 0
    if start._extended is not None:
        return 0
    if type(second) is NORM[kind]:
        if not second.by_batch or not is_genuine(second):
            return 0
        return 3 if first + 2 < count and is_relu(steps[first + 2]) else 2
    if is_relu(second):
        length = 2
        second = steps[first + 2] if first + 2 < count else None
    if type(second) is POOLS[kind] and is_genuine(second) and has_whole_windows(second):
        return length + 1
    return length if length == 2 else 0


def feeds_pointwise(steps, Py_ssize_t first):
    """Whether ``steps[first]``, a batch norm whose ReLU follows, is by the batch's statistics, and a 1x1 convolution
    behind that can take it along."""
    if first + 2 >= len(steps):
        return False
    norm, conv = steps[first], steps[first + 2]
    kind = type(conv)
    if NORM.get(kind) is not type(norm) or not norm.by_batch or not is_genuine(conv) or conv._extended is not None:
        return False
    return conv.groups == 1 and conv.weight.size == conv.weight.shape[0] * conv.weight.shape[1]
