"""Max-pool with the activation before it, in one pass over a convolution's output, and its way back, in another.

These serve a unit whose convolution runs by itself, by any algorithm. Results are channels-last.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_pool_windows, fc_unpool_windows
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport empty, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport (
    Reader, Tile, ceil_div, choose_chunk, choose_tile, count_tiles, fetch, finish, list_pixels, locate, tile_bytes,
    tile_pixels,
)
from fastconv.backends.cpu.unit_windows cimport MOST_PLACES, Windows, describe, list_places, set_window_axes

cnp.import_array()

cdef int64_t TILE_BYTES = 64 * 1024
cdef int64_t TILE_WINDOWS = 1024
cdef int64_t CHUNK = 512             # channels at a time
cdef int64_t ALL = 1 << 60


cdef struct Pool:
    Reader x                # forward: the convolution's output, read; backward: its gradient, written
    Windows windows
    View y, index
    bint relu
    bint failed


cdef void pool_task(void* context, int64_t tile_index) noexcept nogil:
    cdef Pool* pool = <Pool*> context
    cdef Reader* x = &pool.x
    cdef int64_t most = tile_pixels(x), lists = ceil_div(2 * most * sizeof(int64_t), 64) * 64, chunk, first
    cdef int64_t* memory = <int64_t*> workspace(lists + tile_bytes(x))
    cdef int64_t place[MOST_PLACES]
    cdef Tile tile
    cdef fc_pool_windows call
    if memory == NULL:
        pool.failed = True
        return
    locate(x, tile_index, &tile)
    list_places(&pool.windows, x.step + 2, place)
    call.windows = list_pixels(x, &tile, &tile, pool.y.stride, memory, memory + most)
    call.window, call.at, call.place, call.places = memory, memory + most, place, pool.windows.places
    call.relu = pool.relu
    for chunk in range(x.chunks):
        first = chunk * x.chunk
        call.large = fetch(x, &tile, 0, chunk, <char*> memory + lists)
        call.small, call.index = pool.y.data + first * x.itemsize, <uint8_t*> pool.index.data + first
        call.channels = min(x.chunk, x.depth - first)
        x.kernel.pool_windows(&call)


cdef void set_reader(Pool* pool, View* large, int64_t products) noexcept nogil:
    cdef Reader* x = &pool.x
    x.itemsize, x.kernel = large.itemsize, kernels(large.itemsize)
    x.data, x.stride = large.data, large.stride
    x.n, x.groups, x.depth, x.channels = large.size[0], 1, large.size[1], 0
    set_window_axes(&pool.windows, x, large.size + 2)
    choose_chunk(x, products)
    choose_tile(x, TILE_WINDOWS, TILE_BYTES)
    finish(x)
    pool.failed = False


def act_pool_forward(cnp.ndarray z, activation, pool_geometry):
    """z (N, C, D, H, W) -> y and index (N, C, PD, PH, PW): the maxima of the activation of z, and their places."""
    cdef Pool pool
    cdef cnp.ndarray y = empty(pool_geometry.output_shape, z.dtype, "channels_last")
    cdef cnp.ndarray index = empty(pool_geometry.output_shape, np.uint8, "channels_last")
    cdef View zv = view(z)
    if cnp.PyArray_SIZE(y) == 0:
        return y, index
    describe(&pool.windows, None, pool_geometry)
    pool.y, pool.index, pool.relu = view(y), view(index), activation == "relu"
    with nogil:
        set_reader(&pool, &zv, ALL if zv.stride[1] == 1 else CHUNK)
        parallel_for(count_tiles(&pool.x), pool_task, &pool)
    if pool.failed:
        raise MemoryError("convolution with pooling: no memory for a workspace")
    return y, index


# ------------------------------------------------------------------------------------------------ backward


cdef struct Unpool:
    Pool pool
    View dy, index
    bint copies             # dy's channels do not lie side by side
    bint rest               # some outputs of the convolution lie in no window


cdef void unpool_task(void* context, int64_t n) noexcept nogil:
    """One image's windows, row by row; dy's rows are brought to channels-last on the way."""
    cdef Unpool* unpool = <Unpool*> context
    cdef Pool* pool = &unpool.pool
    cdef Reader* dz = &pool.x
    cdef Windows* windows = &pool.windows
    cdef View* dy = &unpool.dy
    cdef int64_t width = windows.pooled[2], channels = dz.depth, d, h, w, at, size = dz.itemsize
    cdef int64_t lists = ceil_div(3 * width * sizeof(int64_t), 64) * 64
    cdef int64_t* memory = <int64_t*> workspace(lists + (width * channels * size if unpool.copies else 0))
    cdef int64_t place[MOST_PLACES]
    cdef fc_unpool_windows call
    cdef fc_copy2d copy
    if memory == NULL:
        pool.failed = True
        return
    if unpool.rest:
        memset(<char*> dz.data + n * dz.stride[0] * size, 0, dz.stride[0] * size)
    list_places(windows, dz.stride + 2, place)
    call.window, call.at, call.index_at = memory, memory + width, memory + 2 * width
    call.place, call.places, call.windows, call.channels = place, windows.places, width, channels
    for w in range(width):
        memory[w] = w * windows.pool[2] * dz.stride[4]
        memory[width + w] = w * (channels if unpool.copies else dy.stride[4])
        memory[2 * width + w] = w * unpool.index.stride[4]
    copy.dst, copy.rows, copy.columns, copy.padded = <char*> memory + lists, width, channels, channels
    copy.ld, copy.dj, copy.si, copy.sj = channels, 1, dy.stride[4], dy.stride[1]
    for d in range(windows.pooled[0]):
        for h in range(windows.pooled[1]):
            at = n * dz.stride[0] + d * windows.pool[0] * dz.stride[2] + h * windows.pool[1] * dz.stride[3]
            call.large = <char*> dz.data + at * size
            at = n * unpool.index.stride[0] + d * unpool.index.stride[2] + h * unpool.index.stride[3]
            call.index = <uint8_t*> unpool.index.data + at
            at = n * dy.stride[0] + d * dy.stride[2] + h * dy.stride[3]
            call.small = copy.src = dy.data + at * size
            if unpool.copies:
                call.small = copy.dst
                dz.kernel.copy2d(&copy)
            dz.kernel.unpool_windows(&call)


def unpool_backward(cnp.ndarray dy, cnp.ndarray index, geometry, pool_geometry):
    """dy and index (N, C, PD, PH, PW) -> dz (N, C, D, H, W): each gradient at its place, zeros elsewhere."""
    cdef Unpool unpool
    cdef cnp.ndarray dz = empty(geometry.output_shape, dy.dtype, "channels_last"), places = channels_last(index)
    cdef View zv = view(dz)
    cdef int i
    if cnp.PyArray_SIZE(dz) == 0:
        return dz
    describe(&unpool.pool.windows, None, pool_geometry)
    unpool.dy, unpool.index, unpool.rest = view(dy), view(places), False
    unpool.copies = unpool.dy.stride[1] != 1 and zv.size[1] > 1
    for i in range(3):
        unpool.rest = unpool.rest or unpool.pool.windows.pooled[i] * unpool.pool.windows.pool[i] < zv.size[2 + i]
    with nogil:
        set_reader(&unpool.pool, &zv, ALL)
        parallel_for(zv.size[0], unpool_task, &unpool)
    if unpool.pool.failed:
        raise MemoryError("gradient of convolution with pooling: no memory for a workspace")
    return dz


cpdef cnp.ndarray channels_last(cnp.ndarray array):
    """Return (N, C, D, H, W) with its channels side by side: itself, as what a forward pass made, or a copy."""
    if array.shape[1] == 1 or array.strides[1] == array.itemsize:
        return array
    return np.ascontiguousarray(array.transpose(0, 2, 3, 4, 1)).transpose(0, 4, 1, 2, 3)
