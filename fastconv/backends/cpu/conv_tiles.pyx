"""The loop nest of convolution: pack the weights into panels, then tile by tile hand pixels to the micro-kernel.

Forward pass and input gradient are one problem (a destination pixel sums source pixels at given shifts times a matrix), so
they share this file; conv_forward.pyx, conv_backward_input.pyx and linear.pyx say which pixels and shifts. Memory beyond the
workspace: the packed weights. Tiles depend on shape and threads, the order of every sum on the shape alone.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu._csrc cimport fc_conv_tile, fc_copy2d
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    Reader, Tile, ceil_div, choose_chunk, choose_tile, count_tiles, fetch, finish, folds, list_pixels, list_taps, locate,
    tile_bytes, tile_pixels,
)

# A tile's source aims at half a second-level cache, a panel of weights at a quarter of one.
cdef int64_t TILE_BYTES = 256 * 1024
cdef int64_t TILE_PIXELS = 512
cdef int64_t PANEL_PRODUCTS = 2304
cdef int64_t TASKS_PER_THREAD = 4
cdef int64_t SMALL_TILE = 64            # pixels; smaller tiles read the weights too often


cdef struct Plan:
    Correlation* problem
    int64_t blocks      # panels of nr columns a group
    int64_t splits      # parts into which a tile's panels are shared out
    int64_t* each       # (taps,) tap offsets
    int64_t* folded     # (taps / w taps,) the same with the w axis folded into the depth
    char* packed        # (groups, blocks, chunks, taps, chunk, nr)
    char* bias          # (groups, blocks, nr)
    bint failed         # a thread found no memory for its workspace


cdef void share_out(Plan* plan) noexcept nogil:
    """Make tiles smaller, then split their panels, until every thread has tasks to take."""
    cdef Reader* x = &plan.problem.x
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1
    cdef int i
    plan.splits = 1
    while count_tiles(x) * x.groups * plan.splits < wanted:
        i = 0
        while i < 2 and x.axis[i].tile == 1:
            i += 1
        if x.n_tile > 1:
            x.n_tile = ceil_div(x.n_tile, 2)
        elif x.axis[i].tile > 1 and tile_pixels(x) > SMALL_TILE:
            x.axis[i].tile = ceil_div(x.axis[i].tile, 2)
        elif plan.splits < plan.blocks:
            plan.splits = min(plan.blocks, plan.splits * 2)
        else:
            break


cdef inline int64_t panel(const Plan* plan, int64_t group, int64_t block, int64_t chunk) noexcept nogil:
    """Offset in bytes of a packed panel: (taps, depth of the chunk, nr)."""
    cdef const Reader* x = &plan.problem.x
    return ((group * plan.blocks + block) * x.depth + chunk * x.chunk) * x.taps * x.kernel.nr * x.itemsize


cdef void pack_panels(void* context, int64_t index) noexcept nogil:
    """Pack the weights and the bias of one block of columns: index = group * blocks + block."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t group = index // plan.blocks, block = index % plan.blocks, nr = x.kernel.nr
    cdef int64_t first = block * nr, chunk, d, h, w, at
    cdef fc_copy2d copy
    copy.columns = min(nr, problem.columns - first)
    copy.padded = nr
    copy.ld = nr
    copy.dj = 1
    copy.si = problem.w_depth
    copy.sj = problem.w_column
    for chunk in range(x.chunks):
        copy.rows = min(x.chunk, x.depth - chunk * x.chunk)
        copy.dst = plan.packed + panel(plan, group, block, chunk)
        for d in range(x.axis[0].taps):
            for h in range(x.axis[1].taps):
                for w in range(x.axis[2].taps):
                    at = group * problem.w_group + first * problem.w_column + chunk * x.chunk * problem.w_depth
                    at += x.axis[0].weight[d] + x.axis[1].weight[h] + x.axis[2].weight[w]
                    copy.src = problem.w + at * x.itemsize
                    x.kernel.copy2d(&copy)
                    copy.dst = <char*> copy.dst + copy.rows * nr * x.itemsize
    if problem.bias != NULL:
        copy.rows = 1
        copy.sj = problem.bias_stride
        copy.src = problem.bias + (group * problem.columns + first) * problem.bias_stride * x.itemsize
        copy.dst = plan.bias + index * nr * x.itemsize
        x.kernel.copy2d(&copy)


cdef void run_tile(void* context, int64_t index) noexcept nogil:
    """One task: index = (tile * groups + group) * splits + split."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t nr = x.kernel.nr, most = tile_pixels(x), chunk, block, depth
    cdef int64_t share = ceil_div(plan.blocks, plan.splits), split = index % plan.splits
    cdef int64_t group = index // plan.splits % x.groups
    cdef int64_t lists = ceil_div(2 * most * sizeof(int64_t), 64) * 64
    cdef char* memory = <char*> workspace(lists + tile_bytes(x))
    cdef bint fold
    cdef Tile tile
    cdef fc_conv_tile call
    if memory == NULL:
        plan.failed = True
        return
    locate(x, index // plan.splits // x.groups, &tile)
    call.pixel = <int64_t*> memory
    call.ypixel = <int64_t*> memory + most
    call.pixels = list_pixels(x, &tile, problem.ys, <int64_t*> memory, <int64_t*> memory + most)
    for chunk in range(x.chunks):
        depth = min(x.chunk, x.depth - chunk * x.chunk)
        call.x = fetch(x, &tile, group, chunk, memory + lists)
        fold = folds(x, depth)
        call.tap = plan.folded if fold else plan.each
        call.taps = x.taps // x.axis[2].taps if fold else x.taps
        call.depth = depth * x.axis[2].taps if fold else depth
        call.accumulate = chunk > 0
        for block in range(split * share, min(plan.blocks, (split + 1) * share)):
            call.columns = min(nr, problem.columns - block * nr)
            call.w = plan.packed + panel(plan, group, block, chunk)
            call.bias = NULL
            if problem.bias != NULL:
                call.bias = plan.bias + (group * plan.blocks + block) * nr * x.itemsize
            call.y = problem.y + (group * problem.columns + block * nr) * x.itemsize
            x.kernel.conv_tile(&call)


cdef int correlate(Correlation* problem) except -1 nogil:
    """Solve the problem. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t panels, bytes
    if x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count == 0:
        return 0
    x.kernel = kernels(x.itemsize)
    plan.problem = problem
    plan.failed = False
    plan.blocks = ceil_div(problem.columns, x.kernel.nr)
    choose_chunk(x, PANEL_PRODUCTS)
    if x.taps == 0:
        x.chunks = 1  # nothing to sum: the micro-kernel stores the bias or zeros
    choose_tile(x, TILE_PIXELS, TILE_BYTES)
    share_out(&plan)
    finish(x)
    panels = x.groups * plan.blocks
    bytes = panels * x.kernel.nr * (x.taps * x.depth + 1) * x.itemsize
    plan.packed = <char*> allocate(bytes)
    plan.bias = plan.packed + bytes - panels * x.kernel.nr * x.itemsize
    plan.each = <int64_t*> malloc(sizeof(int64_t) * (2 * x.taps + 1))
    plan.folded = plan.each + x.taps
    if plan.each == NULL or plan.packed == NULL:
        plan.failed = True
    else:
        list_taps(x, plan.each, plan.folded)
        parallel_for(panels, pack_panels, &plan)
        parallel_for(count_tiles(x) * x.groups * plan.splits, run_tile, &plan)
    free(plan.each)
    release(plan.packed, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("convolution: no memory for packed weights or a workspace")
    return 0
