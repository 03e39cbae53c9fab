"""The weight gradient by Winograd's minimal filtering: the adjoint of its forward pass with respect to the weights.

Chunk by chunk of tiles, source and gradient are transformed; in each plane the product of both, summed over the
chunk's tiles, is added to the transformed weight gradient, which is transformed back at the end. Where that is small,
the chunks are shared out in parts, each a task with a sum of its own, and the sums are added pairwise; where it is
large, or there is but one chunk, winograd_panels.pyx solves the problem. Chunks, parts and the order of all sums depend
on the shape alone.

Memory: the partial sums of the transformed weight gradient, and a chunk a thread.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport FC_WINOGRAD_STRIDED, fc_accumulate, fc_copy2d, fc_outer_tile, fc_winograd
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div
from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd_panels cimport run_panels
from fastconv.backends.cpu.winograd_tiles cimport (
    KINDS, Chunk, Grid, Pixels, apart, buffer_bytes, choose_box, chunk_bytes, count_chunks, find_far, list_tiles,
    locate_chunk, plane_kind, plane_size, rows_to_transform, set_form, set_tiles, shares_weights, tiles_before,
    tiles_lie_even, transform_row, weight_plane,
)

cdef int64_t SMALL_CHUNK = 832 * 1024       # bytes: chunks of a part stay in a second-level cache
cdef int64_t LARGE_CHUNK = 3584 * 1024      # bytes: chunks that all threads share,
cdef int64_t INSTEAD = 12 * 1024 * 1024     # and more, in place of half of the transformed gradient: at most
cdef int64_t CHUNK_TILES = 256              # a sum over more tiles is a sum of sums, which rounds less
cdef int64_t PARTIAL_BYTES = 4640 * 1024    # of all partial sums: eight of 64 x 64 channels, their planes apart
cdef int64_t LEAST_PARTS = 8                # fewer would leave threads idle
cdef int64_t MOST_PARTS = 16
cdef int64_t FINISHED_DEPTH = 4             # input channels and
cdef int64_t FINISHED_COLUMNS = 64          # output channels whose gradient is transformed back at a time


cdef struct Plan:
    Outer* problem
    Grid grid
    Pixels source
    Pixels gradient
    int64_t u_plane         # elements of a plane of the transformed weight gradient: (depth taps, depth, columns)
    int64_t parts           # sums
    char* u                 # (parts, groups, weights; u_plane)
    bint failed


cdef struct Stage:
    # A chunk, its transforms, and where their products go.
    Plan* plan
    Chunk chunk
    char* v                 # planes of the source,
    char* m                 # and of the gradient
    char* u
    int64_t* lists          # of each kind, tiles in a source plane and in a gradient plane
    bint first              # nothing has been summed before this chunk


cdef inline int64_t part_size(const Plan* plan) noexcept nogil:
    """Elements of all transformed weight gradients of one part."""
    return plan.problem.x.groups * plan.grid.weights * plan.u_plane


cdef inline int64_t list_bytes(const Plan* plan) noexcept nogil:
    cdef int64_t tiles = plan.grid.box[0] * plan.grid.box[1] * plan.grid.box[2] * plan.grid.box[3]
    return ceil_div(2 * KINDS * tiles * sizeof(int64_t), 64) * 64


cdef inline int64_t stage_bytes(const Plan* plan) noexcept nogil:
    return list_bytes(plan) + chunk_bytes(&plan.grid, plan.grid.box, &plan.source, plan.problem.columns)


cdef inline int64_t packing_bytes(const Plan* plan) noexcept nogil:
    return 64 + max(buffer_bytes(&plan.grid, &plan.source), buffer_bytes(&plan.grid, &plan.gradient))


cdef void set_stage(Stage* stage, Plan* plan, int64_t group, int64_t index, char* memory) noexcept nogil:
    """Lay out a chunk in ``memory``, and list where its tiles lie in the planes."""
    cdef Chunk* chunk = &stage.chunk
    locate_chunk(&plan.grid, index, chunk)
    chunk.group = group
    stage.plan, stage.lists = plan, <int64_t*> memory
    stage.v = memory + list_bytes(plan)
    stage.m = stage.v + plan.grid.planes * plane_size(&plan.source, chunk.count) * plan.problem.x.itemsize
    list_tiles(chunk, &plan.source, stage.lists)
    list_tiles(chunk, &plan.gradient, stage.lists + KINDS * chunk.tiles)


cdef inline int64_t count_rows(const Stage* stage) noexcept nogil:
    """Rows of tiles, of source and gradient."""
    return (rows_to_transform(&stage.plan.source, &stage.chunk) +
            rows_to_transform(&stage.plan.gradient, &stage.chunk))


cdef void transform(Stage* stage, int64_t index, char* buffer) noexcept nogil:
    """A row of tiles: of the source, and beyond those, of the gradient."""
    cdef Plan* plan = stage.plan
    cdef int64_t rows = rows_to_transform(&plan.source, &stage.chunk)
    if index < rows:
        transform_row(&plan.grid, &stage.chunk, &plan.source, index, stage.v, buffer)
    else:
        transform_row(&plan.grid, &stage.chunk, &plan.gradient, index - rows, stage.m, buffer)


cdef void multiply(Stage* stage, int64_t plane) noexcept nogil:
    """Add the products of a plane, depth tap by tap. Where it does not want a tile, the gradient's number is 0."""
    cdef Plan* plan = stage.plan
    cdef const Chunk* chunk = &stage.chunk
    cdef const TileAxis* axis = &plan.problem.x.axis[0]
    cdef int64_t size = plan.grid.itemsize, depth = plan.problem.x.depth, t
    cdef int kind = plane_kind(&plan.grid, chunk, plane)
    cdef char* v = stage.v + plane * plane_size(&plan.source, chunk.count) * size
    cdef char* u = stage.u + weight_plane(&plan.grid, plane) * plan.u_plane * size
    cdef fc_outer_tile call
    call.xpixel = stage.lists + kind * chunk.tiles
    call.ypixel = call.xpixel + KINDS * chunk.tiles
    call.row = NULL
    if kind == 0 and tiles_lie_even(chunk, &plan.source) and tiles_lie_even(chunk, &plan.gradient):
        call.xpixel = NULL
        call.ypixel = NULL
        call.xstep, call.ystep = plan.source.channels, plan.gradient.channels
    call.rows, call.pixels = depth, tiles_before(chunk, kind, chunk.tiles)
    call.accumulate = not stage.first or shares_weights(&plan.grid, plane)
    call.columns = call.ld = plan.problem.columns
    call.ahead[0].runs = call.ahead[1].runs = 0
    call.dy = stage.m + plane * plane_size(&plan.gradient, chunk.count) * size
    for t in range(axis.taps):
        call.x = v + (axis.shift[t] - axis.shift[0]) * chunk.count[2] * chunk.count[3] * depth * size
        call.dw = u + t * depth * plan.problem.columns * size
        plan.grid.kernels.outer_tile(&call)


cdef void run_part(void* context, int64_t index) noexcept nogil:
    """The chunks of one part by one thread: index = part * groups + group."""
    cdef Plan* plan = <Plan*> context
    cdef int64_t groups = plan.problem.x.groups, part = index // groups, chunks = count_chunks(&plan.grid), chunk, i
    cdef int64_t first = chunks * part // plan.parts, last = chunks * (part + 1) // plan.parts
    cdef char* memory = <char*> workspace(stage_bytes(plan) + packing_bytes(plan))
    cdef Stage stage
    if memory == NULL:
        plan.failed = True
        return
    stage.u = plan.u + index * plan.grid.weights * plan.u_plane * plan.grid.itemsize
    for chunk in range(first, last):
        set_stage(&stage, plan, index % groups, chunk, memory)
        stage.first = chunk == first
        for i in range(count_rows(&stage)):
            transform(&stage, i, memory + stage_bytes(plan))
        for i in range(plan.grid.planes):
            multiply(&stage, i)


cdef void add_parts(const Planes* plan, char* first, int64_t rows, int64_t columns) noexcept nogil:
    """Add some rows and columns of all parts pairwise, in every plane."""
    cdef int64_t size = plan.grid.itemsize, step, part, plane, row
    cdef char* to
    cdef fc_accumulate call
    call.count = columns
    if columns == plan.problem.columns:  # rows lie side by side
        rows, call.count = 1, rows * columns
    for plane in range(plan.grid.weights):
        for row in range(rows):
            step = 1
            while step < plan.parts:
                part = 0
                while part + step < plan.parts:
                    to = first + (plane * plan.u_plane + row * plan.problem.columns + part * plan.part_size) * size
                    call.dst, call.src = to, to + step * plan.part_size * size
                    plan.grid.kernels.accumulate(&call)
                    part += 2 * step
                step *= 2


cdef void finish(void* context, int64_t index) noexcept nogil:
    """Add the parts and transform back.

    index = ((group * depth parts + part) * column parts + part) * depth taps + tap.
    """
    cdef Planes* plan = <Planes*> context
    cdef const Outer* problem = plan.problem
    cdef const Reader* x = &problem.x
    cdef int64_t taps = plan.grid.kernel * plan.grid.kernel, size = x.itemsize, tap, depth, column, k
    cdef char* u = plan.u
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
    u += (index * plan.grid.weights * plan.u_plane + (tap * x.depth + depth) * problem.columns + column) * size
    add_parts(plan, u, min(FINISHED_DEPTH, x.depth - depth), call.count)
    for k in range(min(FINISHED_DEPTH, x.depth - depth)):
        call.planes = u + k * problem.columns * size
        call.pixels = buffer
        plan.grid.kernels.winograd_filter_gradient(&call)
        copy.src = buffer
        copy.dst = problem.dw + (index * problem.dw_group + column * problem.dw_column +
                                 (depth + k) * problem.dw_depth + x.axis[0].weight[tap]) * size
        plan.grid.kernels.copy2d(&copy)


cdef void transform_back(Planes* planes) noexcept nogil:
    cdef const Reader* x = &planes.problem.x
    parallel_for(x.groups * ceil_div(x.depth, FINISHED_DEPTH) * ceil_div(planes.problem.columns, FINISHED_COLUMNS) *
                 x.axis[0].taps, finish, planes)


cdef void set_pixels(Plan* plan) noexcept nogil:
    """What the tiles of source and gradient read."""
    cdef Outer* problem = plan.problem
    cdef Reader* x = &problem.x
    cdef Pixels* source = &plan.source
    cdef Pixels* gradient = &plan.gradient
    cdef int i
    source.trims = gradient.trims = False
    source.data, source.stride, source.channels = <char*> x.data, x.stride, x.depth
    source.depth_step, source.depth_reach = x.axis[0].src_step, x.axis[0].shift[x.axis[0].taps - 1] - x.axis[0].shift[0]
    source.extent, source.transform = plan.grid.side, plan.grid.kernels.winograd_input
    source.step, gradient.step = 2 if plan.grid.form == FC_WINOGRAD_STRIDED else 1, 1
    gradient.data, gradient.stride, gradient.channels = <char*> problem.dy, problem.ys, problem.columns
    gradient.depth_step, gradient.depth_reach = 1, 0
    gradient.extent, gradient.transform = plan.grid.m, plan.grid.kernels.winograd_expand
    find_far(source, x.n, x.itemsize)
    find_far(gradient, x.n, x.itemsize)
    plan.grid.count[0], plan.grid.count[1] = x.n, x.axis[0].count
    for i in range(3):
        source.first[i], source.size[i] = x.axis[i].src_base + x.axis[i].shift[0], x.axis[i].src_size
        gradient.first[i], gradient.size[i] = 0, x.axis[i].count
        if i > 0:
            set_tiles(&plan.grid, i - 1, x.axis[i].count, False)


cdef void bounded_box(Plan* plan, int64_t bytes) noexcept nogil:
    """Choose chunks within ``bytes`` and CHUNK_TILES."""
    cdef const int64_t* box = plan.grid.box
    choose_box(&plan.grid, &plan.source, plan.problem.columns, bytes, False)
    while box[0] * box[1] * box[2] * box[3] > CHUNK_TILES:
        bytes -= bytes // 8
        choose_box(&plan.grid, &plan.source, plan.problem.columns, bytes, False)


cdef int64_t even_parts(int64_t chunks, int64_t most) noexcept nogil:
    """As many parts, from LEAST_PARTS to ``most``, as give the least rounds of chunks; of such the fewest."""
    cdef int64_t least = ceil_div(chunks, most) * most, chosen = most, parts, rounds
    for parts in range(most - 1, LEAST_PARTS - 1, -1):
        rounds = ceil_div(chunks, parts) * parts
        if rounds <= least:
            least, chosen = rounds, parts
    return chosen


cdef void sum_parts(Plan* plan) noexcept nogil:
    """Sum up in parts, and transform back."""
    cdef int64_t bytes = plan.parts * part_size(plan) * plan.grid.itemsize
    cdef Planes planes
    plan.u = <char*> allocate(bytes)
    if plan.u == NULL:
        plan.failed = True
        return
    parallel_for(plan.parts * plan.problem.x.groups, run_part, plan)
    planes.failed, planes.parts, planes.part_size = False, plan.parts, part_size(plan)
    planes.problem, planes.grid, planes.u_plane, planes.u = plan.problem, &plan.grid, plan.u_plane, plan.u
    transform_back(&planes)
    release(plan.u, bytes)
    plan.failed = plan.failed or planes.failed


cdef int winograd_products(Outer* problem, int form) except -1 nogil:
    """Solve the problem, whose rows and columns suit ``form``. Raises MemoryError."""
    cdef Reader* x = &problem.x
    cdef Plan plan
    cdef int64_t bytes
    cdef bint few
    plan.problem, plan.failed = problem, False
    set_form(&plan.grid, kernels(x.itemsize), x.itemsize, form)
    set_pixels(&plan)
    plan.u_plane = apart(x.axis[0].taps * x.depth * problem.columns)
    bounded_box(&plan, SMALL_CHUNK)
    bytes = part_size(&plan) * x.itemsize
    plan.parts = min(MOST_PARTS, PARTIAL_BYTES // bytes)
    few = plan.parts * x.groups < LEAST_PARTS
    plan.parts = min(plan.parts, count_chunks(&plan.grid))
    if count_chunks(&plan.grid) == 0:
        memset(problem.dw, 0, x.groups * problem.dw_group * x.itemsize)
    elif plan.parts > 1 and not few:
        plan.parts = even_parts(count_chunks(&plan.grid), plan.parts)
        sum_parts(&plan)
    else:
        bounded_box(&plan, LARGE_CHUNK + min(INSTEAD, bytes // 2))
        plan.failed = not run_panels(problem, &plan.grid, &plan.source, &plan.gradient)
    if plan.failed:
        with gil:
            raise MemoryError("weight gradient: no memory for its transform or a workspace")
    return 0
