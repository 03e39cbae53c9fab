"""Sums over the batch and space of (N, C, L), and walks over it with a constant a channel: the frame of batch
normalisation, bias gradients and sums.

Kernels see matrices whose columns lie side by side and have constants of their own. Where channels lie side by side,
they are the columns and pixels the rows. Else positions do: a channel's are cut into rows of LANES, with the channel's
constant in every column, and its LANES sums are added up at the end. Sums go through partial results: each adds up a
part of the rows, and the parts are added pairwise. The cut depends on the shape and on which of the two layouts it is,
so the bits do not depend on threads.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_accumulate, fc_kernels, fc_normalise, fc_reduce
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, empty, parallel_for, release
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    LANES = 64              # columns where positions lie side by side; a multiple of every vector's width
    LANE_BYTES = 64 * 8
    PART = 4096             # elements, a channel, that a partial result adds up: at least, and
    MOST_PARTS = 64         # at most so many partial results
    TASK_BYTES = 64 * 1024


cdef inline bint channels_are_columns(const View* x) noexcept nogil:
    if x.size[1] > 1:
        return x.stride[1] == 1
    return x.size[2] > 1 and x.stride[2] != 1


cdef cnp.ndarray in_kernel_layout(cnp.ndarray array, cnp.ndarray like=None):
    cdef View v = view(array), w
    cdef bint columns = channels_are_columns(&v)
    cdef cnp.ndarray copy
    if like is not None:
        w = view(like)
        if channels_are_columns(&w) == columns and (columns or v.stride[2] == 1 or v.size[2] == 1):
            return array
        columns = channels_are_columns(&w)
    elif columns or v.stride[2] == 1 or v.size[2] == 1:
        return array
    copy = empty((<object> array).shape, array.dtype, "channels_last" if columns else "C")
    np.copyto(copy, array)
    return copy


# --------------------------------------------------------------------------------------------------- sums


cdef struct Sums:
    reduce_kernel kernel
    const fc_kernels* kernels
    const View* x
    const View* dy
    const char* mean
    const char* scale
    char* partial           # (parts, sums, C)
    int64_t parts, sums
    int64_t rows            # channels as columns: pixels a part; else: samples a part
    int64_t c_block, blocks, share


cdef void add_pixels(const Sums* s, int64_t part, int64_t c, int64_t columns) noexcept nogil:
    """Channels as columns: add up the part's pixels, numbered n * L + spot."""
    cdef int64_t size = s.x.itemsize, pixel = part * s.rows, n, spot
    cdef int64_t last = min(pixel + s.rows, s.x.size[0] * s.x.size[2])
    cdef fc_reduce call
    call.columns, call.ldx = columns, s.x.stride[2]
    call.mean = call.scale = call.dy = NULL
    if s.mean != NULL:
        call.mean = s.mean + c * size
    if s.scale != NULL:
        call.scale = s.scale + c * size
    call.first = s.partial + (part * s.sums * s.x.size[1] + c) * size
    call.second = s.partial + ((part * s.sums + s.sums - 1) * s.x.size[1] + c) * size
    while pixel < last:
        n, spot = pixel // s.x.size[2], pixel % s.x.size[2]
        call.rows = min(last - pixel, s.x.size[2] - spot)
        call.x = s.x.data + (n * s.x.stride[0] + spot * s.x.stride[2] + c * s.x.stride[1]) * size
        if s.x.size[2] == 1:  # pixels are samples
            call.rows, call.ldx = last - pixel, s.x.stride[0]
        if s.dy != NULL:
            call.lddy = s.dy.stride[0] if s.x.size[2] == 1 else s.dy.stride[2]
            call.dy = s.dy.data + (n * s.dy.stride[0] + spot * s.dy.stride[2] + c * s.dy.stride[1]) * size
        s.kernel(&call)
        pixel += call.rows


cdef void fill(const Sums* s, char* lanes, const char* value) noexcept nogil:
    """LANES copies of a channel's constant."""
    cdef int64_t i
    for i in range(LANES):
        memcpy(lanes + i * s.x.itemsize, value, s.x.itemsize)


cdef void fold(const Sums* s, char* lanes) noexcept nogil:
    """Add LANES sums up, pairwise, in lane 0."""
    cdef fc_accumulate call
    call.dst, call.count = lanes, LANES // 2
    while call.count > 0:
        call.src = lanes + call.count * s.x.itemsize
        s.kernels.accumulate(&call)
        call.count //= 2


cdef void add_positions(const Sums* s, int64_t part, int64_t c) noexcept nogil:
    """Positions as columns: add up one channel of the part's samples."""
    cdef int64_t size = s.x.itemsize, length = s.x.size[2], first = part * s.rows, n, spot
    cdef int64_t last = min(first + s.rows, s.x.size[0])
    cdef char[LANE_BYTES] mean, scale, one, two
    cdef fc_reduce call
    memset(one, 0, LANE_BYTES)
    memset(two, 0, LANE_BYTES)
    call.mean = call.scale = call.dy = NULL
    call.first, call.second = one, two
    if s.mean != NULL:
        fill(s, mean, s.mean + c * size)
        call.mean = mean
    if s.scale != NULL:
        fill(s, scale, s.scale + c * size)
        call.scale = scale
    n = first
    while n < last:
        spot = 0
        while spot < length:
            call.x = s.x.data + (n * s.x.stride[0] + c * s.x.stride[1] + spot) * size
            if s.dy != NULL:
                call.dy = s.dy.data + (n * s.dy.stride[0] + c * s.dy.stride[1] + spot) * size
            if length <= LANES:     # short: a sample is a row
                call.rows, call.columns, call.ldx = last - first, length, s.x.stride[0]
                if s.dy != NULL:
                    call.lddy = s.dy.stride[0]
            else:
                call.rows, call.columns, call.ldx, call.lddy = (length - spot) // LANES, LANES, LANES, LANES
                if call.rows == 0:
                    call.rows, call.columns = 1, length - spot
            s.kernel(&call)
            spot += call.columns if length <= LANES else call.rows * call.columns
        n += last - first if length <= LANES else 1
    fold(s, one)
    memcpy(s.partial + (part * s.sums * s.x.size[1] + c) * size, one, size)
    if s.sums == 2:
        fold(s, two)
        memcpy(s.partial + ((part * s.sums + 1) * s.x.size[1] + c) * size, two, size)


cdef void add_part(void* context, int64_t index) noexcept nogil:
    """index = part * blocks + block of channels."""
    cdef Sums* s = <Sums*> context
    cdef int64_t c = index % s.blocks * s.c_block, last = min(c + s.c_block, s.x.size[1])
    if channels_are_columns(s.x):
        add_pixels(s, index // s.blocks, c, last - c)
        return
    for c in range(c, last):
        add_positions(s, index // s.blocks, c)


cdef int reduce_channels(reduce_kernel kernel, const View* x, const View* dy, const void* mean, const void* scale,
                         char* first, char* second) except -1:
    cdef Sums s
    cdef int64_t channels = x.size[1], n = x.size[0], length = x.size[2], step = 1, part, bytes
    cdef bint columns = channels_are_columns(x)
    cdef fc_accumulate call
    s.kernel, s.kernels, s.x, s.dy = kernel, kernels(x.itemsize), x, dy
    s.mean, s.scale = <const char*> mean, <const char*> scale
    s.sums = 1 if second == NULL else 2
    memset(first, 0, channels * x.itemsize)
    if second != NULL:
        memset(second, 0, channels * x.itemsize)
    if n * length * channels == 0:
        return 0
    if columns:
        s.rows = max(<int64_t> PART, ceil_div(n * length, MOST_PARTS))
        s.parts, s.c_block = ceil_div(n * length, s.rows), max(<int64_t> LANES, TASK_BYTES // (s.rows * x.itemsize))
    else:
        s.rows = max(ceil_div(PART, length), ceil_div(n, MOST_PARTS))
        s.parts, s.c_block = ceil_div(n, s.rows), max(<int64_t> 1, TASK_BYTES // (s.rows * length * x.itemsize))
    s.blocks = ceil_div(channels, s.c_block)
    bytes = s.parts * s.sums * channels * x.itemsize
    s.partial = <char*> allocate(bytes)
    if s.partial == NULL:
        raise MemoryError("sum over channels: no memory for partial results")
    with nogil:
        memset(s.partial, 0, bytes)
        parallel_for(s.parts * s.blocks, add_part, &s)
        call.count = s.sums * channels
        while step < s.parts:  # part += part + step, for parts 0, 2 step, 4 step, ...
            part = 0
            while part + step < s.parts:
                call.dst = s.partial + part * call.count * x.itemsize
                call.src = s.partial + (part + step) * call.count * x.itemsize
                s.kernels.accumulate(&call)
                part += 2 * step
            step *= 2
        memcpy(first, s.partial, channels * x.itemsize)
        if second != NULL:
            memcpy(second, s.partial + channels * x.itemsize, channels * x.itemsize)
        release(s.partial, bytes)
    return 0


# -------------------------------------------------------------------------------------------------- walks


cdef struct Walk:
    normalise_kernel kernel
    fc_normalise call
    const View* y
    const View* x
    const View* dy
    int64_t share, across   # rows a task: of pixels, or of (n, c); tasks a sample where channels are columns


cdef inline char* element(const View* v, int64_t n, int64_t c, int64_t spot) noexcept nogil:
    return v.data + (n * v.stride[0] + c * v.stride[1] + spot * v.stride[2]) * v.itemsize


cdef inline void place(const Walk* walk, fc_normalise* call, int64_t n, int64_t c, int64_t spot) noexcept nogil:
    call.y, call.x = element(walk.y, n, c, spot), element(walk.x, n, c, spot)
    if walk.dy != NULL:
        call.dy = element(walk.dy, n, c, spot)


cdef void walk_pixels(void* context, int64_t index) noexcept nogil:
    """Channels as columns: one run of a sample's pixels (or of samples, where L is 1)."""
    cdef Walk* walk = <Walk*> context
    cdef fc_normalise call = walk.call
    cdef bint by_sample = walk.x.size[2] == 1
    cdef int axis = 0 if by_sample else 2
    cdef int64_t first = index % walk.across * walk.share
    call.rows, call.columns = min(walk.share, walk.x.size[axis] - first), walk.x.size[1]
    call.ldy, call.ldx = walk.y.stride[axis], walk.x.stride[axis]
    if walk.dy != NULL:
        call.lddy = walk.dy.stride[axis]
    place(walk, &call, first if by_sample else index // walk.across, 0, 0 if by_sample else first)
    walk.kernel(&call)


cdef inline const void* spread(const void* values, int64_t c, int itemsize, char* lanes) noexcept nogil:
    """LANES copies of values[c]."""
    cdef int64_t i
    if values == NULL:
        return NULL
    for i in range(LANES):
        memcpy(lanes + i * itemsize, <const char*> values + c * itemsize, itemsize)
    return lanes


cdef void walk_positions(void* context, int64_t index) noexcept nogil:
    """Positions as columns: rows (n, c) [index * share, ...)."""
    cdef Walk* walk = <Walk*> context
    cdef int64_t channels = walk.x.size[1], length = walk.x.size[2], row, n, c
    cdef char[LANE_BYTES] mean, scale, shift, slope
    cdef int size = walk.x.itemsize
    cdef fc_normalise call = walk.call
    call.ldy = call.ldx = call.lddy = LANES
    for row in range(index * walk.share, min((index + 1) * walk.share, walk.x.size[0] * channels)):
        n, c = row // channels, row % channels
        call.mean, call.scale = spread(walk.call.mean, c, size, mean), spread(walk.call.scale, c, size, scale)
        call.shift, call.slope = spread(walk.call.shift, c, size, shift), spread(walk.call.slope, c, size, slope)
        if length >= LANES:
            call.rows, call.columns = length // LANES, LANES
            place(walk, &call, n, c, 0)
            walk.kernel(&call)
        if length % LANES:
            call.rows, call.columns = 1, length % LANES
            place(walk, &call, n, c, length - length % LANES)
            walk.kernel(&call)


cdef int normalise_channels(normalise_kernel kernel, const fc_normalise* call, const View* y, const View* x,
                            const View* dy) except -1:
    cdef Walk walk
    cdef int64_t n = x.size[0], channels = x.size[1], length = x.size[2], tasks
    if n * channels * length == 0:
        return 0
    walk.kernel, walk.call, walk.y, walk.x, walk.dy = kernel, call[0], y, x, dy
    if channels_are_columns(x):
        walk.share = max(<int64_t> 1, TASK_BYTES // (channels * x.itemsize))
        walk.across = ceil_div(n if length == 1 else length, walk.share)
        tasks = walk.across if length == 1 else walk.across * n
        with nogil:
            parallel_for(tasks, walk_pixels, &walk)
    else:
        walk.share = max(<int64_t> 1, TASK_BYTES // (length * x.itemsize))
        with nogil:
            parallel_for(ceil_div(n * channels, walk.share), walk_positions, &walk)
    return 0
