"""The loop nest of the weight gradient of convolutions with few channels a group, depthwise ones among them.

Blocks, rows and reading are those of grouped.pyx. A task adds up one of S consecutive parts of the tiles for a chunk
of blocks; the S partial sums of each element are then added pairwise. S and the tiles depend on the shape only, so the
bits do not depend on threads.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_accumulate, fc_copy2d, fc_depthwise_outer, fc_grouped_outer
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.grouped cimport (
    PLANE, Lanes, fill_lanes, finish_lanes, in_place, inside, lanes_of, next_known, next_rows, set_chunks, set_lanes,
    set_large, share_of_chunk, source_plane, source_row,
)
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    BUNDLE_BYTES, LINE, Reader, Tile, TileAxis, ceil_div, choose_tile, count_tiles, fetch, locate, set_steps,
    source_at, span, tile_bytes, tile_pixels,
)

cdef int64_t CHUNK_CHANNELS = 64            # of arrays that are copied
cdef int64_t TILE_PIXELS = 128              # whole rows of them are read a vector of channels at a time
cdef int64_t SLIDE_PIXELS = 512             # where lines are read together,
cdef int64_t SLIDE_BYTES = 192 * 1024       # of both arrays where they are large: what is read ahead has room beside it
cdef int64_t SLIDE_LINES = 4                # but no fewer, for each tile reads two of its neighbour's
cdef int64_t DEEP_PIXELS = 64               # where they are read once for each channel in of a group
cdef int64_t TURNED_PIXELS = 112            # where their lanes are channels in: the array is read less often
cdef int64_t TURNED_BYTES = 320 * 1024      # of both arrays where they are large, but no less than a row
cdef int64_t TURNED_DEPTH = 4               # channels in and out of a group: a multiple of it
cdef int64_t TILE_SOURCES = 4096            # source pixels
cdef int64_t APART_DEPTH = 4                # channels in of a group, and
cdef int64_t APART_BYTES = 2048             # from pixel to pixel, where blocks are copied apart,
cdef int64_t APART_TILES = 1024 * 1024      # of them together
cdef int64_t TASKS = 32                     # that suffice for any machine of moderate size
cdef int64_t TASKS_PER_THREAD = 4
cdef int64_t PARTIAL_BYTES = 4 * 1024 * 1024  # of all partial sums


cdef struct Plan:
    Outer* problem
    Lanes lanes
    int64_t tiles, splits, width, size
    char* partial           # (splits, blocks, rows, depth, taps of a row, width)
    bint apart              # blocks are copied, each to a tile of its own,
    Reader block            # as this reader's groups
    bint turned             # the lanes of a partial sum are channels in, its depth counts those out
    bint in_order           # tiles are read in the order of memory before their products
    bint failed


cdef struct Seen:
    # How far a task has read its arrays, or asked for them, in the order of memory.
    const char* x
    const char* dy


cdef inline void read_on(const char** seen, const char* first, const char* last) noexcept nogil:
    """Read a byte of each cache line from ``first`` to ``last`` that was not seen."""
    cdef const char* at = max(first, seen[0])
    cdef volatile char _byte
    while at < last:
        _byte = at[0]
        at += LINE


cdef bint copies_gradient(const Outer* problem, const Lanes* lanes) noexcept nogil:
    """Whether dy is copied: its channels do not lie side by side."""
    return problem.ys[1] != 1 and lanes.groups * problem.columns > 1


cdef void look_ahead(const Lanes* lanes, const Reader* x, const Tile* tile, int64_t next_row,
                     fc_grouped_outer* call) noexcept nogil:
    """Ask for the source and the gradient behind a tile of one plane; ``next_row``: how dy goes on, if not 0."""
    cdef int64_t end = tile.first[2] + tile.count[2], count = x.axis[1].count
    cdef int64_t lines = min(x.axis[1].tile, count - end if end < count else count)  # of the next tile
    call.next_x_bytes, call.next_dy_bytes = 0, 0
    if tile.count[0] == 1 and tile.count[1] == 1:
        call.next_x = next_rows(lanes, x, tile, tile.first[0], tile.first[1], &call.next_x_bytes)
        call.next_dy = <const char*> call.dy + (call.yrow[0] + tile.count[2] * next_row) * x.itemsize
        call.next_dy_bytes = lines * next_row * x.itemsize if call.next_x_bytes else 0
        call.next_x_bytes = call.next_x_bytes // tile.count[2] * lines


cdef int64_t list_rows(const Reader* x, const Tile* tile, const int64_t* ys, int64_t* row,
                       int64_t* yrow) noexcept nogil:
    """Where the source rows and the row of dy lie for each line of a tile. Returns the number of lines."""
    cdef int64_t n, d, h, kd, kh, lines = 0
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(tile.first[1], tile.first[1] + tile.count[1]):
            for h in range(tile.first[2], tile.first[2] + tile.count[2]):
                for kd in range(x.axis[0].taps):
                    for kh in range(x.axis[1].taps):
                        row[0] = source_row(x, tile, n, d, h, kd, kh)
                        row += 1
                yrow[lines] = n * ys[0] + d * ys[2] + h * ys[3] + tile.first[3] * ys[4]
                lines += 1
    return lines


cdef void run_split(void* context, int64_t index) noexcept nogil:
    """One task: index = split * chunks + chunk."""
    cdef Plan* plan = <Plan*> context
    cdef Outer* problem = plan.problem
    cdef Lanes* lanes = &plan.lanes
    cdef const Reader* x = &plan.block if plan.apart else &problem.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t size = x.itemsize, chunk = index % problem.x.chunks, split = index // problem.x.chunks, n, i
    cdef int64_t first = chunk * lanes.chunk_blocks, most = tile_pixels(x) // ax[2].tile
    cdef int64_t list_bytes = ceil_div(most * (lanes.rows + 1) * sizeof(int64_t), 64) * 64
    cdef int64_t source = ceil_div(tile_bytes(x) * x.bundle, 64) * 64, channels
    cdef bint copies = copies_gradient(problem, lanes)
    cdef int64_t* row
    cdef int64_t* yrow
    cdef Tile tile
    cdef fc_grouped_outer call
    cdef fc_copy2d copy
    cdef Seen seen
    seen.x = seen.dy = NULL
    share_of_chunk(lanes, x, chunk, &call.blocks)
    channels = (call.blocks.count - 1) * call.blocks.ylanes + call.blocks.last_ylanes
    row = <int64_t*> workspace(list_bytes + source + (tile_pixels(x) * channels * size if copies else 0))
    if row == NULL:
        plan.failed = True
        return
    yrow = row + most * lanes.rows
    call.row, call.yrow = row, yrow
    call.rows, call.wblock, call.turned = lanes.rows, lanes.wblock, plan.turned
    call.dw = plan.partial + (split * plan.size + first * lanes.wblock) * size
    memset(call.dw, 0, call.blocks.count * lanes.wblock * size)
    call.taps, call.step = ax[2].taps, ax[2].src_step
    call.spread = ax[2].shift[1] - ax[2].shift[0] if ax[2].taps > 1 else 1
    call.xpixel, call.ypixel = x.step[4], channels if copies else problem.ys[4]
    copy.columns = copy.padded = copy.ld = channels
    copy.dj, copy.si, copy.sj = 1, problem.ys[4], problem.ys[1]
    for n in range(plan.tiles * split // plan.splits, plan.tiles * (split + 1) // plan.splits):
        locate(x, n, &tile)
        if not plan.apart:
            call.x = fetch(x, &tile, 0, chunk, <char*> row + list_bytes)
        call.dy = problem.dy + first * lanes.blocks.ylanes * problem.ys[1] * size
        call.lines = list_rows(x, &tile, problem.ys, row, yrow)
        call.pixels = tile.count[3]
        call.low = -source_at(&ax[2], tile.first[3])
        call.high = call.low + ax[2].src_size
        if copies:
            copy.rows = call.pixels
            for i in range(call.lines):
                copy.src = <const char*> call.dy + yrow[i] * size
                yrow[i] = i * call.pixels * channels
                copy.dst = <char*> row + list_bytes + source + yrow[i] * size
                x.kernel.copy2d(&copy)
            call.dy = <char*> row + list_bytes + source
        if plan.apart:
            look_ahead(lanes, &problem.x, &tile, problem.ys[3], &call)
            run_blocks(x, &tile, first, &call, <char*> row + list_bytes)
        elif lanes.slides == 3:
            slide_tile(lanes, x, &tile, &call, 0 if copies else problem.ys[3], &seen if plan.in_order else NULL)
        else:
            look_ahead(lanes, x, &tile, 0 if copies else problem.ys[3], &call)
            x.kernel.grouped_outer(&call)


cdef void run_blocks(const Reader* x, const Tile* tile, int64_t first, const fc_grouped_outer* all,
                     char* buffer) noexcept nogil:
    """One block after the other, from ``first`` on, each copied."""
    cdef fc_grouped_outer call = all[0]
    cdef int64_t block
    call.blocks.count = 1
    call.next_x_bytes = ceil_div(all.next_x_bytes, all.blocks.count)
    call.next_dy_bytes = ceil_div(all.next_dy_bytes, all.blocks.count)
    for block in range(all.blocks.count):
        call.next_x = <const char*> all.next_x + block * call.next_x_bytes
        call.next_dy = <const char*> all.next_dy + block * call.next_dy_bytes
        call.x = fetch(x, tile, first + block, 0, buffer)
        call.dy = <const char*> all.dy + block * all.blocks.ylanes * x.itemsize
        call.dw = <char*> all.dw + block * all.wblock * x.itemsize
        x.kernel.grouped_outer(&call)


cdef void sweep(const Lanes* lanes, const Reader* x, const Tile* tile, int64_t d, fc_depthwise_outer* call,
                Seen* seen) noexcept nogil:
    """Read the rows of a plane that a tile will need, but for those that the products of the one before asked for.

    With a step of 2 a product has twice the bytes, and half of what follows is as much as it pays to ask for beside it.
    """
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t first = source_at(&ax[1], tile.first[2]), last = first + span(&ax[1], tile.count[2])
    cdef int64_t row = x.stride[3] * x.itemsize
    cdef const char* behind = <const char*> call.next_x
    if ax.taps > 0 and inside(ax, d, ax.taps - 1):
        read_on(&seen.x, behind - (min(last, ax[1].src_size) - max(first, 0)) * row, behind)
    read_on(&seen.dy, <const char*> call.dy, <const char*> call.next_dy)
    call.next_x_bytes //= call.step
    call.next_dy_bytes //= call.step
    seen.x, seen.dy = behind + call.next_x_bytes, <const char*> call.next_dy + call.next_dy_bytes


cdef void slide_tile(const Lanes* lanes, const Reader* x, const Tile* tile, const fc_grouped_outer* row,
                     int64_t next_row, Seen* seen) noexcept nogil:
    """All lines of an image's plane at once; ``row`` says where each starts, ``next_row`` how dy goes on, if not 0.

    With ``seen`` they are read in the order of memory first.
    """
    cdef const TileAxis* ax = &x.axis[0]
    cdef const int64_t* yrow = row.yrow
    cdef int64_t n, d, kd
    cdef fc_depthwise_outer call
    call.lines, call.pixels, call.step = tile.count[2], row.pixels, row.step
    call.top = -source_at(&ax[1], tile.first[2])
    call.bottom = call.top + ax[1].src_size
    call.low, call.high = row.low, row.high
    call.xrow, call.xpixel, call.ypixel, call.wblock = x.step[3], row.xpixel, row.ypixel, row.wblock
    call.yrow = yrow[1] - yrow[0] if tile.count[2] > 1 else 0
    call.blocks, call.last = row.blocks.count, row.blocks.last_ylanes
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(tile.first[1], tile.first[1] + tile.count[1]):
            call.dy = <const char*> row.dy + yrow[0] * x.itemsize
            call.next_x = next_rows(lanes, x, tile, n, d, &call.next_x_bytes)
            call.next_dy = <const char*> call.dy + tile.count[2] * next_row * x.itemsize
            call.next_dy_bytes = tile.count[2] * next_row * x.itemsize if call.next_x_bytes else 0
            if seen != NULL:
                sweep(lanes, x, tile, d, &call, seen)
            yrow += tile.count[2]
            for kd in range(ax[0].taps):
                if inside(&ax[0], d, kd):
                    call.x = <const char*> row.x + source_plane(x, tile, n, d, kd) * x.itemsize
                    call.dw = <char*> row.dw + kd * PLANE * x.kernel.width * x.itemsize
                    x.kernel.depthwise_outer(&call)


cdef void store_turned(Outer* problem, const Lanes* lanes, int64_t index, const char* block) noexcept nogil:
    """Store a block (rows, columns, taps of a row, width) as dw."""
    cdef Reader* x = &problem.x
    cdef int64_t size = x.itemsize, depth = lanes.blocks.depth, taps = x.axis[2].taps, r, k, group
    cdef int64_t first = index * lanes.block_groups
    cdef fc_copy2d copy
    copy.rows, copy.ld, copy.dj = depth, problem.dw_depth, 1
    copy.columns = copy.padded = taps
    copy.si, copy.sj = 1, lanes.width
    for group in range(first, min(first + lanes.block_groups, lanes.groups)):
        for r in range(lanes.rows):
            for k in range(depth):
                copy.src = block + ((r * depth + k) * taps * lanes.width + (group - first) * depth) * size
                copy.dst = problem.dw + ((group * depth + k) * problem.dw_column + r * taps) * size
                x.kernel.copy2d(&copy)


cdef void store_block(Outer* problem, const Lanes* lanes, int64_t index, const char* block) noexcept nogil:
    """Store a block (rows, depth, taps of a row, width) as dw."""
    cdef Reader* x = &problem.x
    cdef int64_t size = x.itemsize, width = lanes.width, taps = x.axis[2].taps, r, k
    cdef char* dw = problem.dw + index * lanes.blocks.ylanes * problem.dw_column * size
    cdef fc_copy2d copy
    copy.rows, copy.ld, copy.dj = lanes_of(lanes, index), problem.dw_column, 1
    copy.columns = copy.padded = taps
    copy.si, copy.sj = 1, width
    for r in range(lanes.rows):
        for k in range(lanes.blocks.depth):
            copy.src = block + (r * lanes.blocks.depth + k) * taps * width * size
            copy.dst = dw + (r * taps + k * problem.dw_depth) * size
            x.kernel.copy2d(&copy)


cdef void finish_block(void* context, int64_t index) noexcept nogil:
    """Add up the partial sums of a block and store them as dw."""
    cdef Plan* plan = <Plan*> context
    cdef Lanes* lanes = &plan.lanes
    cdef Reader* x = &plan.problem.x
    cdef int64_t size = x.itemsize, step = 1, split
    cdef char* block = plan.partial + index * lanes.wblock * size
    cdef fc_accumulate add
    add.count = lanes.wblock
    while step < plan.splits:
        split = 0
        while split + step < plan.splits:
            add.dst = block + split * plan.size * size
            add.src = block + (split + step) * plan.size * size
            x.kernel.accumulate(&add)
            split += 2 * step
        step *= 2
    if plan.turned:
        store_turned(plan.problem, lanes, index, block)
    else:
        store_block(plan.problem, lanes, index, block)


cdef int64_t most_pixels(const Plan* plan) noexcept nogil:
    """How many pixels a tile has at most."""
    cdef const Lanes* lanes = &plan.lanes
    cdef const Reader* x = &plan.problem.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t pixel = lanes.groups * lanes.blocks.depth * (1 + ax[1].src_step * ax[2].src_step) * x.itemsize
    if lanes.slides == 3:
        if lanes.large:
            return min(SLIDE_PIXELS, max(SLIDE_LINES * ax[2].count, SLIDE_BYTES // pixel))
        return SLIDE_PIXELS
    if plan.turned:
        return min(TURNED_PIXELS, max(ax[2].count, TURNED_BYTES // pixel)) if lanes.large else TURNED_PIXELS
    return DEEP_PIXELS if lanes.blocks.depth > 1 else TILE_PIXELS


cdef bint turns(const Outer* problem, const Lanes* lanes, int64_t width) noexcept nogil:
    """Whether lanes are channels in. Several groups a vector at a step of 1 have enough of 32 registers either way."""
    cdef const Reader* x = &problem.x
    if (problem.columns != lanes.blocks.depth or lanes.blocks.depth % TURNED_DEPTH or width < TURNED_DEPTH
            or x.axis[2].taps != 3):
        return False
    return x.axis[2].src_step > 1 or lanes.blocks.depth == width or width * x.itemsize < LINE


cdef void set_apart(Plan* plan) noexcept nogil:
    """Decide whether blocks are copied apart: pixels far from each other, read for one channel in after the other.

    A first-level cache holds few lines that lie a large power of two apart. No bit depends on it.
    """
    cdef Lanes* lanes = &plan.lanes
    cdef Reader* x = &plan.problem.x
    cdef Reader* block = &plan.block
    plan.apart = (in_place(x) and max(x.stride[4], -x.stride[4]) * x.itemsize >= APART_BYTES
                  and lanes.blocks.depth >= APART_DEPTH and lanes.groups % lanes.block_groups == 0
                  and not plan.turned and not copies_gradient(plan.problem, lanes))
    if not plan.apart:
        return
    block[0] = x[0]
    block.groups, block.depth = lanes.blocks.count, lanes.blocks.xlanes
    block.chunk, block.chunks = block.depth, 1
    set_steps(block, False)
    set_chunks(lanes, x, min(lanes.chunk_blocks, min(BUNDLE_BYTES // (block.depth * x.itemsize),
                                                     APART_TILES // tile_bytes(block))))
    block.bundle = lanes.chunk_blocks


cdef int grouped_products(Outer* problem) except -1 nogil:
    """Solve a weight gradient of few channels in and out of each group: at most a vector. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef Lanes* lanes = &plan.lanes
    cdef int64_t bytes, table, tasks
    cdef bint copies, deep
    plan.problem = problem
    plan.failed = False
    x.kernel = kernels(x.itemsize)
    plan.width = x.kernel.width
    table = set_lanes(lanes, x, problem.columns)
    copies = copies_gradient(problem, lanes)
    x.chunk = min(CHUNK_CHANNELS, x.depth)  # the same tiles whether arrays are copied or not
    deep = lanes.blocks.depth > 1
    plan.turned = turns(problem, lanes, plan.width)
    set_large(lanes, x)
    choose_tile(x, most_pixels(&plan), TILE_SOURCES * x.itemsize * x.chunk)
    while (lanes.slides == 3 or deep) and x.n_tile > 1 and count_tiles(x) < 2 * TASKS:
        x.n_tile = ceil_div(x.n_tile, 2)    # images are walked one by one anyway, and parts of them read long runs
    if in_place(x) and not copies:
        set_chunks(lanes, x, lanes.blocks.count)
    else:
        set_chunks(lanes, x, CHUNK_CHANNELS // lanes.blocks.ylanes)
    plan.tiles = count_tiles(x)
    plan.size = lanes.blocks.count * lanes.wblock
    plan.splits = max(<int64_t>1, min(min(plan.tiles // 2, TASKS), PARTIAL_BYTES // (plan.size * x.itemsize)))
    tasks = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1
    if plan.splits * x.chunks < tasks:      # chunks change no bit, and whole pixels can be read ahead
        set_chunks(lanes, x, ceil_div(lanes.chunk_blocks * plan.splits * x.chunks, tasks))
    set_apart(&plan)
    finish_lanes(x)
    plan.in_order = (lanes.slides == 3 and next_known(lanes, x) and problem.ys[1] == 1 and problem.ys[4] == x.depth
                     and problem.ys[3] == x.axis[2].tile * x.depth)
    bytes = plan.splits * plan.size * x.itemsize
    plan.partial = <char*> allocate(bytes)
    lanes.lane = <int32_t*> malloc((table + 1) * sizeof(int32_t))
    if plan.partial == NULL or lanes.lane == NULL:
        plan.failed = True
    else:
        if table:
            fill_lanes(lanes, plan.width)
        parallel_for(plan.splits * x.chunks, run_split, &plan)
        parallel_for(lanes.blocks.count, finish_block, &plan)
    free(lanes.lane)
    release(plan.partial, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("grouped weight gradient: no memory for partial sums or a workspace")
    return 0
