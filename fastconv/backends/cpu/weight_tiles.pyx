"""The loop nest of a weight gradient: outer products over pixels, summed by a tree that the shape alone fixes.

A task takes a block of the weights and one of S consecutive parts of the tiles, and adds its pixels in their order; the
S partial sums of each element are then added pairwise. S and the tiles depend on the shape only, so the bits do not
depend on threads. Partial sums stay below a bound: large weights have blocks enough and need none, and their tasks
store the weights themselves.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_accumulate, fc_copy2d
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, ceil_div, choose_chunk, choose_tile, count_tiles, finish
from fastconv.backends.cpu.weight_blocks cimport add_narrow, add_wide, narrow_memory, wide_memory
from fastconv.backends.cpu.weight_pairs cimport add_pairs, pairs_memory
from fastconv.backends.cpu.weight_pixels cimport add_pixels, choose_pixels, pixels_memory, sees_no_padding

cdef int64_t CHANNELS = 256                 # at most, of a block, on either side
cdef int64_t SINGLE_CHANNELS = 512          # of a single tap
cdef int64_t FEWEST_PIXELS = 512            # of a part
cdef int64_t BLOCK = 64 * 1024              # elements of a block's sums: they stay in a second-level cache
cdef int64_t SINGLE_BLOCK = 32 * 1024       # of a single tap, beside the panels of two tiles
cdef int64_t SMALL_BLOCK = 4 * 1024         # not worth sharing out
cdef int64_t ROWS = 1024                    # taps x channels of x in a narrow block
cdef int64_t TILE_PIXELS = 128              # with nr lanes they stay in a first-level cache
cdef int64_t PAIRS_PIXELS = 256
cdef int64_t WIDE_BYTES = 1024 * 1024       # of a tile of x
cdef int64_t NARROW_BYTES = 128 * 1024
cdef int64_t TASKS = 32                     # tasks that suffice for any machine of moderate size
cdef int64_t SINGLE_TASKS = 8               # of a single tap, where adding parts up costs more beside the products
cdef int64_t PARTIAL_BYTES = 4 * 1024 * 1024  # of all partial sums
cdef int64_t FINISH = 8 * 1024              # elements a task, at the end


cdef inline int64_t padded(int64_t size, int64_t width) noexcept nogil:
    return ceil_div(size, width) * width


cdef void choose_roles(Plan* plan) noexcept nogil:
    """Vectors run along the channels of x, whose sums are nearer to dw's order, unless they fill fewer lanes."""
    cdef Outer* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t width = x.kernel.width
    plan.wide = padded(x.depth, width) * problem.columns * 10 <= padded(problem.columns, width) * x.depth * 11
    if plan.wide:
        plan.lines, plan.dw_line = problem.columns, problem.dw_column
        plan.lanes, plan.dw_lane = x.depth, problem.dw_depth
    else:
        plan.lines, plan.dw_line = x.depth, problem.dw_depth
        plan.lanes, plan.dw_lane = problem.columns, problem.dw_column
    plan.in_place = x.taps == 1 and plan.dw_lane == 1


cdef void choose_blocks(Plan* plan) noexcept nogil:
    """Cut lines and lanes into blocks, and tiles into parts: from the shape alone."""
    cdef Reader* x = &plan.problem.x
    cdef int64_t mr = x.kernel.mr, nr = x.kernel.nr, parts, fewest = 2, tasks = TASKS
    cdef int64_t lines = SINGLE_CHANNELS if plan.single else CHANNELS, lanes = lines
    cdef int64_t weights = x.groups * plan.lines * x.taps * plan.lanes * x.itemsize, block = BLOCK
    cdef bint whole
    if plan.single:
        fewest, tasks, block = ceil_div(FEWEST_PIXELS, plan.tile), SINGLE_TASKS, SINGLE_BLOCK
        if plan.tiles < 2 * fewest:  # no parts: two threads have half of dw each, and keep it for the optimiser's step
            lines = max(mr, min(lines, ceil_div(plan.lines, 2)))
    plan.splits = 0
    while True:
        whole = plan.wide or plan.single or plan.problem.pairs
        plan.line_block = even_block(plan.lines, lines, mr) if whole else x.chunk
        plan.lane_block = even_block(plan.lanes, lanes, nr)
        plan.line_blocks = ceil_div(plan.lines, plan.line_block)
        plan.lane_blocks = ceil_div(plan.lanes, plan.lane_block)
        if plan.line_block * x.taps * plan.lane_block > block and lanes > nr and (lanes >= lines or lines <= mr):
            lanes //= 2
        elif plan.line_block * x.taps * plan.lane_block > block and lines > mr:
            lines //= 2
        elif plan.splits == 0:
            parts = ceil_div(tasks, x.groups * plan.line_blocks * plan.lane_blocks)
            parts += parts % 2 if plan.single and parts > 1 else 0  # two threads get as many
            parts = min(parts, PARTIAL_BYTES // weights)
            plan.splits = max(<int64_t>1, min(parts, plan.tiles // fewest))  # adding parts up should cost little
        elif plan.splits * x.groups * plan.line_blocks * plan.lane_blocks < tasks and block > SMALL_BLOCK:
            block //= 2
        else:
            return


cdef inline char* partial_sums(const Plan* plan, int64_t split, int64_t group, int64_t line) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    if plan.in_place and split == 0:
        return plan.problem.dw + (group * plan.problem.dw_group + line * plan.dw_line) * x.itemsize
    split -= plan.in_place
    return plan.partial + ((split * x.groups + group) * plan.lines + line) * x.taps * plan.lanes * x.itemsize


cdef void store_line(const Plan* plan, const char* sums, int64_t tap, int64_t group, int64_t line, int64_t lane,
                     int64_t lanes) noexcept nogil:
    """Store a line's sums, (taps, lanes) with ``tap`` from tap to tap, as dw."""
    cdef const Reader* x = &plan.problem.x
    cdef fc_copy2d copy
    copy.src = sums
    copy.dst = plan.problem.dw + (group * plan.problem.dw_group + line * plan.dw_line) * x.itemsize
    copy.dst = <char*> copy.dst + lane * plan.dw_lane * x.itemsize
    copy.rows, copy.si, copy.ld = lanes, 1, plan.dw_lane
    copy.columns = copy.padded = x.taps
    copy.sj, copy.dj = tap, 1
    x.kernel.copy2d(&copy)


cdef size_t task_memory(const Plan* plan) noexcept nogil:
    if plan.problem.pairs:
        return pairs_memory(plan)
    if plan.single:
        return pixels_memory(plan)
    return wide_memory(plan) if plan.wide else narrow_memory(plan)


cdef inline int64_t count_tasks(const Plan* plan) noexcept nogil:
    return plan.splits * plan.problem.x.groups * plan.line_blocks * plan.lane_blocks


cdef void set_task(const Plan* plan, int64_t index, Block* block) noexcept nogil:
    """What a task adds: index = ((split * groups + group) * line_blocks + line block) * lane_blocks + lane block."""
    block.lane = index % plan.lane_blocks * plan.lane_block
    index //= plan.lane_blocks
    block.line = index % plan.line_blocks * plan.line_block
    index //= plan.line_blocks
    block.group, block.split = index % plan.problem.x.groups, index // plan.problem.x.groups
    block.lines = min(plan.line_block, plan.lines - block.line)
    block.lanes = min(plan.lane_block, plan.lanes - block.lane)
    block.first = plan.tiles * block.split // plan.splits
    block.last = plan.tiles * (block.split + 1) // plan.splits


cdef void run_block(void* context, int64_t index) noexcept nogil:
    """One task; a thread mostly takes that of the next index after it."""
    cdef Plan* plan = <Plan*> context
    cdef Reader* x = &plan.problem.x
    cdef size_t bytes = task_memory(plan)
    cdef bint own = plan.splits == 1 and not plan.in_place
    cdef size_t sums = plan.line_block * x.taps * plan.lane_block * x.itemsize if own else 0
    cdef char* memory = <char*> workspace(sums + bytes)
    cdef Block block, after
    cdef bint more = False
    cdef int64_t line, tap
    if memory == NULL:
        plan.failed = True
        return
    set_task(plan, index, &block)
    if index + 1 < count_tasks(plan):
        set_task(plan, index + 1, &after)
        more = after.first < after.last
    if own:
        block.sums, block.tap, block.ld = memory, plan.lane_block, x.taps * plan.lane_block
    else:
        block.sums = partial_sums(plan, block.split, block.group, block.line) + block.lane * x.itemsize
        block.tap = plan.lanes
        block.ld = plan.dw_line if plan.in_place and block.split == 0 else x.taps * plan.lanes
    if block.first == block.last:
        for line in range(block.lines):
            for tap in range(x.taps):
                memset(block.sums + (line * block.ld + tap * block.tap) * x.itemsize, 0, block.lanes * x.itemsize)
    elif plan.problem.pairs:
        add_pairs(plan, &block, memory + sums)
    elif plan.single:
        add_pixels(plan, &block, &after if more else NULL, memory + sums)
    elif plan.wide:
        add_wide(plan, &block, memory + sums)
    else:
        add_narrow(plan, &block, memory + sums)
    if own:
        for line in range(block.lines):
            store_line(plan, block.sums + line * block.ld * x.itemsize, block.tap, block.group, block.line + line,
                       block.lane, block.lanes)


cdef int64_t lines_to_finish(const Plan* plan) noexcept nogil:
    return max(<int64_t>1, FINISH // (plan.problem.x.taps * plan.lanes * plan.splits))


cdef void finish_lines(void* context, int64_t index) noexcept nogil:
    """Add up the partial sums of some lines, and store them as dw; lines are counted over all groups."""
    cdef Plan* plan = <Plan*> context
    cdef Reader* x = &plan.problem.x
    cdef int64_t share = lines_to_finish(plan), count = x.groups * plan.lines, line, group, step, split
    cdef fc_accumulate call
    call.count = x.taps * plan.lanes
    for line in range(index * share, min(count, (index + 1) * share)):
        group = line // plan.lines
        step = 1
        while step < plan.splits:
            split = 0
            while split + step < plan.splits:
                call.dst = partial_sums(plan, split, group, line % plan.lines)
                call.src = partial_sums(plan, split + step, group, line % plan.lines)
                x.kernel.accumulate(&call)
                split += 2 * step
            step *= 2
        if not plan.in_place:
            store_line(plan, partial_sums(plan, 0, group, line % plan.lines), plan.lanes, group, line % plan.lines, 0,
                       plan.lanes)


cdef int outer_products(Outer* problem) except -1 nogil:
    """Solve the problem. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t bytes
    plan.problem = problem
    plan.failed = False
    plan.partial = NULL
    x.kernel = kernels(x.itemsize)
    choose_chunk(x, ROWS)
    if x.groups * x.taps * x.depth * problem.columns == 0:
        return 0
    choose_roles(&plan)
    plan.single = not problem.pairs and sees_no_padding(&plan)
    if plan.single:
        choose_pixels(&plan)
    elif plan.wide or problem.pairs:
        x.chunk = min(x.depth, CHANNELS)
        choose_tile(x, PAIRS_PIXELS if problem.pairs else TILE_PIXELS, WIDE_BYTES)
    else:
        choose_tile(x, TILE_PIXELS, NARROW_BYTES)
    if not plan.single:
        plan.tiles = count_tiles(x)
    choose_blocks(&plan)
    if not plan.single:
        finish(x)
    bytes = (plan.splits - plan.in_place) * x.groups * plan.lines * x.taps * plan.lanes * x.itemsize
    if plan.splits > 1:
        plan.partial = <char*> allocate(bytes)
        plan.failed = plan.partial == NULL
    if not plan.failed:
        parallel_for(count_tasks(&plan), run_block, &plan)
        if plan.splits > 1:
            parallel_for(ceil_div(x.groups * plan.lines, lines_to_finish(&plan)), finish_lines, &plan)
    if plan.partial != NULL:
        release(plan.partial, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("weight gradient: no memory for partial sums or a workspace")
    return 0
