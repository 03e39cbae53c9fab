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
    int64_t outer, chunk, chunks    # of what is not innermost in a sample: in all, a task, tasks a sample


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


cdef inline number at(Unpool* u, const number* dy, int64_t index) noexcept nogil:
    """The element of a plane; the indices are the user's, who may have changed them since the forward pass."""
    if <uint64_t> index >= <uint64_t> u.plane:
        u.outside = True
        return 0
    return dy[index * u.dy_step]


cdef inline void gather(Unpool* u, number* dx, const number* dy, const int64_t* index, int64_t first,
                        int64_t last) noexcept nogil:
    """Of one sample, pixels [first, last) where channels are innermost, else channels."""
    cdef int64_t channels = u.dx.stride[1], index_channels = u.index.stride[1], dy_channels = u.dy.stride[1], i, k
    if u.last:
        for i in range(first, last):
            for k in range(u.dx.size[1]):
                dx[i * u.dx_step + k] = at(u, dy + k * dy_channels, index[i * u.index_step + k * index_channels])
    else:
        for i in range(first, last):
            for k in range(u.pixels):
                dx[i * channels + k * u.dx_step] = at(
                    u, dy + i * dy_channels, index[i * index_channels + k * u.index_step])


cdef void gather_task(void* context, int64_t task) noexcept nogil:
    cdef Unpool* u = <Unpool*> context
    cdef int64_t n = task // u.chunks, first = task % u.chunks * u.chunk, last = min(u.outer, first + u.chunk)
    cdef char* dx = u.dx.data + n * u.dx.stride[0] * u.dx.itemsize
    cdef const char* dy = u.dy.data + n * u.dy.stride[0] * u.dy.itemsize
    cdef const int64_t* index = <const int64_t*> u.index.data + n * u.index.stride[0]
    if u.dx.itemsize == 4:
        gather[float](u, <float*> dx, <const float*> dy, index, first, last)
    else:
        gather[double](u, <double*> dx, <const double*> dy, index, first, last)


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
    u.outer = u.pixels if u.last else u.dx.size[1]
    u.chunk = max(<int64_t> 1, PIECE // (u.dx.size[1] if u.last else u.pixels))
    u.chunks = ceil_div(u.outer, u.chunk)
    with nogil:
        parallel_for(u.dx.size[0] * u.chunks, gather_task, &u)
    if u.outside:
        raise IndexError(f"max_unpool: expected indices in [0, {u.plane}), got others")
    return dx
