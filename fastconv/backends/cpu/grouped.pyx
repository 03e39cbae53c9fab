"""The loop nests of convolutions with few channels a group, depthwise ones among them: forward and input gradient.

A vector holds the output channels of whole groups (a block); the problems are those of conv_tiles.pyx. Channels that
lie side by side are read in place, padding is left out by bounds. A task is a tile of pixels and a chunk of blocks.
"""

cimport numpy as cnp
from libc.stdint cimport INT64_MIN, int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_depthwise, fc_grouped_row
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    FAR, LINE, TileAxis, begin_lines, ceil_div, choose_chunk, choose_tile, count_tiles, fetch, halve_tile, locate,
    set_steps, source_at, span, tile_bytes,
)
from fastconv.backends.cpu.weight_cache cimport Panels, kept_panels, new_panels

cnp.import_array()

cdef int64_t CHUNK_CHANNELS = 64            # of a source that is copied
cdef int64_t TILE_PIXELS = 1024
cdef int64_t TILE_BYTES = 256 * 1024
cdef int64_t LARGE_BYTES = 24 * 1024 * 1024  # of source and destination, beyond which they do not stay in the caches
cdef int64_t SMALL_TILE = 64                # pixels; not worth sharing out
cdef int64_t TASKS_PER_THREAD = 4


cdef int64_t set_lanes(Lanes* lanes, Reader* x, int64_t columns) noexcept nogil:
    """Cut the groups into blocks, make them the channels of one group, and return the lanes of the table to allocate.

    ``columns`` is the number of channels out of a group, x.depth that of channels in: at most a vector, or both two.
    """
    cdef fc_blocks* blocks = &lanes.blocks
    lanes.groups, lanes.slides, lanes.width = x.groups, slides(x, columns), max(columns, x.kernel.width)
    lanes.block_groups = max(<int64_t>1, x.kernel.width // max(x.depth, columns))
    blocks.count = ceil_div(x.groups, lanes.block_groups)
    blocks.depth = x.depth
    blocks.xlanes, blocks.ylanes = lanes.block_groups * x.depth, lanes.block_groups * columns
    blocks.lane = lanes.lane = NULL
    x.depth, x.groups = x.groups * x.depth, 1
    choose_chunk(x, x.depth * max(<int64_t>1, x.axis[0].taps * x.axis[1].taps * x.axis[2].taps))
    lanes.rows = x.axis[0].taps * x.axis[1].taps
    lanes.wblock = lanes.rows * blocks.depth * x.axis[2].taps * lanes.width
    if columns == 1 if blocks.depth == 1 else columns >= x.kernel.width:
        return 0
    return blocks.depth * x.kernel.width


cdef void fill_lanes(Lanes* lanes, int64_t width) noexcept nogil:
    """Which channel of a source block each lane reads, for each channel in of its group."""
    cdef int64_t columns = lanes.blocks.ylanes // lanes.block_groups, k, i, lane
    for k in range(lanes.blocks.depth):
        for i in range(width):
            lane = i // columns * lanes.blocks.depth + k if i < lanes.blocks.ylanes else 0
            lanes.lane[k * width + i] = <int32_t> lane
    lanes.blocks.lane = lanes.lane


cdef int64_t slides(const Reader* x, int64_t columns) noexcept nogil:
    """The taps along an axis of planes that the depthwise kernels serve: 3x3, 5x5 or 7x7 taps. 0 if they do not."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t taps = ax[2].taps, t
    if x.depth != 1 or columns != 1 or ax[1].src_step != ax[2].src_step or ax[1].src_step > 2:
        return 0
    if taps != ax[1].taps or taps % 2 == 0 or not 3 <= taps <= 7:
        return 0
    for t in range(1, taps):
        if ax[1].shift[t] - ax[1].shift[t - 1] != 1 or ax[2].shift[t] - ax[2].shift[t - 1] != 1:
            return 0
    return taps


cdef bint in_place(const Reader* x) noexcept nogil:
    """Whether the source is read where it lies: its channels side by side."""
    return x.stride[1] == 1 or x.depth == 1


cdef void set_chunks(Lanes* lanes, Reader* x, int64_t chunk_blocks) noexcept nogil:
    """Cut the blocks into chunks, each a task's or a copy's."""
    x.chunks = ceil_div(lanes.blocks.count, max(<int64_t>1, min(chunk_blocks, lanes.blocks.count)))
    lanes.chunk_blocks = ceil_div(lanes.blocks.count, x.chunks)
    x.chunks = ceil_div(lanes.blocks.count, lanes.chunk_blocks)
    x.chunk = min(lanes.chunk_blocks * lanes.blocks.xlanes, x.depth)


cdef void finish_lanes(Reader* x) noexcept nogil:
    """As finish, but a source in place may be padded: the rows and bounds that the kernel gets leave padding out."""
    set_steps(x, in_place(x))


cdef void set_large(Lanes* lanes, const Reader* x) noexcept nogil:
    """Find out whether source and destination are too large for the caches. No bit depends on it."""
    cdef int64_t source = 1, result = 1
    cdef int i
    for i in range(3):
        source *= x.axis[i].src_size
        result *= x.axis[i].count * x.axis[i].dst_step
    lanes.large = x.n * x.depth * (source + result) * x.itemsize >= LARGE_BYTES
    lanes.far = lanes.large if lanes.blocks.depth == 1 else x.n * x.depth * source * x.itemsize > FAR


cdef bint streams(const Lanes* lanes, const Correlation* problem) noexcept nogil:
    """Whether the destination is stored past the caches: a vector is one of their lines."""
    cdef const Reader* x = &problem.x
    return lanes.large and x.kernel.width * x.itemsize == LINE and begin_lines(problem.y, problem.ys, x.itemsize)


cdef bint next_known(const Lanes* lanes, const Reader* x) noexcept nogil:
    """Whether the source comes from memory, and its rows follow each other there."""
    return (lanes.far and x.direct and x.chunks == 1 and x.stride[4] == x.depth
            and x.stride[3] == x.axis[2].src_size * x.stride[4])


cdef const char* next_rows(const Lanes* lanes, const Reader* x, const Tile* tile, int64_t n, int64_t d,
                           int64_t* size) noexcept nogil:
    """Where the source goes on behind the rows of a tile, and for how many bytes of as many rows; 0 if unknown."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t row = ax[2].src_size * x.stride[4], plane = ax[0].src_base + ax[0].src_step * d, at
    size[0] = 0
    if not next_known(lanes, x):
        return NULL
    plane += ax[0].shift[ax[0].taps - 1] if ax[0].taps else 0
    at = min(ax[1].src_size, source_at(&ax[1], tile.first[2]) + span(&ax[1], tile.count[2]))
    size[0] = tile.count[2] * ax[1].src_step * row * x.itemsize
    return x.data + (n * x.stride[0] + plane * x.stride[2] + at * row) * x.itemsize


cdef int64_t lanes_of(const Lanes* lanes, int64_t block) noexcept nogil:
    """The number of channels out in a block."""
    cdef int64_t columns = lanes.blocks.ylanes // lanes.block_groups
    return min(lanes.block_groups, lanes.groups - block * lanes.block_groups) * columns


cdef void share_of_chunk(const Lanes* lanes, const Reader* x, int64_t chunk, fc_blocks* blocks) noexcept nogil:
    cdef int64_t first = chunk * lanes.chunk_blocks
    blocks[0] = lanes.blocks
    blocks.count = min(lanes.chunk_blocks, lanes.blocks.count - first)
    blocks.last_ylanes = lanes_of(lanes, first + blocks.count - 1)
    blocks.last_xlanes = blocks.last_ylanes * lanes.blocks.xlanes // lanes.blocks.ylanes


cdef bint inside(const TileAxis* axis, int64_t output, int64_t tap) noexcept nogil:
    """Whether a tap of an output lies in the array."""
    return 0 <= axis.src_base + axis.src_step * output + axis.shift[tap] < axis.src_size


cdef int64_t source_plane(const Reader* x, const Tile* tile, int64_t n, int64_t d, int64_t kd) noexcept nogil:
    """Where the source plane of a kernel plane starts for the outputs (n, d) of a tile, in what the tile reads."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t at = ax.src_base + ax.src_step * d + ax.shift[kd] - source_at(ax, tile.first[1])
    return (n - tile.first[0]) * x.step[0] + at * x.step[2]


cdef int64_t source_row(const Reader* x, const Tile* tile, int64_t n, int64_t d, int64_t h, int64_t kd,
                        int64_t kh) noexcept nogil:
    """Where the source row of a kernel row starts for the outputs (n, d, h) of a tile, in what the tile reads.

    INT64_MIN where it is padding.
    """
    cdef const TileAxis* ax = &x.axis[1]
    if not inside(&x.axis[0], d, kd) or not inside(ax, h, kh):
        return INT64_MIN
    return (source_plane(x, tile, n, d, kd)
            + (ax.src_base + ax.src_step * h + ax.shift[kh] - source_at(ax, tile.first[2])) * x.step[3])


cdef void pack_block(void* context, int64_t index) noexcept nogil:
    """Pack the weights of one block."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef TileAxis* ax = &x.axis[0]
    cdef Lanes* lanes = &plan.lanes
    cdef int64_t size = x.itemsize, width = lanes.width, group = index * lanes.block_groups
    cdef int64_t columns = problem.columns, groups = lanes_of(lanes, index) // columns, d, h, k, g
    cdef const char* w
    cdef fc_copy2d copy
    copy.dst = plan.packed + index * lanes.wblock * size
    memset(copy.dst, 0, lanes.wblock * size)
    copy.rows, copy.ld, copy.dj = ax[2].taps, width, 1
    copy.si = ax[2].weight[1] - ax[2].weight[0] if ax[2].taps > 1 else 1
    if columns == 1:
        copy.columns, copy.sj = groups, problem.w_group
    else:
        copy.columns, copy.sj = columns, problem.w_column
    copy.padded = copy.columns
    for d in range(ax[0].taps if x.taps else 0):
        for h in range(ax[1].taps):
            for k in range(lanes.blocks.depth):
                w = problem.w + (ax[0].weight[d] + ax[1].weight[h] + ax[2].weight[0] + k * problem.w_depth
                                 + group * problem.w_group) * size
                for g in range(1 if columns == 1 else groups):
                    copy.src = w + g * problem.w_group * size
                    x.kernel.copy2d(&copy)
                    copy.dst = <char*> copy.dst + columns * size
                copy.dst = <char*> copy.dst + (width * ax[2].taps - (1 if columns == 1 else groups) * columns) * size


cdef void pack_bias(Plan* plan, int64_t index) noexcept nogil:
    """The bias of one block."""
    cdef Correlation* problem = plan.problem
    cdef int64_t size = problem.x.itemsize, width = plan.lanes.width
    cdef fc_copy2d copy
    copy.rows, copy.columns, copy.padded, copy.ld, copy.dj = 1, lanes_of(&plan.lanes, index), width, width, 1
    copy.si, copy.sj = 0, problem.bias_stride
    copy.src = problem.bias + index * plan.lanes.block_groups * problem.columns * problem.bias_stride * size
    copy.dst = plan.bias + index * width * size
    problem.x.kernel.copy2d(&copy)


cdef void run_tile(void* context, int64_t index) noexcept nogil:
    """One task: index = tile * chunks + chunk."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Lanes* lanes = &plan.lanes
    cdef Reader* x = &problem.x
    cdef TileAxis* ax = &x.axis[0]
    cdef int64_t size = x.itemsize, chunk = index % x.chunks, first = chunk * lanes.chunk_blocks
    cdef int64_t list_bytes = ceil_div(2 * lanes.rows * sizeof(int64_t), 64) * 64
    cdef int64_t* row = <int64_t*> workspace(list_bytes + tile_bytes(x))
    cdef Tile tile
    cdef fc_grouped_row call
    if row == NULL:
        plan.failed = True
        return
    locate(x, index // x.chunks, &tile)
    share_of_chunk(lanes, x, chunk, &call.blocks)
    call.x = fetch(x, &tile, 0, chunk, <char*> row + list_bytes)
    call.row, call.wrow = row, row + lanes.rows
    call.w = plan.packed + first * lanes.wblock * size
    call.bias = plan.bias + first * x.kernel.width * size if problem.bias != NULL else NULL
    call.wblock, call.relu = lanes.wblock, problem.relu
    call.taps, call.pixels, call.step = ax[2].taps, tile.count[3], ax[2].src_step
    call.spread = ax[2].shift[1] - ax[2].shift[0] if ax[2].taps > 1 else 1
    call.low = -source_at(&ax[2], tile.first[3])
    call.high = call.low + ax[2].src_size
    if not x.direct:  # a copy ends with what the tile's pixels see; the kernel's last vectors hold pixels beyond
        call.high = max(call.low, min(call.high, span(&ax[2], tile.count[3])))
    call.xpixel, call.ypixel = x.step[4], ax[2].dst_step * problem.ys[4]
    call.y = problem.y + first * lanes.blocks.ylanes * size
    if lanes.slides:
        slide_tile(problem, lanes, &tile, &call, row)
    else:
        run_rows(problem, lanes, &tile, &call, row)


cdef int64_t line_start(const Correlation* problem, const Tile* tile, int64_t n, int64_t d, int64_t h) noexcept nogil:
    """Where the first pixel of a tile's line lies in y."""
    cdef const TileAxis* ax = &problem.x.axis[0]
    cdef int64_t at = n * problem.ys[0] + (ax[0].dst_base + ax[0].dst_step * d) * problem.ys[2]
    at += (ax[1].dst_base + ax[1].dst_step * h) * problem.ys[3]
    return at + (ax[2].dst_base + ax[2].dst_step * tile.first[3]) * problem.ys[4]


cdef void run_rows(const Correlation* problem, const Lanes* lanes, const Tile* tile, fc_grouped_row* call,
                   int64_t* row) noexcept nogil:
    """A line after the other."""
    cdef const Reader* x = &problem.x
    cdef char* y = <char*> call.y
    cdef Tile line = tile[0]
    cdef int64_t n, d, h, kd, kh
    line.count[2] = 1
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(tile.first[1], tile.first[1] + tile.count[1]):
            for h in range(tile.first[2], tile.first[2] + tile.count[2]):
                call.rows = 0
                for kd in range(x.axis[0].taps):
                    for kh in range(x.axis[1].taps):
                        row[call.rows] = source_row(x, tile, n, d, h, kd, kh)
                        if row[call.rows] != INT64_MIN:
                            row[lanes.rows + call.rows] = kd * x.axis[1].taps + kh
                            call.rows += 1
                line.first[2] = h
                call.next = next_rows(lanes, x, &line, n, d, &call.next_bytes)
                call.y = y + line_start(problem, tile, n, d, h) * x.itemsize
                x.kernel.grouped_row(call)


cdef void slide_tile(const Correlation* problem, const Lanes* lanes, const Tile* tile, const fc_grouped_row* row,
                     int64_t* plane) noexcept nogil:
    """All lines of an image's plane at once; ``row`` says what is the same for every line."""
    cdef const Reader* x = &problem.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t* wplane = plane + ax[0].taps
    cdef int64_t n, d, kd
    cdef fc_depthwise call
    call.x, call.w, call.bias, call.plane, call.wplane = row.x, row.w, row.bias, plane, wplane
    call.lines, call.pixels, call.taps, call.step = tile.count[2], row.pixels, row.taps, row.step
    call.top = -source_at(&ax[1], tile.first[2])
    call.bottom = call.top + ax[1].src_size
    call.low, call.high = row.low, row.high
    call.xrow, call.xpixel, call.ypixel, call.wblock = x.step[3], row.xpixel, row.ypixel, row.wblock
    call.yrow = ax[1].dst_step * problem.ys[3]
    call.blocks, call.last, call.relu = row.blocks.count, row.blocks.last_ylanes, row.relu
    call.stream = streams(lanes, problem)
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(tile.first[1], tile.first[1] + tile.count[1]):
            call.planes = 0
            for kd in range(ax[0].taps):
                if inside(&ax[0], d, kd):
                    plane[call.planes] = source_plane(x, tile, n, d, kd)
                    wplane[call.planes] = kd * row.taps * row.taps
                    call.planes += 1
            call.y = <char*> row.y + line_start(problem, tile, n, d, tile.first[2]) * x.itemsize
            call.next = next_rows(lanes, x, tile, n, d, &call.next_bytes)
            (x.kernel.depthwise if row.taps == 3 else x.kernel.depthwise_lines)(&call)


cdef class PackBlocks:
    """Packs the weights of a problem, for the cache."""
    cdef Plan* plan

    def __call__(self):
        cdef Lanes* lanes = &self.plan.lanes
        cdef Panels panels = new_panels(lanes.blocks.count * lanes.wblock * self.plan.problem.x.itemsize)
        self.plan.packed = panels.data
        with nogil:
            parallel_for(lanes.blocks.count, pack_block, self.plan)
        return panels


cdef object kept_blocks(Correlation* problem, cnp.ndarray w, object frozen):
    """As kept_weights of conv_tiles.pyx: set problem.packed to the packed weights, if they are kept."""
    cdef Correlation copy = problem[0]
    cdef Plan plan
    cdef Panels panels
    cdef PackBlocks pack = PackBlocks()
    plan.problem, pack.plan = &copy, &plan
    copy.x.kernel = kernels(copy.x.itemsize)
    set_lanes(&plan.lanes, &copy.x, copy.columns)
    panels = kept_panels(frozen, w, ("lanes", problem.x.groups, <size_t> copy.x.kernel), pack)
    if panels is not None:
        problem.packed = panels.data
    return panels


cdef void cut(Plan* plan) noexcept nogil:
    """Choose tiles and chunks, and so the tasks. Neither changes a bit."""
    cdef Lanes* lanes = &plan.lanes
    cdef Reader* x = &plan.problem.x
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1
    set_large(lanes, x)
    if not in_place(x):
        set_chunks(lanes, x, CHUNK_CHANNELS // lanes.blocks.xlanes)
    else:
        set_chunks(lanes, x, lanes.blocks.count)
    choose_tile(x, TILE_PIXELS, TILE_BYTES * (16 if in_place(x) and not lanes.large else 1))
    while count_tiles(x) * x.chunks < wanted:
        if not halve_tile(x, SMALL_TILE):
            if lanes.chunk_blocks == 1:
                break
            set_chunks(lanes, x, ceil_div(lanes.chunk_blocks, 2))
    finish_lanes(x)


cdef int grouped_correlate(Correlation* problem) except -1 nogil:
    """Solve a correlation of few channels in and out of each group: at most a vector. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef Lanes* lanes = &plan.lanes
    cdef char* memory
    cdef int64_t bytes, weights = 0, index, table
    if x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count == 0:
        return 0
    plan.problem = problem
    plan.failed = False
    x.kernel = kernels(x.itemsize)
    table = set_lanes(lanes, x, problem.columns)
    cut(&plan)
    if problem.packed == NULL:
        weights = lanes.blocks.count * lanes.wblock * x.itemsize
    bytes = weights + lanes.blocks.count * x.kernel.width * x.itemsize
    memory = <char*> allocate(bytes)
    plan.packed, plan.bias = memory if weights else problem.packed, memory + weights
    lanes.lane = <int32_t*> malloc((table + 1) * sizeof(int32_t))
    if lanes.lane == NULL or memory == NULL:
        plan.failed = True
    else:
        if table:
            fill_lanes(lanes, x.kernel.width)
        if problem.bias != NULL:
            for index in range(lanes.blocks.count):
                pack_bias(&plan, index)
        if weights:
            parallel_for(lanes.blocks.count, pack_block, &plan)
        parallel_for(count_tiles(x) * x.chunks, run_tile, &plan)
    free(lanes.lane)
    release(memory, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("grouped convolution: no memory for packed weights or a workspace")
    return 0
