"""The gradient of max-unpooling: each output's element of its plane. The result lies as the indices do."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.elementwise cimport empty_in_order_of
from fastconv.backends.cpu.runtime cimport empty, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef int64_t PIECE = 8192   # elements a task

ctypedef fused number:
    float
    double


cdef struct Unpool:
    View dx, dy, index
    int64_t dx_step, dy_step, index_step    # from pixel to pixel
    bint last           # channels lie side by side in dx
    int64_t pixels, plane           # of a sample's dx, and of its dy
    bint outside        # an index was beyond the plane
    int64_t chunk, pieces           # pixels a piece, and pieces of a channel's pixels
    int64_t outer, share, tasks     # channels that are walked one by one: in all, and of a task; tasks a sample


cdef bint pixel_step(cnp.ndarray array, int64_t* step):
    """Set the distance at which all pixels of a plane follow each other, in elements; False if there is none."""
    cdef View a = view(array)
    cdef int64_t count = 1
    cdef int axis
    step[0] = 1
    for axis in (4, 3, 2):
        if a.size[axis] == 1:
            continue
        if count == 1:
            step[0] = a.stride[axis]
        elif a.stride[axis] != step[0] * count:
            return False
        count *= a.size[axis]
    return True


cdef inline void gather(Unpool* u, number* dx, const number* dy, const int64_t* index, int64_t count, int64_t to,
                        int64_t step, int64_t dy_next, int64_t dy_step) noexcept nogil:
    """dx[k * to] = dy[k * dy_next + index[k * step] * dy_step] for k < count. Indices are the user's, who may have
    changed them since the forward pass."""
    cdef uint64_t plane = <uint64_t> u.plane, place
    cdef int64_t k
    for k in range(count):
        place = <uint64_t> index[k * step]
        if place < plane:
            dx[k * to] = dy[k * dy_next + <int64_t> place * dy_step]
        else:
            u.outside = True


cdef inline void gather_runs(Unpool* u, number* dx, const number* dy, const int64_t* index,
                             int64_t piece) noexcept nogil:
    """A piece of one sample: pixels with all their channels, or pixels of one channel."""
    cdef int64_t first, last, i, dy_channel = u.dy.stride[1]
    if u.last:
        first = piece * u.chunk
        last = min(u.pixels, first + u.chunk)
        for i in range(first, last):
            gather(u, dx + i * u.dx_step, dy, index + i * u.index_step, u.dx.size[1], 1, u.index.stride[1], dy_channel,
                   u.dy_step)
        return
    first = piece % u.pieces * u.chunk
    last = min(u.outer, (piece // u.pieces + 1) * u.share)
    for i in range(piece // u.pieces * u.share, last):
        gather(u, dx + i * u.dx.stride[1] + first * u.dx_step, dy + i * dy_channel,
               index + i * u.index.stride[1] + first * u.index_step, min(u.chunk, u.pixels - first), u.dx_step,
               u.index_step, 0, u.dy_step)


cdef void gather_task(void* context, int64_t task) noexcept nogil:
    cdef Unpool* u = <Unpool*> context
    cdef int64_t n = task // u.tasks
    cdef char* dx = u.dx.data + n * u.dx.stride[0] * u.dx.itemsize
    cdef const char* dy = u.dy.data + n * u.dy.stride[0] * u.dy.itemsize
    cdef const int64_t* index = <const int64_t*> u.index.data + n * u.index.stride[0]
    if u.dx.itemsize == 4:
        gather_runs[float](u, <float*> dx, <const float*> dy, index, task % u.tasks)
    else:
        gather_runs[double](u, <double*> dx, <const double*> dy, index, task % u.tasks)


def max_unpool_backward(cnp.ndarray dy, cnp.ndarray indices):
    """See ``Backend.max_unpool_backward``. Raises IndexError."""
    cdef Unpool u
    cdef cnp.ndarray dx, copy
    indices = indices.astype(np.int64, copy=False)
    if not pixel_step(indices, &u.index_step):
        indices = np.ascontiguousarray(indices)
        pixel_step(indices, &u.index_step)
    if not pixel_step(dy, &u.dy_step):
        copy = empty((<object> dy).shape, dy.dtype, "C")
        copy_into(copy, dy)
        dy = copy
        pixel_step(dy, &u.dy_step)
    dx = empty_in_order_of(indices, dy.dtype)
    if cnp.PyArray_SIZE(dx) == 0:
        return dx
    if not pixel_step(dx, &u.dx_step):
        dx = empty((<object> indices).shape, dy.dtype, "C")
        pixel_step(dx, &u.dx_step)
    u.dx, u.dy, u.index = view(dx), view(dy), view(indices)
    u.last, u.pixels = u.dx.stride[1] == 1 and u.dx.size[1] > 1, u.dx.size[2] * u.dx.size[3] * u.dx.size[4]
    u.plane, u.outside = u.dy.size[2] * u.dy.size[3] * u.dy.size[4], False
    u.outer = 1 if u.last else u.dx.size[1]
    u.chunk = max(<int64_t> 1, PIECE // (u.dx.size[1] if u.last else 1))
    u.pieces = ceil_div(u.pixels, u.chunk)
    u.share = 1 if u.last else max(<int64_t> 1, PIECE // u.pixels)
    u.tasks = u.pieces * ceil_div(u.outer, u.share)
    with nogil:
        parallel_for(u.dx.size[0] * u.tasks, gather_task, &u)
    if u.outside:
        raise IndexError(f"max_unpool: expected indices in [0, {u.plane}), got others")
    return dx
