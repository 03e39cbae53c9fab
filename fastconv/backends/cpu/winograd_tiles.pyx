"""Winograd's tiles: the output of a convolution cut into squares of m x m pixels, and the transformed source of a box.

Rows and columns have stride 1 and a square kernel; the depth axis is any (2-D has one position and one tap): its taps
are summed between the transforms, so a source plane is transformed once for all depth taps that read it. Sources that
are not channels-last are packed a row of tiles at a time. No weights here: those are in winograd.pyx and
winograd_weight.pyx.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport (
    FC_WINOGRAD_4X3, FC_WINOGRAD_4X5, FC_WINOGRAD_6X3, fc_copy2d, fc_winograd,
)
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div, even_part, span

cdef int64_t PACKED_CHANNELS = 64   # of a row of tiles that is packed first


cdef void set_grid(Grid* grid, const Reader* x, int form) noexcept nogil:
    """Cut the output of the reader's axes into the tiles of ``form``."""
    grid.x, grid.form = x, form
    grid.kernel = 5 if form == FC_WINOGRAD_4X5 else 3
    grid.m = 6 if form == FC_WINOGRAD_6X3 else 4
    grid.side = grid.m + grid.kernel - 1
    grid.planes = grid.side * grid.side
    grid.count[0], grid.count[1] = x.n, x.axis[0].count
    grid.count[2], grid.count[3] = ceil_div(x.axis[1].count, grid.m), ceil_div(x.axis[2].count, grid.m)


cdef inline int64_t source_tiles(const Grid* grid, const int64_t* count) noexcept nogil:
    return count[0] * span(&grid.x.axis[0], count[1]) * count[2] * count[3]


cdef int64_t chunk_bytes(const Grid* grid, const int64_t* count, int64_t columns) noexcept nogil:
    """Bytes of the planes of a box: its source, and ``columns`` numbers a tile."""
    cdef int64_t elements = apart(source_tiles(grid, count) * grid.x.depth)
    elements += apart(count[0] * count[1] * count[2] * count[3] * columns)
    return grid.planes * elements * grid.x.itemsize


cdef void choose_box(Grid* grid, int64_t columns, int64_t bytes) noexcept nogil:
    """Choose the box: whole rows of tiles first, then planes, volumes and images, up to ``bytes``; one tile at least."""
    cdef int64_t part
    cdef int i
    for i in range(4):
        grid.box[i] = 1
    for i in range(3, -1, -1):
        if i < 3 and grid.box[i + 1] < grid.count[i + 1]:
            break
        part = grid.count[i]
        grid.box[i] = part
        while part > 1 and chunk_bytes(grid, grid.box, columns) > bytes:
            part = even_part(grid.count[i], part - 1 - (part - 1) // 8)
            grid.box[i] = part


cdef int64_t count_chunks(const Grid* grid) noexcept nogil:
    cdef int64_t chunks = 1
    cdef int i
    for i in range(4):
        chunks *= ceil_div(grid.count[i], grid.box[i])
    return chunks


cdef void locate_chunk(const Grid* grid, int64_t index, Chunk* chunk) noexcept nogil:
    """Set all of the chunk with this index but its group and memory."""
    cdef int64_t boxes
    cdef int i
    chunk.grid = grid
    for i in range(3, -1, -1):
        boxes = ceil_div(grid.count[i], grid.box[i])
        chunk.first[i] = index % boxes * grid.box[i]
        chunk.count[i] = min(grid.box[i], grid.count[i] - chunk.first[i])
        index //= boxes
    chunk.source_depth = span(&grid.x.axis[0], chunk.count[1])
    chunk.tiles = chunk.count[0] * chunk.count[1] * chunk.count[2] * chunk.count[3]
    chunk.v_plane = apart(source_tiles(grid, chunk.count) * grid.x.depth)


cdef int64_t source_rows(const Chunk* chunk) noexcept nogil:
    """How many rows of tiles ``transform_row`` has to work on."""
    return chunk.count[0] * chunk.source_depth * chunk.count[2]


cdef inline bint channels_touch(const Reader* x) noexcept nogil:
    return x.stride[1] == 1 or x.depth == 1


cdef int64_t buffer_bytes(const Grid* grid) noexcept nogil:
    """Bytes that ``transform_row`` needs for packing a row of tiles."""
    if channels_touch(grid.x):
        return 0
    return grid.side * (grid.box[3] * grid.m + grid.kernel) * min(grid.x.depth, PACKED_CHANNELS) * grid.x.itemsize


cdef void transform_row(const Chunk* chunk, int64_t index, char* buffer) noexcept nogil:
    """Transform a row of tiles: index = (image * source_depth + depth) * rows + row, of the box."""
    cdef const Grid* grid = chunk.grid
    cdef const Reader* x = grid.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t size = x.itemsize, row = index % chunk.count[2], tiles = chunk.count[3]
    cdef int64_t depth = index // chunk.count[2] % chunk.source_depth
    cdef int64_t image = index // chunk.count[2] // chunk.source_depth
    cdef int64_t d = ax[0].src_base + chunk.first[1] * ax[0].src_step + ax[0].shift[0] + depth
    cdef int64_t h = ax[1].src_base + ax[1].shift[0] + (chunk.first[2] + row) * grid.m
    cdef int64_t w = ax[2].src_base + ax[2].shift[0] + chunk.first[3] * grid.m, left, right, first, channels, tile, i
    cdef const char* source = x.data
    cdef char* v = chunk.v + index * tiles * x.depth * size
    cdef fc_winograd call
    cdef fc_copy2d copy
    source += ((chunk.first[0] + image) * x.stride[0] + chunk.group * x.depth * x.stride[1] + d * x.stride[2]) * size
    call.form, call.plane = grid.form, chunk.v_plane
    call.first_row, call.last_row = max(<int64_t>0, -h), max(<int64_t>0, min(grid.side, ax[1].src_size - h))
    if d < 0 or d >= ax[0].src_size:
        call.last_row = 0
    call.row, call.column = x.stride[3], x.stride[4]
    channels = x.depth if channels_touch(x) else min(x.depth, PACKED_CHANNELS)
    first = 0
    while first < x.depth:
        call.count = min(channels, x.depth - first)
        if not channels_touch(x):  # pixels that lie outside the array stay what they are: nobody reads them
            left = max(<int64_t>0, -w)
            right = max(left, min((tiles - 1) * grid.m + grid.side, ax[2].src_size - w))
            call.column = call.count
            call.row = ((tiles - 1) * grid.m + grid.side) * call.count
            copy.rows, copy.columns, copy.padded, copy.ld = right - left, call.count, call.count, call.count
            copy.dj, copy.si, copy.sj = 1, x.stride[4], x.stride[1]
            for i in range(call.first_row, call.last_row):
                copy.src = source + ((h + i) * x.stride[3] + (w + left) * x.stride[4] + first * x.stride[1]) * size
                copy.dst = buffer + (i * call.row + left * call.column) * size
                x.kernel.copy2d(&copy)
        for tile in range(tiles):
            i = w + tile * grid.m
            call.first_column, call.last_column = max(<int64_t>0, -i), max(<int64_t>0, min(grid.side, ax[2].src_size - i))
            if channels_touch(x):
                call.pixels = <char*> source + (h * x.stride[3] + i * x.stride[4] + first) * size
            else:
                call.pixels = buffer + tile * grid.m * call.column * size
            call.planes = v + (tile * x.depth + first) * size
            x.kernel.winograd_input(&call)
        first += call.count


cdef void list_tiles(const Chunk* chunk, int64_t columns, int64_t* source, int64_t* destination) noexcept nogil:
    """Where each tile of the box lies in a plane of the source, and in one of ``columns`` numbers a tile."""
    cdef int64_t row = chunk.count[3] * chunk.grid.x.depth, step = chunk.grid.x.axis[0].src_step, n, d, h, w, p = 0
    for n in range(chunk.count[0]):
        for d in range(chunk.count[1]):
            for h in range(chunk.count[2]):
                for w in range(chunk.count[3]):
                    source[p] = ((n * chunk.source_depth + d * step) * chunk.count[2] + h) * row + w * chunk.grid.x.depth
                    destination[p] = p * columns
                    p += 1


cdef void list_depth_taps(const Chunk* chunk, int64_t* tap) noexcept nogil:
    """Where the source of each depth tap lies, relative to the first, in a plane."""
    cdef const TileAxis* axis = &chunk.grid.x.axis[0]
    cdef int64_t t
    for t in range(axis.taps):
        tap[t] = (axis.shift[t] - axis.shift[0]) * chunk.count[2] * chunk.count[3] * chunk.grid.x.depth
