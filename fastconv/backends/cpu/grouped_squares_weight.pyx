"""The weight gradient of convolutions with few channels a group and 3x3 taps by Winograd's F(4x4, 3x3).

Tiles and batches are those of grouped_squares.pyx. The tiles are cut into parts, more than one only where there are few
blocks, and each part into pieces: in a round every part's next piece is a task for each block, so that all threads read
the same pixels, and no sum needs more room than the transformed gradient of each part. The parts are then added
pairwise. All cuts depend on the shape only, so the bits do not depend on threads.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport FC_WINOGRAD_4X3, fc_accumulate, fc_grouped_squares, fc_square, fc_winograd
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.grouped cimport Lanes, fill_lanes, set_lanes
from fastconv.backends.cpu.grouped_squares cimport (
    BATCH, PLANES, SIDE, Squares, batch_bytes, batches_of_piece, block_planes, cut_squares, gather, set_batch,
)
from fastconv.backends.cpu.grouped_weight cimport store_block
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, ceil_div

cdef int64_t PART = 64              # tiles, at least
cdef int64_t PIECE = 64             # at most
cdef int64_t TASKS = 16             # of a round, that suffice for most machines
cdef int64_t TAPS = 3               # along rows and columns


cdef struct Work:
    Outer* problem
    Lanes lanes
    Squares squares
    int64_t parts, piece, round
    char* u                 # (parts, blocks; planes, depth, width)
    bint failed


cdef inline char* sums_of(Work* work, int64_t part, int64_t block) noexcept nogil:
    cdef const Reader* x = work.squares.x
    return work.u + (part * work.lanes.blocks.count + block) * block_planes(&work.lanes) * x.itemsize


cdef void copy_gradient(const Squares* squares, char* copies, fc_grouped_squares* call) noexcept nogil:
    """Copy a batch's gradient channels-last, behind the copies of its source."""
    cdef int64_t size = squares.x.itemsize, width = squares.lanes.width, i
    cdef fc_square* square = <fc_square*> call.square
    copies += BATCH * PLANES * width * size
    for i in range(call.count):
        gather(squares, <const char*> call.y + square[i].y * size, squares.ys, 0, square[i].rows, 0,
               square[i].columns, SIDE, call.blocks.ylanes, copies + i * PLANES * width * size)
        square[i].y = i * PLANES * width
    call.y, call.yrow, call.ycolumn = copies, SIDE * width, width


cdef void run_piece(void* context, int64_t index) noexcept nogil:
    """One task of a round: index = part * blocks + block."""
    cdef Work* work = <Work*> context
    cdef Outer* problem = work.problem
    cdef const Squares* squares = &work.squares
    cdef const Reader* x = squares.x
    cdef int64_t block = index % work.lanes.blocks.count, part = index // work.lanes.blocks.count, last
    cdef int64_t first = squares.count * part // work.parts + work.round * work.piece
    cdef int64_t end = min(squares.count * (part + 1) // work.parts, first + work.piece)
    cdef char* memory = <char*> workspace(batch_bytes(squares, 2))
    cdef fc_grouped_squares call
    if memory == NULL:
        work.failed = True
        return
    call.u, call.bias, call.relu = sums_of(work, part, block), NULL, False
    if work.round == 0:
        memset(call.u, 0, block_planes(&work.lanes) * x.itemsize)
    while first < end:
        last = min(end, first + BATCH)
        set_batch(squares, block, first, last, <char*> problem.dy, memory, &call)
        if problem.ys[1] != 1 and call.blocks.ylanes > 1:
            copy_gradient(squares, memory + BATCH * sizeof(fc_square), &call)
        x.kernel.grouped_squares_outer(&call)
        first = last


cdef void finish_block(void* context, int64_t index) noexcept nogil:
    """Add up the parts of a block, transform the sum back and store it as dw."""
    cdef Work* work = <Work*> context
    cdef const Reader* x = work.squares.x
    cdef int64_t size = x.itemsize, width = work.lanes.width, depth = work.lanes.blocks.depth, step = 1, part, k
    cdef char* taps = <char*> workspace(work.lanes.wblock * size)
    cdef fc_accumulate add
    cdef fc_winograd call
    if taps == NULL:
        work.failed = True
        return
    add.count = block_planes(&work.lanes)
    while step < work.parts:
        part = 0
        while part + step < work.parts:
            add.dst, add.src = sums_of(work, part, index), sums_of(work, part + step, index)
            x.kernel.accumulate(&add)
            part += 2 * step
        step *= 2
    call.form, call.count, call.column, call.row = FC_WINOGRAD_4X3, width, width, depth * TAPS * width
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = TAPS
    call.plane, call.bias, call.residual, call.relu = depth * width, NULL, NULL, False
    for k in range(depth):
        call.pixels = taps + k * TAPS * width * size
        call.planes = sums_of(work, 0, index) + k * width * size
        x.kernel.winograd_filter_gradient(&call)
    store_block(work.problem, &work.lanes, index, taps)


cdef int squares_products(Outer* problem) except -1 nogil:
    """As grouped_products, for stride 1 and three neighbouring taps along rows and columns, one in depth."""
    cdef Reader* x = &problem.x
    cdef Work work
    cdef Lanes* lanes = &work.lanes
    cdef int64_t table, bytes
    x.kernel = kernels(x.itemsize)
    work.problem, work.failed, work.round = problem, False, 0
    table = set_lanes(lanes, x, problem.columns)
    cut_squares(&work.squares, x, lanes, problem.ys)
    work.parts = max(<int64_t>1, min(ceil_div(TASKS, lanes.blocks.count), work.squares.count // PART))
    work.piece = min(PIECE, BATCH * batches_of_piece(&work.squares))
    bytes = work.parts * lanes.blocks.count * block_planes(lanes) * x.itemsize
    work.u = <char*> allocate(bytes)
    lanes.lane = <int32_t*> malloc((table + 1) * sizeof(int32_t))
    if work.u == NULL or lanes.lane == NULL:
        work.failed = True
    else:
        if table:
            fill_lanes(lanes, x.kernel.width)
        while work.round == 0 or work.round * work.piece < ceil_div(work.squares.count, work.parts):
            parallel_for(work.parts * lanes.blocks.count, run_piece, &work)
            work.round += 1
        parallel_for(lanes.blocks.count, finish_block, &work)
    free(lanes.lane)
    release(work.u, bytes)
    if work.failed:
        with gil:
            raise MemoryError("grouped weight gradient: no memory for sums or a workspace")
    return 0
