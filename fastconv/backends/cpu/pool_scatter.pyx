"""The gradient of max pooling, added up output by output. Results are channels-last, or planes in C order where dy and
indices are.

From indices: sample by sample and block of channels by block, or plane by plane, or parts of a few planes, so that
tasks never meet. From places: by groups of samples, where channels are few or windows large; each sum runs as in the
walk over boxes, so all ways give the same bits.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from math import prod

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_pool_expand, fc_scatter_row
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport empty, num_threads, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef int64_t CHANNELS = 16              # a block
cdef enum:
    LINE = 64                           # bytes
    TASKS_PER_THREAD = 4                # where planes are cut: each part reads all indices
cdef int64_t TASK_BYTES = 128 * 1024    # gradients of a task


cdef struct Scatter:
    const fc_kernels* kernels
    View dx, dy, index
    int64_t channels, blocks, share     # share: boxes a task
    bint whole              # the outputs of a sample lie at equal distances
    int32_t outside         # only ever set


ctypedef fused number:
    float
    double


cdef struct Planes:
    View dx, dy, index
    int64_t plane, outputs          # pixels of a plane of dx, and of dy
    int64_t planes, share           # in all; a task
    int64_t parts, part             # of a plane, where planes are few; pixels of a part
    bint outside                    # only ever set


cdef inline void add_to_part(Planes* p, number* dx, const number* dy, const int64_t* index, int64_t first,
                             int64_t count) noexcept nogil:
    """Add what goes to pixels [first, first + count) of one plane."""
    cdef int64_t i
    cdef uint64_t place
    memset(dx + first, 0, count * sizeof(number))
    for i in range(p.outputs):
        place = <uint64_t> index[i]
        if place - <uint64_t> first < <uint64_t> count:
            dx[place] += dy[i]
        elif place >= <uint64_t> p.plane:
            p.outside = True


cdef void scatter_planes(void* context, int64_t task) noexcept nogil:
    """task = planes * parts + part"""
    cdef Planes* p = <Planes*> context
    cdef int64_t k, n, c, first = task % p.parts * p.part, count = min(p.part, p.plane - first)
    cdef char* dx
    cdef const char* dy
    cdef const int64_t* index
    for k in range(task // p.parts * p.share, min(p.planes, (task // p.parts + 1) * p.share)):
        n, c = k // p.dx.size[1], k % p.dx.size[1]
        dx = p.dx.data + k * p.plane * p.dx.itemsize
        dy = p.dy.data + (n * p.dy.stride[0] + c * p.dy.stride[1]) * p.dy.itemsize
        index = <const int64_t*> p.index.data + n * p.index.stride[0] + c * p.index.stride[1]
        if p.dx.itemsize == 4:
            add_to_part[float](p, <float*> dx, <const float*> dy, index, first, count)
        else:
            add_to_part[double](p, <double*> dx, <const double*> dy, index, first, count)


cdef bint is_plane(const View* a) noexcept nogil:
    """Whether the pixels of a plane lie side by side."""
    cdef int64_t count = 1
    cdef int axis
    for axis in range(4, 1, -1):
        if a.size[axis] > 1 and a.stride[axis] != count:
            return False
        count *= a.size[axis]
    return True


cdef object scatter_by_plane(cnp.ndarray dy, cnp.ndarray index, geometry):
    cdef cnp.ndarray dx = empty(geometry.input_shape, dy.dtype, "C")
    cdef Planes p
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1
    p.dx, p.dy, p.index, p.outside = view(dx), view(dy), view(index), False
    p.plane, p.outputs = p.dx.size[2] * p.dx.size[3] * p.dx.size[4], p.dy.size[2] * p.dy.size[3] * p.dy.size[4]
    p.planes = p.dx.size[0] * p.dx.size[1]
    if p.planes * p.plane == 0:
        return dx
    p.parts = max(<int64_t> 1, min(wanted // p.planes, p.plane * p.dx.itemsize // TASK_BYTES))
    p.part = ceil_div(p.plane, p.parts)
    p.parts = ceil_div(p.plane, p.part)
    p.share = max(<int64_t> 1, TASK_BYTES // (p.plane * p.dx.itemsize))
    with nogil:
        parallel_for(ceil_div(p.planes, p.share) * p.parts, scatter_planes, &p)
    if p.outside:
        raise IndexError("max pooling: an index outside the plane")
    return dx


cdef inline void clear_pieces(char* at, int64_t pixels, int64_t step, int64_t bytes) noexcept nogil:
    cdef int64_t p
    for p in range(pixels):
        memset(at + p * step, 0, bytes)


cdef void clear(const View* dx, int64_t n, int64_t c, int64_t channels) noexcept nogil:
    """Set one sample's channels [c, c + channels) of a channels-last array to zero."""
    cdef int64_t pixels = dx.size[2] * dx.size[3] * dx.size[4], step = dx.size[1] * dx.itemsize
    cdef char* at = dx.data + (n * pixels * dx.size[1] + c) * dx.itemsize
    if channels == dx.size[1]:
        memset(at, 0, pixels * channels * dx.itemsize)
        return
    if channels * dx.itemsize == LINE:
        clear_pieces(at, pixels, step, LINE)  # of a size that the compiler knows
    else:
        clear_pieces(at, pixels, step, channels * dx.itemsize)


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
    cdef cnp.ndarray index = np.asarray(indices).astype(np.int64, copy=False), dx
    s.dy, s.index, s.outside = view(dy), view(index), 0
    if is_plane(&s.dy) and is_plane(&s.index) and s.dy.size[2] * s.dy.size[3] * s.dy.size[4] > 1:
        return scatter_by_plane(dy, index, geometry)
    dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    s.dx = view(dx)
    s.kernels = kernels(s.dx.itemsize)
    s.whole = evenly_spaced(&s.dy) and evenly_spaced(&s.index)
    if cnp.PyArray_SIZE(dx):
        # Channels apart are slow to write: no more parts than each thread has one of.
        s.blocks = ceil_div(num_threads(), s.dx.size[0])
        s.channels = min(s.dx.size[1], ceil_div(ceil_div(s.dx.size[1], s.blocks), CHANNELS) * CHANNELS)
        s.blocks = ceil_div(s.dx.size[1], s.channels)
        plane = s.dx.size[2] * s.dx.size[3] * s.dx.size[4]
        s.share = max(<int64_t> 1, TASK_BYTES // (plane * s.channels * s.dx.itemsize))
        with nogil:
            parallel_for(ceil_div(s.dx.size[0] * s.blocks, s.share), scatter_task, &s)
    if s.outside:
        raise IndexError("max pooling: an index outside the plane")
    return dx


# ------------------------------------------------------------------------------------------- from places

cdef int64_t FEW = 16                   # channels: always
cdef int64_t SOME = 64                  # channels: where windows have many places
cdef int64_t MANY = 6
MOST_WALKED = 16                        # places of a window whose inputs can as well ask the windows that see them
cdef enum:
    BYTE = 256
    FEWER = 16                          # times fewer outputs than inputs: an index is not much beside them


cdef struct Expand:
    const fc_kernels* kernels
    View dx, dy
    const char* places
    int64_t* starts[3]      # of windows along each axis
    int64_t extent[2]       # of windows along d and h
    int64_t[BYTE] place     # where each place of a window lies in dx
    int64_t images, groups, share   # images a group, groups a task


def expands(geometry, int64_t places, int64_t images):
    """Whether ``expand`` is the faster way for windows of so many places, and has tasks enough."""
    cdef int64_t channels = geometry.c
    few = channels < FEW or (channels < SOME and places >= MANY)
    indices_count = places > MOST_WALKED and FEWER * prod(geometry.output) >= prod(geometry.input)
    return (few or indices_count) and places <= BYTE and geometry.n >= 4 * num_threads() * images


cdef void expand_group(Expand* e, int64_t group) noexcept nogil:
    cdef int64_t n = group * e.images, images = min(e.images, e.dx.size[0] - n), channels = e.dx.size[1]
    cdef int64_t row_size = e.dx.size[4] * channels, planes = e.dx.size[2], rows = e.dx.size[3]
    cdef int64_t d, h, end, zeroed = 0, outputs = e.dy.size[2] * e.dy.size[3] * e.dy.size[4]
    cdef char* dx = e.dx.data + n * e.dx.stride[0] * e.dx.itemsize
    cdef fc_pool_expand call
    call.place, call.start, call.outputs = e.place, e.starts[2], e.dy.size[4]
    call.dy_pixel = e.dy.stride[4]
    if e.images > 1:  # as the places lie: images are the last axis
        call.outer, call.dx_outer, call.dy_outer = channels, 1, e.dy.stride[1]
        call.inner, call.dx_inner, call.dy_inner = images, e.dx.stride[0], e.dy.stride[0]
    else:
        call.outer, call.dx_outer, call.dy_outer = 1, 0, 0
        call.inner, call.dx_inner, call.dy_inner = channels, 1, e.dy.stride[1]
    call.places = <const uint8_t*> e.places + n * outputs * channels
    if e.images > 1:  # small ones
        memset(dx, 0, images * e.dx.stride[0] * e.dx.itemsize)
        zeroed = planes * rows
    for d in range(e.dy.size[2]):
        for h in range(e.dy.size[3]):
            end = (min(planes, e.starts[0][d] + e.extent[0]) - 1) * rows + min(rows, e.starts[1][h] + e.extent[1])
            zeroed = clear_rows(e, dx, zeroed, end, row_size)
            call.dx = dx + (e.starts[0][d] * rows + e.starts[1][h]) * row_size * e.dx.itemsize
            call.dy = e.dy.data + (n * e.dy.stride[0] + d * e.dy.stride[2] + h * e.dy.stride[3]) * e.dy.itemsize
            e.kernels.max_pool_expand(&call)
            call.places += call.outputs * channels * images
    clear_rows(e, dx, zeroed, planes * rows, row_size)


cdef int64_t clear_rows(Expand* e, char* dx, int64_t first, int64_t end, int64_t row_size) noexcept nogil:
    """Set an image's rows [first, end) to zero, just before they are added to; return which rows are set then."""
    if end <= first:
        return first
    memset(dx + first * row_size * e.dx.itemsize, 0, (end - first) * row_size * e.dx.itemsize)
    return end


cdef void expand_task(void* context, int64_t task) noexcept nogil:
    cdef Expand* e = <Expand*> context
    cdef int64_t group
    for group in range(task * e.share, min((task + 1) * e.share, e.groups)):
        expand_group(e, group)


def expand(cnp.ndarray dy, cnp.ndarray places, geometry, int64_t images):
    """dy (N, C, OD, OH, OW), and the winners' places as the walk over boxes has written them, ``images`` images side
    by side -> dx (N, C, D, H, W)."""
    cdef Expand e
    cdef cnp.ndarray dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    cdef int64_t count = 0, p, extent_w
    cdef int64_t* memory
    cdef int i
    windows = geometry.windows
    e.dx, e.dy, e.places, e.images = view(dx), view(dy), <const char*> cnp.PyArray_DATA(places), images
    e.kernels = kernels(e.dx.itemsize)
    e.extent[0], e.extent[1], extent_w = [(max(axis.count) - 1) * axis.step + 1 for axis in windows]
    for p in range(e.extent[0] * e.extent[1] * extent_w):
        e.place[p] = p // extent_w // e.extent[1] * e.dx.size[3] + p // extent_w % e.extent[1]
        e.place[p] = (e.place[p] * e.dx.size[4] + p % extent_w) * e.dx.size[1]
    memory = <int64_t*> malloc(sum([len(axis.start) for axis in windows]) * sizeof(int64_t))
    if memory == NULL:
        raise MemoryError("pooling: no memory for the list of windows")
    for i in range(3):
        e.starts[i] = memory + count
        for start in windows[i].start:
            memory[count] = <int64_t> start * (e.dx.size[1] if i == 2 else 1)
            count += 1
    e.groups = ceil_div(e.dx.size[0], images)
    e.share = max(<int64_t> 1, TASK_BYTES // (e.dx.stride[0] * e.dx.itemsize * images))
    with nogil:
        parallel_for(ceil_div(e.groups, e.share), expand_task, &e)
    free(memory)
    return dx
