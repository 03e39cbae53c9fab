"""Pooling, forward: the frame that cuts the outputs into rows, each for a micro-kernel whose lanes are channels.

Channels-last inputs are read in place. Others are copied, a box of a few rows and channels at a time, to the thread's
workspace; a box that would be too large there is read channel by channel where it lies. Results are channels-last.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_pool_row
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.pool_windows cimport Axes, describe, free_windows, h_range, list_windows
from fastconv.backends.cpu.runtime cimport empty, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

ctypedef void (*row_kernel)(const fc_pool_row*) noexcept nogil

cdef int64_t BOX_BYTES = 512 * 1024          # of the workspace, where the shape allows
cdef int64_t MOST_BYTES = 2 * 1024 * 1024
cdef int64_t TASK_BYTES = 64 * 1024
cdef int64_t CHANNELS = 16                   # a block of channels is a multiple of this
cdef int64_t EXACT_FLOAT = 1 << 24           # whole numbers below it are exact in float32


cdef struct Pool:
    row_kernel kernel
    const fc_kernels* kernels
    Axes axes
    View x, y
    char* index             # NULL, or the indices beside y
    int64_t index_size
    bint packed             # the input goes through the workspace
    int64_t rows, channels  # a box: output rows along h, channels
    int64_t h_boxes, c_boxes, boxes, share  # share: boxes a task
    int64_t box_bytes       # of a packed box
    bint failed


cdef int64_t box_elements(const Pool* pool) noexcept nogil:
    """The most input elements, a channel, that a box of ``rows`` output rows sees."""
    cdef int64_t deep = 0, high = 0, low, end, o = 0
    while o < pool.axes.axis[1].count:
        h_range(&pool.axes, o, min(o + pool.rows, pool.axes.axis[1].count), &low, &end)
        high = max(high, end - low)
        o += pool.rows
    for o in range(pool.axes.axis[0].count):
        deep = max(deep, pool.axes.axis[0].length[o])
    return deep * high * pool.axes.axis[2].size


cdef void choose_boxes(Pool* pool) noexcept nogil:
    """Choose how the outputs are cut, and whether the input is packed."""
    cdef int64_t c = pool.x.size[1], itemsize = pool.x.itemsize, elements, row_bytes
    pool.packed = pool.x.stride[1] != 1 and c > 1
    pool.rows, pool.channels = pool.axes.axis[1].count, c
    if pool.packed:
        elements = box_elements(pool)
        while elements * pool.channels * itemsize > BOX_BYTES and (pool.rows > 1 or pool.channels > CHANNELS):
            if pool.rows > 1:
                pool.rows = ceil_div(pool.rows, 2)
                elements = box_elements(pool)
            else:
                pool.channels = ceil_div(ceil_div(pool.channels, 2), CHANNELS) * CHANNELS
        if elements * pool.channels * itemsize > MOST_BYTES:
            pool.packed, pool.channels = False, 1  # one channel at a time, in place
    else:
        row_bytes = pool.axes.axis[2].size * c * itemsize
        pool.rows = min(pool.rows, max(<int64_t> 1, TASK_BYTES // row_bytes))
    pool.h_boxes, pool.c_boxes = ceil_div(pool.axes.axis[1].count, pool.rows), ceil_div(c, pool.channels)
    pool.boxes = pool.x.size[0] * pool.axes.axis[0].count * pool.h_boxes * pool.c_boxes
    pool.share = max(<int64_t> 1, TASK_BYTES // (pool.rows * pool.axes.axis[2].size * pool.channels * itemsize))
    pool.box_bytes = box_elements(pool) * pool.channels * itemsize if pool.packed else 0


cdef void pack(const Pool* pool, int64_t n, int64_t od, int64_t low, int64_t high, int64_t c, int64_t channels,
               char* box) noexcept nogil:
    """Copy planes that the windows of ``od`` see, rows [low, high), to (planes, rows, W, channels)."""
    cdef const View* x = &pool.x
    cdef fc_copy2d copy
    cdef int64_t d, h, at
    copy.rows, copy.columns, copy.padded, copy.ld, copy.dj = pool.axes.axis[2].size, channels, channels, channels, 1
    copy.si, copy.sj = x.stride[4], x.stride[1]
    copy.dst = box
    for d in range(pool.axes.axis[0].length[od]):
        for h in range(low, high):
            at = n * x.stride[0] + c * x.stride[1] + h * x.stride[3]
            at += (pool.axes.axis[0].start[od] + d * pool.axes.axis[0].step) * x.stride[2]
            copy.src = x.data + at * x.itemsize
            pool.kernels.copy2d(&copy)
            copy.dst = <char*> copy.dst + copy.rows * channels * x.itemsize


cdef void run_box(Pool* pool, int64_t box, char* memory) noexcept nogil:
    """One box; boxes are numbered in the order n, od, rows, channels."""
    cdef const View* x = &pool.x
    cdef const View* y = &pool.y
    cdef int64_t c = box % pool.c_boxes * pool.channels, oh = box // pool.c_boxes % pool.h_boxes * pool.rows
    cdef int64_t n = box // pool.c_boxes // pool.h_boxes, od = n % pool.axes.axis[0].count
    cdef int64_t last = min(oh + pool.rows, pool.axes.axis[1].count), low, high, at
    cdef fc_pool_row row
    n //= pool.axes.axis[0].count
    row.channels = min(pool.channels, x.size[1] - c)
    row.pixel = y.stride[4]
    h_range(&pool.axes, oh, last, &low, &high)
    if pool.packed:
        pack(pool, n, od, low, high, c, row.channels, memory)
        row.w_pixel = row.channels
        row.step[1] = pool.axes.axis[1].step * pool.axes.axis[2].size * row.channels
        row.step[0] = (high - low) * pool.axes.axis[2].size * row.channels
    else:
        row.w_pixel = x.stride[4]
        row.step[1], row.step[0] = pool.axes.axis[1].step * x.stride[3], pool.axes.axis[0].step * x.stride[2]
    row.step[2] = pool.axes.axis[2].step * row.w_pixel
    for oh in range(oh, last):
        describe(&pool.axes, od, oh, &row)
        row.wide = pool.index_size == 8
        if pool.packed:
            at = (pool.axes.axis[1].start[oh] - low) * pool.axes.axis[2].size * row.channels
            row.large = memory + at * x.itemsize
        else:
            at = n * x.stride[0] + c * x.stride[1] + pool.axes.axis[0].start[od] * x.stride[2]
            row.large = x.data + (at + pool.axes.axis[1].start[oh] * x.stride[3]) * x.itemsize
        at = n * y.stride[0] + c + od * y.stride[2] + oh * y.stride[3]
        row.small = y.data + at * y.itemsize
        row.index = pool.index
        if pool.index != NULL:
            row.index = pool.index + at * pool.index_size
        pool.kernel(&row)


cdef void run_task(void* context, int64_t index) noexcept nogil:
    cdef Pool* pool = <Pool*> context
    cdef char* memory = NULL
    cdef int64_t box
    if pool.packed:
        memory = <char*> workspace(pool.box_bytes)
        if memory == NULL:
            pool.failed = True
            return
    for box in range(index * pool.share, min(pool.boxes, (index + 1) * pool.share)):
        run_box(pool, box, memory)


cdef object forward(cnp.ndarray x, geometry, bint maximum):
    """Return y, or y and the indices of the maxima."""
    cdef Pool pool
    cdef cnp.ndarray y = empty(geometry.output_shape, x.dtype, "channels_last"), indices = None
    pool.x, pool.y = view(x), view(y)
    pool.kernels, pool.failed, pool.index_size = kernels(pool.x.itemsize), False, 4
    pool.index = NULL
    if maximum:
        if pool.x.size[2] * pool.x.size[3] * pool.x.size[4] > 2**31 - 1:
            pool.index_size = 8
        indices = empty(geometry.output_shape, np.int32 if pool.index_size == 4 else np.int64, "channels_last")
        pool.index = <char*> cnp.PyArray_DATA(indices)
    pool.kernel = pool.kernels.max_pool_row if maximum else pool.kernels.avg_pool_row
    if cnp.PyArray_SIZE(y):
        list_windows(&pool.axes, geometry)
        with nogil:
            choose_boxes(&pool)
            parallel_for(ceil_div(pool.boxes, pool.share), run_task, &pool)
        free_windows(&pool.axes)
        if pool.failed:
            raise MemoryError("pooling: no memory for a workspace")
    return (y, indices) if maximum else y


def max_pool_forward(x, geometry):
    """x (N, C, D, H, W) -> y (N, C, OD, OH, OW) and indices of its shape."""
    if x.dtype == np.float32 and window_extent(geometry) >= EXACT_FLOAT:
        y, indices = forward(x.astype(np.float64), geometry, True)  # the kernel counts places in the dtype
        return y.astype(np.float32, order="K"), indices
    return forward(x, geometry, True)


def window_extent(geometry):
    """Return how far apart, in the plane of indices, elements of one window may lie."""
    d, h, w = [(max(axis.count) - 1) * axis.step for axis in geometry.windows]
    return (d * geometry.input[1] + h) * geometry.input[2] + w


def avg_pool_forward(x, geometry):
    """x (N, C, D, H, W) -> y (N, C, OD, OH, OW)."""
    return forward(x, geometry, False)
