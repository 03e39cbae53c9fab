"""Convolution by Winograd's minimal filtering, forward and input gradient: fewer products, bounded rounding.

The planes of a chunk of tiles are matrices: tiles by input channels, times transformed weights, gives tiles by output
channels, and the micro-kernel of the direct convolution multiplies them, a panel of output channels at a time, whose
tiles are transformed back at once. Where the transformed weights stay in a third-level cache and there are tiles
enough, a task is a chunk that stays in a second-level cache: what a thread transforms no other thread reads. Where
weights are larger, or tiles few, all threads share a larger chunk and a task is a panel, so that weights are read
seldom: if one chunk is all there is, they are transformed by the task that uses them, unless they are kept.
Nothing about an element's sum depends on chunks and tasks, so neither do bits.

An input gradient is a convolution of the gradient with the turned kernel. Where that has more tiles than the forward
pass had (no padding, small images), the *adjoint* of the forward pass has fewer: it takes disjoint m x m squares of the
gradient and adds overlapping squares of the result, an image after the other.

Memory: the transformed weights, and chunks, within 4 MB a thread.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t

from fastconv.backends.cpu._csrc cimport fc_conv_tile, fc_copy2d
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div, next_run
from fastconv.backends.cpu.weight_cache cimport Panels, kept_panels, new_panels
from fastconv.backends.cpu.winograd_output cimport clear, output_tiles, pool_tiles
from fastconv.backends.cpu.winograd_tiles cimport (
    Grid, Pixels, apart, buffer_bytes, choose_box, chunk_bytes, count_chunks, even_images, list_tiles, locate_chunk,
    plane_size, rows_to_transform, set_form, transform_row,
)
from fastconv.backends.cpu.winograd_weights cimport (
    PACKED_DEPTH, pack_weights, packing_bytes, panel_bytes, part_bytes, prepare_all, transform_panel, transform_part,
    weight_bytes, whole_panel,
)

cnp.import_array()

cdef int64_t SMALL_WEIGHTS = 1024 * 1024        # bytes: these stay in a second-level cache,
cdef int64_t SMALL_CHUNK = 416 * 1024           # beside a chunk of so many
cdef int64_t MOST_WEIGHTS = 8192 * 1024         # bytes: up to here a thread works on chunks of its own
cdef int64_t MOST_KEPT = 12288 * 1024           # (here if they are kept)
cdef int64_t OWN_CHUNK = 1024 * 1024            # of so many bytes,
cdef int64_t LEAST_TILES = 12                   # which have so many tiles for each time that the weights are read
cdef int64_t FEW_TILES = 16                     # whose products cost less than to share out transformed weights
cdef int64_t LARGE_CHUNK = 3072 * 1024          # bytes a thread of chunks that all threads share
cdef int64_t PRODUCT_BYTES = 768 * 1024         # of a panel's products for the tiles of one task
cdef int64_t MOST_THREADS = 8                   # that count for that
cdef int64_t PART_PRODUCTS = 576 * 1024         # bytes of products that a second-level cache holds beside a part
cdef int64_t TASKS_PER_THREAD = 4


cdef inline int64_t list_bytes(const Grid* grid, int64_t taps) noexcept nogil:
    cdef int64_t tiles = grid.box[0] * grid.box[1] * grid.box[2] * grid.box[3]
    return ceil_div((2 * tiles + 2 * taps) * sizeof(int64_t), 64) * 64


cdef void multiply(Stage* stage, int64_t block, const Part* part, int64_t first, int64_t last, char* m) noexcept nogil:
    """Add the products of a part of a panel for tiles [first, last) to m (planes; tile, nr), which the first part sets.

    An element's sum runs over depth taps, then channels, whatever the parts are.
    """
    cdef Plan* plan = stage.plan
    cdef Reader* x = &plan.x
    cdef const int64_t* count = stage.chunk.count
    cdef int64_t tiles = stage.chunk.tiles, plane, tile, end, depth, low, high
    cdef fc_conv_tile call
    call.depth, call.accumulate = part.depth, part.tap > 0 or part.begin > 0
    call.columns = min(x.kernel.nr, plan.problem.columns - block * x.kernel.nr)
    call.listed, call.relu, call.bias, call.residual, call.gate = 0, False, NULL, NULL, NULL
    for plane in range(plan.grid.planes):
        call.x = stage.v + (plane * stage.v_plane + part.begin) * x.itemsize
        call.w = part.u + plane * part.u_plane * x.itemsize
        call.y = m + plane * apart((last - first) * x.kernel.nr) * x.itemsize
        tile = first
        while tile < last:  # runs of depth positions that share the same taps
            depth = tile // (count[2] * count[3]) % count[1]
            end = next_run(&x.axis[0], stage.chunk.first[1] + depth, stage.chunk.first[1] + count[1], &low, &high)
            end = (tile // (count[2] * count[3]) + end - stage.chunk.first[1] - depth) * count[2] * count[3]
            if not x.axis[0].trims:
                end = last
            low, high = max(low, part.tap), min(high, part.tap + part.taps)
            call.pixel, call.ypixel = stage.lists + tile, stage.lists + tiles + tile - first
            call.tap = stage.lists + 2 * tiles + low
            call.wtap = stage.lists + 2 * tiles + x.axis[0].taps + low - part.tap
            call.pixels, call.taps = min(last, end) - tile, max(<int64_t>0, high - low)
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
    for t in range(stage.chunk.tiles):
        stage.lists[stage.chunk.tiles + t] = t * plan.x.kernel.nr
    taps = stage.lists + 2 * stage.chunk.tiles
    for t in range(axis.taps):
        taps[t] = (axis.shift[t] - axis.shift[0]) * stage.chunk.count[2] * stage.chunk.count[3] * plan.x.depth
        taps[axis.taps + t] = t * plan.x.depth * plan.x.kernel.nr


cdef inline int64_t stage_bytes(const Plan* plan) noexcept nogil:
    return list_bytes(&plan.grid, plan.x.axis[0].taps) + chunk_bytes(&plan.grid, plan.grid.box, &plan.source, 0)


cdef inline int64_t product_bytes(const Plan* plan, int64_t tiles) noexcept nogil:
    return plan.grid.planes * apart(tiles * plan.x.kernel.nr) * plan.x.itemsize


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
    if plan.adjoint:
        clear(&stage)
    for i in range(plan.blocks):
        part = whole_panel(plan, stage.chunk.group * plan.blocks + i)
        multiply(&stage, i, &part, 0, stage.chunk.tiles, memory + bytes)
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


cdef inline bint in_parts(const Plan* plan, int64_t tiles) noexcept nogil:
    """Whether a task that transforms its own weights does so part after part: its products stay in a near cache."""
    return plan.x.axis[0].taps > 0 and product_bytes(plan, tiles) <= PART_PRODUCTS


cdef inline int64_t packed_before(const Plan* plan) noexcept nogil:
    """Blocks of channels that are packed before the second depth tap is taken."""
    return ceil_div(plan.x.depth, PACKED_DEPTH) if plan.x.axis[0].taps > 1 else 1


cdef inline int64_t own_weights(const Plan* plan, int64_t tiles) noexcept nogil:
    """Bytes of the weights that such a task holds at a time."""
    if in_parts(plan, tiles):
        return part_bytes(plan) + packed_before(plan) * packing_bytes(plan)
    return panel_bytes(plan) + packing_bytes(plan)


cdef void multiply_own(Stage* stage, int64_t block, int64_t tiles, char* m, char* u) noexcept nogil:
    """The products of a panel, whose weights are transformed on the way, for all tiles of a chunk."""
    cdef Plan* plan = stage.plan
    cdef int64_t panel = stage.chunk.group * plan.blocks + block, blocks = ceil_div(plan.x.depth, PACKED_DEPTH)
    cdef int64_t begin, depth, t, i
    cdef char* packed
    cdef Part part
    if not in_parts(plan, tiles):
        for i in range(blocks):
            begin = i * PACKED_DEPTH
            transform_panel(plan, panel, begin, min(<int64_t> PACKED_DEPTH, plan.x.depth - begin), u,
                            u + panel_bytes(plan))
        part = whole_panel(plan, 0)
        part.u = u
        multiply(stage, block, &part, 0, stage.chunk.tiles, m)
        return
    for t in range(plan.x.axis[0].taps):
        for i in range(blocks):
            begin = i * PACKED_DEPTH
            depth = min(<int64_t> PACKED_DEPTH, plan.x.depth - begin)
            packed = u + part_bytes(plan) + i % packed_before(plan) * packing_bytes(plan)
            if t == 0:
                pack_weights(plan, panel, begin, depth, packed)
            part = transform_part(plan, t, begin, depth, packed, u)
            multiply(stage, block, &part, 0, stage.chunk.tiles, m)


cdef void share_panel(void* context, int64_t index) noexcept nogil:
    """A panel for some of the chunk's tiles: index = block * parts + part."""
    cdef Stage* stage = <Stage*> context
    cdef Plan* plan = stage.plan
    cdef int64_t block = index // plan.parts, mr = plan.x.kernel.mr
    cdef int64_t share = ceil_div(ceil_div(stage.chunk.tiles, plan.parts), mr) * mr
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
        part = whole_panel(plan, stage.chunk.group * plan.blocks + block)
        multiply(stage, block, &part, first, last, m)
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


cdef bint choose_own(Plan* plan, bint few) noexcept nogil:
    """Choose chunks of which each is one thread's, enough for all threads. False: better that they share chunks."""
    cdef Grid* grid = &plan.grid
    cdef int64_t nr = plan.x.kernel.nr, wanted = TASKS_PER_THREAD * num_threads()
    cdef int64_t weights = plan.blocks * panel_bytes(plan)
    cdef bint small = plan.adjoint or weights <= SMALL_WEIGHTS, kept = plan.problem.packed != NULL
    cdef int64_t bytes = SMALL_CHUNK if small else OWN_CHUNK
    if few or not small and weights > (MOST_KEPT if kept else MOST_WEIGHTS):
        return False
    choose_box(grid, &plan.source, nr, bytes)
    if plan.adjoint:  # whole images
        grid.box[2], grid.box[3] = grid.count[2], grid.count[3]
        while num_threads() > 1 and count_chunks(grid) * plan.x.groups < wanted and grid.box[0] > 1:
            grid.box[0] = ceil_div(grid.box[0], 2)
    else:
        while num_threads() > 1 and count_chunks(grid) * plan.x.groups < wanted and bytes > 32768:
            bytes //= 2
            choose_box(grid, &plan.source, nr, bytes)
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
    source.extent = plan.grid.m if plan.adjoint else plan.grid.side
    plan.extent = plan.grid.side if plan.adjoint else plan.grid.m
    plan.grid.count[0], plan.grid.count[1] = x.n, x.axis[0].count
    for i in range(3):
        axis = &x.axis[i]
        source.first[i], source.size[i] = axis.src_base + (axis.shift[0] if axis.taps else 0), axis.src_size
        if i == 0:
            continue
        plan.first[i - 1] = 0
        plan.grid.count[i + 1] = ceil_div(axis.src_size if plan.adjoint else axis.count, plan.grid.m)
        if plan.adjoint:  # output 0 of the correlation reads source first[i]; kernel positions in ascending order
            plan.first[i - 1], source.first[i] = -(source.first[i] + plan.grid.kernel - 1), 0
            for t in range(axis.taps):
                weights[t] = axis.weight[axis.taps - 1 - t]
            axis.weight = weights
            weights += axis.taps


cdef void make_plan(Plan* plan, Correlation* problem, int form, bint adjoint, int64_t* reversed_taps) noexcept nogil:
    """Describe the problem; ``reversed_taps`` as in set_source."""
    cdef Reader* x = &plan.x
    x[0] = problem.x
    x.kernel = kernels(x.itemsize)
    x.taps = x.axis[0].taps * x.axis[1].taps * x.axis[2].taps
    plan.problem, plan.adjoint, plan.failed = problem, adjoint, False
    plan.index, plan.relu = <uint8_t*> NULL, False
    plan.blocks = ceil_div(problem.columns, x.kernel.nr)
    set_form(&plan.grid, x.kernel, x.itemsize, form)
    set_source(plan, reversed_taps)
    plan.u_plane = apart(x.axis[0].taps * x.depth * x.kernel.nr)


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


cdef int winograd_correlate(Correlation* problem, int form, bint adjoint, uint8_t* index, bint relu) except -1 nogil:
    """Solve the problem, whose rows and columns suit ``form``. Raises MemoryError.

    With an ``index``, y is the maxima of 2 x 2 windows of one plane, after the ReLU with ``relu``.
    """
    cdef Plan plan
    cdef Reader* x = &plan.x
    cdef int64_t bytes, weights, tiles, bytes_of_all
    cdef bint own, few
    cdef char* memory
    cdef int64_t reversed_taps[10]
    cdef fc_copy2d copy
    if problem.x.n * problem.x.axis[0].count * problem.x.axis[1].count * problem.x.axis[2].count == 0:
        return 0
    make_plan(&plan, problem, form, adjoint, reversed_taps)
    plan.index, plan.relu = index, relu
    bytes = x.groups * problem.columns * x.itemsize
    weights = weight_bytes(&plan) if problem.packed == NULL else 0
    tiles = plan.grid.count[0] * plan.grid.count[1] * plan.grid.count[2] * plan.grid.count[3]
    few = not adjoint and weights > 0 and tiles <= FEW_TILES and plan.blocks % num_threads() == 0
    own = choose_own(&plan, few)
    plan.parts = 1
    if not own:
        choose_box(&plan.grid, &plan.source, 0, LARGE_CHUNK * min(MOST_THREADS, num_threads()))
        tiles = plan.grid.box[0] * plan.grid.box[1] * plan.grid.box[2] * plan.grid.box[3]
        bytes_of_all = product_bytes(&plan, tiles) + own_weights(&plan, ceil_div(tiles, x.kernel.mr) * x.kernel.mr)
        few = few or plan.blocks >= 2 * num_threads()
        if count_chunks(&plan.grid) == 1 and few and bytes_of_all <= LARGE_CHUNK:
            weights = 0
        else:
            plan.parts = ceil_div(TASKS_PER_THREAD * num_threads(), plan.blocks)
            while product_bytes(&plan, ceil_div(tiles, plan.parts)) > PRODUCT_BYTES and plan.parts < tiles:
                plan.parts += 1
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
        if own:
            parallel_for(count_chunks(&plan.grid) * x.groups, run_chunk, &plan)
        else:
            run_shared(&plan)
    release(memory, weights + bytes)
    if plan.failed:
        with gil:
            raise MemoryError("convolution: no memory for transformed weights or a workspace")
    return 0
