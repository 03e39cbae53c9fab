"""The loop nest of the input gradient of depthwise convolutions with 3x3 taps a plane and a step of 2.

As phases (conv_backward_input.pyx) it would read the gradient four times and store every other pixel; here a position
of the gradient is read for the 2x2 outputs that it starts. A destination of the axes is a pair of outputs, the even
and the odd one of padded coordinates; of the first and the last pair one may lie outside. Packing and blocks are those
of grouped.pyx. A task is a tile of pairs and a chunk of blocks.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_blocks, fc_depthwise
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.grouped cimport (
    PLANE, Lanes, Plan, cut, inside, line_start, next_rows, pack_bias, pack_block, set_lanes, share_of_chunk,
    source_plane, streams,
)
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, Tile, TileAxis, ceil_div, count_tiles, fetch, locate, tile_bytes

cdef enum:
    TAPS = 3    # of an axis that steps
    SEEN = 2    # source positions that a pair sees


cdef void set_adjoint_axis(TileAxis* axis, int64_t size, int64_t padding, int64_t w_stride,
                           int64_t* lists) noexcept nogil:
    """Describe an axis of ``size`` outputs; ``lists`` has room for two numbers a tap."""
    cdef int64_t first = padding // 2, k
    axis.dst_base, axis.dst_step = 2 * first - padding, 2
    axis.count = (size - 1 + padding) // 2 - first + 1 if size > 0 else 0
    axis.src_base, axis.src_step = first, 1
    axis.taps, axis.shift, axis.weight = TAPS, lists, lists + TAPS
    for k in range(TAPS):
        lists[k] = k - 1
        lists[TAPS + k] = k * w_stride


cdef void run_tile(void* context, int64_t index) noexcept nogil:
    """One task: index = tile * chunks + chunk."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Lanes* lanes = &plan.lanes
    cdef Reader* x = &problem.x
    cdef TileAxis* ax = &x.axis[0]
    cdef int64_t size = x.itemsize, width = x.kernel.width, chunk = index % x.chunks, n, d, kd
    cdef int64_t first = chunk * lanes.chunk_blocks, list_bytes = ceil_div(2 * ax[0].taps * sizeof(int64_t), 64) * 64
    cdef int64_t* plane = <int64_t*> workspace(list_bytes + tile_bytes(x))
    cdef int64_t* wplane = plane + ax[0].taps
    cdef Tile tile
    cdef fc_blocks blocks
    cdef fc_depthwise call
    if plane == NULL:
        plan.failed = True
        return
    locate(x, index // x.chunks, &tile)
    share_of_chunk(lanes, x, chunk, &blocks)
    call.x = fetch(x, &tile, 0, chunk, <char*> plane + list_bytes)
    call.w, call.wblock = plan.packed + first * lanes.wblock * size, lanes.wblock
    call.bias = plan.bias + first * width * size if problem.bias != NULL else NULL
    call.plane, call.wplane = plane, wplane
    call.lines, call.pixels = tile.count[2], tile.count[3]
    call.top, call.low = -(ax[1].src_base + tile.first[2]), -(ax[2].src_base + tile.first[3])
    call.bottom, call.high = call.top + ax[1].src_size, call.low + ax[2].src_size
    call.ytop, call.ylow = -(ax[1].dst_base + 2 * tile.first[2]), -(ax[2].dst_base + 2 * tile.first[3])
    call.ybottom, call.yhigh = call.ytop + plan.size[3], call.ylow + plan.size[4]
    call.xrow, call.xpixel, call.yrow, call.ypixel = x.step[3], x.step[4], problem.ys[3], problem.ys[4]
    call.blocks, call.last, call.relu = blocks.count, blocks.last_ylanes, problem.relu
    call.stream = streams(lanes, problem)
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(tile.first[1], tile.first[1] + tile.count[1]):
            call.planes = 0
            for kd in range(ax[0].taps):
                if inside(&ax[0], d, kd):  # the tile starts a row and a position before the first pair's
                    plane[call.planes] = source_plane(x, &tile, n, d, kd) + x.step[3] + x.step[4]
                    wplane[call.planes] = kd * PLANE
                    call.planes += 1
            call.y = problem.y + (line_start(problem, &tile, n, d, tile.first[2]) + first * width) * size
            call.next = next_rows(lanes, x, &tile, n, d, &call.next_bytes)
            x.kernel.depthwise_adjoint(&call)


cdef int adjoint_correlate(Correlation* problem, int64_t* size) except -1 nogil:
    """Solve a correlation whose axes of height and width are set_adjoint_axis's, with a destination of this size.

    Raises MemoryError.
    """
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef Lanes* lanes = &plan.lanes
    cdef char* memory
    cdef int64_t bytes, weights, index
    if x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count == 0:
        return 0
    plan.problem, plan.size = problem, size
    plan.failed = False
    x.kernel = kernels(x.itemsize)
    set_lanes(lanes, x, problem.columns)
    weights = lanes.blocks.count * lanes.wblock * x.itemsize
    bytes = weights + lanes.blocks.count * x.kernel.width * x.itemsize
    memory = <char*> allocate(bytes)
    if memory == NULL:
        plan.failed = True
    else:
        plan.packed, plan.bias = memory, memory + weights
        for index in range(lanes.blocks.count if problem.bias != NULL else 0):
            pack_bias(&plan, index)
        parallel_for(lanes.blocks.count, pack_block, &plan)
        x.axis[1].taps = x.axis[2].taps = SEEN  # the weights lie packed: from here on an axis is what is read
        cut(&plan)
        parallel_for(count_tiles(x) * x.chunks, run_tile, &plan)
    release(memory, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("depthwise input gradient: no memory for packed weights or a workspace")
    return 0
