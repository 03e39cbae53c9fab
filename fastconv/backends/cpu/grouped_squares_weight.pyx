"""The weight gradient of convolutions with few channels a group and 3x3 taps by Winograd's F(4x4, 3x3).

Tiles, batches and units are those of grouped_squares.pyx. The tiles are cut into parts, whose sums are added pairwise:
as many as leave room for the sums, which depends on the shape only, so the bits do not depend on threads. A task adds
up a part, unit by unit, for all blocks or for one.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport FC_WINOGRAD_4X3, fc_accumulate, fc_grouped_squares, fc_square, fc_winograd
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.grouped cimport Lanes, fill_lanes, set_lanes
from fastconv.backends.cpu.grouped_squares cimport (
    BATCH, PLANES, SIDE, Squares, Unit, batch_bytes, block_planes, cut_squares, each_batch, gather, set_batch,
    unit_blocks, unit_tiles,
)
from fastconv.backends.cpu.grouped_weight cimport store_block
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, ceil_div

cdef int64_t PART = 64              # tiles, at least
cdef int64_t PARTS = 16             # at most
cdef int64_t SUMS = 4 * 1024 * 1024  # bytes of their sums, beside the first's
cdef int64_t TASKS_PER_THREAD = 2
cdef int64_t TAPS = 3               # along rows and columns


cdef struct Work:
    Outer* problem
    Lanes lanes
    Squares squares
    int64_t parts, blocks   # blocks of a task
    char* u                 # (parts, blocks; planes, depth, width)
    bint failed


cdef struct Part:
    Work* work
    int64_t index


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


cdef void run_batch(void* context, int64_t block, int64_t first, int64_t last) noexcept nogil:
    cdef Part* part = <Part*> context
    cdef Work* work = part.work
    cdef Outer* problem = work.problem
    cdef const Reader* x = work.squares.x
    cdef char* memory = <char*> workspace(batch_bytes(&work.squares, 2))
    cdef fc_grouped_squares call
    if memory == NULL:
        work.failed = True
        return
    call.u, call.bias, call.relu = sums_of(work, part.index, block), NULL, False
    set_batch(&work.squares, block, first, last, <char*> problem.dy, memory, &call)
    if problem.ys[1] != 1 and call.blocks.ylanes > 1:
        copy_gradient(&work.squares, memory + BATCH * sizeof(fc_square), &call)
    x.kernel.grouped_squares_outer(&call)


cdef void run_part(void* context, int64_t index) noexcept nogil:
    """One task: index = part * chunks + chunk of blocks."""
    cdef Work* work = <Work*> context
    cdef const Squares* squares = &work.squares
    cdef int64_t chunks = ceil_div(work.lanes.blocks.count, work.blocks), tiles = unit_tiles(squares, work.blocks), end
    cdef Part part
    cdef Unit unit
    part.work, part.index = work, index // chunks
    unit.block = index % chunks * work.blocks
    unit.end = min(work.lanes.blocks.count, unit.block + work.blocks)
    memset(sums_of(work, part.index, unit.block), 0,
           (unit.end - unit.block) * block_planes(&work.lanes) * squares.x.itemsize)
    unit.last, end = squares.count * part.index // work.parts, squares.count * (part.index + 1) // work.parts
    while unit.last < end:
        unit.first, unit.last = unit.last, min(end, unit.last + tiles)
        each_batch(squares, work.problem.dy, &unit, run_batch, &part)


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
    work.problem, work.failed = problem, False
    table = set_lanes(lanes, x, problem.columns)
    cut_squares(&work.squares, x, lanes, problem.ys)
    bytes = lanes.blocks.count * block_planes(lanes) * x.itemsize
    work.parts = max(<int64_t>1, min(PARTS, SUMS // bytes + 1, work.squares.count // PART))
    work.blocks = unit_blocks(&work.squares, work.parts) if work.parts >= TASKS_PER_THREAD * num_threads() else 1
    bytes *= work.parts
    work.u = <char*> allocate(bytes)
    lanes.lane = <int32_t*> malloc((table + 1) * sizeof(int32_t))
    if work.u == NULL or lanes.lane == NULL:
        work.failed = True
    else:
        if table:
            fill_lanes(lanes, x.kernel.width)
        parallel_for(work.parts * ceil_div(lanes.blocks.count, work.blocks), run_part, &work)
        parallel_for(lanes.blocks.count, finish_block, &work)
    free(lanes.lane)
    release(work.u, bytes)
    if work.failed:
        with gil:
            raise MemoryError("grouped weight gradient: no memory for sums or a workspace")
    return 0
