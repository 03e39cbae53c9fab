"""Convolution by Winograd's minimal filtering, forward and input gradient: fewer products, bounded rounding.

The planes of a chunk of tiles are matrices: tiles by input channels, times transformed weights, gives tiles by output
channels, and the micro-kernel of the direct convolution multiplies them. Where the transformed weights are small, a
task is a whole chunk that stays in a second-level cache; where they are large, all threads share a larger chunk, so
that the weights are read seldom, stage by stage. Nothing about an element's sum depends on chunks, so neither do bits.
Memory: the transformed weights, and the chunk, within 4 MB.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_conv_tile, fc_copy2d, fc_winograd
from fastconv.backends.cpu.conv_tiles cimport Correlation, pack_chunk
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, ceil_div
from fastconv.backends.cpu.winograd_tiles cimport (
    Chunk, Grid, apart, buffer_bytes, choose_box, chunk_bytes, count_chunks, list_depth_taps, list_tiles,
    locate_chunk, set_grid, source_rows, transform_row,
)

cdef int64_t SMALL_WEIGHTS = 1024 * 1024        # bytes: up to here a thread works on chunks of its own
cdef int64_t SMALL_CHUNK = 384 * 1024           # bytes: these chunks stay in a second-level cache, beside the weights
cdef int64_t LARGE_CHUNK = 3584 * 1024          # bytes: chunks that all threads share
cdef int64_t PACKED_DEPTH = 64                  # channels whose weights are transformed at a time
cdef int64_t TASKS_PER_THREAD = 4


cdef struct Plan:
    Correlation* problem
    Grid grid
    int64_t blocks          # panels of nr columns a group
    int64_t parts           # into which the panels of a plane are shared out, where threads share a chunk
    int64_t u_plane         # elements of a panel of one plane: (depth taps, depth, nr)
    char* u                 # (groups, blocks, planes; u_plane)
    char* bias              # (groups * columns,), side by side, or NULL
    bint failed


cdef struct Stage:
    # A chunk, its product, and what the micro-kernel needs to know of it.
    Plan* plan
    Chunk chunk
    int64_t m_plane
    char* m
    int64_t* lists          # tiles in a source plane, tiles in a product plane, depth taps, their weights


cdef inline int64_t list_bytes(const Grid* grid) noexcept nogil:
    cdef int64_t tiles = grid.box[0] * grid.box[1] * grid.box[2] * grid.box[3]
    return ceil_div((2 * tiles + 2 * grid.x.axis[0].taps) * sizeof(int64_t), 64) * 64


cdef void transform_weights(void* context, int64_t index) noexcept nogil:
    """Transform a panel's weights for some channels: index = (group * blocks + block) * parts + part."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t parts = ceil_div(x.depth, PACKED_DEPTH), part = index % parts, panel = index // parts
    cdef int64_t group = panel // plan.blocks, first = panel % plan.blocks * x.kernel.nr, nr = x.kernel.nr
    cdef int64_t begin = part * PACKED_DEPTH, depth = min(PACKED_DEPTH, x.depth - begin), t
    cdef int64_t taps = x.axis[0].taps * x.axis[1].taps * x.axis[2].taps
    cdef char* packed = <char*> workspace(taps * depth * nr * x.itemsize)
    cdef fc_copy2d copy
    cdef fc_winograd call
    if packed == NULL:
        plan.failed = True
        return
    copy.columns = min(nr, problem.columns - first)
    copy.padded = nr
    copy.dj, copy.sj = 1, problem.w_column
    pack_chunk(x, &copy, problem.w + (group * problem.w_group + first * problem.w_column + begin * problem.w_depth) *
               x.itemsize, problem.w_depth, depth, packed)
    call.form, call.plane, call.count = plan.grid.form, plan.u_plane, depth * nr
    call.column = call.count
    call.row = plan.grid.kernel * call.column
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = plan.grid.kernel
    for t in range(x.axis[0].taps):
        call.pixels = packed + t * plan.grid.kernel * call.row * x.itemsize
        call.planes = plan.u + (panel * plan.grid.planes * plan.u_plane + (t * x.depth + begin) * nr) * x.itemsize
        x.kernel.winograd_filter(&call)


cdef void multiply(Stage* stage, int64_t plane, int64_t first, int64_t last) noexcept nogil:
    """The product of one plane: panels [first, last) of the group's columns."""
    cdef Plan* plan = stage.plan
    cdef Reader* x = &plan.problem.x
    cdef int64_t nr = x.kernel.nr, block
    cdef fc_conv_tile call
    call.pixel, call.ypixel = stage.lists, stage.lists + stage.chunk.tiles
    call.tap, call.wtap = stage.lists + 2 * stage.chunk.tiles, stage.lists + 2 * stage.chunk.tiles + x.axis[0].taps
    call.pixels, call.taps, call.depth = stage.chunk.tiles, x.axis[0].taps, x.depth
    call.x = stage.chunk.v + plane * stage.chunk.v_plane * x.itemsize
    call.bias, call.accumulate = NULL, False
    for block in range(first, last):
        call.columns = min(nr, plan.problem.columns - block * nr)
        call.w = plan.u + ((stage.chunk.group * plan.blocks + block) * plan.grid.planes + plane) * plan.u_plane * x.itemsize
        call.y = stage.m + (plane * stage.m_plane + block * nr) * x.itemsize
        x.kernel.conv_tile(&call)


cdef void output_row(Stage* stage, int64_t index) noexcept nogil:
    """Transform a row of tiles back: index = (image * depth + d) * rows + row, of the box."""
    cdef Plan* plan = stage.plan
    cdef Correlation* problem = plan.problem
    cdef const Grid* grid = &plan.grid
    cdef Chunk* chunk = &stage.chunk
    cdef int64_t size = problem.x.itemsize, row = chunk.first[2] + index % chunk.count[2], tile, at
    cdef int64_t d = chunk.first[1] + index // chunk.count[2] % chunk.count[1]
    cdef int64_t n = chunk.first[0] + index // chunk.count[2] // chunk.count[1]
    cdef fc_winograd call
    call.form, call.plane, call.count = grid.form, stage.m_plane, problem.columns
    call.row, call.column = problem.ys[3], problem.ys[4]
    call.first_row = call.first_column = 0
    call.last_row = min(grid.m, problem.x.axis[1].count - row * grid.m)
    call.bias = NULL
    if plan.bias != NULL:
        call.bias = plan.bias + chunk.group * problem.columns * size
    at = n * problem.ys[0] + chunk.group * problem.columns + row * grid.m * problem.ys[3]
    at += (problem.x.axis[0].dst_base + problem.x.axis[0].dst_step * d) * problem.ys[2]
    for tile in range(chunk.count[3]):
        call.last_column = min(grid.m, problem.x.axis[2].count - (chunk.first[3] + tile) * grid.m)
        call.planes = stage.m + (index * chunk.count[3] + tile) * problem.columns * size
        call.pixels = problem.y + (at + (chunk.first[3] + tile) * grid.m * problem.ys[4]) * size
        problem.x.kernel.winograd_output(&call)


cdef void set_stage(Stage* stage, Plan* plan, int64_t group, int64_t index, char* memory) noexcept nogil:
    """Lay out a chunk in ``memory``: its lists, its source planes, its product planes."""
    cdef Reader* x = &plan.problem.x
    cdef int64_t t
    stage.plan = plan
    locate_chunk(&plan.grid, index, &stage.chunk)
    stage.chunk.group = group
    stage.lists = <int64_t*> memory
    stage.chunk.v = memory + list_bytes(&plan.grid)
    stage.m_plane = apart(stage.chunk.tiles * plan.problem.columns)
    stage.m = stage.chunk.v + plan.grid.planes * stage.chunk.v_plane * x.itemsize
    list_tiles(&stage.chunk, plan.problem.columns, stage.lists, stage.lists + stage.chunk.tiles)
    list_depth_taps(&stage.chunk, stage.lists + 2 * stage.chunk.tiles)
    for t in range(x.axis[0].taps):
        stage.lists[2 * stage.chunk.tiles + x.axis[0].taps + t] = t * x.depth * x.kernel.nr


cdef void run_chunk(void* context, int64_t index) noexcept nogil:
    """A whole chunk by one thread: index = chunk * groups + group."""
    cdef Plan* plan = <Plan*> context
    cdef int64_t bytes = list_bytes(&plan.grid) + chunk_bytes(&plan.grid, plan.grid.box, plan.problem.columns), i
    cdef char* memory = <char*> workspace(bytes + buffer_bytes(&plan.grid))
    cdef Stage stage
    if memory == NULL:
        plan.failed = True
        return
    set_stage(&stage, plan, index % plan.problem.x.groups, index // plan.problem.x.groups, memory)
    for i in range(source_rows(&stage.chunk)):
        transform_row(&stage.chunk, i, memory + bytes)
    for i in range(plan.grid.planes):
        multiply(&stage, i, 0, plan.blocks)
    for i in range(stage.chunk.tiles // stage.chunk.count[3]):
        output_row(&stage, i)


cdef void share_input(void* context, int64_t index) noexcept nogil:
    cdef Stage* stage = <Stage*> context
    cdef int64_t bytes = buffer_bytes(stage.chunk.grid)
    cdef char* buffer = <char*> workspace(bytes) if bytes else NULL
    if bytes and buffer == NULL:
        stage.plan.failed = True
        return
    transform_row(&stage.chunk, index, buffer)


cdef void share_product(void* context, int64_t index) noexcept nogil:
    """index = plane * parts + part."""
    cdef Stage* stage = <Stage*> context
    cdef int64_t parts = stage.plan.parts, share = ceil_div(stage.plan.blocks, parts), first = index % parts * share
    multiply(stage, index // parts, first, min(stage.plan.blocks, first + share))


cdef void share_output(void* context, int64_t index) noexcept nogil:
    output_row(<Stage*> context, index)


cdef void run_shared(Plan* plan) noexcept nogil:
    """All chunks, one after the other, each by all threads."""
    cdef int64_t bytes = list_bytes(&plan.grid) + chunk_bytes(&plan.grid, plan.grid.box, plan.problem.columns)
    cdef int64_t chunk, group
    cdef char* memory = <char*> allocate(bytes)
    cdef Stage stage
    if memory == NULL:
        plan.failed = True
        return
    plan.parts = min(plan.blocks, ceil_div(TASKS_PER_THREAD * num_threads(), plan.grid.planes))
    for group in range(plan.problem.x.groups):
        for chunk in range(count_chunks(&plan.grid)):
            set_stage(&stage, plan, group, chunk, memory)
            parallel_for(source_rows(&stage.chunk), share_input, &stage)
            parallel_for(plan.grid.planes * plan.parts, share_product, &stage)
            parallel_for(stage.chunk.tiles // stage.chunk.count[3], share_output, &stage)
    release(memory, bytes)


cdef void run(Plan* plan) noexcept nogil:
    cdef Reader* x = &plan.problem.x
    cdef int64_t weights = plan.grid.planes * plan.u_plane * plan.blocks * x.itemsize, bytes = SMALL_CHUNK
    parallel_for(x.groups * plan.blocks * ceil_div(x.depth, PACKED_DEPTH), transform_weights, plan)
    if weights > SMALL_WEIGHTS:
        choose_box(&plan.grid, plan.problem.columns, LARGE_CHUNK)
        run_shared(plan)
        return
    choose_box(&plan.grid, plan.problem.columns, bytes)
    while num_threads() > 1 and count_chunks(&plan.grid) * x.groups < TASKS_PER_THREAD * num_threads() and bytes > 32768:
        bytes //= 2
        choose_box(&plan.grid, plan.problem.columns, bytes)
    parallel_for(count_chunks(&plan.grid) * x.groups, run_chunk, plan)


cdef int winograd_correlate(Correlation* problem, int form) except -1 nogil:
    """Solve the problem, whose rows and columns suit ``form``. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t bytes, bias_bytes
    cdef fc_copy2d copy
    if x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count == 0:
        return 0
    x.kernel = kernels(x.itemsize)
    x.taps = x.axis[0].taps * x.axis[1].taps * x.axis[2].taps
    plan.problem = problem
    plan.failed = False
    plan.blocks = ceil_div(problem.columns, x.kernel.nr)
    set_grid(&plan.grid, x, form)
    plan.u_plane = apart(x.axis[0].taps * x.depth * x.kernel.nr)
    bias_bytes = x.groups * problem.columns * x.itemsize
    bytes = x.groups * plan.blocks * plan.grid.planes * plan.u_plane * x.itemsize + bias_bytes
    plan.u = <char*> allocate(bytes)
    if plan.u == NULL:
        plan.failed = True
    else:
        plan.bias = NULL
        if problem.bias != NULL:
            plan.bias = plan.u + bytes - bias_bytes
            copy.dst, copy.src, copy.rows = plan.bias, problem.bias, x.groups * problem.columns
            copy.columns = copy.padded = copy.ld = copy.dj = copy.sj = 1
            copy.si = problem.bias_stride
            x.kernel.copy2d(&copy)
        run(&plan)
    release(plan.u, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("convolution: no memory for transformed weights or a workspace")
    return 0
