"""Convolutions with few channels a group and 3x3 taps by Winograd's F(4x4, 3x3): forward and input gradient.

Vectors of whole groups (blocks) are those of grouped.pyx, and so are the packed weights that are transformed here. The
frame of winograd.pyx keeps the planes of a whole chunk, and with few channels would wait for its cache; here a call of
the micro-kernel takes a batch of tiles of one block through both transforms and the products between them. A unit is
some batches of one block. Pixels are read and written a vector at a time, an order that no processor sees through:
where the arrays do not stay in the caches, a unit is some batches of all blocks instead, and is first read once in the
order of memory. Each tile is computed alone, so batches and units change no bit.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu._csrc cimport (
    FC_WINOGRAD_4X3, fc_blocks, fc_copy2d, fc_grouped_squares, fc_square, fc_winograd,
)
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.grouped cimport (
    Plan, fill_lanes, grouped_correlate, lanes_of, pack_bias, pack_block, set_lanes,
)
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport FAR, TileAxis, ceil_div, dense, read_pixels, source_at
from fastconv.backends.cpu.weight_cache cimport Panels, kept_panels, new_panels

cnp.import_array()

cdef int64_t UNIT_BYTES = 512 * 1024        # of a unit's pixels, read and written
cdef int64_t UNITS_PER_THREAD = 8
cdef int64_t TAPS = 3               # along rows and columns


cdef struct Work:
    Plan* plan
    Squares squares
    int64_t blocks, tiles   # of a unit
    int64_t chunks          # of blocks
    char* u                 # (blocks; planes, depth, width)


cdef void cut_squares(Squares* squares, const Reader* x, const Lanes* lanes, const int64_t* ys) noexcept nogil:
    squares.x, squares.lanes, squares.ys = x, lanes, ys
    squares.rows, squares.columns = ceil_div(x.axis[1].count, SIDE), ceil_div(x.axis[2].count, SIDE)
    squares.count = x.n * x.axis[0].count * squares.rows * squares.columns


cdef int64_t block_planes(const Lanes* lanes) noexcept nogil:
    """Elements of a block's transformed weights."""
    return PLANES * lanes.blocks.depth * lanes.width


cdef int64_t tile_bytes(const Squares* squares) noexcept nogil:
    """Bytes of a block's outputs in a tile, and of as many source pixels."""
    cdef const fc_blocks* blocks = &squares.lanes.blocks
    return SIDE * SIDE * (blocks.xlanes + blocks.ylanes) * squares.x.itemsize


cdef inline int64_t source_lanes(const Squares* squares) noexcept nogil:
    """Channels in of all groups."""
    return squares.lanes.groups * squares.lanes.blocks.depth


cdef inline int64_t result_lanes(const Squares* squares) noexcept nogil:
    """Channels out of all groups."""
    return source_lanes(squares) * squares.lanes.blocks.ylanes // squares.lanes.blocks.xlanes


cdef int64_t unit_blocks(const Squares* squares, int64_t units) noexcept nogil:
    """All blocks, where the arrays do not stay in the caches and as many units can be read in turn, or one."""
    cdef int64_t blocks = squares.lanes.blocks.count
    if not dense(squares.x.stride, source_lanes(squares)) or not dense(squares.ys, result_lanes(squares)):
        return 1
    if squares.count < units * unit_tiles(squares, blocks) or squares.count * blocks * tile_bytes(squares) <= FAR:
        return 1
    return blocks


cdef int64_t unit_tiles(const Squares* squares, int64_t blocks) noexcept nogil:
    """Tiles of a unit of so many blocks: whole batches."""
    return max(<int64_t>1, UNIT_BYTES // (BATCH * blocks * tile_bytes(squares))) * BATCH


cdef inline bint touch(const int64_t* stride, int64_t lanes) noexcept nogil:
    """Whether a block's channels lie side by side."""
    return stride[1] == 1 or lanes == 1


cdef int64_t batch_bytes(const Squares* squares, int64_t matrices) noexcept nogil:
    """Bytes of a batch: its list, ``matrices`` a plane, and copies of source and destination."""
    return BATCH * (<int64_t> sizeof(fc_square)
                    + (matrices + 2) * PLANES * squares.lanes.width * squares.x.itemsize)


cdef void gather(const Squares* squares, const char* src, const int64_t* stride, int64_t top, int64_t bottom,
                 int64_t left, int64_t right, int64_t side, int64_t lanes, char* dst) noexcept nogil:
    """Copy what lies inside a square of ``side`` pixels, channels-last, a vector a pixel."""
    cdef int64_t size = squares.x.itemsize, width = squares.lanes.width, i
    cdef fc_copy2d copy
    copy.rows, copy.columns, copy.padded, copy.ld = right - left, lanes, lanes, width
    copy.dj, copy.si, copy.sj = 1, stride[4], stride[1]
    for i in range(top, bottom if right > left else top):
        copy.src = src + (i * stride[3] + left * stride[4]) * size
        copy.dst = dst + (i * side + left) * width * size
        squares.x.kernel.copy2d(&copy)


cdef void place(const Squares* squares, int64_t index, fc_square* square) noexcept nogil:
    """Where a tile lies, in elements from the first image's first pixel."""
    cdef const Reader* x = squares.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t w = index % squares.columns * SIDE, h = index // squares.columns % squares.rows * SIDE
    cdef int64_t d = index // squares.columns // squares.rows, n = d // ax[0].count, at, row, column
    d %= ax[0].count
    at, row, column = source_at(&ax[0], d), source_at(&ax[1], h), source_at(&ax[2], w)
    square.x = n * x.stride[0] + at * x.stride[2] + row * x.stride[3] + column * x.stride[4]
    square.y = n * squares.ys[0] + (ax[0].dst_base + ax[0].dst_step * d) * squares.ys[2]
    square.y += h * squares.ys[3] + w * squares.ys[4]
    square.top, square.left = max(<int64_t>0, -row), max(<int64_t>0, -column)
    square.bottom = max(square.top, min(<int64_t>REACH, ax[1].src_size - row))
    square.right = max(square.left, min(<int64_t>REACH, ax[2].src_size - column))
    if at < 0 or at >= ax[0].src_size:
        square.bottom = square.top
    square.rows, square.columns = min(<int64_t>SIDE, ax[1].count - h), min(<int64_t>SIDE, ax[2].count - w)


cdef void set_batch(const Squares* squares, int64_t block, int64_t first, int64_t last, char* y, char* memory,
                    fc_grouped_squares* call) noexcept nogil:
    """Describe tiles [first, last) of a block; ``memory`` holds the batch. A source that needs it is copied."""
    cdef const Reader* x = squares.x
    cdef const Lanes* lanes = squares.lanes
    cdef int64_t size = x.itemsize, pixel = lanes.width * size, i
    cdef fc_square* square = <fc_square*> memory
    cdef char* copies = memory + BATCH * sizeof(fc_square)
    call.blocks = lanes.blocks
    call.blocks.count, call.blocks.ylanes = 1, lanes_of(lanes, block)
    call.blocks.xlanes = call.blocks.ylanes * lanes.blocks.xlanes // lanes.blocks.ylanes
    call.blocks.last_xlanes, call.blocks.last_ylanes = call.blocks.xlanes, call.blocks.ylanes
    call.x = x.data + block * lanes.blocks.xlanes * x.stride[1] * size
    call.y = y + block * lanes.blocks.ylanes * squares.ys[1] * size
    call.xrow, call.xcolumn = x.stride[3], x.stride[4]
    call.yrow, call.ycolumn = squares.ys[3], squares.ys[4]
    call.square, call.count = square, last - first
    call.planes = copies + 2 * BATCH * PLANES * pixel
    for i in range(last - first):
        place(squares, first + i, &square[i])
        if touch(x.stride, call.blocks.xlanes):
            continue
        gather(squares, <const char*> call.x + square[i].x * size, x.stride, square[i].top, square[i].bottom,
               square[i].left, square[i].right, REACH, call.blocks.xlanes, copies + i * PLANES * pixel)
        square[i].x = i * PLANES * lanes.width
    if not touch(x.stride, call.blocks.xlanes):
        call.x, call.xrow, call.xcolumn = copies, REACH * lanes.width, lanes.width


cdef void sweep(const Squares* squares, const char* y, const Unit* unit) noexcept nogil:
    """Read a unit's pixels, those to be written among them, line of tiles by line of tiles."""
    cdef const Reader* x = squares.x
    cdef const TileAxis* row = &x.axis[2]
    cdef int64_t tile = unit.first, tiles, w
    cdef fc_square first
    while tile < unit.last:
        tiles, w = min(unit.last - tile, squares.columns - tile % squares.columns), tile % squares.columns * SIDE
        place(squares, tile, &first)
        read_pixels(x.data + (first.x + first.top * x.stride[3] + first.left * x.stride[4]) * x.itemsize, x.stride,
                    first.bottom - first.top,
                    min((tiles - 1) * SIDE + REACH, row.src_size - source_at(row, w)) - first.left,
                    source_lanes(squares), x.itemsize)
        read_pixels(y + first.y * x.itemsize, squares.ys, first.rows, min(tiles * SIDE, row.count - w),
                    result_lanes(squares), x.itemsize)
        tile += tiles


cdef void each_batch(const Squares* squares, const char* y, const Unit* unit, batch_task task,
                     void* context) noexcept nogil:
    """Run ``task`` for each block of a unit and each batch of its tiles."""
    cdef int64_t block, first
    if unit.end - unit.block > 1:
        sweep(squares, y, unit)
    for block in range(unit.block, unit.end):
        first = unit.first
        while first < unit.last:
            task(context, block, first, min(unit.last, first + BATCH))
            first += BATCH


cdef void run_batch(void* context, int64_t block, int64_t first, int64_t last) noexcept nogil:
    cdef Work* work = <Work*> context
    cdef Plan* plan = work.plan
    cdef const Reader* x = work.squares.x
    cdef char* memory = <char*> workspace(batch_bytes(&work.squares, 1))
    cdef fc_grouped_squares call
    if memory == NULL:
        plan.failed = True
        return
    call.u = work.u + block * block_planes(&plan.lanes) * x.itemsize
    call.bias = plan.bias + block * plan.lanes.width * x.itemsize if plan.problem.bias != NULL else NULL
    call.relu = plan.problem.relu
    set_batch(&work.squares, block, first, last, plan.problem.y, memory, &call)
    x.kernel.grouped_squares(&call)


cdef void run_unit(void* context, int64_t index) noexcept nogil:
    """One task: index = piece of the tiles * chunks + chunk of blocks."""
    cdef Work* work = <Work*> context
    cdef Unit unit
    unit.block, unit.first = index % work.chunks * work.blocks, index // work.chunks * work.tiles
    unit.end = min(work.plan.lanes.blocks.count, unit.block + work.blocks)
    unit.last = min(work.squares.count, unit.first + work.tiles)
    each_batch(&work.squares, work.plan.problem.y, &unit, run_batch, context)


cdef int64_t cut_units(Work* work) noexcept nogil:
    """Choose the units, enough for all threads: half as many do where each has all blocks. Returns their number."""
    cdef int64_t blocks = work.plan.lanes.blocks.count, count = work.squares.count, pieces
    cdef int64_t tasks = UNITS_PER_THREAD * num_threads()
    work.blocks = unit_blocks(&work.squares, tasks // 2)
    work.tiles = unit_tiles(&work.squares, work.blocks)
    if work.blocks == 1:
        work.tiles = min(work.tiles, ceil_div(count * blocks, tasks * BATCH) * BATCH)
    pieces = ceil_div(count, work.tiles)
    work.chunks = ceil_div(blocks, work.blocks)
    return pieces * work.chunks


cdef void transform_block(void* context, int64_t index) noexcept nogil:
    """Pack and transform the weights of a block."""
    cdef Work* work = <Work*> context
    cdef Plan* plan = work.plan
    cdef const Reader* x = &plan.problem.x
    cdef int64_t size = x.itemsize, width = plan.lanes.width, depth = plan.lanes.blocks.depth, k
    cdef fc_winograd call
    pack_block(plan, index)
    call.form, call.count, call.column, call.row = FC_WINOGRAD_4X3, width, width, depth * TAPS * width
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = TAPS
    call.plane = depth * width
    for k in range(depth):
        call.pixels = plan.packed + (index * plan.lanes.wblock + k * TAPS * width) * size
        call.planes = work.u + (index * PLANES * depth + k) * width * size
        x.kernel.winograd_filter(&call)


cdef int64_t plan_blocks(Work* work, Plan* plan, Correlation* problem) noexcept nogil:
    """Describe the problem. Returns the lanes of the table to allocate."""
    cdef int64_t table
    problem.x.kernel = kernels(problem.x.itemsize)
    work.plan, plan.problem, plan.failed = plan, problem, False
    table = set_lanes(&plan.lanes, &problem.x, problem.columns)
    cut_squares(&work.squares, &problem.x, &plan.lanes, problem.ys)
    return table


cdef class TransformBlocks:
    """Transforms the weights of a problem, for the cache."""
    cdef Work* work

    def __call__(self):
        cdef Plan* plan = self.work.plan
        cdef int64_t size = plan.problem.x.itemsize, bytes = plan.lanes.blocks.count * plan.lanes.wblock * size
        cdef Panels panels = new_panels(plan.lanes.blocks.count * block_planes(&plan.lanes) * size)
        self.work.u, plan.packed = panels.data, <char*> allocate(bytes)
        if plan.packed == NULL:
            raise MemoryError("grouped convolution: no memory for packed weights")
        with nogil:
            parallel_for(plan.lanes.blocks.count, transform_block, self.work)
        release(plan.packed, bytes)
        return panels


cdef object kept_squares(Correlation* problem, cnp.ndarray w, object frozen):
    """As kept_weights of conv_tiles.pyx: set problem.packed to the transformed weights, if they are kept."""
    cdef Correlation copy = problem[0]
    cdef Plan plan
    cdef Work work
    cdef Panels panels
    cdef TransformBlocks transform = TransformBlocks()
    transform.work = &work
    plan_blocks(&work, &plan, &copy)
    panels = kept_panels(frozen, w, ("squares", problem.x.groups, <size_t> copy.x.kernel), transform)
    if panels is not None:
        problem.packed = panels.data
    return panels


cdef int squares_correlate(Correlation* problem) except -1 nogil:
    """As grouped_correlate, for stride 1 and three neighbouring taps along rows and columns, at most one in depth."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef Work work
    cdef Lanes* lanes = &plan.lanes
    cdef char* memory
    cdef int64_t table, blocks, packed = 0, planes = 0, bytes, index
    if x.axis[0].taps == 0:  # what a depth step leaves out
        return grouped_correlate(problem)
    table = plan_blocks(&work, &plan, problem)
    if work.squares.count == 0:
        return 0
    blocks = lanes.blocks.count
    if problem.packed == NULL:
        packed = blocks * lanes.wblock * x.itemsize
        planes = blocks * block_planes(lanes) * x.itemsize
    bytes = planes + packed + blocks * lanes.width * x.itemsize
    memory = <char*> allocate(bytes)
    lanes.lane = <int32_t*> malloc((table + 1) * sizeof(int32_t))
    if memory == NULL or lanes.lane == NULL:
        plan.failed = True
    else:
        if table:
            fill_lanes(lanes, x.kernel.width)
        work.u = memory if planes else problem.packed
        plan.packed, plan.bias = memory + planes, memory + planes + packed
        for index in range(blocks if problem.bias != NULL else 0):
            pack_bias(&plan, index)
        if planes:
            parallel_for(blocks, transform_block, &work)
        parallel_for(cut_units(&work), run_unit, &work)
    free(lanes.lane)
    release(memory, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("grouped convolution: no memory for transformed weights or a workspace")
    return 0
