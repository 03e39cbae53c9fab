"""What one task of a weight gradient adds up: a block of lines and lanes, over its tiles, in two ways.

A single tap without padding has a third one, in weight_pixels.pyx.

Wide: x has channels enough for vectors; lines are channels of dy. Both sides of a tile are copied, each pixel's
channels side by side, those of x without padding or positions that no tap reads; a tap is then two lists of pixels,
which leave out those that see only padding.
Narrow: x has few channels, as in a first layer. Vectors run along dy's, and the lines of all taps, read from one
padded tile, are broadcast.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_gather, fc_outer_tile
from fastconv.backends.cpu.tiles cimport (
    Reader, Tile, TileAxis, fetch, list_pixels, list_taps, locate, source_at, span, tile_bytes, tile_pixels,
)
from fastconv.backends.cpu.weight_tiles cimport Outer

cdef enum:
    NEAR = 256              # bytes from pixel to pixel that need no copy


# ---------------------------------------------------------------------------------------------------- wide


cdef int64_t most_positions(const Reader* x) noexcept nogil:
    """How many source positions a tile reads at most."""
    cdef int64_t positions = x.n_tile
    cdef int i
    for i in range(3):
        positions *= min(x.axis[i].extent, x.axis[i].tile * x.axis[i].taps)
    return positions


cdef size_t wide_lists(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t extents = x.axis[0].extent + x.axis[1].extent + x.axis[2].extent
    return whole_lines((extents + most_positions(x) + 3 * tile_pixels(x)) * sizeof(int64_t))


cdef size_t wide_memory(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t elements = most_positions(x) * copied_row(x, plan.lane_block)
    elements += tile_pixels(x) * copied_row(x, plan.line_block)
    return wide_lists(plan) + elements * x.itemsize


cdef int64_t number_positions(const TileAxis* axis, int64_t first, int64_t count, int64_t* place) noexcept nogil:
    """Number the positions that ``count`` outputs from ``first`` on read; -1 for those outside or that no tap reads.

    ``place`` counts from the first tap of the first output on. Returns how many positions there are.
    """
    cdef int64_t at, start = source_at(axis, first), positions = 0, i, j, t
    for i in range(span(axis, count)):
        place[i] = -1
    for j in range(count):
        for t in range(axis.taps):
            at = axis.src_step * j + axis.shift[t] - axis.shift[0]
            if 0 <= start + at < axis.src_size:
                place[at] = 0
    for i in range(span(axis, count)):
        if place[i] == 0:
            place[i] = positions
            positions += 1
    return positions


cdef int64_t list_positions(const Reader* x, const Tile* tile, int64_t** place, int64_t* pixel) noexcept nogil:
    """List where the numbered positions of a tile lie in x. Returns how many there are."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t d0 = source_at(&ax[0], tile.first[1]), h0 = source_at(&ax[1], tile.first[2])
    cdef int64_t w0 = source_at(&ax[2], tile.first[3]), positions = 0, n, d, h, w, at
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(span(&ax[0], tile.count[1])):
            for h in range(span(&ax[1], tile.count[2])):
                if place[0][d] < 0 or place[1][h] < 0:
                    continue
                at = n * x.stride[0] + (d0 + d) * x.stride[2] + (h0 + h) * x.stride[3]
                for w in range(span(&ax[2], tile.count[3])):
                    if place[2][w] >= 0:
                        pixel[positions] = at + (w0 + w) * x.stride[4]
                        positions += 1
    return positions


cdef int64_t list_outputs(const Reader* x, const Tile* tile, const int64_t* ys, int64_t* pixel) noexcept nogil:
    """List where the outputs of a tile lie in dy. Returns how many there are."""
    cdef int64_t outputs = 0, n, d, h, w, at
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(tile.first[1], tile.first[1] + tile.count[1]):
            for h in range(tile.first[2], tile.first[2] + tile.count[2]):
                at = n * ys[0] + d * ys[2] + h * ys[3] + tile.first[3] * ys[4]
                for w in range(tile.count[3]):
                    pixel[outputs] = at + w * ys[4]
                    outputs += 1
    return outputs


cdef int64_t list_pairs(const Reader* x, const Tile* tile, int64_t** place, const int64_t* positions,
                        const int64_t* tap, int64_t ldx, int64_t ldy, int64_t* xpixel, int64_t* ypixel) noexcept nogil:
    """List the outputs at which a tap sees a position inside x, in both copies. Returns how many there are."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t pairs = 0, p = 0, n, d, h, w, pd, ph, pw
    cdef int64_t[3] shift
    cdef int i
    for i in range(3):
        shift[i] = ax[i].shift[tap[i]] - ax[i].shift[0]
    for n in range(tile.count[0]):
        for d in range(tile.count[1]):
            pd = place[0][ax[0].src_step * d + shift[0]]
            for h in range(tile.count[2]):
                ph = place[1][ax[1].src_step * h + shift[1]]
                if pd >= 0 and ph >= 0:
                    ph = ((n * positions[0] + pd) * positions[1] + ph) * positions[2]
                    for w in range(tile.count[3]):
                        pw = place[2][ax[2].src_step * w + shift[2]]
                        if pw >= 0:
                            xpixel[pairs] = (ph + pw) * ldx
                            ypixel[pairs] = (p + w) * ldy
                            pairs += 1
                p += tile.count[3]
    return pairs


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
    cdef int64_t size = x.itemsize, most = tile_pixels(x), n
    cdef int64_t ldx = copied_row(x, plan.lane_block), ldy = copied_row(x, plan.line_block)
    cdef int64_t[3] positions
    cdef int64_t[3] tap
    cdef int64_t* place[3]
    cdef int64_t* list = <int64_t*> memory
    cdef int64_t *xpixel
    cdef int64_t *ypixel
    cdef char* xs = memory + wide_lists(plan)
    cdef char* dys = xs + most_positions(x) * ldx * size
    cdef char* sums
    cdef Tile tile
    cdef fc_gather take_x, take_dy
    cdef fc_outer_tile call
    cdef int i
    for i in range(3):
        place[i] = list
        list += x.axis[i].extent
    take_x.dst, take_x.pixel, take_x.channels, take_x.ld, take_x.channel = xs, list, block.lanes, ldx, x.stride[1]
    take_x.src = x.data + (block.group * x.depth + block.lane) * x.stride[1] * size
    list += most_positions(x)
    take_dy.dst, take_dy.pixel, take_dy.channels, take_dy.ld = dys, list, block.lines, ldy
    take_dy.channel = problem.ys[1]
    take_dy.src = problem.dy + (block.group * problem.columns + block.line) * problem.ys[1] * size
    xpixel, ypixel = list + most, list + 2 * most
    call.row = NULL
    call.rows, call.ld = block.lines, block.ld
    call.ahead[0].runs = call.ahead[1].runs = 0
    for n in range(block.first, block.last):
        locate(x, n, &tile)
        for i in range(3):
            positions[i] = number_positions(&x.axis[i], tile.first[i + 1], tile.count[i + 1], place[i])
        take_x.pixels = list_positions(x, &tile, place, <int64_t*> take_x.pixel)
        take_dy.pixels = list_outputs(x, &tile, problem.ys, <int64_t*> take_dy.pixel)
        call.accumulate = n > block.first
        x.kernel.gather(&take_x)
        x.kernel.gather(&take_dy)
        call.x, call.xpixel, call.ypixel = dys, ypixel, xpixel
        sums = block.sums
        for tap[0] in range(x.axis[0].taps):
            for tap[1] in range(x.axis[1].taps):
                for tap[2] in range(x.axis[2].taps):
                    call.pixels = list_pairs(x, &tile, place, positions, tap, ldx, ldy, xpixel, ypixel)
                    add_tap(x, block, sums, xs, &call)
                    sums += block.tap * size


# -------------------------------------------------------------------------------------------------- narrow


cdef size_t narrow_lists(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    return whole_lines((3 * tile_pixels(x) + x.taps * (plan.line_block + 1)) * sizeof(int64_t))


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
    cdef int64_t size = x.itemsize, most = tile_pixels(x), n, k, t, p
    cdef int64_t ldy = copied_row(x, plan.lane_block)
    cdef bint near = problem.ys[1] == 1 and 0 <= problem.ys[4] * size <= NEAR
    cdef int64_t* xpixel = <int64_t*> memory
    cdef int64_t* pixel = xpixel + most
    cdef int64_t* packed = pixel + most
    cdef int64_t* row = packed + most
    cdef int64_t* each = row + x.taps * block.lines
    cdef char* xs = memory + narrow_lists(plan)
    cdef char* dys = xs + whole_lines(tile_bytes(x))
    cdef const char* dy = problem.dy + (block.group * problem.columns + block.lane) * problem.ys[1] * size
    cdef Tile tile
    cdef fc_gather take
    cdef fc_outer_tile call
    list_taps(x, each)
    for k in range(block.lines):
        for t in range(x.taps):
            row[k * x.taps + t] = each[t] + k
    for p in range(most):
        packed[p] = p * ldy
    take.dst, take.src, take.pixel, take.channels, take.ld = dys, dy, pixel, block.lanes, ldy
    take.channel = problem.ys[1]
    call.xpixel, call.ypixel = xpixel, pixel if near else packed
    call.row, call.rows, call.ld = row, x.taps * block.lines, block.ld if x.taps == 1 else block.tap
    if side_by_side(row, call.rows):
        call.row = NULL
    call.ahead[0].runs = call.ahead[1].runs = 0
    for n in range(block.first, block.last):
        locate(x, n, &tile)
        call.x = fetch(x, &tile, block.group, block.line // x.chunk, xs)
        call.pixels = take.pixels = list_pixels(x, &tile, &tile, problem.ys, xpixel, pixel)
        if not near:
            x.kernel.gather(&take)
        call.accumulate = n > block.first
        add_tap(x, block, block.sums, dy if near else dys, &call)
