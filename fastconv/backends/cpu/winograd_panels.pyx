"""The weight gradient by Winograd's minimal filtering, where its transform is large: panels that never leave a cache.

With 512 channels the transformed gradient takes 38 MB, and to write and read it costs more than its products. So all
threads transform a chunk of tiles, panel by panel of channels; then a task multiplies a panel of dy's channels with one
of x's in all planes, which fits into a second-level cache, and transforms that back at once. Sums over chunks are sums
of pixels, a quarter of the planes, and the last chunk stores dw. A chunk is the shape's alone, and the order of each
sum too; only the size of panels looks at the threads.

Memory: a chunk, and where there are several the sums: 4 MB and the size of the transformed gradient, at most.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_accumulate, fc_copy2d, fc_outer_tile, fc_winograd
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport ceil_div
from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd_tiles cimport (
    KINDS, Chunk, Grid, Pixels, apart, buffer_bytes, count_chunks, list_tiles, locate_chunk, plane_kind, plane_size,
    rows_to_transform, shares_weights, tiles_before, tiles_lie_even, transform_row, weight_plane,
)

cdef int64_t PANEL_BYTES = 600 * 1024   # of a panel's planes
cdef int64_t PANEL_COLUMNS = 64         # channels of x
cdef int64_t TASKS_PER_THREAD = 2


cdef struct Side:
    # An array in panels of `width` channels: (panels, planes, plane), the last panel as narrow as its channels.
    const Pixels* pixels
    int64_t width, panels
    char* planes


cdef struct Plan:
    const Outer* problem
    const Grid* grid
    Side x, dy
    Chunk chunk
    int64_t taps            # of a panel: kernel * kernel
    bint first, last        # chunk
    char* sums              # (row panels, column panels, depth taps, rows, taps, columns), or NULL
    bint failed


cdef void set_side(Side* side, const Pixels* pixels, int64_t width, int64_t unit) noexcept nogil:
    """Cut the channels into equal panels, at most ``width`` or a ``unit``, each a multiple of it but the last."""
    cdef int64_t parts = ceil_div(pixels.channels, max(width, unit))
    side.pixels = pixels
    side.width = ceil_div(ceil_div(pixels.channels, parts), unit) * unit
    side.panels = ceil_div(pixels.channels, side.width)


cdef void choose_panels(Plan* plan, const Pixels* source, const Pixels* gradient) noexcept nogil:
    cdef const Grid* grid = plan.grid
    cdef int64_t mr = grid.kernels.mr, nr = grid.kernels.nr, columns = PANEL_COLUMNS
    cdef int64_t rows = PANEL_BYTES // (grid.weights * columns * grid.itemsize) // mr * mr
    while True:
        set_side(&plan.dy, gradient, rows, mr)
        set_side(&plan.x, source, columns, nr)
        if count_panels(plan) >= TASKS_PER_THREAD * num_threads():
            return
        if rows > 2 * mr:
            rows //= 2
        elif columns > nr:
            columns //= 2
        else:
            return


cdef inline int64_t count_panels(const Plan* plan) noexcept nogil:
    return plan.dy.panels * plan.x.panels * plan.problem.x.axis[0].taps


cdef inline int64_t sum_size(const Plan* plan) noexcept nogil:
    """Elements of a panel, transformed back."""
    return plan.dy.width * plan.taps * plan.x.width


cdef inline Pixels panel_of(const Side* side, int64_t panel, int64_t group, int64_t itemsize) noexcept nogil:
    """The channels of a panel as an array of their own."""
    cdef Pixels pixels = side.pixels[0]
    cdef int64_t first = panel * side.width
    pixels.data += (group * pixels.channels + first) * pixels.stride[1] * itemsize
    pixels.channels, pixels.far = min(side.width, pixels.channels - first), pixels.far and side.panels == 1
    return pixels


cdef inline int64_t side_size(const Side* side, const Grid* grid, const int64_t* count) noexcept nogil:
    """Elements of all panels of a chunk."""
    return side.panels * panel_size(side, grid, count)


cdef inline int64_t panel_size(const Side* side, const Grid* grid, const int64_t* count) noexcept nogil:
    """Elements from a panel of a chunk to the next."""
    cdef Pixels pixels = side.pixels[0]
    pixels.channels = side.width
    return grid.planes * plane_size(&pixels, count)


cdef void transform_task(void* context, int64_t index) noexcept nogil:
    """A row of tiles of one panel: index = row * panels + panel, of x, and beyond those, of dy."""
    cdef Plan* plan = <Plan*> context
    cdef const Grid* grid = plan.grid
    cdef const Side* side = &plan.x
    cdef int64_t tasks = rows_to_transform(plan.x.pixels, &plan.chunk) * plan.x.panels, panel
    cdef Chunk chunk = plan.chunk
    cdef Pixels pixels
    cdef int64_t bytes = max(buffer_bytes(grid, plan.x.pixels), buffer_bytes(grid, plan.dy.pixels))
    cdef char* buffer = <char*> workspace(64 + bytes)
    if buffer == NULL:
        plan.failed = True
        return
    if index >= tasks:
        index -= tasks
        side = &plan.dy
    panel = index % side.panels
    pixels = panel_of(side, panel, chunk.group, grid.itemsize)
    chunk.group = 0
    transform_row(grid, &chunk, &pixels, index // side.panels,
                  side.planes + panel * panel_size(side, grid, chunk.count) * grid.itemsize, buffer)


cdef void multiply(const Plan* plan, int64_t row, int64_t column, int64_t tap, char* u, int64_t* lists) noexcept nogil:
    """The products of a panel in all planes: u (weights; rows, columns)."""
    cdef const Grid* grid = plan.grid
    cdef const Chunk* chunk = &plan.chunk
    cdef const int64_t* shift = plan.problem.x.axis[0].shift
    cdef Pixels x = panel_of(&plan.x, column, 0, 0), dy = panel_of(&plan.dy, row, 0, 0)
    cdef int64_t size = grid.itemsize, i
    cdef int64_t x_plane = plane_size(&x, chunk.count), dy_plane = plane_size(&dy, chunk.count)
    cdef bint even = tiles_lie_even(chunk, &dy) and tiles_lie_even(chunk, &x)
    cdef int kind, following = plane_kind(grid, chunk, 0)
    cdef fc_outer_tile call
    call.row = NULL
    call.xstep, call.ystep = dy.channels, x.channels
    list_tiles(chunk, &dy, lists)
    list_tiles(chunk, &x, lists + KINDS * chunk.tiles)
    call.ahead[0].length, call.ahead[1].length = dy.channels, x.channels
    call.rows, call.columns, call.ld = dy.channels, x.channels, plan.x.width
    call.x, call.dy = plan.dy.planes, plan.x.planes
    call.x = <char*> call.x + row * panel_size(&plan.dy, grid, chunk.count) * size
    call.dy = <char*> call.dy + (column * panel_size(&plan.x, grid, chunk.count) +
                                 (shift[tap] - shift[0]) * chunk.count[2] * chunk.count[3] * x.channels) * size
    for i in range(grid.planes):
        call.dw = u + weight_plane(grid, i) * apart(plan.dy.width * plan.x.width) * size
        call.accumulate = shares_weights(grid, i)
        kind, call.ahead[0].runs = following, 0
        if i + 1 < grid.planes:
            following = plane_kind(grid, chunk, i + 1)
            call.ahead[0].runs = tiles_before(chunk, following, chunk.tiles)
        call.ahead[1].runs = call.ahead[0].runs
        call.ahead[0].run = lists + following * chunk.tiles
        call.ahead[1].run = call.ahead[0].run + KINDS * chunk.tiles
        call.xpixel = call.ypixel = NULL
        if kind or not even:
            call.xpixel = lists + kind * chunk.tiles
            call.ypixel = call.xpixel + KINDS * chunk.tiles
        call.pixels = tiles_before(chunk, kind, chunk.tiles)
        call.ahead[0].data = <char*> call.x + dy_plane * size
        call.ahead[1].data = <char*> call.dy + x_plane * size
        grid.kernels.outer_tile(&call)
        call.x, call.dy = <char*> call.x + dy_plane * size, <char*> call.dy + x_plane * size


cdef void finish(const Plan* plan, int64_t index, int64_t row, int64_t column, int64_t tap, char* u,
                 char* buffer) noexcept nogil:
    """Transform a panel back, add what the chunks before have given, and keep the sums, or store them as dw."""
    cdef const Grid* grid = plan.grid
    cdef const Outer* problem = plan.problem
    cdef int64_t size = grid.itemsize, first = row * plan.dy.width, i
    cdef char* sums
    cdef fc_winograd call
    cdef fc_accumulate add
    cdef fc_copy2d copy
    call.form, call.plane, call.bias = grid.form, apart(plan.dy.width * plan.x.width), NULL
    call.count = call.column = min(plan.x.width, problem.x.depth - column * plan.x.width)
    call.row = grid.kernel * call.count
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = grid.kernel
    add.count = plan.taps * call.count
    copy.rows, copy.columns, copy.padded, copy.ld = call.count, plan.taps, plan.taps, problem.dw_depth
    copy.dj, copy.si, copy.sj = 1, 1, call.count
    for i in range(min(plan.dy.width, problem.columns - first)):
        sums = plan.sums + (index * sum_size(plan) + i * plan.taps * plan.x.width) * size
        call.planes = u + i * plan.x.width * size
        call.pixels = sums if plan.first and not plan.last else buffer
        grid.kernels.winograd_filter_gradient(&call)
        if not plan.first:
            add.dst, add.src = (buffer, sums) if plan.last else (sums, buffer)
            grid.kernels.accumulate(&add)
        if plan.last:
            copy.src = buffer
            copy.dst = problem.dw + (plan.chunk.group * problem.dw_group + (first + i) * problem.dw_column +
                                     column * plan.x.width * problem.dw_depth + problem.x.axis[0].weight[tap]) * size
            grid.kernels.copy2d(&copy)


cdef void panel_task(void* context, int64_t index) noexcept nogil:
    """index = (row panel * column panels + column panel) * depth taps + tap."""
    cdef Plan* plan = <Plan*> context
    cdef int64_t taps = plan.problem.x.axis[0].taps, size = plan.grid.itemsize
    cdef int64_t row = index // taps // plan.x.panels, column = index // taps % plan.x.panels
    cdef int64_t planes = plan.grid.weights * apart(plan.dy.width * plan.x.width) * size
    cdef int64_t buffer = apart(plan.taps * plan.x.width) * size
    cdef char* memory = <char*> workspace(planes + buffer + 2 * KINDS * plan.chunk.tiles * sizeof(int64_t))
    if memory == NULL:
        plan.failed = True
        return
    multiply(plan, row, column, index % taps, memory, <int64_t*> (memory + planes + buffer))
    finish(plan, index, row, column, index % taps, memory, memory + planes)


cdef bint run_panels(const Outer* problem, const Grid* grid, const Pixels* source,
                     const Pixels* gradient) noexcept nogil:
    """Solve the problem, chunk by chunk of the grid. Returns whether there was memory for it."""
    cdef Plan plan
    cdef int64_t chunks = count_chunks(grid), group, chunk, bytes
    plan.problem, plan.grid, plan.taps, plan.failed = problem, grid, grid.kernel * grid.kernel, False
    choose_panels(&plan, source, gradient)
    bytes = (side_size(&plan.x, grid, grid.box) + side_size(&plan.dy, grid, grid.box)) * grid.itemsize
    if chunks > 1:
        bytes += count_panels(&plan) * sum_size(&plan) * grid.itemsize
    plan.x.planes = <char*> allocate(bytes)
    if plan.x.planes == NULL:
        return False
    plan.dy.planes = plan.x.planes + side_size(&plan.x, grid, grid.box) * grid.itemsize
    plan.sums = plan.dy.planes + side_size(&plan.dy, grid, grid.box) * grid.itemsize
    for group in range(problem.x.groups):
        for chunk in range(chunks):
            locate_chunk(grid, chunk, &plan.chunk)
            plan.chunk.group, plan.first, plan.last = group, chunk == 0, chunk + 1 == chunks
            parallel_for(rows_to_transform(source, &plan.chunk) * plan.x.panels +
                         rows_to_transform(gradient, &plan.chunk) * plan.dy.panels, transform_task, &plan)
            parallel_for(count_panels(&plan), panel_task, &plan)
    release(plan.x.planes, bytes)
    return not plan.failed
