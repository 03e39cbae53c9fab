"""Tiles: how the destination pixels of a convolution are cut into blocks, and how the source of a block is fetched.

A tile is a box of pixels (images, depth, height, width). Its source region is read where it lies if channels are side
by side and nothing falls outside the array; else it is copied to the thread's workspace, zero-padded and channels-
last. So any strides and any padding reach the micro-kernels as one regular pattern. No loop over weights here: those
are in conv_tiles.pyx, weight_blocks.pyx and grouped.pyx.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_pair_columns


# Bytes of source that a tile may span where its taps lie far apart; tiles aim at less.
cdef int64_t MOST_BYTES = 2 * 1024 * 1024


cdef int64_t even_part(int64_t size, int64_t limit) noexcept nogil:
    """The largest part, at most ``limit``, of a cut of ``size`` into as few and as equal parts as can be."""
    cdef int64_t part = max(<int64_t>1, min(size, limit))
    return ceil_div(size, ceil_div(size, part)) if size > 0 else 1


cdef int64_t least_source(const Reader* reader, int axes) noexcept nogil:
    """Source positions that one pixel spans over the first ``axes`` axes."""
    cdef int64_t source = 1
    cdef int i
    for i in range(axes):
        source *= span(&reader.axis[i], 1)
    return source


cdef void choose_chunk(Reader* reader, int64_t products) noexcept nogil:
    """Set taps, chunk and chunks: at most ``products`` products (taps x channels) a chunk. From the shape alone."""
    cdef int64_t limit
    cdef int i
    reader.taps = reader.axis[0].taps * reader.axis[1].taps * reader.axis[2].taps
    if reader.taps == 0:  # one axis without taps: nothing is read along the others either
        for i in range(3):
            reader.axis[i].taps = 0
    limit = min(products // max(reader.taps, <int64_t>1), MOST_BYTES // reader.itemsize // least_source(reader, 3))
    limit = max(<int64_t>1, limit)
    if limit > 16:
        limit -= limit % 16
    reader.chunks = max(<int64_t>1, ceil_div(reader.depth, limit))  # of no channels there is one empty chunk
    reader.chunk = max(<int64_t>1, ceil_div(reader.depth, reader.chunks))


cdef bint readable(const Reader* reader) noexcept nogil:
    """Whether the channels lie side by side, as they are, and no tap falls outside the array."""
    cdef const TileAxis* axis
    cdef int i
    if reader.channels > 0 or (reader.stride[1] != 1 and reader.depth > 1):
        return False
    for i in range(3):
        axis = &reader.axis[i]
        if axis.taps == 0:
            continue
        if axis.src_base + axis.shift[0] < 0:
            return False
        if axis.src_base + (axis.count - 1) * axis.src_step + axis.shift[axis.taps - 1] >= axis.src_size:
            return False
    return True


cdef void choose_tile(Reader* reader, int64_t pixels, int64_t bytes) noexcept nogil:
    """Choose the tile: whole rows first, then planes, volumes and images, up to ``pixels`` and ``bytes`` of source."""
    cdef int64_t budget = bytes // reader.itemsize // reader.chunk
    cdef int64_t most = MOST_BYTES // reader.itemsize // reader.chunk, taken = 1, source = 1, part, rest
    cdef TileAxis* axis
    cdef int i
    for i in range(2, -1, -1):
        axis = &reader.axis[i]
        part = 1
        if i == 2 or reader.axis[i + 1].tile == reader.axis[i + 1].count:
            part = even_part(axis.count, pixels // taken)
            rest = least_source(reader, i)
            while part > 1 and (source * span(axis, part) > budget or source * span(axis, part) * rest > most):
                part = even_part(axis.count, part - 1 - (part - 1) // 8)
        axis.tile = part
        taken *= part
        source *= span(axis, part)
    reader.n_tile = reader.bundle = 1
    if reader.axis[0].tile == reader.axis[0].count:
        reader.n_tile = even_part(reader.n, min(pixels // taken, budget // source))


cdef void choose_bundle(Reader* reader, int64_t pixels, int64_t bytes) noexcept nogil:
    """Copy neighbouring groups together, if the array is large and theirs are short runs; choose the tile for that."""
    cdef int64_t tile = max(<int64_t>1, reader.depth) * reader.itemsize, source = reader.n * reader.groups * tile
    cdef int64_t bundle = min(reader.groups, BUNDLE_BYTES // tile)
    cdef int i
    for i in range(3):
        source *= reader.axis[i].src_size
    if (bundle > 1 and reader.chunks == 1 and reader.channels == 0 and reader.stride[1] == 1 and not readable(reader)
            and source > FAR):
        choose_tile(reader, pixels, bytes // bundle)
        tile *= reader.n_tile
        for i in range(3):
            tile *= span(&reader.axis[i], reader.axis[i].tile)
        reader.bundle = max(<int64_t>1, min(bundle, MOST_BYTES // tile))


cdef bint halve_tile(Reader* reader, int64_t pixels) noexcept nogil:
    """Make tiles half as large: fewer images, then planes, then rows; False where they have ``pixels`` or less."""
    cdef int i = 0
    while i < 2 and reader.axis[i].tile == 1:
        i += 1
    if reader.n_tile > 1:
        reader.n_tile = ceil_div(reader.n_tile, 2)
    elif reader.axis[i].tile > 1 and tile_pixels(reader) > pixels:
        reader.axis[i].tile = ceil_div(reader.axis[i].tile, 2)
    else:
        return False
    return True


cdef int64_t count_tiles(const Reader* reader) noexcept nogil:
    cdef int64_t tiles = ceil_div(reader.n, reader.n_tile)
    cdef int i
    for i in range(3):
        tiles *= ceil_div(reader.axis[i].count, reader.axis[i].tile)
    return tiles


cdef void finish(Reader* reader) noexcept nogil:
    """Decide between reading in place and copying, and set the strides that the micro-kernel sees."""
    cdef int i
    for i in range(3):
        reader.axis[i].trims = worth_trimming(&reader.axis[i])
    set_steps(reader, readable(reader))


cdef void set_steps(Reader* reader, bint direct) noexcept nogil:
    """Set those strides for what is read in place, or copied."""
    cdef int64_t stride = reader.chunk
    cdef int i
    reader.direct = direct
    for i in range(4, 1, -1):
        reader.axis[i - 2].extent = span(&reader.axis[i - 2], reader.axis[i - 2].tile)
        reader.step[i] = reader.stride[i] if reader.direct else stride
        stride *= reader.axis[i - 2].extent
    reader.step[1] = 1
    reader.step[0] = reader.stride[0] if reader.direct else stride


cdef void list_taps(const Reader* reader, int64_t* offset) noexcept nogil:
    """Where each tap lies relative to the first, in what a tile reads."""
    cdef const TileAxis* ax = &reader.axis[0]
    cdef int64_t d, h, w, at, t = 0
    for d in range(ax[0].taps):
        for h in range(ax[1].taps):
            at = (ax[0].shift[d] - ax[0].shift[0]) * reader.step[2]
            at += (ax[1].shift[h] - ax[1].shift[0]) * reader.step[3]
            for w in range(ax[2].taps):
                offset[t] = at + (ax[2].shift[w] - ax[2].shift[0]) * reader.step[4]
                t += 1


cdef int64_t list_box_taps(const Reader* reader, const Taps* taps, int64_t depth, bint fold, int64_t* tap,
                           int64_t* wtap) noexcept nogil:
    """Where each of a box's taps lies in the source and in a panel; a folded row of w taps counts as one."""
    cdef const TileAxis* ax = &reader.axis[0]
    cdef int64_t d, h, w, at, row, t = 0
    cdef int64_t last = min(taps.first[2] + 1, taps.last[2]) if fold else taps.last[2]  # none in mere padding
    for d in range(taps.first[0], taps.last[0]):
        for h in range(taps.first[1], taps.last[1]):
            at = (ax[0].shift[d] - ax[0].shift[0]) * reader.step[2] + (ax[1].shift[h] - ax[1].shift[0]) * reader.step[3]
            row = (d * ax[1].taps + h) * ax[2].taps
            for w in range(taps.first[2], last):
                tap[t] = at + (ax[2].shift[w] - ax[2].shift[0]) * reader.step[4]
                wtap[t] = (row + w) * depth * reader.kernel.nr
                t += 1
    return t


cdef bint folds(const Reader* reader, int64_t depth) noexcept nogil:
    """Whether the taps of a row lie side by side with their ``depth`` channels: one long tap instead of several."""
    cdef const TileAxis* axis = &reader.axis[2]
    cdef int64_t t
    if reader.taps == 0 or reader.step[4] != depth:
        return False
    for t in range(1, axis.taps):
        if axis.shift[t] != axis.shift[t - 1] + 1:
            return False
    return True


cdef void locate(const Reader* reader, int64_t index, Tile* tile) noexcept nogil:
    """The tile with this index; tiles are numbered in the order n, d, h, w."""
    cdef const TileAxis* axis
    cdef int64_t tiles
    cdef int i
    for i in range(2, -1, -1):
        axis = &reader.axis[i]
        tiles = ceil_div(axis.count, axis.tile)
        tile.first[i + 1] = index % tiles * axis.tile
        tile.count[i + 1] = min(axis.tile, axis.count - tile.first[i + 1])
        index //= tiles
    tile.first[0] = index * reader.n_tile
    tile.count[0] = min(reader.n_tile, reader.n - tile.first[0])


cdef void clear(char* row, int64_t bytes, int64_t groups, int64_t apart) noexcept nogil:
    """Set the same bytes of each group's tile to zero."""
    cdef int64_t g
    for g in range(groups if bytes > 0 else 0):
        memset(row + g * apart, 0, bytes)


cdef void pack(const Reader* reader, const Tile* tile, int64_t channel, int64_t channels, int64_t groups,
               char* buffer) noexcept nogil:
    """Copy some channels of the tile's source to (n, d, h, w, depth) with zeros outside the array.

    Those of several groups lie side by side: pixels are read in the order of memory, and go to a tile each.
    """
    cdef const TileAxis* ax = &reader.axis[0]
    cdef int64_t size = reader.itemsize, pixel = reader.step[4] * size, apart = tile_bytes(reader), n, d, h, _w, sd, sh
    cdef int64_t w0 = source_at(&ax[2], tile.first[3]), width = span(&ax[2], tile.count[3])
    cdef int64_t left = min(width, max(<int64_t>0, -w0))
    cdef int64_t right = max(left, min(width, ax[2].src_size - w0))
    cdef int64_t at = tile.first[0] * reader.stride[0] + channel * reader.stride[1] + (w0 + left) * reader.stride[4]
    cdef int64_t runs = right - left if groups > 1 else min(<int64_t>1, right - left)
    cdef fc_copy2d copy
    cdef fc_pair_columns pairs
    cdef const char* src
    cdef char* row
    copy.rows = pairs.rows = groups if groups > 1 else right - left
    copy.columns = copy.padded = pairs.columns = channels
    copy.ld = pairs.ld = apart // size if groups > 1 else reader.step[4]
    copy.dj = 1
    copy.si = pairs.si = channels * reader.stride[1] if groups > 1 else reader.stride[4]
    copy.sj = pairs.sj = reader.stride[1]
    for n in range(tile.count[0]):
        for d in range(span(&ax[0], tile.count[1])):
            sd = source_at(&ax[0], tile.first[1]) + d
            for h in range(span(&ax[1], tile.count[2])):
                sh = source_at(&ax[1], tile.first[2]) + h
                row = buffer + (n * reader.step[0] + d * reader.step[2] + h * reader.step[3]) * size
                if runs == 0 or sd < 0 or sd >= ax[0].src_size or sh < 0 or sh >= ax[1].src_size:
                    clear(row, width * pixel, groups, apart)
                    continue
                clear(row, left * pixel, groups, apart)
                clear(row + right * pixel, (width - right) * pixel, groups, apart)
                src = reader.data + (at + n * reader.stride[0] + sd * reader.stride[2] + sh * reader.stride[3]) * size
                row += left * pixel
                for _w in range(runs):
                    copy.src = pairs.src = src
                    copy.dst = pairs.dst = row
                    if reader.channels > 0:
                        reader.kernel.pair_columns(&pairs)
                    else:
                        reader.kernel.copy2d(&copy)
                    src += reader.stride[4] * size
                    row += pixel


cdef const char* fetch(const Reader* reader, const Tile* tile, int64_t group, int64_t chunk,
                       char* buffer) noexcept nogil:
    """Return where the first tap of the tile's first pixel lies: in the array, or in ``buffer``, filled for that.

    The first group of a bundle fills it for all of them, which come next.
    """
    cdef int64_t channel = group * reader.depth + chunk * reader.chunk, at, first
    if reader.channels > 0:
        channel = 2 * chunk * reader.chunk
        pack(reader, tile, group * reader.channels + channel, min(2 * reader.chunk, reader.channels - channel), 1,
             buffer)
        return buffer
    if not reader.direct:
        first = group % reader.bundle
        if first == 0:
            pack(reader, tile, channel, min(reader.chunk, reader.depth - chunk * reader.chunk),
                 min(reader.bundle, reader.groups - group), buffer)
        return buffer + first * tile_bytes(reader)
    at = tile.first[0] * reader.stride[0] + channel * reader.stride[1]
    at += source_at(&reader.axis[0], tile.first[1]) * reader.stride[2]
    at += source_at(&reader.axis[1], tile.first[2]) * reader.stride[3]
    at += source_at(&reader.axis[2], tile.first[3]) * reader.stride[4]
    return reader.data + at * reader.itemsize


cdef int64_t next_run(const TileAxis* axis, int64_t output, int64_t end, int64_t* first,
                      int64_t* last) noexcept nogil:
    """The end of the run of neighbouring outputs, from ``output``, that share the same taps [first, last).

    On an axis that trims, those are the taps that do not fall outside the array; else all.
    """
    cdef int64_t run = output + 1, source
    first[0], last[0] = 0, axis.taps
    if not axis.trims:
        return end
    source = axis.src_base + axis.src_step * output
    while first[0] < axis.taps and source + axis.shift[first[0]] < 0:
        first[0] += 1
    while last[0] > first[0] and source + axis.shift[last[0] - 1] >= axis.src_size:
        last[0] -= 1
    while run < end:
        source = axis.src_base + axis.src_step * run
        if first[0] > 0 and source + axis.shift[first[0] - 1] >= 0:
            break
        if first[0] < last[0] and source + axis.shift[first[0]] < 0:
            break
        if last[0] > first[0] and source + axis.shift[last[0] - 1] >= axis.src_size:
            break
        if last[0] < axis.taps and source + axis.shift[last[0]] < axis.src_size:
            break
        run += 1
    return run


cdef bint worth_trimming(const TileAxis* axis) noexcept nogil:
    """Whether at least a seventh of the axis' products have a factor that is padding. From the shape alone."""
    cdef int64_t output = 0, run, first = 0, last = 0, useful = 0
    cdef TileAxis trimmed = axis[0]
    if axis.taps < 2:
        return False
    trimmed.trims = True
    while output < axis.count:
        run = next_run(&trimmed, output, axis.count, &first, &last)
        useful += (run - output) * (last - first)
        output = run
    return useful * 7 <= axis.count * axis.taps * 6


cdef int64_t list_pixels(const Reader* reader, const Tile* tile, const Tile* box, const int64_t* ys, int64_t* source,
                         int64_t* destination) noexcept nogil:
    """Where each pixel of a box inside a tile lies in what the tile reads, and in a destination of strides ``ys``.

    Returns the number of pixels.
    """
    cdef const TileAxis* ax = &reader.axis[0]
    cdef int64_t n, d, h, _w, src, dst, p = 0
    for n in range(box.first[0], box.first[0] + box.count[0]):
        for d in range(box.first[1], box.first[1] + box.count[1]):
            for h in range(box.first[2], box.first[2] + box.count[2]):
                src = (n - tile.first[0]) * reader.step[0] + (d - tile.first[1]) * ax[0].src_step * reader.step[2]
                src += (h - tile.first[2]) * ax[1].src_step * reader.step[3]
                src += (box.first[3] - tile.first[3]) * ax[2].src_step * reader.step[4]
                dst = n * ys[0] + (ax[0].dst_base + ax[0].dst_step * d) * ys[2]
                dst += (ax[1].dst_base + ax[1].dst_step * h) * ys[3]
                dst += (ax[2].dst_base + ax[2].dst_step * box.first[3]) * ys[4]
                for _w in range(box.count[3]):
                    source[p] = src
                    destination[p] = dst
                    src += ax[2].src_step * reader.step[4]
                    dst += ax[2].dst_step * ys[4]
                    p += 1
    return p


cdef const char* gather_pixels(const Reader* reader, const char* data, const int64_t* stride, const int64_t* pixel,
                               int64_t pixels, int64_t channels, int64_t* packed, char* out) noexcept nogil:
    """Bring the listed pixels of an array close together, as rows of ``channels``; the array itself may serve.

    Returns where they are; ``packed`` lists them.
    """
    cdef int64_t size = reader.itemsize, p = 0, run
    cdef fc_copy2d copy
    if (stride[1] == 1 or channels == 1) and stride[4] == channels:
        for p in range(pixels):
            packed[p] = pixel[p]
        return data
    copy.columns = copy.padded = copy.ld = channels
    copy.dj = 1
    copy.sj, copy.si = stride[1], stride[4]
    while p < pixels:
        run = 1
        while p + run < pixels and pixel[p + run] - pixel[p + run - 1] == stride[4]:
            run += 1
        copy.rows = run
        copy.src = data + pixel[p] * size
        copy.dst = out + p * channels * size
        reader.kernel.copy2d(&copy)
        p += run
    for p in range(pixels):
        packed[p] = p * channels
    return out


cdef int set_forward_axes(Reader* reader, geometry, const int64_t* x_size, const int64_t* w_size,
                          const int64_t* w_stride, int64_t* lists) except -1:
    """The axes of a convolution's forward pass. ``lists`` has room for two numbers a kernel position of each axis."""
    cdef tuple dilations = geometry.dilation, output = geometry.output
    cdef tuple padding = geometry.padding, stride = geometry.stride
    cdef TileAxis* axis
    cdef int64_t k, dilation, used = 0
    cdef int i
    for i in range(3):
        axis = &reader.axis[i]
        dilation = dilations[i]
        axis.count, axis.dst_base, axis.dst_step = output[i], 0, 1
        axis.src_base, axis.src_step, axis.src_size = -<int64_t> padding[i], stride[i], x_size[2 + i]
        axis.taps, axis.shift, axis.weight = w_size[2 + i], lists + used, lists + used + w_size[2 + i]
        for k in range(axis.taps):
            lists[used + k] = k * dilation
            lists[used + axis.taps + k] = k * w_stride[2 + i]
        used += 2 * axis.taps
    return 0
