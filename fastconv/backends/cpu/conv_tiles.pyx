"""The loop nest of convolution: pack the weights into panels, then tile by tile hand pixels to the micro-kernel.

Forward pass and input gradient are one problem (a destination pixel sums source pixels at given shifts times a matrix),
so they share this file; conv_forward.pyx, conv_backward_input.pyx and linear.pyx say which pixels and shifts. Where
much of a tile is border, it is cut into boxes that leave out the taps that see only padding. Memory beyond the
workspace: the packed weights. Tiles depend on shape and threads, the order of every sum on the shape alone.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport FC_PAST, fc_conv_tile, fc_copy2d, fc_moments
from fastconv.backends.cpu.conv_norm cimport (
    add_sums, aim_at_sums, end_part, lay_near, near_bytes, near_pixels, normalise_part, sums_bytes
)
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.moments cimport MOMENT_PART, MOMENT_ROWS, fold_parts, moment_part
from fastconv.backends.cpu.panels cimport pack_chunk, pack_pairs
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport (
    Reader, Taps, Tile, TileAxis, ceil_div, choose_bundle, choose_chunk, choose_tile, count_tiles, fetch, finish, folds,
    halve_tile, list_box_taps, list_pixels, locate, next_run, tile_bytes, tile_pixels,
)
from fastconv.backends.cpu.weight_cache cimport Panels, kept_panels, new_panels

cnp.import_array()

# A tile's source aims at half a second-level cache, a panel of weights at a quarter of one.
cdef int64_t TILE_BYTES = 256 * 1024
cdef int64_t TILE_PIXELS = 512
cdef int64_t BUNDLE_BYTES = 512 * 1024  # where groups are copied together
cdef int64_t PANEL_PRODUCTS = 2304
cdef int64_t TASKS_PER_THREAD = 8
cdef int64_t TASK_PRODUCTS = 64 * 1024  # at least; a thread that joins for less comes too late
cdef int64_t SMALL_TILE = 64            # pixels; smaller tiles read the weights too often
cdef int64_t PART = 72                  # pixels: whole register tiles
cdef int64_t PANELS_BYTES = 512 * 1024  # panels of weights that stay in a second-level cache
# Few pixels and one tap: the weights are what costs. Chunks let a panel go from the array to the first-level cache.
cdef int64_t FEW_PIXELS = 256
cdef int64_t FEW_PRODUCTS = 512
cdef int64_t FEW_ROWS = 128             # where rows of weights, not columns, lie in one piece
cdef int64_t MOMENTS_BYTES = 512 * 1024  # of the source of a tile that is a part of moments


cdef inline int64_t count_pixels(const Reader* x) noexcept nogil:
    return x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count


cdef inline int64_t count_tasks(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    return count_tiles(x) * ceil_div(x.groups, x.bundle) * plan.splits


cdef void share_out(Plan* plan) noexcept nogil:
    """Make tiles smaller, unless they are parts of moments, then split their panels, until every thread has tasks."""
    cdef Reader* x = &plan.problem.x
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1
    cdef int64_t products = count_pixels(x) * x.taps * x.depth * plan.problem.columns * x.groups
    cdef bint by_columns = plan.few and plan.blocks >= wanted // 2  # each weight is read by one task
    wanted = min(wanted, products // TASK_PRODUCTS)
    plan.splits = 1
    while count_tasks(plan) < wanted:
        if not by_columns and not plan.parts and halve_tile(x, SMALL_TILE):
            continue
        if plan.splits == plan.blocks:
            break
        plan.splits = min(plan.blocks, plan.splits * 2)


cdef inline int64_t panel_bytes(const Plan* plan) noexcept nogil:
    """Bytes of the largest panel, up to whole cache lines."""
    cdef const Reader* x = &plan.problem.x
    return ceil_div(x.taps * x.chunk * x.kernel.nr * x.itemsize, 64) * 64


cdef inline int64_t panel(const Plan* plan, int64_t group, int64_t block, int64_t chunk) noexcept nogil:
    """Offset in bytes of a packed panel: (taps, depth of the chunk, nr)."""
    cdef const Reader* x = &plan.problem.x
    return ((group * plan.blocks + block) * x.depth + chunk * x.chunk) * x.taps * x.kernel.nr * x.itemsize


cdef inline int64_t panels_at_once(const Plan* plan) noexcept nogil:
    """Panels that the micro-kernel takes at a time."""
    return min(plan.blocks, plan.problem.x.kernel.wide // plan.problem.x.kernel.nr)


cdef inline int64_t floats_bytes(const Plan* plan) noexcept nogil:
    """Bytes of a panel before its numbers are rounded to pairs; 0 where they stay as they are."""
    return 2 * panel_bytes(plan) if plan.problem.x.channels > 0 else 0


cdef void pack_panel(Plan* plan, int64_t group, int64_t block, int64_t chunk, char* out, char* floats) noexcept nogil:
    """Pack a panel: one block of columns, one chunk of channels."""
    cdef Correlation* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t nr = x.kernel.nr, first = block * nr, depth = min(x.chunk, x.depth - chunk * x.chunk)
    cdef const char* w = problem.w + (group * problem.w_group + first * problem.w_column) * x.itemsize
    cdef fc_copy2d copy
    copy.columns = min(nr, problem.columns - first)
    copy.padded = nr
    copy.dj = 1
    copy.sj = problem.w_column
    if x.channels == 0:
        pack_chunk(x, &copy, w + chunk * x.chunk * problem.w_depth * x.itemsize, problem.w_depth, depth, out)
        return
    pack_pairs(x, &copy, w + 2 * chunk * x.chunk * problem.w_depth * x.itemsize, problem.w_depth,
               min(2 * depth, x.channels - 2 * chunk * x.chunk), floats, out)


cdef void pack_bias(Plan* plan, int64_t group, int64_t block) noexcept nogil:
    cdef Correlation* problem = plan.problem
    cdef int64_t nr = problem.x.kernel.nr, first = block * nr
    cdef fc_copy2d copy
    copy.rows, copy.ld, copy.si, copy.sj = 1, nr, 0, problem.bias_stride
    copy.columns, copy.padded, copy.dj = min(nr, problem.columns - first), nr, 1
    copy.src = problem.bias + (group * problem.columns + first) * problem.bias_stride * problem.x.itemsize
    copy.dst = plan.bias + (group * plan.blocks + block) * nr * problem.x.itemsize
    problem.x.kernel.copy2d(&copy)


cdef void pack_panels(void* context, int64_t index) noexcept nogil:
    """Pack the weights of one block of columns: index = group * blocks + block."""
    cdef Plan* plan = <Plan*> context
    cdef int64_t group = index // plan.blocks, block = index % plan.blocks, chunk
    cdef char* floats = <char*> workspace(floats_bytes(plan))
    if floats == NULL:
        plan.failed = True
        return
    for chunk in range(plan.problem.x.chunks):
        pack_panel(plan, group, block, chunk, plan.packed + panel(plan, group, block, chunk), floats)


cdef void take_moments(const Plan* plan, const Task* task, const fc_conv_tile* done, int64_t block, int64_t first,
                       int64_t last) noexcept nogil:
    """Those of a tile's finished pixels [first, last), while they are in the cache; those before are in already."""
    cdef const Correlation* problem = plan.problem
    cdef fc_moments call
    call.columns, call.ldx = done.columns, problem.ys[4]
    call.start = plan.moments + task.tile.first[3] // problem.x.axis[2].tile * 3 * problem.columns
    call.start += block * problem.x.kernel.nr
    call.offset, call.square = call.start + problem.columns, call.start + 2 * problem.columns
    while first < last:
        call.x = <const char*> done.y + task.lists[1][first] * problem.x.itemsize
        call.count, call.rows = first, min(last - first, <int64_t> MOMENT_ROWS)
        problem.x.kernel.moment_rows(&call)
        first += call.rows


cdef void run_box(Plan* plan, Task* task, const Tile* box, const Taps* taps, fc_conv_tile* call) noexcept nogil:
    """All panels of the task for the pixels of a box, which share the same taps."""
    cdef Correlation* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t nr = x.kernel.nr, step = panels_at_once(plan), block, pixels, first = 0, part, taken = 0, until
    cdef bint ahead, ends = task.chunk == x.chunks - 1
    if problem.residual != NULL:
        list_pixels(x, &task.tile, box, problem.rs, task.lists[0], task.lists[4])
    if problem.gate != NULL:
        list_pixels(x, &task.tile, box, problem.gs, task.lists[0], task.lists[5])
    pixels = list_pixels(x, &task.tile, box, problem.ys, task.lists[0], task.lists[1])
    call.taps = list_box_taps(x, taps, task.depth, task.fold, task.lists[2], task.lists[3])
    call.depth = task.depth * (taps.last[2] - taps.first[2]) if task.fold else task.depth
    call.panel = (panel_bytes(plan) if plan.fused else panel(plan, 0, 1, 0)) // x.itemsize
    ahead = x.direct and x.taps == 1
    part = plan.near if plan.near > 0 else plan.part if plan.part > 0 else pixels
    call.relu, call.residual, call.gate = ends and problem.relu, NULL, NULL
    call.warm = FC_PAST if plan.past else 0
    call.later, call.source = False, NULL
    while first < pixels:
        call.pixels = min(part, pixels - first)
        until = first + call.pixels  # whole groups of rows, which fix the bits of moments
        until -= until % MOMENT_ROWS if until < pixels else 0
        call.pixel, call.ypixel = task.lists[0] + first, task.lists[1] + first
        call.rpixel, call.gpixel = task.lists[4] + first, task.lists[5] + first
        call.listed = pixels - first if ahead else 0
        if problem.norm != NULL:
            normalise_part(plan, task, call, first, pixels)
        block = task.block
        while block < task.last_block:
            call.columns = min(problem.columns, min(task.last_block, block + step) * nr) - block * nr
            call.w = task.panels if plan.fused else plan.packed + panel(plan, task.group, block, task.chunk)
            call.bias = NULL
            if problem.bias != NULL:
                call.bias = plan.bias + (task.group * plan.blocks + block) * nr * x.itemsize
            call.y = problem.y + (task.group * problem.columns + block * nr) * x.itemsize
            if problem.ending != NULL:
                aim_at_sums(plan, task, call, block)
            if ends and problem.residual != NULL:
                call.residual = problem.residual + (task.group * problem.columns + block * nr) * x.itemsize
            if ends and problem.gate != NULL:
                call.gate = problem.gate + (task.group * problem.columns + block * nr) * x.itemsize
            if x.channels > 0:
                x.kernel.conv_tile_pairs(call)
            else:
                x.kernel.conv_tile(call)
            call.listed = 0
            if ends and problem.mean != NULL:
                take_moments(plan, task, call, block, taken, until)
            block += step
        if problem.ending != NULL:
            end_part(plan, task, call.pixels, first)
        taken, first = until, first + part


cdef void run_boxes(Plan* plan, Task* task, fc_conv_tile* call) noexcept nogil:
    """Cut the tile into boxes whose pixels share the same taps: one box, unless padding is worth leaving out."""
    cdef TileAxis* ax = &plan.problem.x.axis[0]
    cdef Tile* tile = &task.tile
    cdef Tile box = tile[0]
    cdef Taps taps
    cdef int64_t end[3]
    cdef int i
    for i in range(3):
        end[i] = tile.first[i + 1] + tile.count[i + 1]
    box.first[1] = tile.first[1]
    while box.first[1] < end[0]:
        box.count[1] = next_run(&ax[0], box.first[1], end[0], &taps.first[0], &taps.last[0]) - box.first[1]
        box.first[2] = tile.first[2]
        while box.first[2] < end[1]:
            box.count[2] = next_run(&ax[1], box.first[2], end[1], &taps.first[1], &taps.last[1]) - box.first[2]
            box.first[3] = tile.first[3]
            while box.first[3] < end[2]:
                box.count[3] = next_run(&ax[2], box.first[3], end[2], &taps.first[2], &taps.last[2]) - box.first[3]
                run_box(plan, task, &box, &taps, call)
                box.first[3] += box.count[3]
            box.first[2] += box.count[2]
        box.first[1] += box.count[1]


cdef void run_tile(void* context, int64_t index) noexcept nogil:
    """One task: index = (tile * bundles of groups + bundle) * splits + split."""
    cdef Plan* plan = <Plan*> context
    cdef Reader* x = &plan.problem.x
    cdef int64_t most = tile_pixels(x), share = ceil_div(plan.blocks, plan.splits), split = index % plan.splits
    cdef int64_t lists = ceil_div((4 * most + 2 * x.taps) * sizeof(int64_t), 64) * 64
    cdef int64_t step = panels_at_once(plan), size = panel_bytes(plan), last_block, i, k
    cdef int64_t bundles = ceil_div(x.groups, x.bundle), first = index // plan.splits % bundles * x.bundle
    cdef int64_t panels = step * size if plan.fused else 0, floats = floats_bytes(plan) if plan.fused else 0
    cdef int64_t near = near_bytes(plan, share)
    cdef int64_t* memory = <int64_t*> workspace(panels + floats + lists + near + x.bundle * tile_bytes(x))
    cdef Task task
    cdef fc_conv_tile call
    if memory == NULL:
        plan.failed = True
        return
    lay_near(plan, share, &task.near, <char*> memory)
    memory += near // <int64_t>sizeof(int64_t)
    task.panels = <char*> memory
    memory += (panels + floats) // <int64_t>sizeof(int64_t)
    task.lists[0], task.lists[1] = memory, memory + most
    task.lists[4], task.lists[5] = memory + 2 * most, memory + 3 * most
    task.lists[2], task.lists[3] = memory + 4 * most, memory + 4 * most + x.taps
    call.tap, call.wtap = task.lists[2], task.lists[3]
    task.block, task.last_block = split * share, min(plan.blocks, (split + 1) * share)
    last_block = task.last_block
    locate(x, index // plan.splits // bundles, &task.tile)
    for i in range(first * x.chunks, min(x.groups, first + x.bundle) * x.chunks):
        task.group, task.chunk = i // x.chunks, i % x.chunks
        task.depth = min(x.chunk, x.depth - task.chunk * x.chunk)
        task.fold = folds(x, task.depth)
        call.x = fetch(x, &task.tile, task.group, task.chunk, <char*> memory + lists)
        call.accumulate = task.chunk > 0
        if not plan.fused:
            run_boxes(plan, &task, &call)
            continue
        task.block = split * share
        while task.block < last_block:
            task.last_block = min(last_block, task.block + step)
            for k in range(task.last_block - task.block):
                pack_panel(plan, task.group, task.block + k, task.chunk, task.panels + k * size, task.panels + panels)
            run_boxes(plan, &task, &call)
            task.block += step
    if plan.past:
        call.pixels = 0
        x.kernel.conv_tile(&call)


cdef void make_plan(Plan* plan, Correlation* problem, bint keeps) noexcept nogil:
    """Chunks, tiles and tasks; ``keeps``: weights are packed before. What the number of pixels decides here does not
    change the order of a sum: with one tap that is the order of the channels, however they are cut into chunks."""
    cdef Reader* x = &problem.x
    x.kernel = kernels(x.itemsize)
    plan.problem = problem
    plan.failed = False
    plan.blocks = ceil_div(problem.columns, x.kernel.nr)
    x.taps = x.axis[0].taps * x.axis[1].taps * x.axis[2].taps
    plan.few = x.taps == 1 and count_pixels(x) <= FEW_PIXELS
    if plan.few:
        choose_chunk(x, FEW_ROWS if problem.w_column == 1 else FEW_PRODUCTS)
        choose_tile(x, FEW_PIXELS, FEW_PIXELS * x.chunk * x.itemsize)
    else:
        choose_chunk(x, PANEL_PRODUCTS)
        choose_tile(x, TILE_PIXELS, TILE_BYTES)
        choose_bundle(x, TILE_PIXELS, BUNDLE_BYTES)
    if x.taps == 0:
        x.chunks = 1  # nothing to sum: the micro-kernel stores the bias or zeros
    if problem.mean != NULL:
        if (moment_part(count_pixels(x), problem.columns) == MOMENT_PART
                and MOMENT_PART * x.chunk * x.itemsize <= MOMENTS_BYTES):
            x.axis[2].tile = min(<int64_t> MOMENT_PART, x.axis[2].count)
        else:
            problem.mean = NULL
    if problem.ending != NULL:
        x.axis[2].tile = min(<int64_t> MOMENT_PART, x.axis[2].count)
    plan.parts = problem.mean != NULL or problem.ending != NULL
    share_out(plan)
    finish(x)
    plan.fused = count_tiles(x) == 1 and not keeps
    plan.part = PART if plan.blocks * panel_bytes(plan) <= PANELS_BYTES else 0
    plan.near = near_pixels(plan)
    plan.past = goes_past(problem)


cdef inline int64_t packed_bytes(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    return 0 if plan.fused else x.groups * plan.blocks * x.kernel.nr * x.taps * x.depth * x.itemsize


cdef class PackWeights:
    """Packs the weights of a problem, for the cache."""
    cdef Plan* plan

    def __call__(self):
        cdef Panels panels = new_panels(packed_bytes(self.plan))
        self.plan.packed = panels.data
        with nogil:
            parallel_for(self.plan.problem.x.groups * self.plan.blocks, pack_panels, self.plan)
        if self.plan.failed:
            raise MemoryError("convolution: no memory for a workspace")
        return panels


cdef object kept_weights(Correlation* problem, cnp.ndarray w, object kind, object frozen):
    """Find or make the packed weights of an array whose content seldom changes; the caller holds what is returned.

    ``kind`` tells apart problems that read the same array of weights in different ways.
    """
    cdef Plan plan
    cdef Panels panels
    cdef PackWeights pack = PackWeights()
    cdef int64_t chunk
    if count_pixels(&problem.x) == 0:
        return None
    make_plan(&plan, problem, True)
    if packed_bytes(&plan) == 0:
        return None
    pack.plan = &plan
    chunk = problem.x.chunk if problem.x.taps > 1 else 0  # the order of a panel: dilation, for one, may change it
    kind = kind, problem.x.groups, chunk, <size_t> problem.x.kernel, problem.x.channels
    panels = kept_panels(frozen, w, kind, pack)
    if panels is not None:
        problem.packed = panels.data
    return panels


cdef int correlate(Correlation* problem) except -1 nogil:
    """Solve the problem. Raises MemoryError. Where tiles are no parts of moments, problem.mean becomes NULL."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t panels, packed, bytes, moments, sums, index
    cdef char* memory
    if count_pixels(x) == 0:
        problem.mean = NULL
        return 0
    make_plan(&plan, problem, problem.packed != NULL)
    panels = x.groups * plan.blocks
    packed = packed_bytes(&plan) if problem.packed == NULL else 0
    bytes = packed + (0 if problem.bias == NULL else panels * x.kernel.nr * x.itemsize)
    moments = 0 if problem.mean == NULL else count_tiles(x) * 3 * problem.columns * sizeof(double)
    sums = sums_bytes(problem, count_tiles(x))
    bytes = ceil_div(bytes, 64) * 64 + moments + sums
    memory = <char*> allocate(bytes)
    plan.sums = memory + bytes - sums
    plan.moments = <double*> (plan.sums - moments)
    plan.packed = memory if problem.packed == NULL else problem.packed
    plan.bias = memory + packed
    if memory == NULL:
        plan.failed = True
    else:
        if problem.bias != NULL:
            for index in range(panels):
                pack_bias(&plan, index // plan.blocks, index % plan.blocks)
        if packed > 0:
            parallel_for(panels, pack_panels, &plan)
        parallel_for(count_tasks(&plan), run_tile, &plan)
        if moments > 0:
            fold_parts(count_tiles(x), problem.columns, plan.moments, x.axis[2].count, x.axis[2].tile, problem.mean,
                       problem.variance)
        if sums > 0:
            add_sums(problem, count_tiles(x), plan.sums)
    release(memory, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("convolution: no memory for packed weights or a workspace")
    return 0
