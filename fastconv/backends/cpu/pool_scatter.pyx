"""The gradient of max pooling from indices: added up sample by sample and block of channels by block, so that tasks
never meet. The order of the additions is that of the outputs. Results are channels-last.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_scatter_row
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport empty, num_threads, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef int64_t CHANNELS = 16              # a block
cdef int64_t TASK_BYTES = 128 * 1024    # gradients of a task


cdef struct Scatter:
    const fc_kernels* kernels
    View dx, dy, index
    int64_t channels, blocks, share     # share: boxes a task
    bint whole              # the outputs of a sample lie at equal distances
    int32_t outside         # only ever set


cdef void clear(const View* dx, int64_t n, int64_t c, int64_t channels) noexcept nogil:
    """Set one sample's channels [c, c + channels) of a channels-last array to zero."""
    cdef int64_t pixels = dx.size[2] * dx.size[3] * dx.size[4], p
    cdef char* at = dx.data + (n * pixels * dx.size[1] + c) * dx.itemsize
    if channels == dx.size[1]:
        memset(at, 0, pixels * channels * dx.itemsize)
        return
    for p in range(pixels):
        memset(at + p * dx.size[1] * dx.itemsize, 0, channels * dx.itemsize)


cdef bint evenly_spaced(const View* a) noexcept nogil:
    """Whether the pixels of a sample follow each other at one distance, that of the last axis."""
    cdef int64_t step = a.stride[4] * a.size[4]
    return (a.size[3] == 1 or a.stride[3] == step) and (a.size[2] == 1 or a.stride[2] == step * a.size[3])


cdef void scatter_box(Scatter* s, int64_t n, int64_t c) noexcept nogil:
    """One sample and the block of channels from c on."""
    cdef int64_t rows = s.dy.size[3], row, at
    cdef int32_t outside = 0
    cdef fc_scatter_row call
    call.channels, call.pixels, call.pixel = min(s.channels, s.dx.size[1] - c), s.dy.size[4], s.dx.stride[4]
    call.plane = s.dx.size[2] * s.dx.size[3] * s.dx.size[4]
    call.dx = s.dx.data + (n * s.dx.stride[0] + c) * s.dx.itemsize
    call.dy_pixel, call.dy_channel = s.dy.stride[4], s.dy.stride[1]
    call.index_pixel, call.index_channel = s.index.stride[4], s.index.stride[1]
    call.outside = &outside
    clear(&s.dx, n, c, call.channels)
    if s.whole:
        call.pixels *= s.dy.size[2] * rows
    for row in range(1 if s.whole else s.dy.size[2] * rows):
        at = n * s.dy.stride[0] + c * s.dy.stride[1] + row // rows * s.dy.stride[2] + row % rows * s.dy.stride[3]
        call.dy = s.dy.data + at * s.dy.itemsize
        at = n * s.index.stride[0] + c * s.index.stride[1]
        at += row // rows * s.index.stride[2] + row % rows * s.index.stride[3]
        call.index = <int64_t*> s.index.data + at
        s.kernels.max_pool_scatter(&call)
    if outside:
        s.outside = 1


cdef void scatter_task(void* context, int64_t task) noexcept nogil:
    """Some boxes; box = n * blocks + block."""
    cdef Scatter* s = <Scatter*> context
    cdef int64_t box
    for box in range(task * s.share, min((task + 1) * s.share, s.dx.size[0] * s.blocks)):
        scatter_box(s, box // s.blocks, box % s.blocks * s.channels)


def scatter(cnp.ndarray dy, indices, geometry):
    """dy and indices (N, C, OD, OH, OW) -> dx (N, C, D, H, W).

    Raises:
        IndexError: an index outside the plane.
    """
    cdef Scatter s
    cdef int64_t plane
    cdef cnp.ndarray dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    cdef cnp.ndarray index = np.asarray(indices).astype(np.int64, copy=False)
    s.dx, s.dy, s.index, s.outside = view(dx), view(dy), view(index), 0
    s.kernels = kernels(s.dx.itemsize)
    s.whole = evenly_spaced(&s.dy) and evenly_spaced(&s.index)
    if cnp.PyArray_SIZE(dx):
        # Long runs of memory where the samples are tasks enough, else many tasks.
        s.channels = s.dx.size[1] if s.dx.size[0] >= 4 * num_threads() else min(s.dx.size[1], CHANNELS)
        s.blocks = ceil_div(s.dx.size[1], s.channels)
        plane = s.dx.size[2] * s.dx.size[3] * s.dx.size[4]
        s.share = max(<int64_t> 1, TASK_BYTES // (plane * s.channels * s.dx.itemsize))
        with nogil:
            parallel_for(ceil_div(s.dx.size[0] * s.blocks, s.share), scatter_task, &s)
    if s.outside:
        raise IndexError("max pooling: an index outside the plane")
    return dx
