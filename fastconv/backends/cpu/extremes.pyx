"""Maxima and minima along the middle of three axes. Parts of a long axis are tasks of their own, and their results are
one more such array.
"""

cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_reduce
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.rows cimport reduce_kernel
from fastconv.backends.cpu.runtime cimport empty, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    LEAST = 64          # of the axis, a task
    COLUMNS = 1024      # a task, where columns lie side by side
    PART = 65536        # elements a task


cdef struct Best:
    reduce_kernel kernel
    const char* x           # (before, count, after)
    char* y                 # (before, parts, after)
    int64_t before, count, after, parts, rows   # rows: of the count, a part
    int64_t blocks, share                       # of columns; rows (before) a task where after is 1
    double nothing
    int itemsize


cdef inline void fill(const Best* b, char* y, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        if b.itemsize == 4:
            (<float*> y)[i] = <float> b.nothing
        else:
            (<double*> y)[i] = b.nothing


cdef void best_columns(void* context, int64_t index) noexcept nogil:
    """index = (before * parts + part) * blocks + block of columns"""
    cdef Best* b = <Best*> context
    cdef int64_t column = index % b.blocks * COLUMNS, place = index // b.blocks
    cdef int64_t first = place % b.parts * b.rows
    cdef char* y = b.y + (place * b.after + column) * b.itemsize
    cdef fc_reduce call
    call.first, call.ldx, call.columns = y, b.after, min(<int64_t> COLUMNS, b.after - column)
    call.rows = min(b.rows, b.count - first)
    call.x = b.x + ((place // b.parts * b.count + first) * b.after + column) * b.itemsize
    fill(b, y, call.columns)
    b.kernel(&call)


cdef void best_rows(void* context, int64_t index) noexcept nogil:
    """Whole rows, or a part of one."""
    cdef Best* b = <Best*> context
    cdef int64_t row = index * b.share, first = row % b.parts * b.rows
    cdef fc_reduce call
    call.first, call.x = b.y + row * b.itemsize, b.x + (row // b.parts * b.count + first) * b.itemsize
    call.rows, call.columns, call.ldx = min(b.share, b.before * b.parts - row), min(b.rows, b.count - first), b.count
    b.kernel(&call)


cdef cnp.ndarray best_middle(cnp.ndarray a, bint largest):
    cdef Best b
    cdef cnp.ndarray y
    cdef const fc_kernels* table = kernels(<int> cnp.PyArray_ITEMSIZE(a))
    b.before, b.count, b.after = a.shape[0], a.shape[1], a.shape[2]
    b.itemsize = <int> cnp.PyArray_ITEMSIZE(a)
    if b.after == 1:
        b.kernel = table.max_columns if largest else table.min_columns
    else:
        b.kernel = table.max_rows if largest else table.min_rows
        b.nothing = -INFINITY if largest else INFINITY
    b.rows = max(<int64_t> LEAST, PART // max(<int64_t> 1, min(b.after, <int64_t> COLUMNS)))
    b.parts, b.blocks = ceil_div(b.count, b.rows), ceil_div(b.after, COLUMNS)
    b.share = 1 if b.parts > 1 else max(<int64_t> 1, PART // 4 // b.count)
    y = empty((b.before, b.parts, b.after), a.dtype, "C")
    b.x, b.y = <const char*> cnp.PyArray_DATA(a), <char*> cnp.PyArray_DATA(y)
    if b.before * b.after:
        with nogil:
            if b.after == 1:
                parallel_for(ceil_div(b.before * b.parts, b.share), best_rows, &b)
            else:
                parallel_for(b.before * b.parts * b.blocks, best_columns, &b)
    return y if b.parts <= 1 else best_middle(y, largest)
