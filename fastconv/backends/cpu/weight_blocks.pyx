"""What one task of a weight gradient adds up: a block of lines and lanes, over its tiles, in two ways.

A single tap without padding has a third one, in weight_pixels.pyx.

Wide: x has channels enough for vectors; lines are channels of dy. Both sides of a tile are copied, each pixel's
channels side by side, those of x without padding or positions that no tap reads; a tap is then two lists of pixels,
which leave out those that see only padding.
Narrow: x has few channels, as in a first layer. Vectors run along dy's, and the lines of all taps, read from one
padded tile, are broadcast. Each tile of dy is read once: the next one is brought near meanwhile.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_ahead, fc_gather, fc_outer_tile
from fastconv.backends.cpu.tiles cimport (
    FAR, Reader, Tile, fetch, list_pixels, list_taps, locate, tile_bytes, tile_pixels,
)
from fastconv.backends.cpu.weight_positions cimport (
    Seen, list_pairs, most_positions, see, seen_lists, set_lists,
)
from fastconv.backends.cpu.weight_tiles cimport Outer

cdef enum:
    NEAR = 256  # bytes from pixel to pixel that need no copy
    DISTANT = 16 * 1024 * 1024  # bytes of an array that comes from memory: the narrow way asks for what comes next,
    WORTH_ASKING = 128          # runs of so many bytes at least


# ---------------------------------------------------------------------------------------------------- wide


cdef size_t wide_lists(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    return whole_lines((2 * seen_lists(x) + 2 * tile_pixels(x)) * sizeof(int64_t))


cdef size_t wide_memory(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t elements = most_positions(x) * copied_row(x, plan.lane_block)
    elements += tile_pixels(x) * copied_row(x, plan.line_block)
    return wide_lists(plan) + elements * x.itemsize


cdef inline void ask_for(fc_ahead* ahead, const int64_t* run, int64_t runs, int64_t share, int64_t part) noexcept nogil:
    """Let a call bring a part of ``runs`` near: ``share`` of them, or what is left."""
    cdef int64_t first = min(runs, part * share)
    ahead.run, ahead.runs = run + first, min(share, runs - first)


cdef void add_tap(const Reader* x, const Block* block, char* sums, const char* lanes,
                  fc_outer_tile* call) noexcept nogil:
    """Add the pixels of a tap to the sums that begin at ``sums``; vectors along ``lanes``."""
    if call.pixels == 0 and call.accumulate:
        return
    call.dw, call.dy, call.columns = sums, lanes, block.lanes
    x.kernel.outer_tile(call)


cdef void add_wide(const Plan* plan, const Block* block, char* memory) noexcept nogil:
    cdef Outer* problem = plan.problem
    cdef const Reader* x = &problem.x
    cdef int64_t size = x.itemsize, most = tile_pixels(x), n, done, share_x, share_dy
    cdef int64_t ldx = copied_row(x, plan.lane_block), ldy = copied_row(x, plan.line_block)
    cdef int64_t[3] tap
    cdef Seen[2] tiles
    cdef Seen *seen
    cdef Seen *following
    cdef int64_t* list = <int64_t*> memory
    cdef int64_t *xpixel
    cdef int64_t *ypixel
    cdef char* xs = memory + wide_lists(plan)
    cdef char* dys = xs + most_positions(x) * ldx * size
    cdef char* sums
    cdef fc_gather take_x, take_dy
    cdef fc_outer_tile call
    cdef bint far = x.n * x.stride[0] * size > FAR
    cdef int j
    for j in range(2):
        set_lists(x, &tiles[j], list)
        list += seen_lists(x)
    xpixel, ypixel = list, list + most
    take_x.dst, take_x.channels, take_x.ld, take_x.channel = xs, block.lanes, ldx, x.stride[1]
    take_x.src = x.data + (block.group * x.depth + block.lane) * x.stride[1] * size
    take_dy.dst, take_dy.channels, take_dy.ld, take_dy.channel = dys, block.lines, ldy, problem.ys[1]
    take_dy.src = problem.dy + (block.group * problem.columns + block.line) * problem.ys[1] * size
    call.x, call.xpixel, call.ypixel = dys, ypixel, xpixel
    call.row = NULL
    call.rows, call.ld = block.lines, block.ld
    call.ahead[0].data, call.ahead[0].length = take_x.src, block.lanes
    call.ahead[1].data, call.ahead[1].length = take_dy.src, block.lines
    see(x, problem.ys, block.first, &tiles[block.first % 2])
    for n in range(block.first, block.last):
        seen, following = &tiles[n % 2], &tiles[(n + 1) % 2]
        following.reads = following.outputs = 0
        if n + 1 < block.last:
            see(x, problem.ys, n + 1, following)
        take_x.pixel, take_x.pixels = seen.position, seen.reads
        take_dy.pixel, take_dy.pixels = seen.output, seen.outputs
        x.kernel.gather(&take_x)
        x.kernel.gather(&take_dy)
        call.accumulate = n > block.first
        share_x = ceil_div(following.reads, x.taps) if take_x.channel == 1 and far else 0
        share_dy = ceil_div(following.outputs, x.taps) if take_dy.channel == 1 and far else 0
        sums, done = block.sums, 0
        for tap[0] in range(x.axis[0].taps):
            for tap[1] in range(x.axis[1].taps):
                for tap[2] in range(x.axis[2].taps):
                    call.pixels = list_pairs(x, seen, tap, ldx, ldy, xpixel, ypixel)
                    ask_for(&call.ahead[0], following.position, following.reads, share_x, done)
                    ask_for(&call.ahead[1], following.output, following.outputs, share_dy, done)
                    add_tap(x, block, sums, xs, &call)
                    sums += block.tap * size
                    done += 1


# -------------------------------------------------------------------------------------------------- narrow


cdef size_t narrow_lists(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    return whole_lines((5 * tile_pixels(x) + x.taps * (plan.line_block + 1)) * sizeof(int64_t))


cdef size_t narrow_memory(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t elements = tile_pixels(x) * copied_row(x, plan.lane_block)
    return narrow_lists(plan) + whole_lines(tile_bytes(x)) + elements * x.itemsize


cdef bint side_by_side(const int64_t* row, int64_t rows) noexcept nogil:
    cdef int64_t r
    for r in range(rows):
        if row[r] != r:
            return False
    return True


cdef void add_narrow(const Plan* plan, const Block* block, char* memory) noexcept nogil:
    cdef Outer* problem = plan.problem
    cdef const Reader* x = &problem.x
    cdef int64_t size = x.itemsize, most = tile_pixels(x), pixels, following, n, k, t, p
    cdef int64_t ldy = copied_row(x, plan.lane_block)
    cdef bint near = problem.ys[1] == 1 and 0 <= problem.ys[4] * size <= NEAR
    cdef bint asks = (problem.ys[1] == 1 and problem.ys[0] * x.n * size > DISTANT and
                      block.lanes * size >= WORTH_ASKING)
    cdef int64_t* packed = <int64_t*> memory
    cdef int64_t* xpixel = packed + most
    cdef int64_t* pixel = xpixel + most
    cdef int64_t* next_xpixel = pixel + most
    cdef int64_t* next_pixel = next_xpixel + most
    cdef int64_t* row = next_pixel + most
    cdef int64_t* each = row + x.taps * block.lines
    cdef char* xs = memory + narrow_lists(plan)
    cdef char* dys = xs + whole_lines(tile_bytes(x))
    cdef const char* dy = problem.dy + (block.group * problem.columns + block.lane) * problem.ys[1] * size
    cdef Tile tile, upcoming
    cdef fc_gather take
    cdef fc_outer_tile call
    list_taps(x, each)
    for k in range(block.lines):
        for t in range(x.taps):
            row[k * x.taps + t] = each[t] + k
    for p in range(most):
        packed[p] = p * ldy
    take.dst, take.src, take.channels, take.ld = dys, dy, block.lanes, ldy
    take.channel = problem.ys[1]
    call.row, call.rows, call.ld = row, x.taps * block.lines, block.ld if x.taps == 1 else block.tap
    if side_by_side(row, call.rows):
        call.row = NULL
    call.ahead[0].runs = call.ahead[1].runs = 0
    call.ahead[1].data, call.ahead[1].length = dy, block.lanes
    locate(x, block.first, &upcoming)
    following = list_pixels(x, &upcoming, &upcoming, problem.ys, next_xpixel, next_pixel)
    for n in range(block.first, block.last):
        tile, pixels, following = upcoming, following, 0
        xpixel, next_xpixel = next_xpixel, xpixel
        pixel, next_pixel = next_pixel, pixel
        if n + 1 < block.last:
            locate(x, n + 1, &upcoming)
            following = list_pixels(x, &upcoming, &upcoming, problem.ys, next_xpixel, next_pixel)
        call.x = fetch(x, &tile, block.group, block.line // x.chunk, xs)
        call.pixels = take.pixels = pixels
        take.pixel, call.xpixel, call.ypixel = pixel, xpixel, pixel if near else packed
        call.ahead[1].run, call.ahead[1].runs = next_pixel, following if asks else 0
        if not near:
            x.kernel.gather(&take)
        call.accumulate = n > block.first
        add_tap(x, block, block.sums, dy if near else dys, &call)
