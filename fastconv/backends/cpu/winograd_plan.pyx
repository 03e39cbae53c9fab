"""How a Winograd problem is cut: blocks of panels, chunks of tiles, and whose weights and chunks they are.

See winograd.pyx for what each choice means. None changes a bit.
"""

from libc.stdint cimport int64_t, uint8_t

from fastconv.backends.cpu._csrc cimport FC_WINOGRAD_STRIDED, FC_WINOGRAD_TRANSPOSED
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport num_threads
from fastconv.backends.cpu.tiles cimport FAR, Reader, TileAxis, ceil_div, dense
from fastconv.backends.cpu.winograd cimport ADJOINT_OF_IMAGES, ADJOINT_OF_PLANES, Plan
from fastconv.backends.cpu.winograd_tiles cimport (
    Grid, Pixels, apart, choose_box, count_chunks, even_images, find_far, set_form, set_tiles,
)
from fastconv.backends.cpu.winograd_weights cimport PACKED_DEPTH, packing_bytes, panel_bytes, part_bytes

cdef int64_t SMALL_WEIGHTS = 1024 * 1024        # bytes: these stay in a second-level cache,
cdef int64_t SMALL_CHUNK = 416 * 1024           # beside a chunk of so many
cdef int64_t MOST_WEIGHTS = 8192 * 1024         # bytes: up to here a thread works on chunks of its own
cdef int64_t MOST_KEPT = 12288 * 1024           # (here if they are kept)
cdef int64_t OWN_CHUNK = 1024 * 1024            # of so many bytes,
cdef int64_t LEAST_TILES = 12                   # which have so many tiles for each time that the weights are read
cdef int64_t FEW_TILES = 16                     # whose products cost less than to share out transformed weights
cdef int64_t LARGE_CHUNK = 3072 * 1024          # bytes a thread of chunks that all threads share
cdef int64_t PRODUCT_BYTES = 768 * 1024         # of a block's products for the tiles of one task
cdef int64_t MOST_THREADS = 8                   # that count for that
cdef int64_t PART_PRODUCTS = 576 * 1024         # bytes of products that a second-level cache holds beside a part
cdef int64_t TASKS_PER_THREAD = 4


cdef int64_t product_bytes(const Plan* plan, int64_t tiles) noexcept nogil:
    return plan.grid.planes * apart(tiles * plan.wide) * plan.x.itemsize


cdef int64_t whole_weights(const Plan* plan) noexcept nogil:
    """Bytes of a block's weights, and of what is transformed of them at a time."""
    return plan.at_once * panel_bytes(plan) + packing_bytes(plan)


cdef bint in_parts(const Plan* plan, int64_t tiles) noexcept nogil:
    """Whether a task that transforms its own weights does so part after part: its products stay in a near cache, or
    a whole panel is too large."""
    cdef int64_t products = product_bytes(plan, tiles)
    cdef bint large = plan.at_once == 1 and products + whole_weights(plan) > LARGE_CHUNK
    return plan.x.axis[0].taps > 0 and (products <= PART_PRODUCTS or large)


cdef int64_t packed_before(const Plan* plan) noexcept nogil:
    """Blocks of channels that are packed before the second depth tap is taken."""
    return ceil_div(plan.x.depth, PACKED_DEPTH) if plan.x.axis[0].taps > 1 else 1


cdef int64_t own_weights(const Plan* plan, int64_t tiles) noexcept nogil:
    """Bytes of the weights that such a task holds at a time."""
    if in_parts(plan, tiles):
        return plan.at_once * (part_bytes(plan) + packed_before(plan) * packing_bytes(plan))
    return whole_weights(plan)


cdef bint choose_own(Plan* plan, bint few) noexcept nogil:
    """Choose chunks of which each is one thread's, enough for all threads. False: better that they share chunks."""
    cdef Grid* grid = &plan.grid
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads(), weights = plan.panels * panel_bytes(plan)
    cdef bint small = plan.adjoint or weights <= SMALL_WEIGHTS, kept = plan.problem.packed != NULL
    cdef int64_t bytes = SMALL_CHUNK if small else OWN_CHUNK
    if few or plan.adjoint == ADJOINT_OF_PLANES or not small and weights > (MOST_KEPT if kept else MOST_WEIGHTS):
        return False
    choose_box(grid, &plan.source, plan.wide, bytes, False)
    if plan.adjoint:  # whole images
        grid.box[2], grid.box[3] = grid.count[2], grid.count[3]
        while num_threads() > 1 and count_chunks(grid) * plan.x.groups < wanted and grid.box[0] > 1:
            grid.box[0] = ceil_div(grid.box[0], 2)
    else:
        while num_threads() > 1 and count_chunks(grid) * plan.x.groups < wanted and bytes > 32768:
            bytes //= 2
            choose_box(grid, &plan.source, plan.wide, bytes, False)
    if not small and grid.box[0] * grid.box[1] * grid.box[2] * grid.box[3] < LEAST_TILES:
        return False
    even_images(grid, num_threads())
    return True


cdef void set_source(Plan* plan, int64_t* weights) noexcept nogil:
    """Which pixels a tile reads and writes. ``weights`` has room for the kernel positions of two axes."""
    cdef Reader* x = &plan.x
    cdef Pixels* source = &plan.source
    cdef TileAxis* axis
    cdef int64_t t
    cdef int i
    source.data, source.stride, source.channels = <char*> x.data, x.stride, x.depth
    source.depth_step, source.depth_reach = x.axis[0].src_step, 0
    if x.axis[0].taps > 0:
        source.depth_reach = x.axis[0].shift[x.axis[0].taps - 1] - x.axis[0].shift[0]
    source.transform = x.kernel.winograd_expand if plan.adjoint else x.kernel.winograd_input
    axis = &x.axis[0]
    axis.trims = axis.taps > 0 and (axis.src_base + axis.shift[0] < 0 or axis.src_size <=
                                    axis.src_base + (axis.count - 1) * axis.src_step + axis.shift[axis.taps - 1])
    source.trims = axis.trims
    source.step, plan.step = 1, 1
    source.extent = plan.grid.m if plan.adjoint else plan.grid.side
    plan.extent = plan.grid.side if plan.adjoint else plan.grid.m
    if plan.grid.form == FC_WINOGRAD_STRIDED:
        source.step = 2
    elif plan.grid.form == FC_WINOGRAD_TRANSPOSED:
        source.extent, plan.step, plan.extent = plan.grid.m + 1, 2, 2 * plan.grid.m
    find_far(source, x.n, x.itemsize)
    plan.grid.count[0], plan.grid.count[1] = x.n, x.axis[0].count
    for i in range(3):
        axis = &x.axis[i]
        source.first[i], source.size[i] = axis.src_base + (axis.shift[0] if axis.taps else 0), axis.src_size
        if i == 0:
            continue
        plan.first[i - 1] = axis.dst_base
        set_tiles(&plan.grid, i - 1, axis.src_size if plan.adjoint else
                  ceil_div(axis.count - axis.dst_base, plan.step), plan.adjoint == ADJOINT_OF_IMAGES)
        if plan.adjoint:  # output 0 of the correlation reads source first[i]; kernel positions in ascending order
            plan.first[i - 1], source.first[i] = -(source.first[i] + plan.grid.kernel - 1), 0
            for t in range(axis.taps):
                weights[t] = axis.weight[axis.taps - 1 - t]
            axis.weight = weights
            weights += axis.taps


cdef void set_blocks(Plan* plan, int64_t at_once) noexcept nogil:
    """Multiply so many panels together."""
    plan.at_once, plan.wide = at_once, at_once * plan.x.kernel.nr
    plan.blocks = ceil_div(plan.panels, at_once)


cdef bint choose_own_weights(Plan* plan, bint few) noexcept nogil:
    """Choose blocks whose weights the tasks transform that use them, if one chunk is all. False: nothing was chosen."""
    cdef const int64_t* box = plan.grid.box
    cdef int64_t tiles = box[0] * box[1] * box[2] * box[3], mr = plan.x.kernel.mr, most = plan.at_once
    if count_chunks(&plan.grid) > 1:
        return False
    while True:
        if ((few or plan.blocks >= 2 * num_threads()) and
                product_bytes(plan, tiles) + own_weights(plan, ceil_div(tiles, mr) * mr) <= LARGE_CHUNK):
            return True
        if plan.at_once == 1:
            set_blocks(plan, most)
            return False
        set_blocks(plan, 1)


cdef void make_plan(Plan* plan, Correlation* problem, int form, int adjoint, int64_t* reversed_taps) noexcept nogil:
    """Describe the problem; ``reversed_taps`` as in set_source."""
    cdef Reader* x = &plan.x
    x[0] = problem.x
    x.kernel = kernels(x.itemsize)
    x.taps = x.axis[0].taps * x.axis[1].taps * x.axis[2].taps
    plan.problem, plan.adjoint, plan.failed = problem, adjoint, False
    plan.index, plan.relu = <uint8_t*> NULL, False
    plan.panels = ceil_div(problem.columns, x.kernel.nr)
    set_blocks(plan, min(plan.panels, x.kernel.wide // x.kernel.nr))
    set_form(&plan.grid, x.kernel, x.itemsize, form)
    set_source(plan, reversed_taps)
    plan.u_plane = apart(x.axis[0].taps * x.depth * x.kernel.nr)
    plan.far = not adjoint and dense(problem.ys, problem.columns) and x.n * problem.ys[0] * x.itemsize > FAR


cdef void choose_tasks(Plan* plan) noexcept nogil:
    """Choose who works on what: sets own, prepared and, of shared chunks, parts."""
    cdef const int64_t* box = plan.grid.box
    cdef const int64_t* count = plan.grid.count
    cdef bint few = not plan.adjoint and plan.problem.packed == NULL
    few = few and count[0] * count[1] * count[2] * count[3] <= FEW_TILES and plan.panels % num_threads() == 0
    if few and plan.blocks % num_threads() != 0:
        set_blocks(plan, 1)
    plan.own, plan.prepared, plan.parts = choose_own(plan, few), plan.problem.packed == NULL, 1
    if plan.own:
        return
    choose_box(&plan.grid, &plan.source, 0, LARGE_CHUNK * min(MOST_THREADS, num_threads()), plan.adjoint)
    if plan.prepared and choose_own_weights(plan, few):
        plan.prepared = False
        return
    plan.parts = ceil_div(TASKS_PER_THREAD * num_threads(), plan.blocks)
    while (product_bytes(plan, ceil_div(box[0] * box[1] * box[2] * box[3], plan.parts)) > PRODUCT_BYTES and
            plan.parts < box[0] * box[1] * box[2] * box[3]):
        plan.parts += 1
