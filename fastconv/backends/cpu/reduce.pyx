"""Sums of the gradient of a bias, and sums and extremes over any axes of any array."""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_reduce
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport run_map, table
from fastconv.backends.cpu.extremes cimport best_middle
from fastconv.backends.cpu.rows cimport in_kernel_layout, reduce_channels
from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()

cdef fc_reduce NOTHING  # no constants
NOTHING.mean = NOTHING.scale = NOTHING.shift = NULL


cdef cnp.ndarray contiguous(cnp.ndarray a):
    """``a``, or a copy of it, in C order."""
    cdef cnp.ndarray copy
    if cnp.PyArray_IS_C_CONTIGUOUS(a):
        return a
    copy = empty((<object> a).shape, a.dtype)
    copy_into(copy, a)
    return copy


cdef cnp.ndarray sum_channels(cnp.ndarray a):
    """a (N, C, L) -> (C,)."""
    cdef cnp.ndarray kept = in_kernel_layout(a)
    cdef View x = view(kept)
    return sum_view(&x, a.dtype, (x.size[1],))


cdef cnp.ndarray sum_view(View* x, object dtype, tuple shape):
    """x (N, C, L) in the kernels' layout -> (C,), as ``shape``."""
    cdef cnp.ndarray total = empty(shape, dtype)
    reduce_channels(kernels(x.itemsize).sum_rows, &NOTHING, x, NULL, <char*> cnp.PyArray_DATA(total), NULL)
    return total


def bias_backward(cnp.ndarray dy):
    """dy (N, C, ...) -> db (C,)."""
    cdef View x
    if cnp.PyArray_NDIM(dy) == 2 and cnp.PyArray_SIZE(dy) > 0:
        x = view(dy)
        x.size[2] = x.stride[2] = 1
        return sum_view(&x, dy.dtype, (x.size[1],))
    return sum_channels(dy.reshape(dy.shape[0], dy.shape[1], -1) if dy.size else dy.reshape(0, dy.shape[1], 1))


cdef cnp.ndarray sum_middle(cnp.ndarray a):
    """a (before, count, after), C-contiguous -> (before, after)."""
    cdef cnp.ndarray total
    cdef int64_t i
    if a.shape[2] == 1:  # rows: channels whose positions are summed
        return sum_channels(a.reshape(1, a.shape[0], a.shape[1])).reshape(a.shape[0], 1)
    total = empty((a.shape[0], a.shape[2]), a.dtype)
    for i in range(a.shape[0]):
        total[i] = sum_channels(a[i].reshape(a.shape[1], a.shape[2], 1))
    return total


cdef object sum_pixels(cnp.ndarray a, bint all_images):
    """a (N, C, L), channels side by side -> (C,), or (N, C): read where it lies."""
    cdef cnp.ndarray total
    cdef int64_t i
    if all_images:
        return sum_channels(a)
    total = empty((a.shape[0], a.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        total[i] = sum_channels(a[i : i + 1])
    return total


def sum_(cnp.ndarray a, axis=None, bint keepdims=False):
    """The sum over ``axis``; shape and memory order decide the order of the additions."""
    cdef View x
    if axis is None and not keepdims and a.ndim and cnp.PyArray_SIZE(a) > 0 and cnp.PyArray_IS_C_CONTIGUOUS(a):
        x.data, x.itemsize = <char*> cnp.PyArray_DATA(a), <int> cnp.PyArray_ITEMSIZE(a)
        x.size[0] = x.size[1] = x.stride[2] = 1
        x.size[2] = x.stride[0] = x.stride[1] = cnp.PyArray_SIZE(a)
        return sum_view(&x, a.dtype, ())
    sizes = (<object> a).shape
    every = tuple(range(a.ndim))
    wanted = every if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = {every[i] for i in wanted}  # an axis that is not there is an IndexError
    kept = tuple([1 if i in axes else size for i, size in enumerate(sizes)])
    shape = kept if keepdims else tuple([size for i, size in enumerate(sizes) if i not in axes])
    if a.size == 0:
        return np.zeros(shape, a.dtype)
    if len(sizes) > 2 and 1 not in axes and axes.issuperset(every[2:]) and np.moveaxis(a, 1, -1).flags.c_contiguous:
        return sum_pixels((<object> a).reshape(sizes[0], sizes[1], -1), 0 in axes).reshape(shape)
    total = over_axes(contiguous(a), axes, sum_middle).reshape(shape)
    return total.copy() if np.shares_memory(total, a) else total


def extremes(cnp.ndarray a, axis, bint largest):
    """See ``Backend.extremes``."""
    cdef tuple order = tuple(np.argsort([-abs(stride) for stride in (<object> a).strides], kind="stable").tolist())
    moved = contiguous(a.transpose(order))
    best = over_axes(moved, {order.index(i) for i in axis}, largest_middle if largest else smallest_middle)
    best = best.transpose([order.index(i) for i in range(a.ndim)])
    return best.copy() if np.shares_memory(best, a) else best


def matches(cnp.ndarray a, cnp.ndarray best):
    """See ``Backend.matches``."""
    return run_map(table(a).matches, (a, best), 0)


ctypedef cnp.ndarray (*fold_middle)(cnp.ndarray a)


cdef object over_axes(object total, set axes, fold_middle fold):
    """Fold ``axes`` of a C-contiguous array to size 1; neighbours at once, the last ones first."""
    cdef int first, end = total.ndim
    for first in range(total.ndim - 1, -2, -1):
        if first >= 0 and first in axes:
            continue
        if end > first + 1 and first + 1 in axes:
            sizes = total.shape
            before, count, after = product(sizes[:first + 1]), product(sizes[first + 1:end]), product(sizes[end:])
            total = fold(total.reshape(before, count, after))
            total = total.reshape(sizes[:first + 1] + (1,) * (end - first - 1) + sizes[end:])
        end = first
    return total


cdef cnp.ndarray largest_middle(cnp.ndarray a):
    return best_middle(a, True)


cdef cnp.ndarray smallest_middle(cnp.ndarray a):
    return best_middle(a, False)


cdef int64_t product(sizes) except -1:
    cdef int64_t total = 1
    for size in sizes:
        total *= size
    return total
