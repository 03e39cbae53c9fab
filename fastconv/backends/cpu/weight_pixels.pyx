"""What one task of a weight gradient adds up where there is a single tap that sees no padding: a product of matrices.

A tile is a run of pixels, counted over all images. They are read where they lie, or, if an array's channels do not lie
side by side, copied. While a tile is added, the next one is brought near: the processor foresees no such pattern.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_gather, fc_outer_tile
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div, source_at
from fastconv.backends.cpu.weight_blocks cimport copied_row, whole_lines
from fastconv.backends.cpu.weight_tiles cimport Block, Outer, Plan

cdef enum:
    TILE_BYTES = 64 * 1024
    LEAST_PIXELS = 64       # fewer, and loading and storing the sums would show
    MOST_PIXELS = 128


cdef bint sees_no_padding(const Plan* plan) noexcept nogil:
    """Whether there is one tap, which sees no padding. From the shape alone."""
    cdef const Reader* x = &plan.problem.x
    cdef int i
    if x.taps != 1:
        return False
    for i in range(3):
        if source_at(&x.axis[i], 0) < 0 or source_at(&x.axis[i], x.axis[i].count - 1) >= x.axis[i].src_size:
            return False
    return True


cdef void choose_pixels(Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t fit = TILE_BYTES // x.itemsize // (plan.lines + plan.lanes)
    plan.pixels = x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count
    plan.tile = min(MOST_PIXELS, max(LEAST_PIXELS, fit))
    plan.tiles = ceil_div(plan.pixels, plan.tile)


cdef size_t lists_memory(const Plan* plan) noexcept nogil:
    return whole_lines((6 * plan.tile + plan.line_block) * sizeof(int64_t))


cdef size_t pixels_memory(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t row = copied_row(x, plan.line_block) + copied_row(x, plan.lane_block)
    return lists_memory(plan) + plan.tile * row * x.itemsize


cdef int64_t list_tile(const Plan* plan, int64_t tile, int64_t* line, int64_t* lane) noexcept nogil:
    """List where a tile's pixels lie in both arrays. Returns how many there are."""
    cdef const Reader* x = &plan.problem.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef const int64_t* ys = plan.problem.ys
    cdef int64_t* xpixel = lane if plan.wide else line
    cdef int64_t* ypixel = line if plan.wide else lane
    cdef int64_t first = tile * plan.tile, pixels = min(plan.tile, plan.pixels - first), p = 0, n, d, h, w, src, dst
    w = first % ax[2].count
    first //= ax[2].count
    h = first % ax[1].count
    first //= ax[1].count
    d, n = first % ax[0].count, first // ax[0].count
    while p < pixels:
        src = n * x.stride[0] + source_at(&ax[0], d) * x.stride[2] + source_at(&ax[1], h) * x.stride[3]
        dst = n * ys[0] + d * ys[2] + h * ys[3]
        for w in range(w, min(ax[2].count, w + pixels - p)):
            xpixel[p] = src + source_at(&ax[2], w) * x.stride[4]
            ypixel[p] = dst + w * ys[4]
            p += 1
        w = 0
        h += 1
        if h == ax[1].count:
            h, d = 0, d + 1
        if d == ax[0].count:
            d, n = 0, n + 1
    return pixels


cdef void add_pixels(const Plan* plan, const Block* block, char* memory) noexcept nogil:
    cdef Outer* problem = plan.problem
    cdef const Reader* x = &problem.x
    cdef int64_t most = plan.tile, size = x.itemsize, here = 0, pixels, n
    cdef int64_t* line = <int64_t*> memory
    cdef int64_t* lane = line + 2 * most
    cdef int64_t* packed = lane + 2 * most
    cdef int64_t* row = packed + 2 * most
    cdef int64_t x_channel = block.group * x.depth + (block.lane if plan.wide else block.line)
    cdef int64_t y_channel = block.group * problem.columns + (block.line if plan.wide else block.lane)
    cdef const char* xs = x.data + x_channel * x.stride[1] * size
    cdef const char* dys = problem.dy + y_channel * problem.ys[1] * size
    cdef fc_gather lines, lanes
    cdef fc_outer_tile call
    cdef bint copies
    lines.src, lines.channel = (dys, problem.ys[1]) if plan.wide else (xs, x.stride[1])
    lanes.src, lanes.channel = (xs, x.stride[1]) if plan.wide else (dys, problem.ys[1])
    lines.channels, lines.ld = block.lines, copied_row(x, plan.line_block)
    lanes.channels, lanes.ld = block.lanes, copied_row(x, plan.lane_block)
    lines.dst = memory + lists_memory(plan)
    lanes.dst = <char*> lines.dst + most * lines.ld * size
    copies = (lines.channel != 1 and lines.channels > 1) or (lanes.channel != 1 and lanes.channels > 1)
    for n in range(most):
        packed[n], packed[most + n] = n * lines.ld, n * lanes.ld
    for n in range(block.lines):
        row[n] = n
    call.row, call.rows, call.columns, call.dw, call.ld = row, block.lines, block.lanes, block.sums, block.ld
    call.x, call.xpixel = lines.dst, packed
    call.dy, call.ypixel = lanes.dst, packed + most
    call.next = 0
    pixels = list_tile(plan, block.first, line, lane)
    for n in range(block.first, block.last):
        call.pixels, call.accumulate = pixels, n > block.first
        lines.pixel, lanes.pixel = line + here, lane + here
        lines.pixels = lanes.pixels = pixels
        here = most - here
        pixels = 0 if n + 1 == block.last else list_tile(plan, n + 1, line + here, lane + here)
        if copies:
            x.kernel.gather(&lines)
            x.kernel.gather(&lanes)
        else:
            call.x, call.xpixel, call.dy, call.ypixel = lines.src, lines.pixel, lanes.src, lanes.pixel
            call.xnext, call.ynext, call.next = line + here, lane + here, pixels
        x.kernel.outer_tile(&call)
