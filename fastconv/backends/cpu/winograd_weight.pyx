"""The weight gradient by Winograd's minimal filtering: the adjoint of its forward pass with respect to the weights.

Chunk by chunk of tiles, source and gradient are transformed; in each plane the product of both, summed over the
chunk's tiles, is added to the transformed weight gradient, which is transformed back at the end. Chunks and the order
of all sums depend on the shape alone. Memory: the transformed weight gradient, and the chunk, within 4 MB.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_outer_tile, fc_winograd
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div
from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd_tiles cimport (
    Chunk, Grid, Pixels, apart, buffer_bytes, choose_box, chunk_bytes, count_chunks, list_tiles, locate_chunk,
    plane_size, rows_to_transform, set_form, transform_row,
)

cdef int64_t CHUNK = 3584 * 1024        # bytes
cdef int64_t FINISHED_DEPTH = 16        # input channels and
cdef int64_t FINISHED_COLUMNS = 64      # output channels whose gradient is transformed back at a time
cdef int64_t TASKS_PER_THREAD = 4


cdef struct Plan:
    Outer* problem
    Grid grid
    Pixels source
    Pixels gradient
    Chunk chunk
    int64_t rows            # (depth taps, depth)
    int64_t u_plane         # elements of a plane of the transformed weight gradient: (rows, columns)
    char* u                 # (groups, planes; u_plane)
    char* v                 # planes of a chunk's source,
    char* m                 # and of its gradient
    int64_t* lists          # tiles in a source plane, tiles in a gradient plane, rows
    int64_t parts           # into which the rows of a plane are shared out
    bint first              # nothing has been summed before this chunk
    bint failed


cdef void transform_rows(void* context, int64_t index) noexcept nogil:
    """A row of tiles: of the source, and beyond those, of the gradient."""
    cdef Plan* plan = <Plan*> context
    cdef int64_t rows = rows_to_transform(&plan.source, &plan.chunk)
    cdef char* buffer = <char*> workspace(64 + max(buffer_bytes(&plan.grid, &plan.source),
                                                   buffer_bytes(&plan.grid, &plan.gradient)))
    if buffer == NULL:
        plan.failed = True
    elif index < rows:
        transform_row(&plan.grid, &plan.chunk, &plan.source, index, plan.v, buffer)
    else:
        transform_row(&plan.grid, &plan.chunk, &plan.gradient, index - rows, plan.m, buffer)


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
    call.x = plan.v + plane * plane_size(&plan.source, plan.chunk.count) * size
    while column < plan.problem.columns:
        call.columns = min(x.kernel.nr, plan.problem.columns - column)
        call.dy = plan.m + (plane * plane_size(&plan.gradient, plan.chunk.count) + column) * size
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


cdef void list_chunk(Plan* plan) noexcept nogil:
    """Where tiles and rows lie in the planes of the chunk."""
    cdef Chunk* chunk = &plan.chunk
    cdef const TileAxis* axis = &plan.problem.x.axis[0]
    cdef int64_t depth = plan.problem.x.depth, t, k
    cdef int64_t* row = plan.lists + 2 * chunk.tiles
    list_tiles(chunk, &plan.source, plan.lists)
    list_tiles(chunk, &plan.gradient, plan.lists + chunk.tiles)
    for t in range(axis.taps):
        for k in range(depth):
            row[t * depth + k] = (axis.shift[t] - axis.shift[0]) * chunk.count[2] * chunk.count[3] * depth + k


cdef void run(Plan* plan) noexcept nogil:
    cdef Reader* x = &plan.problem.x
    cdef int64_t index, group
    plan.parts = min(ceil_div(plan.rows, x.kernel.mr), ceil_div(TASKS_PER_THREAD * num_threads(), plan.grid.planes))
    for group in range(x.groups):
        for index in range(count_chunks(&plan.grid)):
            locate_chunk(&plan.grid, index, &plan.chunk)
            plan.chunk.group = group
            plan.first = index == 0
            plan.m = plan.v + plan.grid.planes * plane_size(&plan.source, plan.chunk.count) * x.itemsize
            list_chunk(plan)
            parallel_for(rows_to_transform(&plan.source, &plan.chunk) + rows_to_transform(&plan.gradient, &plan.chunk),
                         transform_rows, plan)
            parallel_for(plan.grid.planes * plan.parts, multiply, plan)
    parallel_for(x.groups * ceil_div(x.depth, FINISHED_DEPTH) * ceil_div(plan.problem.columns, FINISHED_COLUMNS) *
                 x.axis[0].taps, finish, plan)


cdef void set_pixels(Plan* plan) noexcept nogil:
    """What the tiles of source and gradient read."""
    cdef Outer* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef Pixels* source = &plan.source
    cdef Pixels* gradient = &plan.gradient
    cdef int i
    source.data, source.stride, source.channels = <char*> x.data, x.stride, x.depth
    source.depth_step, source.depth_reach = x.axis[0].src_step, x.axis[0].shift[x.axis[0].taps - 1] - x.axis[0].shift[0]
    source.extent, source.transform = plan.grid.side, x.kernel.winograd_input
    gradient.data, gradient.stride, gradient.channels = <char*> problem.dy, problem.ys, problem.columns
    gradient.depth_step, gradient.depth_reach = 1, 0
    gradient.extent, gradient.transform = plan.grid.m, x.kernel.winograd_expand
    plan.grid.count[0], plan.grid.count[1] = x.n, x.axis[0].count
    for i in range(3):
        source.first[i], source.size[i] = x.axis[i].src_base + x.axis[i].shift[0], x.axis[i].src_size
        gradient.first[i], gradient.size[i] = 0, x.axis[i].count
        if i > 0:
            plan.grid.count[i + 1] = ceil_div(x.axis[i].count, plan.grid.m)


cdef int winograd_products(Outer* problem, int form) except -1 nogil:
    """Solve the problem, whose rows and columns suit ``form``. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t bytes, chunk
    cdef char* memory
    x.kernel = kernels(x.itemsize)
    plan.problem = problem
    plan.failed = False
    set_form(&plan.grid, x.kernel, x.itemsize, form)
    set_pixels(&plan)
    plan.rows = x.axis[0].taps * x.depth
    plan.u_plane = apart(plan.rows * problem.columns)
    choose_box(&plan.grid, &plan.source, problem.columns, CHUNK)
    chunk = chunk_bytes(&plan.grid, plan.grid.box, &plan.source, problem.columns)
    bytes = x.groups * plan.grid.planes * plan.u_plane * x.itemsize
    plan.u = <char*> allocate(bytes)
    memory = <char*> allocate(chunk)
    plan.v = memory
    plan.lists = <int64_t*> malloc((2 * plan.grid.box[0] * plan.grid.box[1] * plan.grid.box[2] * plan.grid.box[3] +
                                    plan.rows) * sizeof(int64_t))
    if plan.u == NULL or memory == NULL or plan.lists == NULL:
        plan.failed = True
    else:
        run(&plan)
    free(plan.lists)
    release(memory, chunk)
    release(plan.u, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("weight gradient: no memory for its transform or a workspace")
    return 0
