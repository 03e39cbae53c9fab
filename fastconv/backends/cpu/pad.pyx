"""Padding. Each position of a padded axis copies one of its inputs, or none, so a row of the result is a run that is
copied as it lies and a few positions beside it, and everything is written once. The gradient of a border that copies
is that of a resampling whose weights are 1.

The result is walked in the order of its memory. Axes that are not padded and follow each other in both arrays are one;
if the last of all is such, its elements move together, and the one before it is the row.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from functools import lru_cache

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels
from fastconv.backends.cpu.copies cimport copy_into, empty_like_order
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

from fastconv.backends.cpu.resample import resample_backward
from fastconv.resampling import nearest_taps, padding_sources

cnp.import_array()

cdef enum:
    MOST_AXES = 66      # NumPy's own limit, and two of size 1
    PIECE = 16384       # elements a task
    SHORT_BYTES = 64    # of a run that is copied here


ctypedef fused number:
    float
    double


cdef struct Axis:
    const int64_t* source   # which input a position copies, -1: none; NULL: its own
    int64_t size, stride    # of the result; of x, in elements


cdef struct Padding:
    const fc_kernels* kernels
    char* y
    const char* x
    Axis axis[MOST_AXES]    # slowest first, two at least; the last is the row
    int axes, itemsize
    int64_t inner, inner_stride     # elements that move together, and their stride in x
    int64_t start, stop             # the positions of a row that copy neighbours
    int64_t columns, across         # positions of a row that are a piece, pieces of a row
    int64_t pieces, share           # in all, a task
    double value


cdef inline void fill(const Padding* p, char* y, int64_t count) noexcept nogil:
    cdef int64_t i
    if p.itemsize == 4:
        for i in range(count):
            (<float*> y)[i] = <float> p.value
    else:
        for i in range(count):
            (<double*> y)[i] = p.value


cdef inline void copy_run(const Padding* p, char* y, const char* x, int64_t positions) noexcept nogil:
    """Neighbouring positions of a row."""
    cdef int64_t stride = p.axis[p.axes - 1].stride
    cdef fc_copy2d copy
    if p.inner_stride == 1 and stride == p.inner:
        memcpy(y, x, positions * p.inner * p.itemsize)
        return
    copy.dst, copy.src, copy.dj = y, x, 1
    copy.rows, copy.columns, copy.si, copy.sj = positions, p.inner, stride, p.inner_stride
    if p.inner == 1:
        copy.rows, copy.columns, copy.si, copy.sj = 1, positions, 0, stride
    copy.ld = copy.padded = copy.columns
    p.kernels.copy2d(&copy)


cdef inline int64_t source_of(const Axis* axis, int64_t position) noexcept nogil:
    return position if axis.source == NULL else axis.source[position]


cdef inline void copy_short(char* y, const char* x, int64_t bytes) noexcept nogil:
    """``bytes`` bytes, 16 at least, in pieces whose size the compiler knows; the last two overlap."""
    cdef int64_t i
    for i in range(0, bytes - 16, 16):
        memcpy(y + i, x + i, 16)
    memcpy(y + bytes - 16, x + bytes - 16, 16)


cdef inline void pad_elements(const Padding* p, const Axis* row, number* y, const number* x, int64_t first,
                              int64_t last) noexcept nogil:
    """Positions [first, last) of a row whose elements lie side by side."""
    cdef int64_t start = min(max(p.start, first), last), stop = min(max(p.stop, first), last), position
    cdef int64_t bytes = (stop - start) * sizeof(number)
    cdef number value = <number> p.value
    for position in range(first, start):
        y[position - first] = x[row.source[position]] if row.source[position] >= 0 else value
    for position in range(stop, last):
        y[position - first] = x[row.source[position]] if row.source[position] >= 0 else value
    if start == stop:
        return
    x += source_of(row, start)
    if 16 <= bytes <= SHORT_BYTES:
        copy_short(<char*> (y + start - first), <const char*> x, bytes)
    else:
        memcpy(y + start - first, x, bytes)


cdef inline char* border(const Padding* p, char* y, const char* x, int64_t first, int64_t last) noexcept nogil:
    """Write the positions [first, last) of a row one by one; return where the next one goes."""
    cdef const Axis* row = &p.axis[p.axes - 1]
    cdef int64_t position, source
    for position in range(first, last):
        source = source_of(row, position)
        if source < 0:
            fill(p, y, p.inner)
        else:
            copy_run(p, y, x + source * row.stride * p.itemsize, 1)
        y += p.inner * p.itemsize
    return y


cdef const char* rows_of(const Padding* p, int64_t place) noexcept nogil:
    """The inputs of a place of the axes before the last two; NULL where they have none."""
    cdef const char* x = p.x
    cdef const Axis* axis
    cdef int64_t at
    cdef int k
    for k in range(p.axes - 3, -1, -1):
        axis = &p.axis[k]
        at = source_of(axis, place % axis.size)
        place //= axis.size
        if at < 0:
            return NULL
        x += at * axis.stride * p.itemsize
    return x


cdef void pad_pieces(void* context, int64_t index) noexcept nogil:
    """A piece is a part of a row, index = (place * lines + line) * across + part."""
    cdef const Padding* p = <const Padding*> context
    cdef const Axis* line = &p.axis[p.axes - 2]
    cdef const Axis* row = &p.axis[p.axes - 1]
    cdef int64_t piece = index * p.share, end = min(p.pieces, (index + 1) * p.share), first, last, start, stop, source
    cdef int64_t part = piece % p.across, at = piece // p.across % line.size, place = piece // p.across // line.size
    cdef const char* rows = rows_of(p, place)
    cdef const char* x
    cdef char* y
    while piece < end:
        first = part * p.columns
        last = min(row.size, first + p.columns)
        y = p.y + ((place * line.size + at) * row.size + first) * p.inner * p.itemsize
        source = source_of(line, at)
        if rows == NULL or source < 0:
            fill(p, y, (last - first) * p.inner)
        elif p.inner == 1 and row.stride == 1 and p.itemsize == 4:
            pad_elements[float](p, row, <float*> y, <const float*> rows + source * line.stride, first, last)
        elif p.inner == 1 and row.stride == 1:
            pad_elements[double](p, row, <double*> y, <const double*> rows + source * line.stride, first, last)
        else:
            x = rows + source * line.stride * p.itemsize
            start, stop = min(max(p.start, first), last), min(max(p.stop, first), last)
            y = border(p, y, x, first, start)
            if start < stop:
                copy_run(p, y, x + source_of(row, start) * row.stride * p.itemsize, stop - start)
            border(p, y + (stop - start) * p.inner * p.itemsize, x, stop, last)
        piece, part = piece + 1, part + 1
        if part == p.across:
            part, at = 0, at + 1
        if at == line.size:
            at, place = 0, place + 1
            rows = rows_of(p, place)


@lru_cache(maxsize=256)
def _sources(int64_t size, int64_t before, int64_t after, mode):
    """Return what each position copies; and the run of neighbours among them."""
    source, copies = padding_sources(size, before, after, mode)
    table = np.ascontiguousarray(np.where(copies, source, -1), np.int64)
    return table, max(before, 0), len(table) - max(after, 0)


def pad_forward(x, widths, mode, double value):
    """See ``Backend.pad_forward``."""
    cdef cnp.ndarray y = empty_like_order(x, tuple([max(size + before + after, 0) for size, (before, after)
                                                    in zip(x.shape, widths, strict=True)]))
    cdef Padding p
    cdef Axis* last
    cdef cnp.ndarray table
    cdef int64_t size, stride, start = 0, stop = 0, count = cnp.PyArray_SIZE(y)
    cdef list kept = []
    if count == 0:
        return y
    if not any(map(any, widths)):
        copy_into(y, x)
        return y
    p.itemsize, p.value = <int> x.itemsize, value
    p.kernels = kernels(p.itemsize)
    p.x, p.y = <const char*> cnp.PyArray_DATA(x), <char*> cnp.PyArray_DATA(y)
    p.axes = 2
    p.axis[0].size = p.axis[1].size = 1
    p.axis[0].stride = p.axis[1].stride = 0
    p.axis[0].source = p.axis[1].source = NULL
    for axis in sorted(range(x.ndim), key=lambda axis: -y.strides[axis]):
        size, stride, last = y.shape[axis], x.strides[axis] // p.itemsize, &p.axis[p.axes - 1]
        if any(widths[axis]):
            table, start, stop = _sources(x.shape[axis], *widths[axis], mode)
            kept.append(table)
            last[1].source = <const int64_t*> cnp.PyArray_DATA(table)
            last[1].size, last[1].stride = size, stride
            p.axes += 1
        elif last.source == NULL and last.stride == stride * size:
            last.size, last.stride = last.size * size, stride
        elif size > 1:
            last[1].source = NULL
            last[1].size, last[1].stride = size, stride
            p.axes += 1
    p.inner = p.inner_stride = 1
    last = &p.axis[p.axes - 1]
    if last.source == NULL:
        p.inner, p.inner_stride = last.size, last.stride
        p.axes -= 1
    last = &p.axis[p.axes - 1]
    p.start, p.stop = 0, last.size
    if last.source != NULL:
        p.start, p.stop = start, stop
    with nogil:
        p.columns = min(last.size, max(<int64_t> 1, PIECE // p.inner))
        p.across = ceil_div(last.size, p.columns)
        p.pieces = count // (last.size * p.inner) * p.across
        p.share = max(<int64_t> 1, PIECE // (p.columns * p.inner))
        parallel_for(ceil_div(p.pieces, p.share), pad_pieces, &p)
    return y


def pad_backward(dy, shape, widths, mode):
    """See ``Backend.pad_backward``; None for other than three to five axes, or where one of the first two is padded."""
    if mode == "constant":
        return pad_forward(dy, [(-before, -after) for before, after in widths], mode, 0.0)
    if not 3 <= len(shape) <= 5 or any([before or after for before, after in widths[:2]]):
        return None
    ones = (1,) * (5 - len(shape))
    axes = [None] * len(ones)
    for size, (before, after) in zip(shape[2:], widths[2:], strict=True):
        axes.append(_taps(size, before, after, mode) if before or after else None)
    lifted = dy.reshape(*dy.shape[:2], *ones, *dy.shape[2:])
    return resample_backward(lifted, axes, (*shape[:2], *ones, *shape[2:])).reshape(shape)


@lru_cache(maxsize=256)
def _taps(int64_t size, int64_t before, int64_t after, mode):
    return nearest_taps(padding_sources(size, before, after, mode)[0])
