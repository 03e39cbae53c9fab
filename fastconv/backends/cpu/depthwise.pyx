"""The loop nests of depthwise convolution: every group has one channel in and one out, and vectors run along groups.

The problems are those of conv_tiles.pyx and weight_tiles.pyx; their groups become the channels of one group here. A
task is a tile of pixels and a chunk of channels; the weight gradient adds up partial sums in a tree that the shape
alone fixes.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu._csrc cimport fc_accumulate, fc_copy2d, fc_depthwise_outer, fc_depthwise_tile
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    Reader, Tile, ceil_div, choose_chunk, choose_tile, count_tiles, fetch, finish, gather_pixels, halve_tile,
    list_pixels, list_taps, locate, tile_bytes, tile_pixels,
)

cdef int64_t CHANNELS = 64                  # of a chunk
cdef int64_t TILE_PIXELS = 1024
cdef int64_t TILE_BYTES = 256 * 1024
cdef int64_t SMALL_TILE = 64             # pixels; not worth sharing out
cdef int64_t SPLITS = 16                    # partial sums of a weight gradient


cdef struct Plan:
    Correlation* forward    # either this
    Outer* gradient         # or that
    Reader* x
    int64_t* each           # (taps,) tap offsets
    char* packed            # weights (taps, channels) and the bias (channels,); gradient: (splits, taps, channels)
    int64_t tiles, splits
    bint failed


cdef void set_up(Plan* plan, Reader* x) noexcept nogil:
    """Make the groups the channels of one group, and choose tiles and chunks; from the shape alone."""
    plan.x = x
    plan.failed = False
    x.kernel = kernels(x.itemsize)
    x.depth, x.groups = x.groups, 1
    choose_chunk(x, CHANNELS * max(<int64_t>1, x.axis[0].taps * x.axis[1].taps * x.axis[2].taps))
    choose_tile(x, TILE_PIXELS, TILE_BYTES)


cdef void run_tile(void* context, int64_t index) noexcept nogil:
    """One task of a correlation: index = tile * chunks + chunk."""
    cdef Plan* plan = <Plan*> context
    cdef Reader* x = plan.x
    cdef int64_t most = tile_pixels(x), chunk = index % x.chunks, channel = chunk * x.chunk
    cdef int64_t lists = ceil_div(2 * most * sizeof(int64_t), 64) * 64
    cdef char* memory = <char*> workspace(lists + tile_bytes(x))
    cdef Tile tile
    cdef fc_depthwise_tile call
    if memory == NULL:
        plan.failed = True
        return
    locate(x, index // x.chunks, &tile)
    call.pixel, call.ypixel = <int64_t*> memory, <int64_t*> memory + most
    call.pixels = list_pixels(x, &tile, &tile, plan.forward.ys, <int64_t*> memory, <int64_t*> memory + most)
    call.x = fetch(x, &tile, 0, chunk, memory + lists)
    call.tap, call.taps = plan.each, x.taps
    call.channels, call.ld = min(x.chunk, x.depth - channel), x.depth
    call.w = plan.packed + channel * x.itemsize
    call.bias = NULL
    if plan.forward.bias != NULL:
        call.bias = plan.packed + (x.taps * x.depth + channel) * x.itemsize
    call.y = plan.forward.y + channel * x.itemsize
    x.kernel.depthwise_tile(&call)


cdef void pack_weights(Plan* plan) noexcept nogil:
    cdef Correlation* problem = plan.forward
    cdef Reader* x = plan.x
    cdef int64_t d, h, w
    cdef fc_copy2d copy
    copy.dst = plan.packed
    copy.rows, copy.columns, copy.padded = 1, x.depth, x.depth
    copy.ld, copy.dj, copy.si, copy.sj = x.depth, 1, 0, problem.w_group
    for d in range(x.axis[0].taps):
        for h in range(x.axis[1].taps):
            for w in range(x.axis[2].taps):
                copy.src = problem.w + (x.axis[0].weight[d] + x.axis[1].weight[h] + x.axis[2].weight[w]) * x.itemsize
                x.kernel.copy2d(&copy)
                copy.dst = <char*> copy.dst + x.depth * x.itemsize
    if problem.bias != NULL:
        copy.src, copy.sj = problem.bias, problem.bias_stride
        x.kernel.copy2d(&copy)


cdef int depthwise_correlate(Correlation* problem) except -1 nogil:
    """Solve a correlation of one channel in and out of each group. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t bytes
    if x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count == 0:
        return 0
    plan.forward = problem
    set_up(&plan, x)
    while count_tiles(x) * x.chunks < 4 * num_threads() and num_threads() > 1:  # tiles do not change a bit: any will do
        if not halve_tile(x, SMALL_TILE):
            break
    finish(x)
    bytes = (x.taps + 1) * x.depth * x.itemsize
    plan.packed = <char*> allocate(bytes)
    plan.each = <int64_t*> malloc(sizeof(int64_t) * (x.taps + 1))
    if plan.each == NULL or plan.packed == NULL:
        plan.failed = True
    else:
        list_taps(x, plan.each)
        pack_weights(&plan)
        parallel_for(count_tiles(x) * x.chunks, run_tile, &plan)
    return tidy(&plan, bytes)


cdef int tidy(Plan* plan, int64_t bytes) except -1 nogil:
    free(plan.each)
    release(plan.packed, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("depthwise convolution: no memory for packed weights or a workspace")
    return 0


cdef void run_split(void* context, int64_t index) noexcept nogil:
    """One task of a weight gradient: index = split * chunks + chunk."""
    cdef Plan* plan = <Plan*> context
    cdef Outer* problem = plan.gradient
    cdef Reader* x = plan.x
    cdef int64_t most = tile_pixels(x), chunk = index % x.chunks, split = index // x.chunks
    cdef int64_t channel = chunk * x.chunk, n
    cdef int64_t first = plan.tiles * split // plan.splits, last = plan.tiles * (split + 1) // plan.splits
    cdef int64_t lists = ceil_div(3 * most * sizeof(int64_t), 64) * 64, source = ceil_div(tile_bytes(x), 64) * 64
    cdef int64_t* memory = <int64_t*> workspace(lists + source + most * x.chunk * x.itemsize)
    cdef char* packed = <char*> memory + lists
    cdef Tile tile
    cdef fc_depthwise_outer call
    if memory == NULL:
        plan.failed = True
        return
    call.xpixel, call.ypixel = memory, memory + 2 * most
    call.tap, call.taps = plan.each, x.taps
    call.channels, call.ld = min(x.chunk, x.depth - channel), x.depth
    call.dw = plan.packed + (split * x.taps * x.depth + channel) * x.itemsize
    call.accumulate = 0
    call.pixels = 0
    if first == last:
        x.kernel.depthwise_outer(&call)  # stores zeros
    for n in range(first, last):
        locate(x, n, &tile)
        call.pixels = list_pixels(x, &tile, &tile, problem.ys, memory, memory + most)
        call.x = fetch(x, &tile, 0, chunk, packed)
        call.dy = problem.dy + channel * problem.ys[1] * x.itemsize
        call.dy = gather_pixels(x, <const char*> call.dy, problem.ys, memory + most, call.pixels, call.channels,
                                memory + 2 * most, packed + source)
        x.kernel.depthwise_outer(&call)
        call.accumulate = 1


cdef int depthwise_products(Outer* problem) except -1 nogil:
    """Solve a weight gradient of one channel in and out of each group. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t size, step = 1, split
    cdef fc_accumulate add
    cdef fc_copy2d copy
    plan.gradient = problem
    set_up(&plan, x)
    finish(x)
    plan.tiles = count_tiles(x)
    plan.splits = max(<int64_t>1, min(plan.tiles, SPLITS))
    size = x.taps * x.depth
    plan.packed = <char*> allocate(plan.splits * size * x.itemsize)
    plan.each = <int64_t*> malloc(sizeof(int64_t) * (x.taps + 1))
    if plan.each == NULL or plan.packed == NULL:
        plan.failed = True
    else:
        list_taps(x, plan.each)
        parallel_for(plan.splits * x.chunks, run_split, &plan)
        add.count = size
        while step < plan.splits:
            split = 0
            while split + step < plan.splits:
                add.dst = plan.packed + split * size * x.itemsize
                add.src = plan.packed + (split + step) * size * x.itemsize
                x.kernel.accumulate(&add)
                split += 2 * step
            step *= 2
        copy.dst, copy.src = problem.dw, plan.packed
        copy.rows, copy.columns, copy.padded = x.depth, x.taps, x.taps
        copy.ld, copy.dj, copy.si, copy.sj = problem.dw_group, 1, 1, x.depth
        x.kernel.copy2d(&copy)
    return tidy(&plan, plan.splits * size * x.itemsize)
