"""Which positions of x the outputs of a tile read, and which pairs of position and output each tap multiplies.

The positions that any tap reads are numbered along each axis, without those in the padding: a copy of a tile has these
alone, and a tap is two lists, of positions and of outputs.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader, Tile, TileAxis, locate, source_at, span, tile_pixels


cdef int64_t most_positions(const Reader* x) noexcept nogil:
    """How many source positions a tile reads at most."""
    cdef int64_t positions = x.n_tile
    cdef int i
    for i in range(3):
        positions *= min(x.axis[i].extent, x.axis[i].tile * x.axis[i].taps)
    return positions


cdef int64_t seen_lists(const Reader* x) noexcept nogil:
    """Elements of a tile's lists."""
    cdef int64_t extents = x.axis[0].extent + x.axis[1].extent + x.axis[2].extent
    return extents + most_positions(x) + tile_pixels(x) + 2 * x.axis[2].tile


cdef void set_lists(const Reader* x, Seen* seen, int64_t* memory) noexcept nogil:
    """Say where they lie."""
    cdef int i
    for i in range(3):
        seen.place[i] = memory
        memory += x.axis[i].extent
    seen.position, seen.output = memory, memory + most_positions(x)
    seen.row = seen.output + tile_pixels(x)


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


cdef int64_t list_positions(const Reader* x, const Seen* seen, int64_t* pixel) noexcept nogil:
    """List where the numbered positions of a tile lie in x. Returns how many there are."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef const Tile* tile = &seen.tile
    cdef int64_t d0 = source_at(&ax[0], tile.first[1]), h0 = source_at(&ax[1], tile.first[2])
    cdef int64_t w0 = source_at(&ax[2], tile.first[3]), width = span(&ax[2], tile.count[3])
    cdef int64_t step = x.stride[4], reads = 0, n, d, h, w, at
    cdef const int64_t* place = seen.place[2]
    for n in range(tile.first[0], tile.first[0] + tile.count[0]):
        for d in range(span(&ax[0], tile.count[1])):
            for h in range(span(&ax[1], tile.count[2])):
                if seen.place[0][d] < 0 or seen.place[1][h] < 0:
                    continue
                at = n * x.stride[0] + (d0 + d) * x.stride[2] + (h0 + h) * x.stride[3] + w0 * step
                for w in range(width):
                    if place[w] >= 0:
                        pixel[reads] = at + w * step
                        reads += 1
    return reads


cdef int64_t list_outputs(const Tile* tile, const int64_t* ys, int64_t* pixel) noexcept nogil:
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


cdef void see(const Reader* x, const int64_t* ys, int64_t number, Seen* seen) noexcept nogil:
    """List what a tile reads."""
    cdef int i
    locate(x, number, &seen.tile)
    for i in range(3):
        seen.positions[i] = number_positions(&x.axis[i], seen.tile.first[i + 1], seen.tile.count[i + 1], seen.place[i])
    seen.reads = list_positions(x, seen, seen.position)
    seen.outputs = list_outputs(&seen.tile, ys, seen.output)


cdef int64_t list_pairs(const Reader* x, const Seen* seen, const int64_t* tap, int64_t ldx, int64_t ldy,
                        int64_t* xpixel, int64_t* ypixel) noexcept nogil:
    """List the outputs at which a tap sees a position inside x, in both copies. Returns how many there are.

    The pairs of a row are the same in all rows but for where these begin: those are listed once.
    """
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t width = seen.tile.count[3], inside = 0, pairs = 0, p = 0, n, d, h, w, i, pd, ph, pw, first_x, first_y
    cdef int64_t* row_x = seen.row
    cdef int64_t* row_y = seen.row + width
    cdef int64_t[3] shift
    for i in range(3):
        shift[i] = ax[i].shift[tap[i]] - ax[i].shift[0]
    for w in range(width):
        pw = seen.place[2][ax[2].src_step * w + shift[2]]
        if pw >= 0:
            row_x[inside], row_y[inside] = pw * ldx, w * ldy
            inside += 1
    for n in range(seen.tile.count[0]):
        for d in range(seen.tile.count[1]):
            pd = seen.place[0][ax[0].src_step * d + shift[0]]
            for h in range(seen.tile.count[2]):
                ph = seen.place[1][ax[1].src_step * h + shift[1]]
                if pd >= 0 and ph >= 0:
                    first_x = ((n * seen.positions[0] + pd) * seen.positions[1] + ph) * seen.positions[2] * ldx
                    first_y = p * ldy
                    for i in range(inside):
                        xpixel[pairs + i], ypixel[pairs + i] = first_x + row_x[i], first_y + row_y[i]
                    pairs += inside
                p += width
    return pairs
