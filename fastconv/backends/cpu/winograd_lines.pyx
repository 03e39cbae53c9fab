"""Few channels by Winograd's minimal filtering along rows alone, F(4, 5); 2 x 2 windows are pooled on the way.

A task is a strip of neighbouring pairs of output rows of one plane. Its source is turned, so that rows are lanes, and
each vector of pixels is transformed in tiles of 4 outputs; products over kernel rows and channels, the way back and
what follows it are one micro-kernel (winograd_lines.hpp), which takes a pair of rows and a panel of columns at a time.
Nothing about an element's sum depends on strips, so neither do bits.

Memory: the transformed weights, and a strip's source, within 1 MB.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_winograd_line, fc_winograd_lines
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport Reader, ceil_div

cdef enum:
    OUTPUTS = 4             # of a tile
    POINTS = 8
    TAPS = 5                # of a kernel row
    LINES = 64              # of a strip: enough that few are transformed twice
    TASKS_PER_THREAD = 4

cdef int64_t STRIP_BYTES = 256 * 1024


cdef struct Plan:
    Correlation* problem
    Reader* x
    const fc_kernels* kernels
    uint8_t* index          # of a unit: places of the maxima, laid out as its pooled output; or NULL
    bint relu
    int64_t kernel          # rows of it
    int64_t taps            # (kernel rows, channels)
    int64_t pairs           # of output rows of a plane; only whole ones are pooled
    int64_t strip, strips   # pairs of a task, and tasks of a plane
    int64_t outputs         # of a row
    int64_t tiles, pixels   # of a row, and how many pixels they read
    int64_t lines           # from one pixel to the next in what a strip reads, whole vectors
    int64_t panels
    char* u                 # (panels, points, taps, nr), then the bias (panels, nr)
    char* bias
    bint failed


cdef inline int64_t panel_size(const Plan* plan) noexcept nogil:
    return POINTS * plan.taps * plan.kernels.nr


cdef void prepare_panel(void* context, int64_t panel) noexcept nogil:
    """Pack nr columns of the weights as (taps, depth, nr), and transform them."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef int64_t size = plan.x.itemsize, nr = plan.kernels.nr, row = plan.x.depth * nr, h, w
    cdef char* packed = <char*> workspace(TAPS * row * size)
    cdef fc_copy2d copy
    cdef fc_winograd_line call
    if packed == NULL:
        plan.failed = True
        return
    copy.columns, copy.padded = min(nr, problem.columns - panel * nr), nr
    copy.dj, copy.sj, copy.si = 1, problem.w_column, problem.w_depth
    copy.rows, copy.ld = plan.x.depth, nr
    call.step, call.plane, call.count = row, plan.taps * nr, row
    for h in range(plan.kernel):
        for w in range(TAPS):
            copy.src = problem.w + (panel * nr * problem.w_column + plan.x.axis[1].weight[h] +
                                    plan.x.axis[2].weight[w]) * size
            copy.dst = packed + w * row * size
            plan.kernels.copy2d(&copy)
        call.src, call.dst = packed, plan.u + (panel * panel_size(plan) + h * row) * size
        plan.kernels.winograd_line_filter(&call)
    if plan.bias != NULL:
        copy.src = problem.bias + panel * nr * problem.bias_stride * size
        copy.dst = plan.bias + panel * nr * size
        copy.rows, copy.ld, copy.si, copy.sj = 1, nr, 0, problem.bias_stride
        plan.kernels.copy2d(&copy)


cdef inline int64_t strip_lines(const Plan* plan, int64_t pairs) noexcept nogil:
    """Lines that so many pairs of rows read."""
    return 2 * pairs + plan.kernel - 1


cdef inline int64_t strip_elements(const Plan* plan) noexcept nogil:
    """Of what a strip reads, and of its transform."""
    return plan.x.depth * (plan.pixels + plan.tiles * POINTS) * plan.lines


cdef void transform_strip(const Plan* plan, int64_t plane, int64_t first, int64_t lines, char* source,
                          char* v) noexcept nogil:
    """Turn what a strip reads to (channel, pixel, line), zero-padded; transformed: (channel, tile, point, line)."""
    cdef Reader* x = plan.x
    cdef int64_t size = x.itemsize, k, t
    cdef int64_t h = x.axis[1].src_base + x.axis[1].shift[0] + first, w = x.axis[2].src_base + x.axis[2].shift[0]
    cdef int64_t top = max(<int64_t> 0, -h), bottom = max(top, min(lines, x.axis[1].src_size - h))
    cdef int64_t left = max(<int64_t> 0, -w), right = max(left, min(plan.pixels, x.axis[2].src_size - w))
    cdef const char* from_plane = x.data + (plane // x.axis[0].count * x.stride[0] + plane % x.axis[0].count *
                                            x.stride[2] + (h + top) * x.stride[3] + (w + left) * x.stride[4]) * size
    cdef fc_copy2d copy
    cdef fc_winograd_line call
    copy.rows, copy.columns, copy.ld = right - left, bottom - top, plan.lines
    copy.padded, copy.dj, copy.si, copy.sj = copy.columns, 1, x.stride[4], x.stride[3]
    if copy.rows < plan.pixels or copy.columns < lines:
        memset(source, 0, x.depth * plan.pixels * plan.lines * size)
    call.step = call.plane = plan.lines
    call.count = lines
    for k in range(x.depth):
        if copy.rows > 0 and copy.columns > 0:
            copy.src = from_plane + k * x.stride[1] * size
            copy.dst = source + ((k * plan.pixels + left) * plan.lines + top) * size
            plan.kernels.copy2d(&copy)
        for t in range(plan.tiles):
            call.src = source + (k * plan.pixels + t * OUTPUTS) * plan.lines * size
            call.dst = v + (k * plan.tiles + t) * POINTS * plan.lines * size
            plan.kernels.winograd_line_input(&call)


cdef void run_strip(void* context, int64_t index) noexcept nogil:
    """index = plane * strips + strip."""
    cdef Plan* plan = <Plan*> context
    cdef Correlation* problem = plan.problem
    cdef Reader* x = plan.x
    cdef int64_t size = x.itemsize, nr = plan.kernels.nr, plane = index // plan.strips
    cdef int64_t first = index % plan.strips * plan.strip, pairs = min(plan.strip, plan.pairs - first)
    cdef int64_t elements = strip_elements(plan), panel, pair, k, h
    cdef char* source = <char*> workspace(elements * size + plan.taps * sizeof(int64_t))
    cdef int64_t* tap = <int64_t*> (source + elements * size)
    cdef char* v = source + x.depth * plan.pixels * plan.lines * size
    cdef char* y = problem.y
    cdef const char* residual = problem.residual
    cdef fc_winograd_lines call
    if source == NULL:
        plan.failed = True
        return
    transform_strip(plan, plane, 2 * first, strip_lines(plan, pairs), source, v)
    for h in range(plan.kernel):
        for k in range(x.depth):
            tap[h * x.depth + k] = k * plan.tiles * POINTS * plan.lines + h
    call.tap, call.taps, call.tile, call.xplane = tap, plan.taps, POINTS * plan.lines, plan.lines
    call.wplane, call.outputs, call.relu = plan.taps * nr, plan.outputs, plan.relu
    call.row, call.column = problem.ys[3], problem.ys[4]
    y += (plane // x.axis[0].count * problem.ys[0] + plane % x.axis[0].count * problem.ys[2]) * size
    call.bias, call.residual = NULL, NULL
    if residual != NULL:
        residual += (plane // x.axis[0].count * problem.rs[0] + plane % x.axis[0].count * problem.rs[2]) * size
        call.residual_row, call.residual_column = problem.rs[3], problem.rs[4]
    for panel in range(plan.panels):
        call.channels = min(nr, problem.columns - panel * nr)
        call.w = plan.u + panel * panel_size(plan) * size
        if plan.bias != NULL:
            call.bias = plan.bias + panel * nr * size
        for pair in range(first, first + pairs):
            call.x = v + 2 * (pair - first) * size
            if plan.index != NULL:
                call.y = y + (pair * call.row + panel * nr) * size
                call.index = plan.index + (<char*> call.y - problem.y) // size
                plan.kernels.winograd_lines_pool(&call)
                continue
            call.rows = min(<int64_t> 2, x.axis[1].count - 2 * pair)
            call.y = y + (2 * pair * call.row + panel * nr) * size
            if residual != NULL:
                call.residual = residual + (2 * pair * call.residual_row + panel * nr) * size
            plan.kernels.winograd_lines(&call)


cdef void cut(Plan* plan, int64_t planes) noexcept nogil:
    """Choose strips: as long as memory allows, and enough of them for all threads."""
    cdef int64_t width = plan.kernels.width, wanted = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1
    plan.strip = min(plan.pairs, max(<int64_t> 1, (LINES - plan.kernel + 1) // 2))
    plan.lines = ceil_div(strip_lines(plan, plan.strip), width) * width
    while ((plan.strip > 1 and strip_elements(plan) * plan.x.itemsize > STRIP_BYTES) or
           (plan.strip > 2 and planes * ceil_div(plan.pairs, plan.strip) < wanted)):
        plan.strip = ceil_div(plan.strip, 2)
        plan.lines = ceil_div(strip_lines(plan, plan.strip), width) * width
    plan.strips = ceil_div(plan.pairs, plan.strip)


cdef int lines_correlate(Correlation* problem, uint8_t* index, bint relu) except -1 nogil:
    """Solve a problem of one group whose kernel is (1, any, 5), of stride 1. Raises MemoryError.

    With an ``index``, y is the maxima of 2 x 2 windows of a plane, after the ReLU with ``relu``.
    """
    cdef Plan plan
    cdef int64_t planes = problem.x.n * problem.x.axis[0].count, bytes
    plan.problem, plan.x, plan.kernels, plan.failed = problem, &problem.x, kernels(problem.x.itemsize), False
    plan.index, plan.relu, plan.kernel = index, relu if index != NULL else problem.relu, problem.x.axis[1].taps
    plan.taps, plan.outputs = plan.kernel * plan.x.depth, plan.x.axis[2].count
    plan.pairs = plan.x.axis[1].count // 2 if index != NULL else ceil_div(plan.x.axis[1].count, 2)
    if index != NULL:
        plan.outputs -= plan.outputs % 2
    if planes * plan.pairs * plan.outputs == 0:
        return 0
    plan.tiles = ceil_div(plan.outputs, OUTPUTS)
    plan.pixels = plan.tiles * OUTPUTS + TAPS - 1
    plan.panels = ceil_div(problem.columns, plan.kernels.nr)
    cut(&plan, planes)
    bytes = plan.panels * (panel_size(&plan) + plan.kernels.nr) * plan.x.itemsize
    plan.u = <char*> allocate(bytes)
    if plan.u == NULL:
        plan.failed = True
    else:
        plan.bias = NULL
        if problem.bias != NULL:
            plan.bias = plan.u + plan.panels * panel_size(&plan) * plan.x.itemsize
        parallel_for(plan.panels, prepare_panel, &plan)
        parallel_for(planes * plan.strips, run_strip, &plan)
    release(plan.u, bytes)
    if plan.failed:
        with gil:
            raise MemoryError("convolution: no memory for transformed weights or a workspace")
    return 0
