"""Maxima and minima along the middle of three axes. Parts of a long axis are tasks of their own, and their results are
one more such array; where nothing lies behind the axis, rows are read in lanes, short ones turned to columns first.
"""

cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_reduce
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.rows cimport reduce_kernel
from fastconv.backends.cpu.runtime cimport empty, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    WIDE = 64           # rows that are turned at a time, and lanes of a row
    COLUMNS = 1024      # a task, where columns lie side by side
    PART = 65536        # elements a task


cdef struct Best:
    reduce_kernel kernel
    const fc_kernels* kernels
    const char* x           # (before, count, after)
    char* y                 # (before, parts, after)
    int64_t before, count, after, parts, rows   # rows: of the count, a part
    int64_t blocks, share                       # of columns; rows (before) a task where after is 1
    double nothing
    int itemsize
    bint failed


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


cdef void best_short(Best* b, int64_t row, int64_t rows, char* turned) noexcept nogil:
    """Up to WIDE whole rows, turned: (count, rows)."""
    cdef fc_copy2d copy
    cdef fc_reduce call
    copy.dst, copy.src = turned, b.x + row * b.count * b.itemsize
    copy.rows, copy.columns, copy.padded = b.count, rows, rows
    copy.si, copy.sj, copy.ld, copy.dj = 1, b.count, rows, 1
    b.kernels.copy2d(&copy)
    call.first, call.x, call.rows, call.columns, call.ldx = b.y + row * b.itemsize, turned, b.count, rows, rows
    fill(b, b.y + row * b.itemsize, rows)
    b.kernel(&call)


cdef void best_long(Best* b, int64_t place, char* lanes) noexcept nogil:
    """A part of a row."""
    cdef int64_t first = place % b.parts * b.rows, count = min(b.rows, b.count - first), half = WIDE // 2
    cdef const char* x = b.x + (place // b.parts * b.count + first) * b.itemsize
    cdef fc_reduce call
    fill(b, lanes, WIDE)
    call.first, call.x, call.rows, call.columns, call.ldx = lanes, x, count // WIDE, WIDE, WIDE
    b.kernel(&call)
    if count % WIDE:
        call.x, call.rows, call.columns = x + (count - count % WIDE) * b.itemsize, 1, count % WIDE
        b.kernel(&call)
    call.rows = 1
    while half:
        call.x, call.columns = lanes + half * b.itemsize, half
        b.kernel(&call)
        half //= 2
    fill(b, b.y + place * b.itemsize, 1)
    call.first, call.x, call.columns = b.y + place * b.itemsize, lanes, 1
    b.kernel(&call)


cdef void best_rows(void* context, int64_t index) noexcept nogil:
    cdef Best* b = <Best*> context
    cdef int64_t row = index * b.share, last = min(b.before * b.parts, row + b.share), some
    cdef char* memory = <char*> workspace(WIDE * WIDE * 8)
    if memory == NULL:
        b.failed = True
        return
    while row < last:
        some = min(<int64_t> WIDE, last - row) if b.count <= WIDE else 1
        if b.count <= WIDE:
            best_short(b, row, some, memory)
        else:
            best_long(b, row, memory)
        row += some


cdef cnp.ndarray best_middle(cnp.ndarray a, bint largest):
    cdef Best b
    cdef cnp.ndarray y
    b.before, b.count, b.after = a.shape[0], a.shape[1], a.shape[2]
    b.itemsize, b.failed = <int> cnp.PyArray_ITEMSIZE(a), False
    b.kernels = kernels(b.itemsize)
    b.kernel, b.nothing = b.kernels.min_rows, INFINITY
    if largest:
        b.kernel, b.nothing = b.kernels.max_rows, -INFINITY
    b.rows = max(<int64_t> WIDE, PART // max(<int64_t> 1, min(b.after, <int64_t> COLUMNS)))
    b.parts, b.blocks = ceil_div(b.count, b.rows), ceil_div(b.after, COLUMNS)
    y = empty((b.before, b.parts, b.after), a.dtype, "C")
    b.x, b.y = <const char*> cnp.PyArray_DATA(a), <char*> cnp.PyArray_DATA(y)
    b.share = max(<int64_t> 1, PART // 4 // min(b.count, b.rows))
    if b.count <= WIDE:
        b.share = ceil_div(b.share, WIDE) * WIDE
    if b.before * b.after:
        with nogil:
            if b.after == 1:
                parallel_for(ceil_div(b.before * b.parts, b.share), best_rows, &b)
            else:
                parallel_for(b.before * b.parts * b.blocks, best_columns, &b)
    if b.failed:
        raise MemoryError("extremes: no memory for a workspace")
    return y if b.parts <= 1 else best_middle(y, largest)
