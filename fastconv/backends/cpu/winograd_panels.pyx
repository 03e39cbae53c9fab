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
cdef int64_t PANEL_LANES = 64
cdef int64_t TASKS_PER_THREAD = 2


cdef struct Side:
    # An array in panels of `width` channels: (panels, planes, plane), the last panel as narrow as its channels.
    const Pixels* pixels
    int64_t width, panels
    int64_t step            # from channel to channel in dw
    char* planes


cdef struct Plan:
    const Outer* problem
    const Grid* grid
    Side lines, lanes       # dy and x; the other way round where dy's channels fill more lanes of vectors
    bint turned
    Chunk chunk
    int64_t taps            # of a panel: kernel * kernel
    bint first, last        # chunk
    char* sums              # (line panels, lane panels, depth taps, lines, taps, lanes), or NULL
    bint failed


cdef void set_side(Side* side, const Pixels* pixels, int64_t width, int64_t unit) noexcept nogil:
    """Cut the channels into equal panels, at most ``width`` or a ``unit``, each a multiple of it but the last."""
    cdef int64_t parts = ceil_div(pixels.channels, max(width, unit))
    side.pixels = pixels
    side.width = ceil_div(ceil_div(pixels.channels, parts), unit) * unit
    side.panels = ceil_div(pixels.channels, side.width)


cdef bint lanes_of_dy(int64_t depth, int64_t columns, int64_t width) noexcept nogil:
    """Whether vectors run along dy's channels, for those of x fill fewer lanes. No bit depends on it."""
    return ceil_div(depth, width) * columns * 10 > ceil_div(columns, width) * depth * 11


cdef void choose_panels(Plan* plan, const Pixels* source, const Pixels* gradient) noexcept nogil:
    cdef const Grid* grid = plan.grid
    cdef int64_t mr = grid.kernels.mr, nr = grid.kernels.nr, lanes = PANEL_LANES
    cdef int64_t lines = PANEL_BYTES // (grid.weights * lanes * grid.itemsize) // mr * mr
    cdef bint turned = lanes_of_dy(source.channels, gradient.channels, grid.kernels.width)
    plan.turned = turned
    plan.lines.step, plan.lanes.step = plan.problem.dw_column, plan.problem.dw_depth
    if turned:
        plan.lines.step, plan.lanes.step = plan.lanes.step, plan.lines.step
    while True:
        set_side(&plan.lines, source if turned else gradient, lines, mr)
        set_side(&plan.lanes, gradient if turned else source, lanes, nr)
        if count_panels(plan) >= TASKS_PER_THREAD * num_threads():
            return
        if lanes > nr and (turned or lines <= 2 * mr):  # those of dy first
            lanes //= 2
        elif lines > 2 * mr:
            lines //= 2
        else:
            return


cdef inline int64_t count_panels(const Plan* plan) noexcept nogil:
    return plan.lines.panels * plan.lanes.panels * plan.problem.x.axis[0].taps


cdef inline int64_t sum_size(const Plan* plan) noexcept nogil:
    """Elements of a panel, transformed back."""
    return plan.lines.width * plan.taps * plan.lanes.width


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
    """A row of tiles of one panel: index = row * panels + panel, of the lanes, and beyond those, of the lines."""
    cdef Plan* plan = <Plan*> context
    cdef const Grid* grid = plan.grid
    cdef const Side* side = &plan.lanes
    cdef int64_t tasks = rows_to_transform(plan.lanes.pixels, &plan.chunk) * plan.lanes.panels, panel
    cdef Chunk chunk = plan.chunk
    cdef Pixels pixels
    cdef int64_t bytes = max(buffer_bytes(grid, plan.lines.pixels), buffer_bytes(grid, plan.lanes.pixels))
    cdef char* buffer = <char*> workspace(64 + bytes)
    if buffer == NULL:
        plan.failed = True
        return
    if index >= tasks:
        index -= tasks
        side = &plan.lines
    panel = index % side.panels
    pixels = panel_of(side, panel, chunk.group, grid.itemsize)
    chunk.group = 0
    transform_row(grid, &chunk, &pixels, index // side.panels,
                  side.planes + panel * panel_size(side, grid, chunk.count) * grid.itemsize, buffer)


cdef void multiply(const Plan* plan, int64_t line, int64_t lane, int64_t tap, char* u, int64_t* lists) noexcept nogil:
    """The products of a panel in all planes: u (weights; lines, lanes)."""
    cdef const Grid* grid = plan.grid
    cdef const Chunk* chunk = &plan.chunk
    cdef const int64_t* shift = plan.problem.x.axis[0].shift
    cdef Pixels lines = panel_of(&plan.lines, line, 0, 0), lanes = panel_of(&plan.lanes, lane, 0, 0)
    cdef int64_t size = grid.itemsize, moved = (shift[tap] - shift[0]) * chunk.count[2] * chunk.count[3] * size, i
    cdef int64_t line_plane = plane_size(&lines, chunk.count), lane_plane = plane_size(&lanes, chunk.count)
    cdef bint even = tiles_lie_even(chunk, &lines) and tiles_lie_even(chunk, &lanes)
    cdef int kind, following = plane_kind(grid, chunk, 0)
    cdef fc_outer_tile call
    call.row = NULL
    call.xstep, call.ystep = lines.channels, lanes.channels
    list_tiles(chunk, &lines, lists)
    list_tiles(chunk, &lanes, lists + KINDS * chunk.tiles)
    call.ahead[0].length, call.ahead[1].length = lines.channels, lanes.channels
    call.rows, call.columns, call.ld = lines.channels, lanes.channels, plan.lanes.width
    call.x = plan.lines.planes + line * panel_size(&plan.lines, grid, chunk.count) * size
    call.dy = plan.lanes.planes + lane * panel_size(&plan.lanes, grid, chunk.count) * size
    if plan.turned:
        call.x = <char*> call.x + moved * lines.channels
    else:
        call.dy = <char*> call.dy + moved * lanes.channels
    for i in range(grid.planes):
        call.dw = u + weight_plane(grid, i) * apart(plan.lines.width * plan.lanes.width) * size
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
        call.ahead[0].data = <char*> call.x + line_plane * size
        call.ahead[1].data = <char*> call.dy + lane_plane * size
        grid.kernels.outer_tile(&call)
        call.x, call.dy = <char*> call.x + line_plane * size, <char*> call.dy + lane_plane * size


cdef void finish(const Plan* plan, int64_t index, int64_t line, int64_t lane, int64_t tap, char* u,
                 char* buffer) noexcept nogil:
    """Transform a panel back, add what the chunks before have given, and keep the sums, or store them as dw."""
    cdef const Grid* grid = plan.grid
    cdef const Outer* problem = plan.problem
    cdef int64_t size = grid.itemsize, first = line * plan.lines.width, i
    cdef char* sums
    cdef fc_winograd call
    cdef fc_accumulate add
    cdef fc_copy2d copy
    call.form, call.plane, call.bias = grid.form, apart(plan.lines.width * plan.lanes.width), NULL
    call.count = call.column = min(plan.lanes.width, plan.lanes.pixels.channels - lane * plan.lanes.width)
    call.row = grid.kernel * call.count
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = grid.kernel
    add.count = plan.taps * call.count
    copy.rows, copy.columns, copy.padded, copy.ld = call.count, plan.taps, plan.taps, plan.lanes.step
    copy.dj, copy.si, copy.sj = 1, 1, call.count
    for i in range(min(plan.lines.width, plan.lines.pixels.channels - first)):
        sums = plan.sums + (index * sum_size(plan) + i * plan.taps * plan.lanes.width) * size
        call.planes = u + i * plan.lanes.width * size
        call.pixels = sums if plan.first and not plan.last else buffer
        grid.kernels.winograd_filter_gradient(&call)
        if not plan.first:
            add.dst, add.src = (buffer, sums) if plan.last else (sums, buffer)
            grid.kernels.accumulate(&add)
        if plan.last:
            copy.src = buffer
            copy.dst = problem.dw + (plan.chunk.group * problem.dw_group + (first + i) * plan.lines.step +
                                     lane * plan.lanes.width * plan.lanes.step + problem.x.axis[0].weight[tap]) * size
            grid.kernels.copy2d(&copy)


cdef void panel_task(void* context, int64_t index) noexcept nogil:
    """index = (line panel * lane panels + lane panel) * depth taps + tap."""
    cdef Plan* plan = <Plan*> context
    cdef int64_t taps = plan.problem.x.axis[0].taps, size = plan.grid.itemsize
    cdef int64_t line = index // taps // plan.lanes.panels, lane = index // taps % plan.lanes.panels
    cdef int64_t planes = plan.grid.weights * apart(plan.lines.width * plan.lanes.width) * size
    cdef int64_t buffer = apart(plan.taps * plan.lanes.width) * size
    cdef char* memory = <char*> workspace(planes + buffer + 2 * KINDS * plan.chunk.tiles * sizeof(int64_t))
    if memory == NULL:
        plan.failed = True
        return
    multiply(plan, line, lane, index % taps, memory, <int64_t*> (memory + planes + buffer))
    finish(plan, index, line, lane, index % taps, memory, memory + planes)


cdef bint run_panels(const Outer* problem, const Grid* grid, const Pixels* source,
                     const Pixels* gradient) noexcept nogil:
    """Solve the problem, chunk by chunk of the grid. Returns whether there was memory for it."""
    cdef Plan plan
    cdef int64_t chunks = count_chunks(grid), group, chunk, bytes
    plan.problem, plan.grid, plan.taps, plan.failed = problem, grid, grid.kernel * grid.kernel, False
    choose_panels(&plan, source, gradient)
    bytes = (side_size(&plan.lanes, grid, grid.box) + side_size(&plan.lines, grid, grid.box)) * grid.itemsize
    if chunks > 1:
        bytes += count_panels(&plan) * sum_size(&plan) * grid.itemsize
    plan.lanes.planes = <char*> allocate(bytes)
    if plan.lanes.planes == NULL:
        return False
    plan.lines.planes = plan.lanes.planes + side_size(&plan.lanes, grid, grid.box) * grid.itemsize
    plan.sums = plan.lines.planes + side_size(&plan.lines, grid, grid.box) * grid.itemsize
    for group in range(problem.x.groups):
        for chunk in range(chunks):
            locate_chunk(grid, chunk, &plan.chunk)
            plan.chunk.group, plan.first, plan.last = group, chunk == 0, chunk + 1 == chunks
            parallel_for(rows_to_transform(plan.lanes.pixels, &plan.chunk) * plan.lanes.panels +
                         rows_to_transform(plan.lines.pixels, &plan.chunk) * plan.lines.panels, transform_task, &plan)
            parallel_for(count_panels(&plan), panel_task, &plan)
    release(plan.lanes.planes, bytes)
    return not plan.failed
