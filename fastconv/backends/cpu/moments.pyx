"""Mean and variance of each channel of (N, C, L), or of each of its samples, reading it once. Cut and layouts are those
of rows.pyx.

Partial results, groups of values with a count, a mean and a sum of squared distances, are in float64; what they say
together is worked out around the first one's mean, so that a mean far from 0 costs no digits.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_moments
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.rows cimport (
    LANES, Cut, channels_are_columns, cut_rows, element, in_kernel_layout, join_rows, rows_join
)
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()


cdef enum:
    PARTS_BYTES = 4 * 1024 * 1024
    TASK = 16384            # elements of neighbouring parts, at least


cdef int64_t moment_part(int64_t pixels, int64_t channels) noexcept nogil:
    return MOMENT_PART * max(<int64_t> 1, ceil_div(pixels * channels * 3 * sizeof(double), MOMENT_PART * PARTS_BYTES))


cdef struct Moments:
    const fc_kernels* kernels
    View x
    bint columns
    int64_t samples, pixels     # those that are taken apart, and the pixels of each
    Cut cut
    int64_t share       # parts a task
    double* partial     # (samples, parts, 3, C): start, offset, square


cdef void take_pixels(const Moments* m, int64_t sample, int64_t part, int64_t c, int64_t columns) noexcept nogil:
    """Channels as columns: the part's pixels, numbered n * L + spot from ``sample`` on."""
    cdef int64_t channels = m.x.size[1], pixel = part * m.cut.rows
    cdef int64_t last = min(pixel + m.cut.rows, m.pixels)
    cdef fc_moments call
    call.columns, call.ldx, call.count = columns, m.x.stride[2], 0
    call.start = m.partial + (sample * m.cut.parts + part) * 3 * channels + c
    call.offset, call.square = call.start + channels, call.start + 2 * channels
    while pixel < last:
        call.rows = min(min(last - pixel, m.x.size[2] - pixel % m.x.size[2]), <int64_t> MOMENT_ROWS)
        call.x = element(&m.x, sample + pixel // m.x.size[2], c, pixel % m.x.size[2])
        m.kernels.moment_rows(&call)
        call.count += call.rows
        pixel += call.rows


cdef struct Lanes:
    # Groups of `count` values each.
    double[LANES] start, offset, square
    int64_t columns, count


cdef void take_rows(const Moments* m, Lanes* lanes, const void* x, int64_t rows, int64_t ldx) noexcept nogil:
    cdef fc_moments call
    call.x, call.rows, call.columns, call.ldx, call.count = x, rows, lanes.columns, ldx, lanes.count
    call.start, call.offset, call.square = lanes.start, lanes.offset, lanes.square
    m.kernels.moment_rows(&call)
    lanes.count += rows


cdef void take_positions(const Moments* m, int64_t part, int64_t c) noexcept nogil:
    """Positions as columns: one channel of the part's samples, the rest of each after its whole rows apart."""
    cdef int64_t length = m.x.size[2], channels = m.x.size[1], n = part * m.cut.rows, whole
    cdef int64_t last = min(n + m.cut.rows, m.x.size[0])
    cdef double* result = m.partial + part * 3 * channels + c
    cdef Lanes[2] lanes
    lanes[0].count = lanes[1].count = 0
    if length <= LANES:  # a sample is a row
        lanes[0].columns, lanes[1].columns = length, 0
        take_rows(m, &lanes[0], element(&m.x, n, c, 0), last - n, m.x.stride[0])
    else:
        lanes[0].columns, lanes[1].columns = LANES, length % LANES
        whole = length - length % LANES
        for n in range(n, last):
            take_rows(m, &lanes[0], element(&m.x, n, c, 0), whole // LANES, LANES)
            if whole < length:
                take_rows(m, &lanes[1], element(&m.x, n, c, whole), 1, LANES)
    fold(lanes, result, result + channels, result + 2 * channels)


cdef void fold(const Lanes* lanes, double* start, double* offset, double* square) noexcept nogil:
    cdef double total = 0, count = 0, distance
    cdef int k
    cdef int64_t i
    start[0], square[0] = lanes[0].start[0], 0
    for k in range(2):
        for i in range(lanes[k].columns):
            total += lanes[k].count * (lanes[k].start[i] - start[0] + lanes[k].offset[i])
        count += lanes[k].count * lanes[k].columns
    offset[0] = total / count
    for k in range(2):
        for i in range(lanes[k].columns):
            distance = lanes[k].start[i] - start[0] + lanes[k].offset[i] - offset[0]
            square[0] += lanes[k].square[i] + lanes[k].count * distance * distance


cdef void take_part(void* context, int64_t index) noexcept nogil:
    """index = share of (sample * parts + part) * blocks + block of channels."""
    cdef Moments* m = <Moments*> context
    cdef int64_t part = index // m.cut.blocks * m.share, c = index % m.cut.blocks * m.cut.c_block
    cdef int64_t last = min(c + m.cut.c_block, m.x.size[1])
    if m.columns:
        for part in range(part, min(part + m.share, m.samples * m.cut.parts)):
            take_pixels(m, part // m.cut.parts, part % m.cut.parts, c, last - c)
        return
    for c in range(c, last):
        take_positions(m, part, c)


cdef void fold_parts(int64_t parts, int64_t channels, double* partial, double count, double each, double* mean,
                     double* variance) noexcept nogil:
    cdef int64_t part, c
    cdef double* other
    cdef double own, distance
    for c in range(channels):
        mean[c] = variance[c] = 0
    for part in range(parts):
        other, own = partial + part * 3 * channels, min(each, count - part * each)
        for c in range(channels):
            other[channels + c] += other[c] - partial[c]    # the part's mean, from part 0's start
            mean[c] += own * other[channels + c]
    for c in range(channels):
        mean[c] /= count
    for part in range(parts):
        other, own = partial + part * 3 * channels, min(each, count - part * each)
        for c in range(channels):
            distance = other[channels + c] - mean[c]
            variance[c] += other[2 * channels + c] + own * distance * distance
    for c in range(channels):
        mean[c] += partial[c]
        variance[c] = (max(variance[c], 0.0) if variance[c] == variance[c] else variance[c]) / count


cdef tuple channel_moments(cnp.ndarray x, bint apart):
    """x (N, C, L) in kernel layout -> means and biased variances, float64, (1, C), or (N, C) of each sample ``apart``,
    whose channels are columns. An array without elements has zeros."""
    cdef Moments m
    cdef View one
    cdef int64_t n, row
    cdef size_t bytes
    cdef double count, each
    m.x = one = view(x)
    m.samples = m.x.size[0] if apart else 1
    cdef cnp.ndarray mean = np.zeros((m.samples, m.x.size[1])), variance = np.zeros((m.samples, m.x.size[1]))
    if m.x.size[0] * m.x.size[1] * m.x.size[2] == 0:
        return mean, variance
    one.size[0] //= m.samples
    m.pixels, count = one.size[0] * one.size[2], one.size[0] * one.size[2]
    m.kernels, m.columns = kernels(m.x.itemsize), channels_are_columns(&m.x)
    m.cut = cut_rows(&one, m.columns)
    m.share = 1
    if m.columns and not apart:
        m.cut.rows = moment_part(m.pixels, m.x.size[1])
        m.cut.parts = ceil_div(m.pixels, m.cut.rows)
        m.share = max(<int64_t> 1, TASK // (m.cut.rows * min(m.x.size[1], m.cut.c_block)))
    each = m.cut.rows if m.columns else m.cut.rows * m.x.size[2]
    if not apart and m.columns and rows_join(&m.x):
        join_rows(&m.x)
    row = m.cut.parts * 3 * m.x.size[1]
    bytes = m.samples * row * sizeof(double)
    m.partial = <double*> allocate(bytes)
    if m.partial == NULL:
        raise MemoryError("batch_norm_statistics: no memory for partial results")
    with nogil:
        parallel_for(ceil_div(m.samples * m.cut.parts, m.share) * m.cut.blocks, take_part, &m)
        for n in range(m.samples):
            fold_parts(m.cut.parts, m.x.size[1], m.partial + n * row, count, each,
                       <double*> cnp.PyArray_DATA(mean) + n * m.x.size[1],
                       <double*> cnp.PyArray_DATA(variance) + n * m.x.size[1])
        release(m.partial, bytes)
    return mean, variance


def batch_norm_statistics(cnp.ndarray x):
    """x (N, C, L) -> mean (C,), biased variance (C,)."""
    mean, variance = channel_moments(in_kernel_layout(x), False)
    return mean[0].astype(x.dtype), variance[0].astype(x.dtype)
