"""The loop nest of a weight gradient: outer products over pixels, summed by a tree that the shape alone fixes.

The rows of a block are (tap, input channel), its columns output channels. A task takes a block of rows and columns and
one of S consecutive parts of the tiles, and adds its pixels in their order; the S partial sums of each element are then
added pairwise. S and the tiles depend on the shape only, so the bits do not depend on threads. S partial results stay
below a bound; large weights have blocks enough and need no partial results.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_accumulate, fc_copy2d, fc_outer_tile
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    Reader, Tile, ceil_div, choose_chunk, choose_tile, count_tiles, fetch, finish, gather_pixels, list_pixels,
    list_taps, locate, tile_bytes, tile_pixels,
)

cdef int64_t ROWS = 1024                    # rows of a block
cdef int64_t COLUMNS = 64                   # columns of a block
cdef int64_t TILE_PIXELS = 128              # with nr columns of dy they stay in a first-level cache
cdef int64_t TILE_BYTES = 128 * 1024
cdef int64_t TASKS = 32                     # tasks that suffice for any machine of moderate size
cdef int64_t PARTIAL_BYTES = 4 * 1024 * 1024  # of all partial results


cdef struct Plan:
    Outer* problem
    int64_t blocks          # blocks of columns a group
    int64_t tiles, splits
    int64_t* each           # (taps,) tap offsets
    char* partial           # (splits, groups, taps * depth, columns)
    int64_t partial_size    # elements of one split
    bint failed


cdef inline char* partial_rows(const Plan* plan, int64_t split, int64_t group, int64_t chunk) noexcept nogil:
    cdef int64_t rows = (group * plan.problem.x.depth + chunk * plan.problem.x.chunk) * plan.problem.x.taps
    return plan.partial + (split * plan.partial_size + rows * plan.problem.columns) * plan.problem.x.itemsize


cdef void run_block(void* context, int64_t index) noexcept nogil:
    """One task: index = ((split * groups + group) * chunks + chunk) * blocks + block."""
    cdef Plan* plan = <Plan*> context
    cdef Outer* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t block = index % plan.blocks, chunk = index // plan.blocks % x.chunks
    cdef int64_t group = index // plan.blocks // x.chunks % x.groups
    cdef int64_t split = index // plan.blocks // x.chunks // x.groups
    cdef int64_t depth = min(x.chunk, x.depth - chunk * x.chunk)
    cdef int64_t first = plan.tiles * split // plan.splits, last = plan.tiles * (split + 1) // plan.splits
    cdef int64_t begin = block * COLUMNS, end = min(problem.columns, begin + COLUMNS)
    cdef int64_t most = tile_pixels(x), column, t, k, n
    cdef int64_t lists = ceil_div((3 * most + x.taps * depth) * sizeof(int64_t), 64) * 64
    cdef int64_t source = ceil_div(tile_bytes(x), 64) * 64
    cdef int64_t* memory = <int64_t*> workspace(lists + source + most * x.kernel.nr * x.itemsize)
    cdef char* gradient = <char*> memory + lists + source
    cdef int64_t* row = memory + 3 * most
    cdef Tile tile
    cdef fc_outer_tile call
    if memory == NULL:
        plan.failed = True
        return
    for t in range(x.taps):
        for k in range(depth):
            row[t * depth + k] = plan.each[t] + k
    call.xpixel, call.ypixel = memory, memory + 2 * most
    call.row, call.rows, call.ld = row, x.taps * depth, problem.columns
    for n in range(first, last):
        locate(x, n, &tile)
        call.x = fetch(x, &tile, group, chunk, <char*> memory + lists)
        call.pixels = list_pixels(x, &tile, &tile, problem.ys, memory, memory + most)
        call.accumulate = n > first
        column = begin
        while column < end:
            call.columns = min(x.kernel.nr, end - column)
            call.dw = partial_rows(plan, split, group, chunk) + column * x.itemsize
            call.dy = problem.dy + (group * problem.columns + column) * problem.ys[1] * x.itemsize
            call.dy = gather_pixels(x, <const char*> call.dy, problem.ys, memory + most, call.pixels, call.columns,
                                    memory + 2 * most, gradient)
            x.kernel.outer_tile(&call)
            column += x.kernel.nr
    if first == last:
        call.dw = partial_rows(plan, split, group, chunk) + begin * x.itemsize
        for t in range(call.rows):
            memset(<char*> call.dw + t * call.ld * x.itemsize, 0, (end - begin) * x.itemsize)


cdef void finish_rows(void* context, int64_t index) noexcept nogil:
    """Add up the partial sums of a chunk's channel, all taps, and store them as dw: index = group * depth + channel."""
    cdef Plan* plan = <Plan*> context
    cdef Reader* x = &plan.problem.x
    cdef int64_t group = index // x.depth, channel = index % x.depth, chunk = channel // x.chunk
    cdef int64_t depth = min(x.chunk, x.depth - chunk * x.chunk), k = channel - chunk * x.chunk
    cdef int64_t size = x.itemsize, step, split, t, offset
    cdef fc_accumulate call
    cdef fc_copy2d copy
    call.count = plan.problem.columns
    for t in range(x.taps):
        offset = (t * depth + k) * plan.problem.columns * size
        step = 1
        while step < plan.splits:
            split = 0
            while split + step < plan.splits:
                call.dst = partial_rows(plan, split, group, chunk) + offset
                call.src = partial_rows(plan, split + step, group, chunk) + offset
                x.kernel.accumulate(&call)
                split += 2 * step
            step *= 2
    copy.src = partial_rows(plan, 0, group, chunk) + k * plan.problem.columns * size
    copy.dst = plan.problem.dw + (group * plan.problem.dw_group + channel * plan.problem.dw_depth) * size
    copy.rows, copy.si, copy.ld = x.taps, depth * plan.problem.columns, 1
    copy.columns = copy.padded = plan.problem.columns
    copy.sj, copy.dj = 1, plan.problem.dw_column
    x.kernel.copy2d(&copy)


cdef int outer_products(Outer* problem) except -1 nogil:
    """Solve the problem. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t parts, bytes
    cdef bint in_place
    plan.problem = problem
    x.kernel = kernels(x.itemsize)
    choose_chunk(x, ROWS)
    choose_tile(x, TILE_PIXELS, TILE_BYTES)
    finish(x)
    plan.failed = False
    plan.blocks = ceil_div(problem.columns, COLUMNS)
    plan.tiles = count_tiles(x)
    plan.partial_size = x.groups * x.taps * x.depth * problem.columns
    parts = ceil_div(TASKS, x.groups * x.chunks * plan.blocks)
    parts = min(parts, PARTIAL_BYTES // (plan.partial_size * x.itemsize))
    plan.splits = max(<int64_t>1, min(parts, plan.tiles // 2))  # adding up parts should cost little beside making them
    in_place = plan.splits == 1 and x.taps == 1 and problem.dw_column == 1 and problem.dw_depth == problem.columns
    in_place = in_place and (x.groups == 1 or problem.dw_group == x.depth * problem.columns)
    bytes = plan.splits * plan.partial_size * x.itemsize
    plan.partial = problem.dw if in_place else <char*> allocate(bytes)
    plan.each = <int64_t*> malloc(x.taps * sizeof(int64_t))
    if plan.partial == NULL or plan.each == NULL:
        plan.failed = True
    else:
        list_taps(x, plan.each)
        parallel_for(plan.splits * x.groups * x.chunks * plan.blocks, run_block, &plan)
        if not in_place:
            parallel_for(x.groups * x.depth, finish_rows, &plan)
    free(plan.each)
    if not in_place:
        release(plan.partial, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("weight gradient: no memory for partial sums or a workspace")
    return 0
