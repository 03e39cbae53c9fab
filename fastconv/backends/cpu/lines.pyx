"""Sums over each row of a matrix, as group norm asks for: a row is the numbers of a group, or of a channel. Rows that
stay in the first-level cache are read there twice; longer ones are channels of rows.pyx and moments.pyx.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_moments, fc_reduce
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.moments cimport channel_moments
from fastconv.backends.cpu.rows cimport reduce_channels
from fastconv.backends.cpu.runtime cimport parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    SHORT = 8192                # numbers a row
    TASK_BYTES = 64 * 1024


cdef struct Lines:
    const fc_kernels* kernels
    fc_moments moments
    fc_reduce sums
    int64_t rows, share         # all, and those of a task
    int itemsize


cdef inline const char* at(const void* values, int64_t place, int64_t size) noexcept nogil:
    return <const char*> values + place * size


cdef void take_moments(void* context, int64_t index) noexcept nogil:
    cdef Lines* lines = <Lines*> context
    cdef fc_moments call = lines.moments
    cdef int64_t row = index * lines.share
    call.rows, call.x = min(lines.share, lines.rows - row), at(call.x, row * call.ldx, lines.itemsize)
    call.start, call.offset, call.square = call.start + row, call.offset + row, call.square + row
    lines.kernels.moment_lines(&call)


cdef void take_gradients(void* context, int64_t index) noexcept nogil:
    cdef Lines* lines = <Lines*> context
    cdef fc_reduce call = lines.sums
    cdef int64_t row = index * lines.share, size = lines.itemsize
    call.rows, call.mean = min(lines.share, lines.rows - row), at(call.mean, row, size)
    call.x, call.dy = at(call.x, row * call.ldx, size), at(call.dy, row * call.lddy, size)
    call.first, call.second = <void*> at(call.first, row, size), <void*> at(call.second, row, size)
    lines.kernels.gradient_lines(&call)


cdef int64_t use(Lines* lines, cnp.ndarray x, int64_t columns):
    """Set what a task takes; return how many tasks there are."""
    lines.itemsize = <int> cnp.PyArray_ITEMSIZE(x)
    lines.kernels, lines.rows = kernels(lines.itemsize), cnp.PyArray_SIZE(x) // columns
    lines.share = max(<int64_t> 1, TASK_BYTES // (columns * lines.itemsize))
    return ceil_div(lines.rows, lines.share)


cdef tuple line_moments(cnp.ndarray lines):
    """lines (R, K) in C order -> means and biased variances, float64, (R,); zeros where K is 0."""
    cdef Lines l
    cdef int64_t rows = cnp.PyArray_DIM(lines, 0), columns = cnp.PyArray_DIM(lines, 1), tasks
    cdef cnp.ndarray start, offset, square
    if columns > SHORT or rows * columns == 0:
        mean, variance = channel_moments((<object> lines).reshape(1, rows, columns), False)
        return mean[0], variance[0]
    start, offset, square = np.empty(rows), np.empty(rows), np.empty(rows)
    l.moments.x, l.moments.columns, l.moments.ldx = cnp.PyArray_DATA(lines), columns, columns
    l.moments.start, l.moments.offset = <double*> cnp.PyArray_DATA(start), <double*> cnp.PyArray_DATA(offset)
    l.moments.square, l.moments.count = <double*> cnp.PyArray_DATA(square), 0
    tasks = use(&l, lines, columns)
    with nogil:
        parallel_for(tasks, take_moments, &l)
    return start + offset, np.maximum(square, 0) / columns


cdef int line_gradients(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray mean, cnp.ndarray total,
                        cnp.ndarray moment) except -1:
    """x, dy (1, R, K) in C order -> total (R,), the sums of dy, and moment (R,), those of dy * (x - mean)."""
    cdef View xv = view(x), dyv = view(dy)
    cdef Lines l
    cdef int64_t columns = xv.size[2], tasks
    l.sums.mean, l.sums.scale, l.sums.shift = cnp.PyArray_DATA(mean), NULL, NULL
    l.sums.first, l.sums.second = cnp.PyArray_DATA(total), cnp.PyArray_DATA(moment)
    if columns > SHORT or xv.size[1] * columns == 0:
        return reduce_channels(kernels(xv.itemsize).gradient_rows, &l.sums, &xv, &dyv, <char*> l.sums.first,
                               <char*> l.sums.second, False)
    l.sums.x, l.sums.dy, l.sums.columns, l.sums.ldx, l.sums.lddy = xv.data, dyv.data, columns, columns, columns
    tasks = use(&l, x, columns)
    with nogil:
        parallel_for(tasks, take_gradients, &l)
    return 0
