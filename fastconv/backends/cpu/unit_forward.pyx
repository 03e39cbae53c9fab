"""Convolution, activation and max-pool in one pass: the convolution's output never reaches memory.

Windows of 2 or 4 places stay in registers. Of others, a tile is convolved into a block that stays in cache and goes
through the activation and the maximum before the next panel of weights begins. The sums are those of conv_tiles.pyx:
same order, same bits.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_conv_pool, fc_conv_tile, fc_copy2d, fc_pool_windows
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, empty, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    Reader, Tile, ceil_div, choose_chunk, choose_tile, count_tiles, fetch, finish, halve_tile, list_pixels, locate,
    tile_bytes, tile_pixels,
)
from fastconv.backends.cpu.unit_windows cimport (
    MOST_PLACES, Windows, describe, list_places, list_rows, set_window_axes,
)

cnp.import_array()

cdef int64_t BLOCK_PIXELS = 128     # conv outputs of a tile: with nr columns they stay in a first-level cache
cdef int64_t TILE_WINDOWS = 144
cdef int64_t TILE_BYTES = 256 * 1024
cdef int64_t SMALL_TILE = 4         # windows
cdef int64_t TASKS_PER_THREAD = 4
cdef int64_t ALL = 1 << 60


cdef struct Unit:
    Reader x
    Windows windows
    View w, b, y, index
    bint relu, has_bias
    bint registers          # windows stay in registers
    int64_t taps, columns, panels, splits
    int64_t rows, width     # runs of neighbouring taps and channels, and their length
    int64_t* row            # (rows,) where they lie in the source,
    int64_t* wrow           # (rows,) and in a panel
    char* packed            # (panels, taps, depth, nr), then the bias (panels, nr)
    char* bias
    bint failed


cdef void pack_panel(void* context, int64_t panel) noexcept nogil:
    """Pack nr columns of w (OC, IC, taps): for each channel a transposed copy."""
    cdef Unit* unit = <Unit*> context
    cdef Reader* x = &unit.x
    cdef int64_t nr = x.kernel.nr, size = x.itemsize, k
    cdef char* out = unit.packed + panel * unit.taps * x.depth * nr * size
    cdef fc_copy2d copy
    copy.columns, copy.padded = min(nr, unit.columns - panel * nr), nr
    copy.dj, copy.si, copy.sj = 1, 1, x.depth * unit.taps
    copy.rows, copy.ld = unit.taps, x.depth * nr
    for k in range(x.depth):
        copy.src = unit.w.data + (panel * nr * copy.sj + k * unit.taps) * size
        copy.dst = out + k * nr * size
        x.kernel.copy2d(&copy)
    if unit.has_bias:
        copy.src, copy.dst = unit.b.data + panel * nr * unit.b.stride[0] * size, unit.bias + panel * nr * size
        copy.rows, copy.ld, copy.si, copy.sj = 1, nr, 0, unit.b.stride[0]
        x.kernel.copy2d(&copy)


cdef void run_registers(void* context, int64_t task) noexcept nogil:
    """One task, in registers: task = tile * splits + split; a split is a share of the panels."""
    cdef Unit* unit = <Unit*> context
    cdef Reader* x = &unit.x
    cdef int64_t nr = x.kernel.nr, size = x.itemsize, most = tile_pixels(x)
    cdef int64_t share = ceil_div(unit.panels, unit.splits), panel = task % unit.splits * share
    cdef int64_t lists = ceil_div(2 * most * sizeof(int64_t), 64) * 64
    cdef int64_t* memory = <int64_t*> workspace(lists + tile_bytes(x))
    cdef int64_t place[MOST_PLACES]
    cdef Tile tile
    cdef fc_conv_pool call
    if memory == NULL:
        unit.failed = True
        return
    locate(x, task // unit.splits, &tile)
    list_places(&unit.windows, x.step + 2, place)
    call.windows = list_pixels(x, &tile, &tile, unit.y.stride, memory, memory + most)
    call.x = fetch(x, &tile, 0, 0, <char*> memory + lists)
    call.window, call.at, call.place, call.places = memory, memory + most, place, unit.windows.places
    call.tap, call.wtap, call.taps, call.depth = unit.row, unit.wrow, unit.rows, unit.width
    call.relu = unit.relu
    for panel in range(panel, min(unit.panels, panel + share)):
        call.columns = min(nr, unit.columns - panel * nr)
        call.w = unit.packed + panel * unit.taps * x.depth * nr * size
        call.bias = unit.bias + panel * nr * size if unit.has_bias else NULL
        call.small, call.index = unit.y.data + panel * nr * size, <uint8_t*> unit.index.data + panel * nr
        x.kernel.conv_pool(&call)


cdef void run_block(void* context, int64_t task) noexcept nogil:
    """One task, a block after the other: task as above."""
    cdef Unit* unit = <Unit*> context
    cdef Reader* x = &unit.x
    cdef int64_t nr = x.kernel.nr, size = x.itemsize, places = unit.windows.places, most = tile_pixels(x)
    cdef int64_t share = ceil_div(unit.panels, unit.splits), panel = task % unit.splits * share, p, q
    cdef int64_t lists = ceil_div((3 * most + 2 * most * places) * sizeof(int64_t), 64) * 64
    cdef int64_t source = ceil_div(tile_bytes(x), 64) * 64
    cdef int64_t* memory = <int64_t*> workspace(lists + source + most * places * nr * size)
    cdef int64_t place[MOST_PLACES]
    cdef int64_t own[MOST_PLACES]
    cdef int64_t* pixel = memory + 3 * most
    cdef int64_t* ypixel = pixel + most * places
    cdef Tile tile
    cdef fc_conv_tile conv
    cdef fc_pool_windows pool
    if memory == NULL:
        unit.failed = True
        return
    locate(x, task // unit.splits, &tile)
    list_places(&unit.windows, x.step + 2, place)
    pool.windows = list_pixels(x, &tile, &tile, unit.y.stride, memory, memory + most)
    for p in range(pool.windows):
        memory[2 * most + p] = p * places * nr
        for q in range(places):
            pixel[p * places + q] = memory[p] + place[q]
            ypixel[p * places + q] = (p * places + q) * nr
    for q in range(places):
        own[q] = q * nr
    conv.x = fetch(x, &tile, 0, 0, <char*> memory + lists)
    conv.y = <char*> memory + lists + source
    conv.pixel, conv.ypixel, conv.pixels = pixel, ypixel, pool.windows * places
    conv.tap, conv.wtap, conv.taps, conv.depth = unit.row, unit.wrow, unit.rows, unit.width
    conv.later, conv.source = False, NULL
    conv.accumulate, conv.listed, conv.residual, conv.gate, conv.relu = False, 0, NULL, NULL, False
    conv.warm = True
    pool.large, pool.window, pool.place, pool.places = conv.y, memory + 2 * most, own, places
    pool.at, pool.relu = memory + most, unit.relu
    for panel in range(panel, min(unit.panels, panel + share)):
        conv.columns = pool.channels = min(nr, unit.columns - panel * nr)
        conv.w = unit.packed + panel * unit.taps * x.depth * nr * size
        conv.bias = unit.bias + panel * nr * size if unit.has_bias else NULL
        x.kernel.conv_tile(&conv)
        pool.small, pool.index = unit.y.data + panel * nr * size, <uint8_t*> unit.index.data + panel * nr
        x.kernel.pool_windows(&pool)


cdef void cut(Unit* unit) noexcept nogil:
    """Choose tiles and shares of the panels, and list the taps."""
    cdef Reader* x = &unit.x
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1, r
    unit.registers = unit.windows.places == 2 or unit.windows.places == 4
    choose_chunk(x, ALL)
    if unit.registers:
        choose_tile(x, TILE_WINDOWS, TILE_BYTES)
    else:
        choose_tile(x, max(<int64_t> 1, BLOCK_PIXELS // unit.windows.places), TILE_BYTES)
    unit.panels = ceil_div(unit.columns, x.kernel.nr)
    unit.splits = 1
    while count_tiles(x) * unit.splits < wanted:
        if halve_tile(x, SMALL_TILE):
            continue
        if unit.splits == unit.panels:
            break
        unit.splits = min(unit.panels, 2 * unit.splits)
    finish(x)
    unit.rows = list_rows(&unit.windows, x.step + 2, x.depth, unit.row, &unit.width)
    for r in range(unit.rows):
        unit.wrow[r] = r * unit.width * x.kernel.nr


def conv_act_pool_forward(cnp.ndarray x, cnp.ndarray w, b, geometry, activation, pool_geometry):
    """x (N, IC, ID, IH, IW), w (OC, IC, KD, KH, KW), b (OC,) or None -> y and index (N, OC, PD, PH, PW)."""
    cdef cnp.ndarray y = empty(pool_geometry.output_shape, x.dtype, "channels_last")
    cdef cnp.ndarray index = empty(pool_geometry.output_shape, np.uint8, "channels_last")
    cdef cnp.ndarray weight = np.ascontiguousarray(w)
    cdef View xv = view(x)
    cdef Unit unit
    cdef int64_t bytes, bias
    if cnp.PyArray_SIZE(y) == 0:
        return y, index
    describe(&unit.windows, geometry, pool_geometry)
    unit.w, unit.y, unit.index = view(weight), view(y), view(index)
    unit.relu, unit.has_bias, unit.failed = activation == "relu", b is not None, False
    if b is not None:
        unit.b = view(b)
    unit.columns, unit.taps = unit.w.size[0], unit.w.size[2] * unit.w.size[3] * unit.w.size[4]
    unit.x.itemsize, unit.x.data, unit.x.stride, unit.x.kernel = xv.itemsize, xv.data, xv.stride, kernels(xv.itemsize)
    unit.x.n, unit.x.groups, unit.x.depth, unit.x.channels = xv.size[0], 1, xv.size[1], 0
    unit.row = <int64_t*> malloc(2 * unit.taps * sizeof(int64_t))
    if unit.row == NULL:
        raise MemoryError("convolution with pooling: no memory for the list of taps")
    unit.wrow = unit.row + unit.taps
    with nogil:
        set_window_axes(&unit.windows, &unit.x, xv.size + 2)
        cut(&unit)
        bias = unit.panels * unit.x.kernel.nr * xv.itemsize
        bytes = bias * (unit.taps * unit.x.depth + 1)
        unit.packed = <char*> allocate(bytes)
        unit.bias = unit.packed + bytes - bias
        if unit.packed == NULL:
            unit.failed = True
        else:
            parallel_for(unit.panels, pack_panel, &unit)
            parallel_for(count_tiles(&unit.x) * unit.splits, run_registers if unit.registers else run_block, &unit)
        release(unit.packed, bytes)
        free(unit.row)
    if unit.failed:
        raise MemoryError("convolution with pooling: no memory for packed weights or a workspace")
    return y, index
