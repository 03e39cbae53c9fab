"""Copies of whole arrays into parts of others, by all threads: concatenation.

An array and the part that receives it are walked in the order of the part's memory, neighbouring axes that are one to
both as one. The last two axes are a matrix, the rest a list of matrices; a task is a piece of them.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport order_axes
from fastconv.backends.cpu.runtime cimport _empty, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    MOST_AXES = 64              # NumPy's own limit
    TASK_BYTES = 128 * 1024


cdef struct Copy:
    const fc_kernels* kernels
    char* dst
    const char* src
    int axes
    int64_t itemsize
    int64_t size[MOST_AXES]     # slowest first in the destination's memory
    int64_t ds[MOST_AXES]       # strides, elements
    int64_t ss[MOST_AXES]
    int64_t share, across       # rows a task, tasks a matrix


cdef void merge_axes(Copy* c, cnp.ndarray dst, cnp.ndarray src):
    """Set sizes and strides, at least two axes."""
    cdef int[MOST_AXES] order
    cdef int k, axis, last
    cdef int64_t size, ds, ss
    order_axes(dst, order)
    c.axes = 0
    for k in range(cnp.PyArray_NDIM(dst)):
        axis, last = order[k], c.axes - 1
        size = cnp.PyArray_DIM(dst, axis)
        ds, ss = cnp.PyArray_STRIDE(dst, axis) // c.itemsize, cnp.PyArray_STRIDE(src, axis) // c.itemsize
        if size == 1:
            continue
        if last >= 0 and c.ds[last] == ds * size and c.ss[last] == ss * size:
            c.size[last] *= size
        else:
            last = c.axes
            c.axes += 1
            c.size[last] = size
        c.ds[last], c.ss[last] = ds, ss
    while c.axes < 2:  # put axes of one element in front
        for k in range(c.axes, 0, -1):
            c.size[k], c.ds[k], c.ss[k] = c.size[k - 1], c.ds[k - 1], c.ss[k - 1]
        c.size[0], c.ds[0], c.ss[0] = 1, 0, 0
        c.axes += 1


cdef void copy_piece(void* context, int64_t index) noexcept nogil:
    """index = matrix * across + piece."""
    cdef Copy* c = <Copy*> context
    cdef int rows = c.axes - 2, columns = c.axes - 1, k
    cdef int64_t first = index % c.across * c.share, matrix = index // c.across, at = first * c.ds[rows]
    cdef int64_t source = first * c.ss[rows]
    cdef fc_copy2d copy
    for k in range(rows - 1, -1, -1):
        at += matrix % c.size[k] * c.ds[k]
        source += matrix % c.size[k] * c.ss[k]
        matrix //= c.size[k]
    copy.dst, copy.src = c.dst + at * c.itemsize, c.src + source * c.itemsize
    copy.rows, copy.columns = min(c.share, c.size[rows] - first), c.size[columns]
    copy.padded, copy.ld, copy.dj = copy.columns, c.ds[rows], c.ds[columns]
    copy.si, copy.sj = c.ss[rows], c.ss[columns]
    c.kernels.copy2d(&copy)


cdef void copy_into(cnp.ndarray dst, cnp.ndarray src):
    cdef Copy c
    cdef int64_t matrices = 1
    cdef int k
    if cnp.PyArray_SIZE(src) == 0:
        return
    c.itemsize = cnp.PyArray_ITEMSIZE(dst)
    c.kernels = kernels(<int> c.itemsize)
    c.dst, c.src = <char*> cnp.PyArray_DATA(dst), <const char*> cnp.PyArray_DATA(src)
    merge_axes(&c, dst, src)
    for k in range(c.axes - 2):
        matrices *= c.size[k]
    c.share = max(<int64_t> 1, TASK_BYTES // (c.size[c.axes - 1] * c.itemsize))
    c.across = ceil_div(c.size[c.axes - 2], c.share)
    with nogil:
        parallel_for(matrices * c.across, copy_piece, &c)


def cat(arrays, int axis, out=None):
    """See ``Backend.cat``: in the memory order of the first array."""
    cdef cnp.ndarray first = arrays[0], y
    cdef list shape = [first.shape[i] for i in range(first.ndim)]
    cdef tuple part = (slice(None),) * axis
    cdef int[MOST_AXES] order
    shape[axis] = 0
    for array in arrays:
        shape[axis] += array.shape[axis]
    order_axes(first, order)
    y = _empty(tuple(shape), first.ndim, first.dtype, order) if out is None else out
    start = 0
    for array in arrays:
        end = start + array.shape[axis]
        copy_into(y[(*part, slice(start, end))], array)
        start = end
    return y
