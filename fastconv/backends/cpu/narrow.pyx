"""Correlations with few destination channels (the input gradient of a network's first layer): vectors along pixels.

A source tile is turned to channels-first rows with its padding. Rows follow one another without a gap, so a tile's
pixels are one long run for every tap; what is computed between the rows is not copied out. Chunks of channels have one
size, taps and channels run in a fixed order, so tiles and threads do not change a bit.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport FC_NARROW, fc_copy2d, fc_narrow
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div, even_part, source_at, span

cdef int64_t CHUNK = 16                 # channels that are turned and multiplied at a time
cdef int64_t TILE_BYTES = 512 * 1024    # of a turned tile: half a second-level cache
cdef int64_t TILE_DEPTH = 4
cdef int64_t SMALL_TILE = 8             # rows; smaller ones are mostly border
cdef int64_t TASKS_PER_THREAD = 4
cdef int64_t LEAST_PRODUCTS = 16        # taps x columns, for which turning a pixel pays
cdef int64_t ROUND = 16                 # elements: what a kernel may read and write beyond the last pixel


cdef struct Plan:
    Correlation* problem
    int64_t rows, depth     # of a tile
    int64_t width           # of a turned row
    int64_t height          # turned rows of a depth position
    int64_t plane           # elements from a turned channel to the next
    int64_t run             # elements of a column's sums for one depth position
    char* w                 # (chunks; taps, channels, columns)
    char* bias              # (columns,) or NULL
    bint failed


cdef bint is_narrow(const Correlation* problem, int64_t columns) noexcept nogil:
    """Whether to solve the problem here: from its shape alone, rows being ``columns`` destination pixels long."""
    cdef const Reader* x = &problem.x
    cdef int64_t taps = x.axis[0].taps * x.axis[1].taps * x.axis[2].taps, width
    if x.groups != 1 or problem.columns > FC_NARROW or 2 * problem.columns > kernels(x.itemsize).width:
        return False
    if x.axis[1].src_step != 1 or x.axis[2].src_step != 1 or x.depth == 0 or taps * problem.columns < LEAST_PRODUCTS:
        return False
    width = span(&x.axis[2], columns)
    return CHUNK * span(&x.axis[0], 1) * span(&x.axis[1], 1) * width * x.itemsize <= TILE_BYTES


cdef inline int64_t rounded(int64_t elements) noexcept nogil:
    return ceil_div(elements, ROUND) * ROUND


cdef void choose_tile(Plan* plan) noexcept nogil:
    """Rows and depth positions of a tile: as many as fit, fewer where threads would have nothing to take."""
    cdef const Reader* x = &plan.problem.x
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads(), most
    cdef int64_t row = CHUNK * x.itemsize * span(&x.axis[2], x.axis[2].count)
    plan.depth = even_part(x.axis[0].count, TILE_DEPTH)
    while plan.depth > 1 and row * span(&x.axis[0], plan.depth) * span(&x.axis[1], SMALL_TILE) > TILE_BYTES:
        plan.depth -= 1
    most = TILE_BYTES // (row * span(&x.axis[0], plan.depth)) - span(&x.axis[1], 1) + 1
    plan.rows = even_part(x.axis[1].count, max(<int64_t>1, most))
    while count_tasks(plan) < wanted and plan.rows > SMALL_TILE:
        plan.rows = ceil_div(plan.rows, 2)
    plan.width = span(&x.axis[2], x.axis[2].count)
    plan.height = span(&x.axis[1], plan.rows)
    plan.plane = rounded(span(&x.axis[0], plan.depth) * plan.height * plan.width + ROUND)
    plan.run = rounded(plan.rows * plan.width)


cdef inline int64_t count_tasks(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    return x.n * ceil_div(x.axis[0].count, plan.depth) * ceil_div(x.axis[1].count, plan.rows)


cdef void turn(const Plan* plan, int64_t n, int64_t depth, int64_t row, int64_t channel, int64_t channels,
               char* out) noexcept nogil:
    """Copy the source of the tile at (n, depth, row) to (channel; d, h, w), with zeros outside the array."""
    cdef const Reader* x = &plan.problem.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t size = x.itemsize, w0 = source_at(&ax[2], 0), d, h, sd, sh, k
    cdef int64_t left = min(plan.width, max(<int64_t>0, -w0))
    cdef int64_t right = max(left, min(plan.width, ax[2].src_size - w0))
    cdef char* to
    cdef fc_copy2d copy
    copy.rows, copy.columns, copy.padded = channels, right - left, right - left
    copy.ld, copy.dj, copy.si, copy.sj = plan.plane, 1, x.stride[1], x.stride[4]
    for d in range(span(&ax[0], min(plan.depth, ax[0].count - depth))):
        sd = source_at(&ax[0], depth) + d
        for h in range(span(&ax[1], min(plan.rows, ax[1].count - row))):
            sh = source_at(&ax[1], row) + h
            to = out + (d * plan.height + h) * plan.width * size
            if copy.columns == 0 or sd < 0 or sd >= ax[0].src_size or sh < 0 or sh >= ax[1].src_size:
                for k in range(channels):
                    memset(to + k * plan.plane * size, 0, plan.width * size)
                continue
            for k in range(channels):
                memset(to + k * plan.plane * size, 0, left * size)
                memset(to + (k * plan.plane + right) * size, 0, (plan.width - right) * size)
            copy.src = x.data + (n * x.stride[0] + channel * x.stride[1] + sd * x.stride[2] + sh * x.stride[3] +
                                 (w0 + left) * x.stride[4]) * size
            copy.dst = to + left * size
            x.kernel.copy2d(&copy)


cdef void store(const Plan* plan, int64_t n, int64_t depth, int64_t row, const char* sums) noexcept nogil:
    """Copy the sums of a tile, (d; column; h, w), to where they belong."""
    cdef const Correlation* problem = plan.problem
    cdef const TileAxis* ax = &problem.x.axis[0]
    cdef int64_t d, h, at
    cdef fc_copy2d copy
    copy.rows, copy.columns, copy.padded = ax[2].count, problem.columns, problem.columns
    copy.ld, copy.dj, copy.si, copy.sj = ax[2].dst_step * problem.ys[4], 1, 1, plan.run
    for d in range(min(plan.depth, ax[0].count - depth)):
        for h in range(min(plan.rows, ax[1].count - row)):
            at = n * problem.ys[0] + (ax[0].dst_base + ax[0].dst_step * (depth + d)) * problem.ys[2]
            at += (ax[1].dst_base + ax[1].dst_step * (row + h)) * problem.ys[3] + ax[2].dst_base * problem.ys[4]
            copy.dst = problem.y + at * problem.x.itemsize
            copy.src = sums + (d * problem.columns * plan.run + h * plan.width) * problem.x.itemsize
            problem.x.kernel.copy2d(&copy)


cdef void list_taps(const Plan* plan, int64_t* tap) noexcept nogil:
    cdef const TileAxis* ax = &plan.problem.x.axis[0]
    cdef int64_t d, h, w, t = 0
    for d in range(ax[0].taps):
        for h in range(ax[1].taps):
            for w in range(ax[2].taps):
                tap[t] = ((ax[0].shift[d] - ax[0].shift[0]) * plan.height + ax[1].shift[h] - ax[1].shift[0])
                tap[t] = tap[t] * plan.width + ax[2].shift[w] - ax[2].shift[0]
                t += 1


cdef void run_tile(void* context, int64_t index) noexcept nogil:
    """One task: index = (image * depth tiles + tile) * row tiles + tile."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t size = x.itemsize, taps = ceil_div(x.taps, 8) * 8, tiles = ceil_div(x.axis[1].count, plan.rows)
    cdef int64_t turned = CHUNK * plan.plane + ROUND, channel = 0, d, depth, row
    cdef int64_t* tap = <int64_t*> workspace(
        taps * sizeof(int64_t) + (turned + plan.depth * problem.columns * plan.run + ROUND) * size)
    cdef char* sums
    cdef fc_narrow call
    if tap == NULL:
        plan.failed = True
        return
    sums = <char*> (tap + taps) + turned * size
    row = index % tiles * plan.rows
    index //= tiles
    tiles = ceil_div(x.axis[0].count, plan.depth)
    depth = index % tiles * plan.depth
    list_taps(plan, tap)
    call.tap, call.bias, call.w = tap, plan.bias, plan.w
    call.ldx, call.ldy, call.taps, call.columns = plan.plane, plan.run, x.taps, problem.columns
    call.pixels = (min(plan.rows, x.axis[1].count - row) - 1) * plan.width + x.axis[2].count
    while channel < x.depth:
        call.depth, call.accumulate = min(CHUNK, x.depth - channel), channel > 0
        turn(plan, index // tiles, depth, row, channel, call.depth, <char*> (tap + taps))
        for d in range(min(plan.depth, x.axis[0].count - depth)):
            call.x = <char*> (tap + taps) + d * x.axis[0].src_step * plan.height * plan.width * size
            call.y = sums + d * problem.columns * plan.run * size
            x.kernel.narrow(&call)
        call.w = <const char*> call.w + x.taps * call.depth * problem.columns * size
        channel += CHUNK
    store(plan, index // tiles, depth, row, sums)


cdef void pack(const Plan* plan) noexcept nogil:
    """Pack the weights: chunk by chunk, (taps, channels, columns)."""
    cdef const Correlation* problem = plan.problem
    cdef const TileAxis* ax = &problem.x.axis[0]
    cdef int64_t size = problem.x.itemsize, channel = 0, d, h, w
    cdef char* out = plan.w
    cdef fc_copy2d copy
    copy.columns = copy.padded = copy.ld = problem.columns
    copy.dj, copy.si, copy.sj = 1, problem.w_depth, problem.w_column
    while channel < problem.x.depth:
        copy.rows = min(CHUNK, problem.x.depth - channel)
        for d in range(ax[0].taps):
            for h in range(ax[1].taps):
                for w in range(ax[2].taps):
                    copy.src = problem.w + (channel * problem.w_depth + ax[0].weight[d] + ax[1].weight[h] +
                                            ax[2].weight[w]) * size
                    copy.dst = out
                    problem.x.kernel.copy2d(&copy)
                    out += copy.rows * problem.columns * size
        channel += CHUNK
    if plan.bias != NULL:
        copy.rows, copy.si, copy.sj = 1, 0, problem.bias_stride
        copy.src, copy.dst = problem.bias, plan.bias
        problem.x.kernel.copy2d(&copy)


cdef int narrow_correlate(Correlation* problem) except -1 nogil:
    """Solve a problem for which ``is_narrow``. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t weights, bytes
    if x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count == 0:
        return 0
    x.kernel = kernels(x.itemsize)
    x.taps = x.axis[0].taps * x.axis[1].taps * x.axis[2].taps
    plan.problem, plan.failed = problem, False
    choose_tile(&plan)
    weights = x.taps * x.depth * problem.columns * x.itemsize
    bytes = weights + problem.columns * x.itemsize
    plan.w = <char*> allocate(bytes)
    if plan.w == NULL:
        plan.failed = True
    else:
        plan.bias = plan.w + weights if problem.bias != NULL else NULL
        pack(&plan)
        parallel_for(count_tasks(&plan), run_tile, &plan)
    release(plan.w, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("convolution: no memory for packed weights or a workspace")
    return 0
