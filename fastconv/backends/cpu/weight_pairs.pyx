"""What one task of a weight gradient adds up in bfloat16: outer products of two pixels at a time.

For each tap of a tile the pixels that see a position inside x are listed, and both sides copied as pairs of neighbours
in that list: any stride and any padding. The gradient's side is copied anew only where a tap leaves pixels out. Lines
and lanes are those of weight_tiles.pyx; the last pixel of an odd number is a pair with zeros.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_gather, fc_outer_tile, fc_pair_rows
from fastconv.backends.cpu.tiles cimport Reader, Tile, TileAxis, ceil_div, locate, tile_pixels
from fastconv.backends.cpu.weight_blocks cimport copied_row, whole_lines
from fastconv.backends.cpu.weight_tiles cimport Block, Outer, Plan


cdef struct Side:
    # One side of the products: channels of an array, at listed pixels, and their copy as pairs.
    const char* data
    int64_t channel, channels   # stride and number
    int64_t* pixel
    char* pairs
    int64_t ld


cdef inline size_t list_bytes(const Plan* plan) noexcept nogil:
    return whole_lines(2 * tile_pixels(&plan.problem.x) * sizeof(int64_t))


cdef size_t pairs_memory(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t most = tile_pixels(x)
    cdef int64_t elements = ceil_div(most, 2) * (copied_row(x, plan.lane_block) + copied_row(x, plan.line_block))
    return list_bytes(plan) + (elements + most * max(plan.lane_block, plan.line_block)) * x.itemsize


cdef int64_t list_seen(const Reader* x, const Tile* tile, const int64_t* tap, const int64_t* ys, int64_t* xpixel,
                       int64_t* ypixel) noexcept nogil:
    """List where the outputs at which a tap sees a position inside x lie in dy, and where those lie in x."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t seen = 0, n, d, h, w, at, yat
    cdef int64_t[3] source
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(tile.first[1], tile.first[1] + tile.count[1]):
            source[0] = ax[0].src_base + ax[0].src_step * d + ax[0].shift[tap[0]]
            if source[0] < 0 or source[0] >= ax[0].src_size:
                continue
            for h in range(tile.first[2], tile.first[2] + tile.count[2]):
                source[1] = ax[1].src_base + ax[1].src_step * h + ax[1].shift[tap[1]]
                if source[1] < 0 or source[1] >= ax[1].src_size:
                    continue
                at = n * x.stride[0] + source[0] * x.stride[2] + source[1] * x.stride[3]
                yat = n * ys[0] + d * ys[2] + h * ys[3]
                for w in range(tile.first[3], tile.first[3] + tile.count[3]):
                    source[2] = ax[2].src_base + ax[2].src_step * w + ax[2].shift[tap[2]]
                    if 0 <= source[2] < ax[2].src_size:
                        xpixel[seen] = at + source[2] * x.stride[4]
                        ypixel[seen] = yat + w * ys[4]
                        seen += 1
    return seen


cdef void copy_pairs(const Reader* x, const Side* side, int64_t pixels, char* floats) noexcept nogil:
    cdef fc_gather take
    cdef fc_pair_rows pairs
    pairs.src, pairs.row = side.data, side.pixel
    if side.channel != 1 and side.channels > 1:
        take.dst, take.src, take.pixel, take.pixels = floats, side.data, side.pixel, pixels
        take.channels = take.ld = side.channels
        take.channel = side.channel
        x.kernel.gather(&take)
        pairs.src = floats
        pairs.row = NULL
    pairs.dst, pairs.rows, pairs.ld = side.pairs, pixels, side.ld
    pairs.columns = pairs.step = side.channels
    x.kernel.pair_rows(&pairs)


cdef void add_pairs(const Plan* plan, const Block* block, char* memory) noexcept nogil:
    cdef Outer* problem = plan.problem
    cdef const Reader* x = &problem.x
    cdef int64_t size = x.itemsize, most = tile_pixels(x), n, outputs, seen, copied
    cdef int64_t* list = <int64_t*> memory
    cdef int64_t[3] tap
    cdef char* floats
    cdef char* sums
    cdef Side xs
    cdef Side dys
    cdef Side* lines = &dys if plan.wide else &xs
    cdef Side* lanes = &xs if plan.wide else &dys
    cdef Tile tile
    cdef fc_outer_tile call
    call.ahead[0].runs = call.ahead[1].runs = 0
    xs.pixel, dys.pixel = list, list + most
    lines.channels, lanes.channels = block.lines, block.lanes
    lines.ld, lanes.ld = copied_row(x, plan.line_block), copied_row(x, plan.lane_block)
    lines.pairs = memory + list_bytes(plan)
    lanes.pairs = lines.pairs + ceil_div(most, 2) * lines.ld * size
    floats = lanes.pairs + ceil_div(most, 2) * lanes.ld * size
    xs.channel, dys.channel = x.stride[1], problem.ys[1]
    xs.data = x.data + (block.group * x.depth + (block.lane if plan.wide else block.line)) * xs.channel * size
    dys.data = problem.dy
    dys.data += (block.group * problem.columns + (block.line if plan.wide else block.lane)) * dys.channel * size
    call.row = NULL
    call.xpixel = NULL
    call.ypixel = NULL
    call.xstep, call.ystep = lines.ld, lanes.ld
    call.x, call.rows, call.ld = lines.pairs, block.lines, block.ld
    call.dy, call.columns = lanes.pairs, block.lanes
    for n in range(block.first, block.last):
        locate(x, n, &tile)
        call.accumulate = n > block.first
        outputs, copied = tile.count[0] * tile.count[1] * tile.count[2] * tile.count[3], 0
        sums = block.sums
        for tap[0] in range(x.axis[0].taps):
            for tap[1] in range(x.axis[1].taps):
                for tap[2] in range(x.axis[2].taps):
                    seen = list_seen(x, &tile, tap, problem.ys, xs.pixel, dys.pixel)
                    call.pixels = ceil_div(seen, 2)
                    copy_pairs(x, &xs, seen, floats)
                    if seen < outputs or copied < outputs:
                        copy_pairs(x, &dys, seen, floats)
                    copied = seen
                    call.dw = sums
                    x.kernel.outer_tile_pairs(&call)
                    sums += block.tap * size
