"""The weight gradient by Winograd's minimal filtering: the adjoint of its forward pass with respect to the weights.

Chunk by chunk of tiles, source and gradient are transformed; in each plane the product of both, summed over the
chunk's tiles, is added to the transformed weight gradient, which is transformed back at the end. Chunks and the order
of all sums depend on the shape alone. Memory: the transformed weight gradient, and the chunk, within 4 MB.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_outer_tile, fc_winograd
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, ceil_div
from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd_tiles cimport (
    Chunk, Grid, apart, buffer_bytes, choose_box, chunk_bytes, count_chunks, list_depth_taps, list_tiles,
    locate_chunk, set_grid, source_rows, transform_row,
)

cdef int64_t CHUNK = 3584 * 1024        # bytes
cdef int64_t PACKED_CHANNELS = 64       # of a gradient that is not channels-last, packed first
cdef int64_t FINISHED_DEPTH = 16        # input channels and
cdef int64_t FINISHED_COLUMNS = 64      # output channels whose gradient is transformed back at a time
cdef int64_t TASKS_PER_THREAD = 4


cdef struct Plan:
    Outer* problem
    Grid grid
    Chunk chunk
    int64_t rows            # (depth taps, depth)
    int64_t u_plane         # elements of a plane of the transformed weight gradient: (rows, columns)
    char* u                 # (groups, planes; u_plane)
    int64_t m_plane
    char* m                 # (planes; tile, column): the transformed gradient of a chunk
    int64_t* lists          # tiles in a source plane, tiles in a gradient plane, rows
    int64_t parts           # into which the rows of a plane are shared out
    bint first              # nothing has been summed before this chunk
    bint failed


cdef void expand_row(Plan* plan, int64_t index, char* buffer) noexcept nogil:
    """Transform a row of tiles of the gradient: index = (image * depth + d) * rows + row, of the box."""
    cdef Outer* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef Chunk* chunk = &plan.chunk
    cdef int64_t size = x.itemsize, m = plan.grid.m, tile, i, first = 0
    cdef int64_t h = (chunk.first[2] + index % chunk.count[2]) * m, w = chunk.first[3] * m
    cdef int64_t d = chunk.first[1] + index // chunk.count[2] % chunk.count[1]
    cdef int64_t n = chunk.first[0] + index // chunk.count[2] // chunk.count[1]
    cdef int64_t width = min(chunk.count[3] * m, x.axis[2].count - w)
    cdef bint touch = problem.ys[1] == 1 or problem.columns == 1
    cdef const char* source = problem.dy
    cdef fc_winograd call
    cdef fc_copy2d copy
    source += (n * problem.ys[0] + chunk.group * problem.columns * problem.ys[1] + d * problem.ys[2] +
               h * problem.ys[3] + w * problem.ys[4]) * size
    call.form, call.plane = plan.grid.form, plan.m_plane
    call.first_row, call.last_row = 0, min(m, x.axis[1].count - h)
    call.first_column = 0
    call.row, call.column = problem.ys[3], problem.ys[4]
    while first < problem.columns:
        call.count = problem.columns if touch else min(PACKED_CHANNELS, problem.columns - first)
        if not touch:
            call.column, call.row = call.count, width * call.count
            copy.rows, copy.columns, copy.padded, copy.ld = width, call.count, call.count, call.count
            copy.dj, copy.si, copy.sj = 1, problem.ys[4], problem.ys[1]
            for i in range(call.last_row):
                copy.src = source + (i * problem.ys[3] + first * problem.ys[1]) * size
                copy.dst = buffer + i * call.row * size
                x.kernel.copy2d(&copy)
        for tile in range(chunk.count[3]):
            call.last_column = min(m, width - tile * m)
            call.pixels = (<char*> source if touch else buffer) + tile * m * call.column * size
            call.planes = plan.m + ((index * chunk.count[3] + tile) * problem.columns + first) * size
            x.kernel.winograd_expand(&call)
        first += call.count


cdef int64_t gradient_buffer(const Plan* plan) noexcept nogil:
    return plan.grid.m * plan.grid.m * plan.grid.box[3] * PACKED_CHANNELS * plan.problem.x.itemsize


cdef void transform_rows(void* context, int64_t index) noexcept nogil:
    """A row of tiles: of the source, and beyond those, of the gradient."""
    cdef Plan* plan = <Plan*> context
    cdef char* buffer = <char*> workspace(max(buffer_bytes(&plan.grid), gradient_buffer(plan)))
    if buffer == NULL:
        plan.failed = True
    elif index < source_rows(&plan.chunk):
        transform_row(&plan.chunk, index, buffer)
    else:
        expand_row(plan, index - source_rows(&plan.chunk), buffer)


cdef void multiply(void* context, int64_t index) noexcept nogil:
    """The product of a plane, some of its rows: index = plane * parts + part."""
    cdef Plan* plan = <Plan*> context
    cdef Reader* x = &plan.problem.x
    cdef int64_t plane = index // plan.parts, share = ceil_div(ceil_div(plan.rows, plan.parts), x.kernel.mr) * x.kernel.mr
    cdef int64_t row = index % plan.parts * share, column = 0, size = x.itemsize
    cdef fc_outer_tile call
    call.rows = min(share, plan.rows - row)
    if call.rows <= 0:
        return
    call.xpixel, call.ypixel = plan.lists, plan.lists + plan.chunk.tiles
    call.row, call.pixels = plan.lists + 2 * plan.chunk.tiles + row, plan.chunk.tiles
    call.ld, call.accumulate = plan.problem.columns, not plan.first
    call.x = plan.chunk.v + plane * plan.chunk.v_plane * size
    while column < plan.problem.columns:
        call.columns = min(x.kernel.nr, plan.problem.columns - column)
        call.dy = plan.m + (plane * plan.m_plane + column) * size
        call.dw = plan.u + ((plan.chunk.group * plan.grid.planes + plane) * plan.u_plane +
                            row * plan.problem.columns + column) * size
        x.kernel.outer_tile(&call)
        column += x.kernel.nr


cdef void finish(void* context, int64_t index) noexcept nogil:
    """Transform back: index = ((group * depth parts + part) * column parts + part) * depth taps + tap."""
    cdef Plan* plan = <Plan*> context
    cdef Outer* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef int64_t taps = plan.grid.kernel * plan.grid.kernel, size = x.itemsize, tap, depth, column, k
    cdef char* buffer = <char*> workspace(FINISHED_DEPTH * taps * FINISHED_COLUMNS * size)
    cdef fc_winograd call
    cdef fc_copy2d copy
    if buffer == NULL:
        plan.failed = True
        return
    tap = index % x.axis[0].taps
    index //= x.axis[0].taps
    column = index % ceil_div(problem.columns, FINISHED_COLUMNS) * FINISHED_COLUMNS
    index //= ceil_div(problem.columns, FINISHED_COLUMNS)
    depth = index % ceil_div(x.depth, FINISHED_DEPTH) * FINISHED_DEPTH
    index //= ceil_div(x.depth, FINISHED_DEPTH)
    call.form, call.plane, call.bias = plan.grid.form, plan.u_plane, NULL
    call.count = call.column = min(FINISHED_COLUMNS, problem.columns - column)
    call.row = plan.grid.kernel * call.count
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = plan.grid.kernel
    copy.rows, copy.columns, copy.padded, copy.ld = call.count, taps, taps, problem.dw_column
    copy.dj, copy.si, copy.sj = 1, 1, call.count
    for k in range(min(FINISHED_DEPTH, x.depth - depth)):
        call.planes = plan.u + (index * plan.grid.planes * plan.u_plane +
                                (tap * x.depth + depth + k) * problem.columns + column) * size
        call.pixels = buffer
        x.kernel.winograd_filter_gradient(&call)
        copy.src = buffer
        copy.dst = problem.dw + (index * problem.dw_group + column * problem.dw_column +
                                 (depth + k) * problem.dw_depth + x.axis[0].weight[tap]) * size
        x.kernel.copy2d(&copy)


cdef void run(Plan* plan, char* memory, int64_t list_bytes) noexcept nogil:
    cdef Reader* x = &plan.problem.x
    cdef int64_t index, group, t, k
    plan.lists = <int64_t*> memory
    plan.chunk.v = memory + list_bytes
    plan.parts = min(ceil_div(plan.rows, x.kernel.mr), ceil_div(TASKS_PER_THREAD * num_threads(), plan.grid.planes))
    for group in range(x.groups):
        for index in range(count_chunks(&plan.grid)):
            locate_chunk(&plan.grid, index, &plan.chunk)
            plan.chunk.group = group
            plan.first = index == 0
            plan.m_plane = apart(plan.chunk.tiles * plan.problem.columns)
            plan.m = plan.chunk.v + plan.grid.planes * plan.chunk.v_plane * x.itemsize
            list_tiles(&plan.chunk, plan.problem.columns, plan.lists, plan.lists + plan.chunk.tiles)
            list_depth_taps(&plan.chunk, plan.lists + 2 * plan.chunk.tiles)
            for t in range(x.axis[0].taps - 1, -1, -1):  # from the last: the list of taps becomes the list of rows
                for k in range(x.depth - 1, -1, -1):
                    plan.lists[2 * plan.chunk.tiles + t * x.depth + k] = plan.lists[2 * plan.chunk.tiles + t] + k
            parallel_for(source_rows(&plan.chunk) + plan.chunk.tiles // plan.chunk.count[3], transform_rows, plan)
            parallel_for(plan.grid.planes * plan.parts, multiply, plan)
    parallel_for(x.groups * ceil_div(x.depth, FINISHED_DEPTH) * ceil_div(plan.problem.columns, FINISHED_COLUMNS) *
                 x.axis[0].taps, finish, plan)


cdef int winograd_products(Outer* problem, int form) except -1 nogil:
    """Solve the problem, whose rows and columns suit ``form``. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t bytes, list_bytes, chunk
    cdef char* memory
    x.kernel = kernels(x.itemsize)
    plan.problem = problem
    plan.failed = False
    set_grid(&plan.grid, x, form)
    plan.rows = x.axis[0].taps * x.depth
    plan.u_plane = apart(plan.rows * problem.columns)
    choose_box(&plan.grid, problem.columns, CHUNK)
    list_bytes = 2 * plan.grid.box[0] * plan.grid.box[1] * plan.grid.box[2] * plan.grid.box[3] + plan.rows
    list_bytes = ceil_div(list_bytes * sizeof(int64_t), 64) * 64
    chunk = list_bytes + chunk_bytes(&plan.grid, plan.grid.box, problem.columns)
    bytes = x.groups * plan.grid.planes * plan.u_plane * x.itemsize
    plan.u = <char*> allocate(bytes)
    memory = <char*> allocate(chunk)
    if plan.u == NULL or memory == NULL:
        plan.failed = True
    else:
        run(&plan, memory, list_bytes)
    release(memory, chunk)
    release(plan.u, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("weight gradient: no memory for its transform or a workspace")
    return 0
