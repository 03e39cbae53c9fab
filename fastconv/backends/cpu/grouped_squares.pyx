"""Convolutions with few channels a group and 3x3 taps by Winograd's F(4x4, 3x3): forward and input gradient.

Vectors of whole groups (blocks) are those of grouped.pyx, and so are the packed weights that are transformed here. The
frame of winograd.pyx keeps the planes of a whole chunk, and with few channels would wait for its cache; here a call of
the micro-kernel takes a batch of tiles of one block through both transforms and the products between them. A task is a
piece of some batches and a block; blocks come first, so that neighbouring tasks read the same pixels. Each tile is
computed alone, so batches and tasks change no bit.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu._csrc cimport FC_WINOGRAD_4X3, fc_blocks, fc_copy2d, fc_square, fc_winograd
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.grouped cimport (
    Plan, fill_lanes, grouped_correlate, lanes_of, pack_bias, pack_block, set_lanes,
)
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport FAR, TileAxis, ceil_div, source_at
from fastconv.backends.cpu.weight_cache cimport Panels, kept_panels, new_panels

cnp.import_array()

cdef int64_t PIECE_BYTES = 512 * 1024       # of all blocks' pixels of a task, read and written
cdef int64_t TASKS_PER_THREAD = 8
cdef int64_t TAPS = 3               # along rows and columns


cdef struct Work:
    Plan* plan
    Squares squares
    int64_t piece           # tiles of a task
    char* u                 # (blocks; planes, depth, width)


cdef void cut_squares(Squares* squares, const Reader* x, const Lanes* lanes, const int64_t* ys) noexcept nogil:
    squares.x, squares.lanes, squares.ys = x, lanes, ys
    squares.rows, squares.columns = ceil_div(x.axis[1].count, SIDE), ceil_div(x.axis[2].count, SIDE)
    squares.count = x.n * x.axis[0].count * squares.rows * squares.columns


cdef int64_t block_planes(const Lanes* lanes) noexcept nogil:
    """Elements of a block's transformed weights."""
    return PLANES * lanes.blocks.depth * lanes.width


cdef int64_t pixel_bytes(const Squares* squares) noexcept nogil:
    """Bytes of all channels of a tile's outputs, and of as many source pixels."""
    cdef const fc_blocks* blocks = &squares.lanes.blocks
    return SIDE * SIDE * blocks.count * (blocks.xlanes + blocks.ylanes) * squares.x.itemsize


cdef int64_t batches_of_piece(const Squares* squares) noexcept nogil:
    """Batches whose pixels stay in a second-level cache while one block after the other is computed.

    But as many as make reading a block's weights cost less than reading its pixels.
    """
    return max(ceil_div(2 * squares.lanes.blocks.depth, BATCH), PIECE_BYTES // (BATCH * pixel_bytes(squares)))


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
    call.xahead = call.yahead = 0
    if block + 1 < lanes.blocks.count and squares.count * pixel_bytes(squares) > FAR:
        # pixels lie apart, so that a processor does not see by itself what the next block will read and write
        call.xahead = lanes.blocks.xlanes if touch(x.stride, call.blocks.xlanes) else 0
        call.yahead = lanes.blocks.ylanes if touch(squares.ys, call.blocks.ylanes) else 0
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


cdef void run_piece(void* context, int64_t index) noexcept nogil:
    """One task: index = piece * blocks + block."""
    cdef Work* work = <Work*> context
    cdef Plan* plan = work.plan
    cdef const Squares* squares = &work.squares
    cdef const Reader* x = squares.x
    cdef int64_t block = index % plan.lanes.blocks.count, first = index // plan.lanes.blocks.count * work.piece
    cdef int64_t end = min(squares.count, first + work.piece), last
    cdef char* memory = <char*> workspace(batch_bytes(squares, 1))
    cdef fc_grouped_squares call
    if memory == NULL:
        plan.failed = True
        return
    call.u = work.u + block * block_planes(&plan.lanes) * x.itemsize
    call.bias = plan.bias + block * plan.lanes.width * x.itemsize if plan.problem.bias != NULL else NULL
    call.relu = plan.problem.relu
    while first < end:
        last = min(end, first + BATCH)
        set_batch(squares, block, first, last, plan.problem.y, memory, &call)
        x.kernel.grouped_squares(&call)
        first = last


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
        work.piece = ceil_div(work.squares.count * blocks, TASKS_PER_THREAD * num_threads() * BATCH)
        work.piece = max(<int64_t>1, min(work.piece, batches_of_piece(&work.squares))) * BATCH
        parallel_for(ceil_div(work.squares.count, work.piece) * blocks, run_piece, &work)
    free(lanes.lane)
    release(memory, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("grouped convolution: no memory for transformed weights or a workspace")
    return 0
