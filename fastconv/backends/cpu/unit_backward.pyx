"""Gradients of a convolution under a max-pool, from the pooled gradient: at most one conv output of a window has one.

Weight gradient: for each output channel a list of the live gradients and of where their windows' maxima read, summed
run of taps by run of taps; where runs are short (few input channels), gradients masked place by place instead, in
vectors of output channels. Input gradient: for each conv output a list of the channels that are live there, whose rows
of weights are added to the image. A task has an image, or a part of the tiles and a block of channels; parts, tiles and
blocks depend on the shape alone, and parts are added pairwise.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from fastconv.backends.cpu._csrc cimport (
    fc_accumulate, fc_copy2d, fc_live, fc_live_outer, fc_live_scatter, fc_masked_outer,
)
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, empty, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    Reader, Tile, ceil_div, choose_chunk, choose_tile, count_tiles, fetch, finish, list_pixels, locate, tile_bytes,
    tile_pixels,
)
from fastconv.backends.cpu.unit_pool cimport channels_last
from fastconv.backends.cpu.unit_windows cimport (
    MOST_PLACES, Windows, describe, list_places, list_rows, set_window_axes,
)

cnp.import_array()

cdef int64_t TILE_BYTES = 37 * 1024     # source of a tile of the weight gradient: about a first-level cache
cdef int64_t TILE_WINDOWS = 192
cdef int64_t CHANNELS = 16              # of a block
cdef int64_t TASKS = 16                  # partial sums cost memory and time
cdef int64_t PARTIAL_BYTES = 4 * 1024 * 1024
cdef int64_t BAND_ENTRIES = 8192        # of the lists of the input gradient
cdef int64_t ALL = 1 << 60


cdef struct Gradient:
    Reader x
    Windows windows
    View dy, index
    int64_t columns, taps
    int64_t rows, width     # runs of neighbouring taps and channels, and their length
    int64_t* row
    bint failed


cdef struct Outer:
    Gradient g
    int64_t blocks, tiles, splits
    char* partial           # (splits, columns, ld) or masked (splits, ld, columns), and the bias' (splits, columns)
    int64_t ld              # taps * depth
    char* dw
    char* db


cdef inline char* partial_of(const Outer* outer, int64_t split, int64_t column) noexcept nogil:
    return outer.partial + (split * outer.g.columns + column) * outer.ld * outer.g.x.itemsize


cdef inline char* bias_of(const Outer* outer, int64_t split, int64_t column) noexcept nogil:
    cdef int64_t before = outer.splits * outer.g.columns * outer.ld + split * outer.g.columns + column
    return outer.partial + before * outer.g.x.itemsize


cdef void outer_task(void* context, int64_t task) noexcept nogil:
    """One part of the tiles for one block of channels: task = split * blocks + block."""
    cdef Outer* outer = <Outer*> context
    cdef Gradient* g = &outer.g
    cdef Reader* x = &g.x
    cdef int64_t split = task // outer.blocks, column = task % outer.blocks * CHANNELS
    cdef int64_t most = tile_pixels(x), tile_index
    cdef int64_t lists = ceil_div((3 * most + most * CHANNELS + CHANNELS) * sizeof(int64_t), 64) * 64
    cdef int64_t source = ceil_div(tile_bytes(x), 64) * 64
    cdef int64_t* memory = <int64_t*> workspace(lists + source + most * CHANNELS * x.itemsize)
    cdef int64_t place[MOST_PLACES]
    cdef Tile tile
    cdef fc_live live
    cdef fc_live_outer call
    if memory == NULL:
        g.failed = True
        return
    list_places(&g.windows, x.step + 2, place)
    live.channels = call.channels = min(CHANNELS, g.columns - column)
    live.channel, live.place, live.places = g.dy.stride[1], place, g.windows.places
    live.window, live.at, live.index_at = memory, memory + most, memory + 2 * most
    live.dy = g.dy.data + column * g.dy.stride[1] * x.itemsize
    live.index = <uint8_t*> g.index.data + column
    live.value, live.offset = <char*> memory + lists + source, memory + 3 * most
    live.start = memory + (3 + CHANNELS) * most
    call.value, call.offset, call.end, call.row = live.value, live.offset, live.start, g.row
    call.rows, call.width, call.ld = g.rows, g.width, outer.ld
    call.dw, call.db, call.accumulate = partial_of(outer, split, column), bias_of(outer, split, column), False
    for tile_index in range(outer.tiles * split // outer.splits, outer.tiles * (split + 1) // outer.splits):
        locate(x, tile_index, &tile)
        live.windows = list_pixels(x, &tile, &tile, g.dy.stride, memory, memory + most)
        list_pixels(x, &tile, &tile, g.index.stride, memory, memory + 2 * most)
        call.windows = live.windows
        call.x = fetch(x, &tile, 0, 0, <char*> memory + lists)
        x.kernel.live_channels(&live)
        x.kernel.live_outer(&call)
        call.accumulate = True


cdef void add_up(const Outer* outer, char* first, int64_t step, int64_t count) noexcept nogil:
    """Add ``splits`` runs of ``count`` elements, ``step`` bytes apart, pairwise into the first."""
    cdef fc_accumulate call
    cdef int64_t distance = 1, split
    call.count = count
    while distance < outer.splits:
        split = 0
        while split + distance < outer.splits:
            call.dst, call.src = first + split * step, first + (split + distance) * step
            outer.g.x.kernel.accumulate(&call)
            split += 2 * distance
        distance *= 2


cdef void finish_column(void* context, int64_t column) noexcept nogil:
    """Add up an output channel's parts and store them: (taps, depth) -> (depth, taps)."""
    cdef Outer* outer = <Outer*> context
    cdef Reader* x = &outer.g.x
    cdef int64_t size = x.itemsize
    cdef fc_copy2d copy
    copy.src = partial_of(outer, 0, column)
    add_up(outer, <char*> copy.src, outer.g.columns * outer.ld * size, outer.ld)
    copy.dst = outer.dw + column * outer.ld * size
    copy.rows, copy.columns, copy.padded = x.depth, outer.g.taps, outer.g.taps
    copy.ld, copy.dj, copy.si, copy.sj = outer.g.taps, 1, 1, x.depth
    x.kernel.copy2d(&copy)
    add_up(outer, bias_of(outer, 0, column), outer.g.columns * size, 1)
    memcpy(outer.db + column * size, bias_of(outer, 0, column), size)


cdef void masked_task(void* context, int64_t task) noexcept nogil:
    """As outer_task, with masks."""
    cdef Outer* outer = <Outer*> context
    cdef Gradient* g = &outer.g
    cdef Reader* x = &g.x
    cdef int64_t split = task // outer.blocks, column = task % outer.blocks * CHANNELS
    cdef int64_t most = tile_pixels(x), tile_index
    cdef int64_t lists = ceil_div(3 * most * sizeof(int64_t), 64) * 64
    cdef int64_t* memory = <int64_t*> workspace(lists + tile_bytes(x))
    cdef int64_t place[MOST_PLACES]
    cdef Tile tile
    cdef fc_masked_outer call
    if memory == NULL:
        g.failed = True
        return
    list_places(&g.windows, x.step + 2, place)
    call.channels, call.place, call.places = min(CHANNELS, g.columns - column), place, g.windows.places
    call.window, call.at, call.index_at = memory, memory + most, memory + 2 * most
    call.dy, call.index = g.dy.data + column * x.itemsize, <uint8_t*> g.index.data + column
    call.row, call.rows, call.width, call.ld = g.row, g.rows, g.width, g.columns
    call.dw = partial_of(outer, split, 0) + column * x.itemsize
    call.db, call.accumulate = bias_of(outer, split, column), False
    for tile_index in range(outer.tiles * split // outer.splits, outer.tiles * (split + 1) // outer.splits):
        locate(x, tile_index, &tile)
        call.windows = list_pixels(x, &tile, &tile, g.dy.stride, memory, memory + most)
        list_pixels(x, &tile, &tile, g.index.stride, memory, memory + 2 * most)
        call.x = fetch(x, &tile, 0, 0, <char*> memory + lists)
        x.kernel.masked_outer(&call)
        call.accumulate = True


cdef void finish_row(void* context, int64_t row) noexcept nogil:
    """Add up the parts of a (tap, input channel), all columns, and store them; the bias' gradient with the first."""
    cdef Outer* outer = <Outer*> context
    cdef Reader* x = &outer.g.x
    cdef int64_t size = x.itemsize, columns = outer.g.columns
    cdef fc_copy2d copy
    copy.src = outer.partial + row * columns * size
    add_up(outer, <char*> copy.src, columns * outer.ld * size, columns)
    copy.dst = outer.dw + (row % x.depth * outer.g.taps + row // x.depth) * size
    copy.rows, copy.columns, copy.padded = 1, columns, columns
    copy.ld, copy.dj, copy.si, copy.sj = 1, outer.ld, columns, 1
    x.kernel.copy2d(&copy)
    if row == 0:
        add_up(outer, bias_of(outer, 0, 0), columns * size, columns)
        memcpy(outer.db, bias_of(outer, 0, 0), columns * size)


cdef int set_gradient(Gradient* g, cnp.ndarray dy, cnp.ndarray index, geometry, pool_geometry) except -1:
    """What both gradients share; the reader's array is set by the caller. ``row`` is to be freed."""
    describe(&g.windows, geometry, pool_geometry)
    g.dy, g.index, g.failed = view(dy), view(index), False
    g.columns, g.taps = geometry.oc, g.windows.kernel[0] * g.windows.kernel[1] * g.windows.kernel[2]
    g.x.itemsize, g.x.kernel = g.dy.itemsize, kernels(g.dy.itemsize)
    g.x.n, g.x.groups, g.x.depth, g.x.channels = geometry.n, 1, geometry.ic, 0
    g.row = <int64_t*> malloc(g.taps * sizeof(int64_t))
    if g.row == NULL:
        raise MemoryError("gradient of convolution with pooling: no memory for the list of taps")
    return 0


def live_backward_weight(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray x, geometry, pool_geometry, bint masked=False):
    """dy and index (N, OC, PD, PH, PW), x (N, IC, ID, IH, IW) -> dw (OC, IC, KD, KH, KW), db (OC,)."""
    cdef cnp.ndarray dw = empty(geometry.weight_shape, dy.dtype, "C"), db = empty((geometry.oc,), dy.dtype, "C")
    cdef cnp.ndarray places = channels_last(index)
    cdef View xv = view(x)
    cdef Outer outer
    cdef Gradient* g = &outer.g
    cdef int64_t bytes
    dy = channels_last(dy) if masked else dy
    set_gradient(g, dy, places, geometry, pool_geometry)
    g.x.data, g.x.stride = xv.data, xv.stride
    outer.dw, outer.db = <char*> cnp.PyArray_DATA(dw), <char*> cnp.PyArray_DATA(db)
    outer.ld = g.taps * g.x.depth
    with nogil:
        set_window_axes(&g.windows, &g.x, xv.size + 2)
        choose_chunk(&g.x, ALL)
        choose_tile(&g.x, TILE_WINDOWS, TILE_BYTES)
        finish(&g.x)
        g.rows = list_rows(&g.windows, g.x.step + 2, g.x.depth, g.row, &g.width)
        outer.blocks, outer.tiles = ceil_div(g.columns, CHANNELS), count_tiles(&g.x)
        bytes = g.columns * (outer.ld + 1) * g.x.itemsize
        outer.splits = min(ceil_div(TASKS, outer.blocks), PARTIAL_BYTES // bytes)
        outer.splits = max(<int64_t> 1, min(outer.splits, outer.tiles))
        bytes *= outer.splits
        outer.partial = <char*> allocate(bytes)
        if outer.partial == NULL:
            g.failed = True
        else:
            if outer.tiles == 0:
                memset(outer.partial, 0, bytes)
            else:
                parallel_for(outer.splits * outer.blocks, masked_task if masked else outer_task, &outer)
            parallel_for(outer.ld if masked else g.columns, finish_row if masked else finish_column, &outer)
        release(outer.partial, bytes)
        free(g.row)
    if g.failed:
        raise MemoryError("gradient of convolution with pooling: no memory for partial sums or a workspace")
    return dw, db


# ------------------------------------------------------------------------------------------ input gradient


cdef struct Scatter:
    Gradient g
    View w, dx
    char* packed            # (columns, taps, depth)
    int64_t size[3]         # of the padded image
    bint in_place           # nothing is padded: the image is dx's
    int64_t band            # windows a list


cdef void pack_column(void* context, int64_t column) noexcept nogil:
    """(depth, taps) -> (taps, depth)."""
    cdef Scatter* s = <Scatter*> context
    cdef Reader* x = &s.g.x
    cdef int64_t bytes = column * x.depth * s.g.taps * x.itemsize
    cdef fc_copy2d copy
    copy.src, copy.dst = s.w.data + bytes, s.packed + bytes
    copy.rows, copy.columns, copy.padded = s.g.taps, x.depth, x.depth
    copy.ld, copy.dj, copy.si, copy.sj = x.depth, 1, 1, s.g.taps
    x.kernel.copy2d(&copy)


cdef void list_band(Scatter* s, int64_t n, int64_t first, int64_t count, int64_t* lists) noexcept nogil:
    """Where ``count`` windows of image n lie: in the padded image, in dy and in the index."""
    cdef Windows* windows = &s.g.windows
    cdef int64_t* dy = s.g.dy.stride
    cdef int64_t* index = s.g.index.stride
    cdef int64_t p, d, h, w
    for p in range(count):
        w = (first + p) % windows.pooled[2]
        h = (first + p) // windows.pooled[2] % windows.pooled[1]
        d = (first + p) // windows.pooled[2] // windows.pooled[1]
        lists[p] = d * windows.pool[0] * windows.stride[0] * s.g.x.step[2]
        lists[p] += h * windows.pool[1] * windows.stride[1] * s.g.x.step[3]
        lists[p] += w * windows.pool[2] * windows.stride[2] * s.g.x.step[4]
        lists[s.band + p] = n * dy[0] + d * dy[2] + h * dy[3] + w * dy[4]
        lists[2 * s.band + p] = n * index[0] + d * index[2] + h * index[3] + w * index[4]


cdef void scatter_task(void* context, int64_t n) noexcept nogil:
    """One image, a band of windows after the other."""
    cdef Scatter* s = <Scatter*> context
    cdef Gradient* g = &s.g
    cdef Windows* windows = &g.windows
    cdef int64_t size = g.x.itemsize, entries = s.band * g.columns, image = g.x.step[0] * size
    cdef int64_t count = windows.pooled[0] * windows.pooled[1] * windows.pooled[2], first = 0, bytes
    cdef int64_t lists = (3 * s.band + s.band * (windows.places + 1) + entries) * sizeof(int64_t)
    cdef int64_t place[MOST_PLACES]
    cdef int64_t* memory
    cdef fc_live live
    cdef fc_live_scatter call
    lists = ceil_div(lists, 64) * 64
    bytes = ceil_div(entries * size, 64) * 64
    memory = <int64_t*> workspace(lists + bytes + (0 if s.in_place else image))
    if memory == NULL:
        g.failed = True
        return
    call.dx = s.dx.data + n * s.dx.stride[0] * size if s.in_place else <char*> memory + lists + bytes
    memset(call.dx, 0, image)
    list_places(windows, g.x.step + 2, place)
    live.window, live.at, live.index_at = memory, memory + s.band, memory + 2 * s.band
    live.start = memory + 3 * s.band
    live.offset = live.start + s.band * (windows.places + 1)
    live.value, live.dy, live.index = <char*> memory + lists, g.dy.data, <uint8_t*> g.index.data
    live.place, live.places, live.ld = place, windows.places, g.taps * g.x.depth
    live.channels, live.channel = g.columns, g.dy.stride[1]
    call.value, call.offset, call.start, call.window, call.place = live.value, live.offset, live.start, memory, place
    call.row, call.rows, call.width, call.w = g.row, g.rows, g.width, s.packed
    call.places, call.channels = windows.places, g.columns
    while first < count:
        live.windows = call.windows = min(s.band, count - first)
        list_band(s, n, first, live.windows, memory)
        g.x.kernel.live_places(&live)
        g.x.kernel.live_scatter(&call)
        first += s.band
    if not s.in_place:
        copy_inside(s, n, <char*> call.dx)


cdef void copy_inside(Scatter* s, int64_t n, const char* image) noexcept nogil:
    """Copy a padded image's rows, without the padding, to dx."""
    cdef int64_t size = s.g.x.itemsize, row = s.dx.size[4] * s.dx.size[1] * size, d, h
    cdef int64_t* padding = s.g.windows.padding
    cdef int64_t* step = s.g.x.step
    for d in range(s.dx.size[2]):
        for h in range(s.dx.size[3]):
            memcpy(s.dx.data + (n * s.dx.stride[0] + d * s.dx.stride[2] + h * s.dx.stride[3]) * size,
                   image + ((padding[0] + d) * step[2] + (padding[1] + h) * step[3] + padding[2] * step[4]) * size, row)


def live_backward_input(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray w, geometry, pool_geometry):
    """dy and index (N, OC, PD, PH, PW), w (OC, IC, KD, KH, KW) -> dx (N, IC, ID, IH, IW), channels-last."""
    cdef cnp.ndarray dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    cdef cnp.ndarray places = channels_last(index), weight = np.ascontiguousarray(w)
    cdef Scatter s
    cdef Gradient* g = &s.g
    cdef int64_t bytes, stride
    cdef int i
    if cnp.PyArray_SIZE(dx) == 0:
        return dx
    set_gradient(g, dy, places, geometry, pool_geometry)
    s.w, s.dx, s.in_place = view(weight), view(dx), True
    stride = g.x.depth
    for i in range(2, -1, -1):
        s.size[i] = s.dx.size[2 + i] + geometry.padding[i] + geometry.padding_end[i]
        s.in_place = s.in_place and s.size[i] == s.dx.size[2 + i]
        g.x.step[2 + i] = stride
        stride *= s.size[i]
    g.x.step[0] = stride
    s.band = max(<int64_t> 1, min(g.windows.pooled[0] * g.windows.pooled[1] * g.windows.pooled[2],
                                  BAND_ENTRIES // g.columns))
    bytes = g.columns * g.taps * g.x.depth * g.x.itemsize
    with nogil:
        g.rows = list_rows(&g.windows, g.x.step + 2, g.x.depth, g.row, &g.width)
        s.packed = <char*> allocate(bytes)
        if s.packed == NULL:
            g.failed = True
        else:
            parallel_for(g.columns, pack_column, &s)
            parallel_for(s.dx.size[0], scatter_task, &s)
        release(s.packed, bytes)
        free(g.row)
    if g.failed:
        raise MemoryError("gradient of convolution with pooling: no memory for packed weights or a workspace")
    return dx
