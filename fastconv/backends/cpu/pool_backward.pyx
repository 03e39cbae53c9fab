"""Pooling, backward: gradients are added up sample by sample and block of channels by block, so that tasks never meet.

The order of the additions is that of the outputs. Results are channels-last.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memset

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_pool_row, fc_scatter_row
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.pool_windows cimport Axes, describe, free_windows, list_windows
from fastconv.backends.cpu.runtime cimport empty, num_threads, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef int64_t CHANNELS = 16      # a block
cdef int64_t PIXELS = 1024      # outputs of a row that are copied at a time, where dy is not channels-last


cdef void clear(const View* dx, int64_t n, int64_t c, int64_t channels) noexcept nogil:
    """Set one sample's channels [c, c + channels) of a channels-last array to zero."""
    cdef int64_t pixels = dx.size[2] * dx.size[3] * dx.size[4], p
    cdef char* at = dx.data + (n * pixels * dx.size[1] + c) * dx.itemsize
    if channels == dx.size[1]:
        memset(at, 0, pixels * channels * dx.itemsize)
        return
    for p in range(pixels):
        memset(at + p * dx.size[1] * dx.itemsize, 0, channels * dx.itemsize)


cdef int64_t block_channels(const View* dx) noexcept nogil:
    """All channels where the samples are tasks enough, else CHANNELS: long runs of memory, or many tasks."""
    return dx.size[1] if dx.size[0] >= 4 * num_threads() else min(dx.size[1], CHANNELS)


cdef struct Average:
    const fc_kernels* kernels
    Axes axes
    View dx, dy
    int64_t channels, blocks
    bint in_place           # dy's channels lie side by side
    bint failed


cdef void avg_row(const Average* s, int64_t n, int64_t c, int64_t od, int64_t oh, fc_pool_row* row,
                  char* memory) noexcept nogil:
    """Add one row of outputs to the windows, PIXELS outputs at a time."""
    cdef int64_t first = 0, count = s.axes.axis[2].count, at
    cdef fc_copy2d copy
    describe(&s.axes, od, oh, row)
    at = n * s.dx.stride[0] + c + s.axes.axis[0].start[od] * s.dx.stride[2] + s.axes.axis[1].start[oh] * s.dx.stride[3]
    row.large = s.dx.data + at * s.dx.itemsize
    copy.columns = copy.padded = copy.ld = row.channels
    copy.dj, copy.si, copy.sj = 1, s.dy.stride[4], s.dy.stride[1]
    while first < count:
        row.pixels = min(PIXELS, count - first)
        at = n * s.dy.stride[0] + c * s.dy.stride[1] + od * s.dy.stride[2] + oh * s.dy.stride[3]
        at += first * s.dy.stride[4]
        row.small = s.dy.data + at * s.dy.itemsize
        if not s.in_place:
            copy.src, copy.rows = s.dy.data + at * s.dy.itemsize, row.pixels
            copy.dst = memory
            s.kernels.copy2d(&copy)
            row.small = memory
        s.kernels.avg_pool_backward_row(row)
        row.w_start += row.pixels
        row.w_count += row.pixels
        if row.w_divisor != NULL:
            row.w_divisor += row.pixels
        first += row.pixels


cdef void avg_backward_task(void* context, int64_t task) noexcept nogil:
    """One sample and one block of channels: task = n * blocks + block."""
    cdef Average* s = <Average*> context
    cdef int64_t n = task // s.blocks, c = task % s.blocks * s.channels, od, oh
    cdef fc_pool_row row
    cdef char* memory = NULL
    row.channels = min(s.channels, s.dx.size[1] - c)
    if not s.in_place:
        memory = <char*> workspace(PIXELS * row.channels * s.dx.itemsize)
        if memory == NULL:
            s.failed = True
            return
    row.pixel = s.dy.stride[4] if s.in_place else row.channels
    row.index = NULL
    row.wide = False
    row.w_pixel = s.dx.stride[4]
    row.step[0] = s.axes.axis[0].step * s.dx.stride[2]
    row.step[1] = s.axes.axis[1].step * s.dx.stride[3]
    row.step[2] = s.axes.axis[2].step * s.dx.stride[4]
    clear(&s.dx, n, c, row.channels)
    for od in range(s.axes.axis[0].count):
        for oh in range(s.axes.axis[1].count):
            avg_row(s, n, c, od, oh, &row, memory)


cdef struct Scatter:
    const fc_kernels* kernels
    View dx, dy, index
    int64_t channels, blocks


cdef void max_backward_task(void* context, int64_t task) noexcept nogil:
    """One sample and one block of channels: task = n * blocks + block."""
    cdef Scatter* s = <Scatter*> context
    cdef int64_t n = task // s.blocks, c = task % s.blocks * s.channels, od, oh, at
    cdef fc_scatter_row row
    row.channels, row.pixels, row.pixel = min(s.channels, s.dx.size[1] - c), s.dy.size[4], s.dx.stride[4]
    row.dx = s.dx.data + (n * s.dx.stride[0] + c) * s.dx.itemsize
    row.dy_pixel, row.dy_channel = s.dy.stride[4], s.dy.stride[1]
    row.index_pixel, row.index_channel = s.index.stride[4], s.index.stride[1]
    row.wide = s.index.itemsize == 8
    clear(&s.dx, n, c, row.channels)
    for od in range(s.dy.size[2]):
        for oh in range(s.dy.size[3]):
            at = n * s.dy.stride[0] + c * s.dy.stride[1] + od * s.dy.stride[2] + oh * s.dy.stride[3]
            row.dy = s.dy.data + at * s.dy.itemsize
            at = n * s.index.stride[0] + c * s.index.stride[1] + od * s.index.stride[2] + oh * s.index.stride[3]
            row.index = s.index.data + at * s.index.itemsize
            s.kernels.max_pool_backward_row(&row)


def max_pool_backward(cnp.ndarray dy, indices, geometry):
    """dy and indices (N, C, OD, OH, OW) -> dx (N, C, D, H, W)."""
    cdef Scatter s
    cdef cnp.ndarray dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    cdef cnp.ndarray index = indices if indices.dtype in (np.int32, np.int64) else indices.astype(np.int64)
    s.dx, s.dy, s.index = view(dx), view(dy), view(index)
    s.kernels = kernels(s.dx.itemsize)
    if cnp.PyArray_SIZE(dx):
        s.channels = block_channels(&s.dx)
        s.blocks = ceil_div(s.dx.size[1], s.channels)
        with nogil:
            parallel_for(s.dx.size[0] * s.blocks, max_backward_task, &s)
    return dx


def avg_pool_backward(cnp.ndarray dy, geometry):
    """dy (N, C, OD, OH, OW) -> dx (N, C, D, H, W)."""
    cdef Average s
    cdef cnp.ndarray dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    s.dx, s.dy, s.failed = view(dx), view(dy), False
    s.kernels = kernels(s.dx.itemsize)
    s.in_place = s.dy.stride[1] == 1 or s.dx.size[1] == 1
    if cnp.PyArray_SIZE(dx):
        list_windows(&s.axes, geometry)
        s.channels = block_channels(&s.dx) if s.in_place else min(s.dx.size[1], CHANNELS)
        s.blocks = ceil_div(s.dx.size[1], s.channels)
        with nogil:
            parallel_for(s.dx.size[0] * s.blocks, avg_backward_task, &s)
        free_windows(&s.axes)
        if s.failed:
            raise MemoryError("pooling: no memory for a workspace")
    return dx
