"""Winograd's tiles: the output of a convolution cut into squares of m x m pixels, and the transform of what they read.

Rows and columns have stride 1 and a square kernel, or stride 2 and three taps; the depth axis is any (2-D has one
position and one tap): its taps are summed between the transforms, so a source plane is transformed once for all depth
taps that read it. Arrays that are not channels-last are packed a row of tiles at a time. No products here: those are in
winograd.pyx and winograd_weight.pyx.

Where squares of m x m would reach beyond the output, the last rows and columns of tiles are short: of m - 1 outputs, so
that up to three less are computed in vain. F(m - 1, r) has the points of F(m, r) without the last, infinity, whose
planes nothing else than the last output reads: so short tiles are transformed as others are, and only not multiplied in
those planes. An output of 7 x 7 takes 121 products a channel in place of 144, one of 13 x 13 441 in place of 576.

At stride 2 the even pixels of a tile, which meet two of three taps, go by F(4, 2), and the four odd ones by a product
for each output: 81 planes for 16 outputs, which share 36 planes of weights, in place of 144 products.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport FC_WINOGRAD_4X5, FC_WINOGRAD_STRIDED, fc_copy2d, fc_kernels, fc_winograd
from fastconv.backends.cpu.tiles cimport ceil_div, even_part, read_pixels

cdef int64_t PACKED_CHANNELS = 64   # of a row of tiles that is packed first
cdef int64_t ENOUGH_DEPTH = 16      # positions of a box: more would save few of the planes around them


cdef void set_form(Grid* grid, const fc_kernels* kernels, int itemsize, int form) noexcept nogil:
    grid.kernels, grid.itemsize, grid.form = kernels, itemsize, form
    grid.kernel = 5 if form == FC_WINOGRAD_4X5 else 3
    grid.m = 4
    grid.side = 9 if form >= FC_WINOGRAD_STRIDED else grid.m + grid.kernel - 1
    grid.planes = grid.side * grid.side
    grid.weights = 36 if form >= FC_WINOGRAD_STRIDED else grid.planes
    grid.last = 2 if form >= FC_WINOGRAD_STRIDED else 1


cdef void set_tiles(Grid* grid, int axis, int64_t size, bint even) noexcept nogil:
    """Cut rows (axis 0) or columns of outputs into tiles; ``even``: all m apart, wherever they end."""
    cdef int64_t count = ceil_div(size, grid.m)
    grid.count[2 + axis], grid.whole[axis] = count, count
    if not even:
        grid.whole[axis] -= min(count, count * grid.m - size)


cdef int64_t chunk_bytes(const Grid* grid, const int64_t* count, const Pixels* pixels, int64_t columns) noexcept nogil:
    """Bytes of the planes of a box: what it reads, and ``columns`` numbers a tile."""
    cdef int64_t elements = plane_size(pixels, count) + apart(count[0] * count[1] * count[2] * count[3] * columns)
    return grid.planes * elements * grid.itemsize


cdef void choose_box(Grid* grid, const Pixels* pixels, int64_t columns, int64_t bytes,
                     bint planes) noexcept nogil:
    """Choose the box: whole rows of tiles first, then planes and images, up to ``bytes``; one tile at least.

    Where depth taps share source planes, neighbours along the depth come first: each plane that a box adds around them
    is transformed once more. With ``planes`` it has whole planes, whatever they take.
    """
    cdef int64_t part, most
    cdef int i, axis
    cdef int[4] order
    order[:] = [3, 2, 1, 0]
    if pixels.depth_reach > 0 and not planes:
        order[:] = [1, 3, 2, 0]
    for i in range(4):
        grid.box[i] = 1
    for i in range(4):
        axis = order[i]
        most = part = max(<int64_t>1, grid.count[axis])
        if axis == 1 and i == 0:
            most = part = even_part(part, ENOUGH_DEPTH)
        grid.box[axis] = part
        while part > 1 and not (planes and i < 2) and chunk_bytes(grid, grid.box, pixels, columns) > bytes:
            part = even_part(grid.count[axis], part - 1 - (part - 1) // 8)
            grid.box[axis] = part
        if part < most:
            break


cdef void even_images(Grid* grid, int64_t threads) noexcept nogil:
    """Give chunks of whole images somewhat fewer of them, so that all threads end at about the same time."""
    cdef int64_t most = grid.box[0], least = most, images = most, time
    cdef int i
    for i in range(1, 4):
        if grid.box[i] < grid.count[i]:
            return
    if threads == 1:
        return
    least = ceil_div(ceil_div(grid.count[0], most), threads) * most
    for images in range(most - 1, most // 2, -1):
        time = ceil_div(ceil_div(grid.count[0], images), threads) * images
        if time < least:
            least, grid.box[0] = time, images


cdef int64_t count_chunks(const Grid* grid) noexcept nogil:
    cdef int64_t chunks = 1
    cdef int i
    for i in range(4):
        chunks *= ceil_div(grid.count[i], grid.box[i])
    return chunks


cdef void locate_chunk(const Grid* grid, int64_t index, Chunk* chunk) noexcept nogil:
    """Set all of the chunk with this index but its group."""
    cdef int64_t boxes
    cdef int i
    chunk.tiles = 1
    for i in range(3, -1, -1):
        boxes = ceil_div(grid.count[i], grid.box[i])
        chunk.first[i] = index % boxes * grid.box[i]
        chunk.count[i] = min(grid.box[i], grid.count[i] - chunk.first[i])
        chunk.tiles *= chunk.count[i]
        index //= boxes
    for i in range(2):
        chunk.whole[i] = max(<int64_t>0, min(grid.whole[i] - chunk.first[2 + i], chunk.count[2 + i]))


cdef inline bint channels_touch(const Pixels* pixels) noexcept nogil:
    return pixels.stride[1] == 1 or pixels.channels == 1


cdef inline int64_t row_width(const Grid* grid, const Pixels* pixels, int64_t tiles) noexcept nogil:
    """Positions that a row of tiles reads."""
    return (tiles - 1) * grid.m * pixels.step + pixels.extent


cdef int64_t buffer_bytes(const Grid* grid, const Pixels* pixels) noexcept nogil:
    """Bytes that ``transform_row`` needs for packing a row of tiles."""
    if channels_touch(pixels):
        return 0
    return pixels.extent * row_width(grid, pixels, grid.box[3]) * min(pixels.channels, PACKED_CHANNELS) * grid.itemsize


cdef void pack_row(const Grid* grid, const Pixels* pixels, const char* source, int64_t w, fc_winograd* call,
                   int64_t width, char* buffer) noexcept nogil:
    """Copy what lies inside the array to rows of ``width`` pixels, channels-last; the rest nobody reads."""
    cdef int64_t left = max(<int64_t>0, -w), right = max(left, min(width, pixels.size[2] - w)), i
    cdef fc_copy2d copy
    call.column, call.row = call.count, width * call.count
    copy.rows, copy.columns, copy.padded, copy.ld = right - left, call.count, call.count, call.count
    copy.dj, copy.si, copy.sj = 1, pixels.stride[4], pixels.stride[1]
    for i in range(call.first_row, call.last_row):
        copy.src = source + (i * pixels.stride[3] + left * pixels.stride[4]) * grid.itemsize
        copy.dst = buffer + (i * call.row + left * call.column) * grid.itemsize
        grid.kernels.copy2d(&copy)


cdef inline int64_t read_from(const Pixels* pixels, const Chunk* chunk) noexcept nogil:
    """The first position along the depth that a chunk reads, be it outside the array."""
    return pixels.first[0] + chunk.first[1] * pixels.depth_step


cdef inline int64_t first_position(const Pixels* pixels, const Chunk* chunk) noexcept nogil:
    """The first one that its planes have."""
    return max(<int64_t>0, read_from(pixels, chunk)) if pixels.trims else read_from(pixels, chunk)


cdef void transform_row(const Grid* grid, const Chunk* chunk, const Pixels* pixels, int64_t index, char* planes,
                        char* buffer) noexcept nogil:
    """Transform a row of tiles: index = (image * depth positions + depth) * rows + row, of the box."""
    cdef int64_t size = grid.itemsize, tiles = chunk.count[3], first = 0, row = chunk.first[2] + index % chunk.count[2]
    cdef int64_t depth = depth_positions(pixels, chunk.count[1])
    cdef int64_t n = chunk.first[0] + index // chunk.count[2] // depth
    cdef int64_t d = first_position(pixels, chunk) + index // chunk.count[2] % depth
    cdef int64_t start = tile_start(grid, 1, chunk.first[3]), extent = pixels.extent, tile, at
    cdef int64_t h = pixels.first[1] + pixels.step * tile_start(grid, 0, row)
    cdef int64_t w = pixels.first[2] + pixels.step * start
    cdef bint touch = channels_touch(pixels), alone = pixels.extent == grid.m  # no other tile reads the same
    cdef char* source = pixels.data
    cdef fc_winograd call
    source += (n * pixels.stride[0] + chunk.group * pixels.channels * pixels.stride[1] + d * pixels.stride[2] +
               h * pixels.stride[3] + w * pixels.stride[4]) * size
    call.form, call.plane = grid.form, plane_size(pixels, chunk.count)
    call.first_row = max(<int64_t>0, -h)
    call.last_row = max(<int64_t>0, min(tile_outputs(grid, 0, row) if alone else extent, pixels.size[1] - h))
    if d < 0 or d >= pixels.size[0]:
        if pixels.trims:
            return
        call.last_row = 0
    call.row, call.column = pixels.stride[3], pixels.stride[4]
    if pixels.far:
        at = max(<int64_t>0, -w)
        read_pixels(source + (call.first_row * call.row + at * call.column) * size, pixels.stride,
                    call.last_row - call.first_row, min(pixels.size[2] - w, row_width(grid, pixels, tiles)) - at,
                    pixels.channels, grid.itemsize)
    while first < pixels.channels:
        call.count = pixels.channels if touch else min(PACKED_CHANNELS, pixels.channels - first)
        if not touch:
            pack_row(grid, pixels, source + first * pixels.stride[1] * size, w, &call,
                     row_width(grid, pixels, tiles), buffer)
        for tile in range(tiles):
            at = pixels.step * (tile_start(grid, 1, chunk.first[3] + tile) - start)
            call.pixels = (source if touch else buffer) + at * call.column * size
            at += w
            if alone:
                extent = tile_outputs(grid, 1, chunk.first[3] + tile)
            call.first_column = max(<int64_t>0, -at)
            call.last_column = max(<int64_t>0, min(extent, pixels.size[2] - at))
            call.planes = planes + ((index * tiles + tile) * pixels.channels + first) * size
            pixels.transform(&call)
        first += call.count


cdef void list_places(const Chunk* chunk, int64_t first, const int64_t* apart, int64_t* lists) noexcept nogil:
    """Where the tiles of the box lie, from ``first`` on, ``apart`` along images, depth, rows and columns.

    (kinds, tiles).
    """
    cdef int64_t n, d, h, w
    cdef int64_t* at
    cdef int kind
    for kind in range(KINDS):
        if kind & 1 and chunk.whole[0] == chunk.count[2] or kind & 2 and chunk.whole[1] == chunk.count[3]:
            continue  # no plane is of this kind
        at = lists + kind * chunk.tiles
        for n in range(chunk.count[0]):
            for d in range(chunk.count[1]):
                for h in range(chunk.whole[0] if kind & 1 else chunk.count[2]):
                    for w in range(chunk.whole[1] if kind & 2 else chunk.count[3]):
                        at[0] = first + n * apart[0] + d * apart[1] + h * apart[2] + w * apart[3]
                        at += 1


cdef void list_tiles(const Chunk* chunk, const Pixels* pixels, int64_t* lists) noexcept nogil:
    """Where the first depth position of each tile lies in a plane of ``pixels``: (kinds, tiles)."""
    cdef int64_t[4] apart
    cdef int64_t position = chunk.count[2] * chunk.count[3] * pixels.channels
    cdef int64_t first = (read_from(pixels, chunk) - first_position(pixels, chunk)) * position
    apart[0], apart[1] = depth_positions(pixels, chunk.count[1]) * position, pixels.depth_step * position
    apart[2], apart[3] = chunk.count[3] * pixels.channels, pixels.channels
    list_places(chunk, first, apart, lists)


cdef void list_products(const Chunk* chunk, int64_t columns, int64_t* lists) noexcept nogil:
    """The same of products, ``columns`` for each tile, tile after tile."""
    cdef int64_t[4] apart
    apart[3], apart[2] = columns, chunk.count[3] * columns
    apart[1] = chunk.count[2] * apart[2]
    apart[0] = chunk.count[1] * apart[1]
    list_places(chunk, 0, apart, lists)
