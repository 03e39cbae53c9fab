"""Resampling of (N, C, D, H, W), forward and its adjoint: weighted sums of rows, with a list of taps for each output.

A tile is a run of output rows and columns of one sample, one plane and a block of channels. Its source is a matrix of
pixels with neighbouring channels: read in place where channels lie side by side, else turned into one in the workspace.
An output row is summed in two steps: the source's rows over depth and height, then its pixels along the width; where
outputs share no pixels, the kernel takes both steps at once. Each output's sum has one order, whatever the tiles.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

from functools import lru_cache

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_weighted_rows
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport empty, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    BLOCK = 32              # channels of a tile that is turned
    TILE_BYTES = 256 * 1024
    MOST_TAPS = 256         # of depth and height, in one call of the kernel


cdef struct Axis:
    const int64_t* start    # (outputs + 1,); NULL: the axis stays as it is
    const int64_t* index
    const double* weight
    const void* rounded     # the weights in the arrays' dtype


cdef struct Resampling:
    const fc_kernels* kernels
    View x, y
    Axis axis[3]
    bint in_place           # channels lie side by side
    bint failed
    int64_t channels, rows, columns     # of a tile
    int64_t across_channels, down, across


@lru_cache(maxsize=256)
def _lists(taps, int64_t outputs, adjoint, dtype):
    """Return start, index, weight and weight in ``dtype``: of each output, or, of the adjoint, of each input."""
    counts = np.full(outputs, taps.index.shape[1])
    index, weight = taps.index.ravel(), taps.weight.ravel()
    if adjoint:
        order = np.argsort(index, kind="stable")
        counts = np.bincount(index, minlength=outputs)
        index, weight = order // taps.index.shape[1], weight[order]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return start, np.ascontiguousarray(index, np.int64), np.ascontiguousarray(weight), weight.astype(dtype)


cdef inline int64_t taps_of(const Axis* axis, int64_t o) noexcept nogil:
    return 1 if axis.start == NULL else axis.start[o + 1] - axis.start[o]


cdef void reach(const Axis* axis, int64_t first, int64_t last, int64_t* low, int64_t* high) noexcept nogil:
    """The inputs [low, high) that outputs [first, last) see."""
    cdef int64_t t
    if axis.start == NULL:
        low[0], high[0] = first, last
        return
    low[0], high[0] = 0, 0
    for t in range(axis.start[first], axis.start[last]):
        if t == axis.start[first] or axis.index[t] < low[0]:
            low[0] = axis.index[t]
        if t == axis.start[first] or axis.index[t] >= high[0]:
            high[0] = axis.index[t] + 1


cdef struct Source:
    # Pixels of a tile: pixel (d, h, w) from (d0, h0, w0) on.
    const char* data
    int64_t d0, h0, w0
    int64_t depth, height, width    # strides in elements
    int64_t pixels                  # of a row


cdef int64_t row_taps(const Resampling* r, int64_t od, int64_t oh) noexcept nogil:
    """How many rows an output row weighs, over depth and height."""
    return taps_of(&r.axis[0], od) * taps_of(&r.axis[1], oh)


cdef void list_rows(const Resampling* r, const Source* s, int64_t od, int64_t oh, int64_t first, int64_t count,
                    int64_t* offset, double* weight) noexcept nogil:
    """Where ``count`` of these rows from ``first`` on lie, and their weights in the arrays' dtype."""
    cdef const Axis* d = &r.axis[0]
    cdef const Axis* h = &r.axis[1]
    cdef int64_t high = taps_of(h, oh), k, i, j, row, plane
    cdef double w
    for k in range(count):
        i, j = (first + k) // high, (first + k) % high
        plane = (od if d.start == NULL else d.index[d.start[od] + i]) - s.d0
        row = (oh if h.start == NULL else h.index[h.start[oh] + j]) - s.h0
        w = 1.0 if d.start == NULL else d.weight[d.start[od] + i]
        if h.start != NULL:
            w *= h.weight[h.start[oh] + j]
        offset[k] = plane * s.depth + row * s.height
        if r.x.itemsize == 4:
            (<float*> weight)[k] = <float> w
        else:
            weight[k] = w


cdef void sum_rows(const Resampling* r, const Source* s, int64_t od, int64_t oh, char* y,
                   int64_t columns) noexcept nogil:
    """y (columns,) <- the rows over depth and height, MOST_TAPS at a time."""
    cdef int64_t[MOST_TAPS] offset
    cdef double[MOST_TAPS] weight
    cdef int64_t[2] start
    cdef int64_t taps = row_taps(r, od, oh), first = 0
    cdef fc_weighted_rows call
    start[0] = 0
    call.y, call.x, call.start, call.row, call.weight = y, s.data, start, offset, weight
    call.outputs, call.columns, call.ldy, call.ldx, call.accumulate, call.parts = 1, columns, 0, 1, 0, 0
    while first < taps or first == 0:
        start[1] = min(taps - first, <int64_t> MOST_TAPS)
        list_rows(r, s, od, oh, first, start[1], offset, weight)
        r.kernels.weighted_rows(&call)
        first, call.accumulate = first + MOST_TAPS, 1


cdef void use_pixels(const Resampling* r, const Source* s, const char* row, int64_t first, int64_t last, char* y,
                     int64_t ldy, int64_t channels, fc_weighted_rows* call) noexcept nogil:
    call.y, call.x = y, row - s.w0 * s.width * r.x.itemsize
    call.start, call.row, call.weight = r.axis[2].start + first, r.axis[2].index, r.axis[2].rounded
    call.outputs, call.columns, call.ldy, call.ldx, call.accumulate = last - first, channels, ldy, s.width, 0
    call.parts = 0


cdef void sum_pixels(const Resampling* r, const Source* s, const char* row, int64_t first, int64_t last, char* y,
                     int64_t ldy, int64_t channels) noexcept nogil:
    """y (last - first, channels) <- a row's pixels along the width."""
    cdef fc_weighted_rows call
    use_pixels(r, s, row, first, last, y, ldy, channels, &call)
    r.kernels.weighted_rows(&call)


cdef bint sum_at_once(const Resampling* r, const Source* s, int64_t od, int64_t oh, int64_t first, int64_t last,
                      char* y, int64_t ldy, int64_t channels) noexcept nogil:
    """Both sums without a row between them: the same bits. False where outputs share pixels, which would be summed
    more than once."""
    cdef int64_t[MOST_TAPS] offset
    cdef double[MOST_TAPS] weight
    cdef int64_t taps = row_taps(r, od, oh)
    cdef fc_weighted_rows call
    if taps == 0 or taps > MOST_TAPS or r.axis[2].start[last] - r.axis[2].start[first] > s.pixels:
        return False
    list_rows(r, s, od, oh, 0, taps, offset, weight)
    use_pixels(r, s, s.data, first, last, y, ldy, channels, &call)
    call.parts, call.offset, call.share = <int32_t> taps, offset, weight
    r.kernels.weighted_rows(&call)
    return True


cdef inline bint is_one_row(const Resampling* r, int64_t od, int64_t oh, int64_t* d, int64_t* h) noexcept nogil:
    """Whether an output row is one source row as it is, and which."""
    cdef const Axis* axis
    cdef int k
    d[0], h[0] = od, oh
    for k in range(2):
        axis = &r.axis[k]
        if axis.start == NULL:
            continue
        if taps_of(axis, oh if k else od) != 1 or axis.weight[axis.start[oh if k else od]] != 1.0:
            return False
        (h if k else d)[0] = axis.index[axis.start[oh if k else od]]
    return True


cdef void turn_in(const Resampling* r, int64_t n, int64_t c, int64_t channels, Source* s, int64_t d1, int64_t h1,
                  char* to) noexcept nogil:
    """Fill ``to`` (depth, height, pixels, channels) from an array whose positions lie side by side."""
    cdef int64_t size = r.x.itemsize, d, h
    cdef const char* base = r.x.data + (n * r.x.stride[0] + c * r.x.stride[1] + s.w0 * r.x.stride[4]) * size
    cdef fc_copy2d copy
    copy.rows, copy.columns, copy.padded = s.pixels, channels, channels
    copy.si, copy.sj, copy.ld, copy.dj = r.x.stride[4], r.x.stride[1], channels, 1
    s.data, s.width, s.height = to, channels, s.pixels * channels
    s.depth = s.height * (h1 - s.h0)
    for d in range(s.d0, d1):
        for h in range(s.h0, h1):
            copy.dst = to + ((d - s.d0) * s.depth + (h - s.h0) * s.height) * size
            copy.src = base + (d * r.x.stride[2] + h * r.x.stride[3]) * size
            r.kernels.copy2d(&copy)


cdef void turn_out(const Resampling* r, const char* pixels, int64_t channels, char* y, int64_t count) noexcept nogil:
    cdef fc_copy2d copy
    copy.dst, copy.src, copy.rows, copy.columns, copy.padded = y, pixels, channels, count, count
    copy.ld, copy.dj, copy.si, copy.sj = r.y.stride[1], 1, 1, channels
    r.kernels.copy2d(&copy)


cdef void resample_tile(void* context, int64_t index) noexcept nogil:
    """index = ((((n * blocks of channels) * OD + od) * blocks of rows) * blocks of columns)"""
    cdef Resampling* r = <Resampling*> context
    cdef int64_t size = r.x.itemsize, ow = index % r.across * r.columns, place = index // r.across
    cdef int64_t oh = place % r.down * r.rows, od = place // r.down % r.y.size[2], row, d, h
    cdef int64_t c = place // r.down // r.y.size[2] % r.across_channels * r.channels
    cdef int64_t n = place // r.down // r.y.size[2] // r.across_channels
    cdef int64_t channels = min(r.channels, r.x.size[1] - c)
    cdef int64_t last = min(ow + r.columns, r.y.size[4]), d1, h1, w1, tile = 0, line, out = 0, step
    cdef Source s
    cdef char* memory
    cdef char* y
    cdef char* pixels
    cdef const char* source
    reach(&r.axis[0], od, od + 1, &s.d0, &d1)
    reach(&r.axis[1], oh, min(oh + r.rows, r.y.size[3]), &s.h0, &h1)
    reach(&r.axis[2], ow, last, &s.w0, &w1)
    s.pixels = w1 - s.w0
    line = (s.pixels * channels * size + 63) // 64 * 64
    if not r.in_place:
        tile = ((d1 - s.d0) * (h1 - s.h0) * s.pixels * channels * size + 63) // 64 * 64
        out = (last - ow) * channels * size
    memory = <char*> workspace(tile + line + out + 64)
    if memory == NULL:
        r.failed = True
        return
    if r.in_place:
        s.depth, s.height, s.width = r.x.stride[2], r.x.stride[3], r.x.stride[4]
        s.data = r.x.data + (n * r.x.stride[0] + s.d0 * s.depth + s.h0 * s.height + s.w0 * s.width + c) * size
    else:
        turn_in(r, n, c, channels, &s, d1, h1, memory)
    pixels, step = memory + tile + line, channels
    for row in range(oh, min(oh + r.rows, r.y.size[3])):
        y = r.y.data + (n * r.y.stride[0] + c * r.y.stride[1] + od * r.y.stride[2] + row * r.y.stride[3]
                        + ow * r.y.stride[4]) * size
        if r.in_place:
            if r.axis[2].start == NULL:
                sum_rows(r, &s, od, row, y, s.pixels * channels)
                continue
            pixels, step = y, r.y.stride[4]
        source = NULL
        if is_one_row(r, od, row, &d, &h):
            source = s.data + ((d - s.d0) * s.depth + (h - s.h0) * s.height) * size
        elif r.axis[2].start == NULL or not sum_at_once(r, &s, od, row, ow, last, pixels, step, channels):
            source = memory + tile
            sum_rows(r, &s, od, row, memory + tile, s.pixels * channels)
        if source != NULL and r.axis[2].start != NULL:
            sum_pixels(r, &s, source, ow, last, pixels, step, channels)
        if not r.in_place:
            turn_out(r, source if r.axis[2].start == NULL else pixels, channels, y, last - ow)


cdef void cut(Resampling* r) noexcept nogil:
    """Choose tiles whose source and result are some hundred KB."""
    cdef int64_t pixel, rows
    r.channels = r.x.size[1] if r.in_place else min(r.x.size[1], <int64_t> BLOCK)
    r.across_channels = ceil_div(r.x.size[1], r.channels)
    pixel = r.channels * r.x.itemsize
    r.columns = max(<int64_t> 1, min(r.y.size[4], TILE_BYTES // pixel * r.y.size[4] // max(r.x.size[4], r.y.size[4])))
    if r.in_place and r.axis[2].start == NULL:
        r.columns = r.y.size[4]     # rows are read as they lie
    r.across = ceil_div(r.y.size[4], r.columns)
    rows = max(r.columns, r.columns * r.x.size[4] // r.y.size[4]) * max(<int64_t> 1, r.x.size[3] // r.y.size[3])
    r.rows = max(<int64_t> 1, min(r.y.size[3], TILE_BYTES // (rows * pixel)))
    r.down = ceil_div(r.y.size[3], r.rows)


cdef cnp.ndarray run(cnp.ndarray x, axes, sizes, adjoint):
    """-> y (N, C, *sizes)."""
    cdef Resampling r
    cdef cnp.ndarray y
    cdef list kept = []
    cdef int k
    r.x = view(x)
    r.in_place = x.shape[1] > 1 and r.x.stride[1] == 1 and r.x.stride[4] == r.x.size[1]
    if not r.in_place and not (r.x.stride[4] == 1 or r.x.size[4] == 1):
        y = empty((<object> x).shape, x.dtype, "C")
        copy_into(y, x)
        x = y
        r.x = view(x)
    y = empty((x.shape[0], x.shape[1], *sizes), x.dtype, "channels_last" if r.in_place else "C")
    r.y = view(y)
    r.kernels, r.failed = kernels(r.x.itemsize), False
    for k in range(3):
        r.axis[k].start = NULL
        if axes[k] is not None:
            lists = _lists(axes[k], sizes[k], adjoint, x.dtype)
            kept.append(lists)
            r.axis[k].start = <const int64_t*> cnp.PyArray_DATA(lists[0])
            r.axis[k].index = <const int64_t*> cnp.PyArray_DATA(lists[1])
            r.axis[k].weight = <const double*> cnp.PyArray_DATA(lists[2])
            r.axis[k].rounded = cnp.PyArray_DATA(lists[3])
    if y.size == 0:
        return y
    if not kept:
        copy_into(y, x)
        return y
    with nogil:
        cut(&r)
        parallel_for(r.y.size[0] * r.across_channels * r.y.size[2] * r.down * r.across, resample_tile, &r)
    if r.failed:
        raise MemoryError("resampling: no memory for a workspace")
    return y


def resample_forward(x, axes):
    """See ``Backend.resample_forward``."""
    sizes = [x.shape[2 + i] if taps is None else len(taps.index) for i, taps in enumerate(axes)]
    return run(x, axes, sizes, False)


def resample_backward(dy, axes, shape):
    """See ``Backend.resample_backward``."""
    return run(dy, axes, list(shape[2:]), True)
