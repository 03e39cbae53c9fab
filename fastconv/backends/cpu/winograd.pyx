"""Convolution by Winograd's minimal filtering, forward and input gradient: fewer products, bounded rounding.

The planes of a chunk of tiles are matrices: tiles by input channels, times transformed weights, gives tiles by output
channels, and the micro-kernel of the direct convolution multiplies them, a block of output channels (a panel of weights
or two) at a time, whose tiles are transformed back at once. Where the transformed weights stay in a third-level cache
and there are tiles enough, a task is a chunk that stays in a second-level cache: what a thread transforms no other
thread reads. Where weights are larger, or tiles few, all threads share a larger chunk and a task is a block, so that
weights are read seldom: if one chunk is all there is, they are transformed by the task that uses them, unless they are
kept. Nothing about an element's sum depends on chunks and tasks, so neither do bits.

An input gradient is a convolution of the gradient with the turned kernel. Where that has more tiles than the forward
pass had (no padding, small images), the *adjoint* of the forward pass has fewer: it takes disjoint m x m squares of the
gradient and adds overlapping squares of the result, an image after the other by one thread, or, of larger images, a
plane after the other of a task's columns. Larger ones have the forward pass's short tiles too; planes that these are
not multiplied in are zero there.

Memory: the transformed weights, and chunks, within 4 MB a thread.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_conv_tile, fc_copy2d
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div, next_run
from fastconv.backends.cpu.weight_cache cimport Panels, kept_panels, new_panels
from fastconv.backends.cpu.winograd_output cimport clear, output_tiles, pool_tiles, read_outputs
from fastconv.backends.cpu.winograd_plan cimport (
    choose_tasks, in_parts, make_plan, own_weights, packed_before, product_bytes,
)
from fastconv.backends.cpu.winograd_tiles cimport (
    KINDS, Grid, apart, buffer_bytes, chunk_bytes, count_chunks, list_products, list_tiles, locate_chunk, plane_kind,
    plane_size, rows_to_transform, tiles_before, transform_row, weight_plane,
)
from fastconv.backends.cpu.winograd_weights cimport (
    PACKED_DEPTH, pack_weights, packing_bytes, panel_bytes, part_bytes, prepare_all, transform_panel, transform_part,
    weight_bytes, whole_block,
)

cnp.import_array()


cdef inline int64_t list_bytes(const Grid* grid, int64_t taps) noexcept nogil:
    cdef int64_t tiles = grid.box[0] * grid.box[1] * grid.box[2] * grid.box[3]
    return ceil_div((2 * KINDS * tiles + 2 * taps) * sizeof(int64_t), 64) * 64


cdef inline int64_t part_run(const Stage* stage, const Part* part, int64_t position, int64_t* low,
                             int64_t* high) noexcept nogil:
    """As next_run, of the part's taps."""
    cdef int64_t end = next_run(&stage.plan.x.axis[0], position, stage.chunk.first[1] + stage.chunk.count[1], low, high)
    low[0] = max(low[0], part.tap)
    high[0] = max(low[0], min(high[0], part.tap + part.taps))
    return end


cdef int64_t next_part_run(const Stage* stage, const Part* part, int64_t position, int64_t* low,
                           int64_t* high) noexcept nogil:
    """The end of the depth positions, from this one on, that share the same of a part's taps, or have none of them."""
    cdef int64_t end = part_run(stage, part, position, low, high), run, first, last
    while end < stage.chunk.first[1] + stage.chunk.count[1]:
        run = part_run(stage, part, end, &first, &last)
        if first < last or low[0] < high[0]:
            if first != low[0] or last != high[0]:
                break
        end = run
    return end


cdef void multiply(Stage* stage, int64_t block, const Part* part, int64_t first, int64_t last, char* m) noexcept nogil:
    """Add the products of a part of a block for tiles [first, last) to m (planes; tile, wide); the first part sets m.

    An element's sum runs over depth taps, then channels, whatever the parts are. Where a plane does not want a tile, m
    stays as it was, which no output reads.
    """
    cdef Plan* plan = stage.plan
    cdef Reader* x = &plan.x
    cdef const int64_t* count = stage.chunk.count
    cdef int64_t tiles = stage.chunk.tiles, plane, tile, end, depth, low, high, begin
    cdef int64_t* taps = stage.lists + 2 * KINDS * tiles
    cdef int64_t* listed
    cdef int kind
    cdef fc_conv_tile call
    call.depth, call.accumulate = part.depth, part.tap > 0 or part.begin > 0
    call.columns, call.panel = min(plan.wide, plan.problem.columns - block * plan.wide), part.panel
    call.later, call.source = False, NULL
    call.listed, call.relu, call.warm, call.bias, call.residual, call.gate = 0, False, True, NULL, NULL, NULL
    for plane in range(plan.grid.planes):
        call.x = stage.v + (plane * stage.v_plane + part.begin) * x.itemsize
        call.w = part.u + weight_plane(&plan.grid, plane) * part.u_plane * x.itemsize
        call.y = m + (plane * apart((last - first) * plan.wide) - first * plan.wide) * x.itemsize
        kind = plane_kind(&plan.grid, &stage.chunk, plane)
        if kind and plan.adjoint and not call.accumulate:  # its squares read all planes
            memset(call.y + first * plan.wide * x.itemsize, 0, (last - first) * plan.wide * x.itemsize)
        listed = stage.lists + kind * tiles
        tile = first
        while tile < last:  # runs of depth positions that share the same taps
            depth = tile // (count[2] * count[3]) % count[1]
            end = next_part_run(stage, part, stage.chunk.first[1] + depth, &low, &high) - stage.chunk.first[1] - depth
            end = (tile // (count[2] * count[3]) + end) * count[2] * count[3]
            if not x.axis[0].trims:
                end = last
            begin = tiles_before(&stage.chunk, kind, tile)
            call.pixel, call.ypixel = listed + begin, listed + KINDS * tiles + begin
            call.tap, call.wtap = taps + low, taps + x.axis[0].taps + low - part.tap
            call.pixels = tiles_before(&stage.chunk, kind, min(last, end)) - begin
            call.taps = high - low
            if call.taps > 0 or not call.accumulate:
                x.kernel.conv_tile(&call)
            tile = min(last, end)


cdef void set_stage(Stage* stage, Plan* plan, int64_t group, int64_t index, char* memory) noexcept nogil:
    """Lay out a chunk in ``memory``: its lists, then its transformed source."""
    cdef const TileAxis* axis = &plan.x.axis[0]
    cdef int64_t t
    cdef int64_t* taps
    stage.plan = plan
    locate_chunk(&plan.grid, index, &stage.chunk)
    stage.chunk.group = group
    stage.lists = <int64_t*> memory
    stage.v = memory + list_bytes(&plan.grid, axis.taps)
    stage.v_plane = plane_size(&plan.source, stage.chunk.count)
    list_tiles(&stage.chunk, &plan.source, stage.lists)
    list_products(&stage.chunk, plan.wide, stage.lists + KINDS * stage.chunk.tiles)
    taps = stage.lists + 2 * KINDS * stage.chunk.tiles
    for t in range(axis.taps):
        taps[t] = (axis.shift[t] - axis.shift[0]) * stage.chunk.count[2] * stage.chunk.count[3] * plan.x.depth
        taps[axis.taps + t] = t * plan.x.depth * plan.x.kernel.nr


cdef inline int64_t stage_bytes(const Plan* plan) noexcept nogil:
    return list_bytes(&plan.grid, plan.x.axis[0].taps) + chunk_bytes(&plan.grid, plan.grid.box, &plan.source, 0)


cdef void run_chunk(void* context, int64_t index) noexcept nogil:
    """A whole chunk by one thread: index = chunk * groups + group."""
    cdef Plan* plan = <Plan*> context
    cdef const int64_t* box = plan.grid.box
    cdef int64_t bytes = stage_bytes(plan), products = product_bytes(plan, box[0] * box[1] * box[2] * box[3]), i
    cdef char* memory = <char*> workspace(bytes + max(products, buffer_bytes(&plan.grid, &plan.source)))
    cdef Stage stage
    cdef Part part
    if memory == NULL:
        plan.failed = True
        return
    set_stage(&stage, plan, index % plan.x.groups, index // plan.x.groups, memory)
    for i in range(rows_to_transform(&plan.source, &stage.chunk)):
        transform_row(&plan.grid, &stage.chunk, &plan.source, i, stage.v, memory + bytes)
    for i in range(plan.blocks):
        part = whole_block(plan, plan.u, stage.chunk.group * plan.panels + i * plan.at_once)
        multiply(&stage, i, &part, 0, stage.chunk.tiles, memory + bytes)
        if plan.far and plan.index == NULL and i == 0:
            read_outputs(&stage)
        if plan.adjoint:
            clear(&stage, i, 0, stage.chunk.tiles)
        if plan.index != NULL:
            pool_tiles(&stage, i, 0, stage.chunk.tiles, memory + bytes)
        else:
            output_tiles(&stage, i, 0, stage.chunk.tiles, memory + bytes)


cdef void share_input(void* context, int64_t index) noexcept nogil:
    cdef Stage* stage = <Stage*> context
    cdef char* buffer = <char*> workspace(buffer_bytes(&stage.plan.grid, &stage.plan.source) + 64)
    if buffer == NULL:
        stage.plan.failed = True
        return
    transform_row(&stage.plan.grid, &stage.chunk, &stage.plan.source, index, stage.v, buffer)


cdef void multiply_own(Stage* stage, int64_t block, int64_t tiles, char* m, char* u) noexcept nogil:
    """The products of a block, whose weights are transformed on the way, for all tiles of a chunk."""
    cdef Plan* plan = stage.plan
    cdef int64_t panel = stage.chunk.group * plan.panels + block * plan.at_once, begin, depth, t, i, k
    cdef int64_t depths = ceil_div(plan.x.depth, PACKED_DEPTH)
    cdef int64_t panels = min(plan.at_once, plan.panels - block * plan.at_once)
    cdef char* packed = u + plan.at_once * (part_bytes(plan) if in_parts(plan, tiles) else panel_bytes(plan))
    cdef char* place
    cdef Part part
    if not in_parts(plan, tiles):
        for k in range(panels):
            transform_panel(plan, panel + k, 0, plan.x.depth, u + k * panel_bytes(plan), packed)
        part = whole_block(plan, u, 0)
        multiply(stage, block, &part, 0, stage.chunk.tiles, m)
        return
    for t in range(plan.x.axis[0].taps):
        for i in range(depths):
            begin = i * PACKED_DEPTH
            depth = min(<int64_t> PACKED_DEPTH, plan.x.depth - begin)
            for k in range(panels):
                place = packed + (i % packed_before(plan) * plan.at_once + k) * packing_bytes(plan)
                if t == 0:
                    pack_weights(plan, panel + k, begin, depth, place)
                part = transform_part(plan, t, begin, depth, place, u, k)
            multiply(stage, block, &part, 0, stage.chunk.tiles, m)


cdef void share_panel(void* context, int64_t index) noexcept nogil:
    """A block for some of the chunk's tiles: index = block * parts + part."""
    cdef Stage* stage = <Stage*> context
    cdef Plan* plan = stage.plan
    cdef int64_t block = index // plan.parts
    cdef int64_t plane = stage.chunk.count[2] * stage.chunk.count[3]
    cdef int64_t unit = plane if plan.adjoint else plan.x.kernel.mr  # squares of a plane overlap
    cdef int64_t share = ceil_div(ceil_div(stage.chunk.tiles, plan.parts), unit) * unit
    cdef int64_t first = index % plan.parts * share, last = min(stage.chunk.tiles, first + share)
    cdef int64_t bytes = product_bytes(plan, share)
    cdef char* m
    cdef Part part
    if first >= last:
        return
    m = <char*> workspace(bytes + (own_weights(plan, share) if plan.u == NULL else 0))
    if m == NULL:
        plan.failed = True
        return
    if plan.u == NULL:
        multiply_own(stage, block, share, m, m + bytes)
    else:
        part = whole_block(plan, plan.u, stage.chunk.group * plan.panels + block * plan.at_once)
        multiply(stage, block, &part, first, last, m)
    if plan.adjoint:
        clear(stage, block, first, last)
    if plan.index != NULL:
        pool_tiles(stage, block, first, last, m)
    else:
        output_tiles(stage, block, first, last, m)


cdef void run_shared(Plan* plan) noexcept nogil:
    """All chunks, one after the other, each by all threads."""
    cdef int64_t bytes = stage_bytes(plan), chunk, group
    cdef char* memory = <char*> allocate(bytes)
    cdef Stage stage
    if memory == NULL:
        plan.failed = True
        return
    for group in range(plan.x.groups):
        for chunk in range(count_chunks(&plan.grid)):
            set_stage(&stage, plan, group, chunk, memory)
            parallel_for(rows_to_transform(&plan.source, &stage.chunk), share_input, &stage)
            parallel_for(plan.blocks * plan.parts, share_panel, &stage)
    release(memory, bytes)


cdef class TransformWeights:
    """Transforms the weights of a problem, for the cache."""
    cdef Plan* plan

    def __call__(self):
        cdef Panels panels = new_panels(weight_bytes(self.plan))
        self.plan.u = panels.data
        with nogil:
            prepare_all(self.plan)
        if self.plan.failed:
            raise MemoryError("convolution: no memory for a workspace")
        return panels


cdef object kept_transform(Correlation* problem, cnp.ndarray w, int form, object frozen):
    """As kept_weights of conv_tiles.pyx: set problem.packed to the transformed weights, if they are kept."""
    cdef Plan plan
    cdef Panels panels
    cdef TransformWeights transform = TransformWeights()
    cdef int64_t reversed_taps[10]
    if problem.x.n == 0:
        return None
    make_plan(&plan, problem, form, False, reversed_taps)
    transform.plan = &plan
    panels = kept_panels(frozen, w, ("winograd", form, plan.x.groups, <size_t> plan.x.kernel), transform)
    if panels is not None:
        problem.packed = panels.data
    return panels


cdef int winograd_correlate(Correlation* problem, int form, int adjoint, uint8_t* index, bint relu) except -1 nogil:
    """Solve the problem, whose rows and columns suit ``form``. Raises MemoryError.

    With an ``index``, y is the maxima of 2 x 2 windows of one plane, after the ReLU with ``relu``; no tile is short.
    """
    cdef Plan plan
    cdef Reader* x = &plan.x
    cdef int64_t bytes, weights
    cdef char* memory
    cdef int64_t reversed_taps[10]
    cdef fc_copy2d copy
    if problem.x.n * problem.x.axis[0].count * problem.x.axis[1].count * problem.x.axis[2].count == 0:
        return 0
    make_plan(&plan, problem, form, adjoint, reversed_taps)
    plan.index, plan.relu = index, relu
    bytes = x.groups * problem.columns * x.itemsize
    choose_tasks(&plan)
    weights = weight_bytes(&plan) if plan.prepared else 0
    memory = <char*> allocate(weights + bytes)
    if memory == NULL:
        plan.failed = True
    else:
        plan.u = memory if weights else problem.packed  # NULL: by the tasks that use them
        plan.bias = NULL
        if problem.bias != NULL:
            plan.bias = memory + weights
            copy.dst, copy.src, copy.rows = plan.bias, problem.bias, x.groups * problem.columns
            copy.columns = copy.padded = copy.ld = copy.dj = copy.sj = 1
            copy.si = problem.bias_stride
            x.kernel.copy2d(&copy)
        if weights:
            prepare_all(&plan)
        if plan.own:
            parallel_for(count_chunks(&plan.grid) * x.groups, run_chunk, &plan)
        else:
            run_shared(&plan)
    release(memory, weights + bytes)
    if plan.failed:
        with gil:
            raise MemoryError("convolution: no memory for transformed weights or a workspace")
    return 0
