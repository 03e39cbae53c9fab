"""A chunk of images of a unit's gradients by Winograd's minimal filtering: its transforms, and its products by planes.

The pooled gradient is spread over its windows and transformed once, for both gradients: in each plane it is multiplied
with the source, which adds to the transformed weight gradient, and with the weights, which gives the transformed input
gradient: the adjoint of the forward pass, added to the images tile by tile. Which chunks there are and who does what of
them is in winograd_unit_gradients.pyx.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from fastconv.backends.cpu._csrc cimport (
    fc_accumulate, fc_conv_tile, fc_copy2d, fc_outer_tile, fc_winograd, fc_winograd_windows,
)
from fastconv.backends.cpu.runtime cimport workspace
from fastconv.backends.cpu.tiles cimport ceil_div
from fastconv.backends.cpu.winograd_tiles cimport Chunk, apart, buffer_bytes, plane_size, transform_row

cdef int64_t PACKED_DEPTH = 16      # output channels whose weights are transformed at a time


cdef inline char* db_of(const Stage* stage) noexcept nogil:
    return stage.s.db + stage.part * stage.s.columns * stage.s.grid.itemsize


cdef int64_t weight_tasks(const Backward* s) noexcept nogil:
    return s.panels * ceil_div(s.columns, PACKED_DEPTH)


cdef void transform_weights(void* context, int64_t index) noexcept nogil:
    """Some output channels of a panel, index = panel * parts + part: packed as (taps, depth, nr), then transformed."""
    cdef Backward* s = <Backward*> context
    cdef int64_t size = s.grid.itemsize, nr = s.grid.kernels.nr, taps = s.grid.kernel * s.grid.kernel
    cdef int64_t parts = ceil_div(s.columns, PACKED_DEPTH), begin = index % parts * PACKED_DEPTH, panel = index // parts
    cdef int64_t depth = min(PACKED_DEPTH, s.columns - begin), k
    cdef char* packed = <char*> workspace(taps * depth * nr * size)
    cdef fc_copy2d copy
    cdef fc_winograd call
    if packed == NULL:
        s.failed = True
        return
    copy.rows, copy.columns, copy.padded = taps, min(nr, s.channels - panel * nr), nr
    copy.ld, copy.dj, copy.si, copy.sj = depth * nr, 1, 1, taps
    for k in range(depth):
        copy.src = s.w.data + ((begin + k) * s.channels + panel * nr) * taps * size
        copy.dst = packed + k * nr * size
        s.grid.kernels.copy2d(&copy)
    call.form, call.plane, call.count = s.grid.form, s.u_plane, depth * nr
    call.column, call.row = call.count, s.grid.kernel * call.count
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = s.grid.kernel
    call.pixels = packed
    call.planes = s.u + (panel * s.grid.planes * s.u_plane + begin * nr) * size
    s.grid.kernels.winograd_filter(&call)


cdef void transform_gradient(Stage* stage, int64_t index, char* buffer) noexcept nogil:
    """A row of tiles of the pooled gradient: index = image * rows + row, of the chunk."""
    cdef Backward* s = stage.s
    cdef int64_t size = s.grid.itemsize, width = s.dy.size[4], columns = s.columns, i, w
    cdef int64_t n = stage.chunk.first[0] + index // s.grid.count[2], h = 2 * (index % s.grid.count[2])
    cdef char* dy = s.dy.data + (n * s.dy.stride[0] + h * s.dy.stride[3]) * size
    cdef uint8_t* places = <uint8_t*> s.index.data + n * s.index.stride[0] + h * s.index.stride[3]
    cdef fc_copy2d copy
    cdef fc_winograd_windows call
    call.form, call.plane, call.count = s.grid.form, apart(stage.chunk.tiles * columns), columns
    call.rows = min(<int64_t>2, s.dy.size[3] - h)
    call.row, call.column = s.dy.stride[3], s.dy.stride[4]
    call.index_row, call.index_column = s.index.stride[3], s.index.stride[4]
    if s.copies:
        copy.rows, copy.columns, copy.padded, copy.ld = width, columns, columns, columns
        copy.dj, copy.si, copy.sj = 1, s.dy.stride[4], s.dy.stride[1]
        for i in range(call.rows):
            copy.src, copy.dst = dy + i * s.dy.stride[3] * size, buffer + i * width * columns * size
            s.grid.kernels.copy2d(&copy)
        dy, call.row, call.column = buffer, width * columns, columns
    call.total = stage.totals + index * columns * size
    memset(call.total, 0, columns * size)
    for w in range(s.grid.count[3]):
        call.columns = min(<int64_t>2, width - 2 * w)
        call.small, call.index = dy + 2 * w * call.column * size, places + 2 * w * call.index_column
        call.planes = stage.m + (index * s.grid.count[3] + w) * columns * size
        s.grid.kernels.winograd_unpool(&call)


cdef int64_t packing_bytes(const Backward* s) noexcept nogil:
    return 64 + max(buffer_bytes(&s.grid, &s.source), 2 * s.dy.size[4] * s.columns * s.grid.itemsize)


cdef void transform(Stage* stage, int64_t index, char* buffer) noexcept nogil:
    if index < rows_of(stage):
        transform_gradient(stage, index, buffer)
    else:
        transform_row(&stage.s.grid, &stage.chunk, &stage.s.source, index - rows_of(stage), stage.v, buffer)


cdef void multiply(Stage* stage, int64_t plane) noexcept nogil:
    """A plane's products: with the source, and with the weights, over what held the source."""
    cdef Backward* s = stage.s
    cdef int64_t size = s.grid.itemsize, nr = s.grid.kernels.nr, tiles = stage.chunk.tiles, column = 0
    cdef char* v = stage.v + plane * plane_size(&s.source, stage.chunk.count) * size
    cdef char* m = stage.m + plane * apart(tiles * s.columns) * size
    cdef char* sums = s.sums + stage.part * sum_bytes(s) + plane * s.sum_plane * size
    cdef int64_t* lists = stage.lists
    cdef fc_outer_tile outer
    cdef fc_conv_tile call
    if s.weight:
        outer.row = NULL
        outer.xpixel = NULL
        outer.ypixel = NULL
        outer.x, outer.xstep, outer.ystep = v, s.channels, s.columns
        outer.rows, outer.pixels, outer.ld = s.channels, tiles, s.columns
        outer.ahead[0].runs = outer.ahead[1].runs = 0
        outer.accumulate = not stage.first
        outer.dy, outer.dw, outer.columns = m, sums, s.columns
        s.grid.kernels.outer_tile(&outer)
    if s.input:
        call.x, call.pixel, call.ypixel = m, lists + tiles, lists
        call.tap = call.wtap = lists + 2 * tiles
        call.pixels, call.taps, call.depth, call.listed = tiles, 1, s.columns, 0
        call.bias, call.accumulate, call.residual, call.gate, call.relu = NULL, False, NULL, NULL, False
        call.panel, call.warm, call.later, call.source = s.grid.planes * s.u_plane, True, False, NULL
        while column < s.channels:
            call.columns = min(s.grid.kernels.wide, s.channels - column)
            call.w = s.u + (column // nr * s.grid.planes + plane) * s.u_plane * size
            call.y = v + column * size
            s.grid.kernels.conv_tile(&call)
            column += s.grid.kernels.wide


cdef void add_to_task(const Stage* stage, int64_t plane) noexcept nogil:
    """Add a plane of a part's sums, which is complete, to those of the task's parts before it: pairwise, as all are."""
    cdef const Backward* s = stage.s
    cdef int64_t distance = 1, first
    cdef char* sums = s.sums + plane * s.sum_plane * s.grid.itemsize
    cdef fc_accumulate call
    call.count = s.channels * s.columns
    while distance < s.together and stage.part & distance:
        first = stage.part + 1 - 2 * distance
        call.dst, call.src = sums + first * sum_bytes(s), sums + (first + distance) * sum_bytes(s)
        s.grid.kernels.accumulate(&call)
        distance *= 2


cdef void scatter(Stage* stage, int64_t image) noexcept nogil:
    """An image's input gradient from its tiles."""
    cdef Backward* s = stage.s
    cdef int64_t size = s.grid.itemsize, rows = s.grid.count[2], columns = s.grid.count[3], h, w, r, c
    cdef char* dx = s.dx.data + (stage.chunk.first[0] + image) * s.dx.stride[0] * size
    cdef fc_winograd call
    call.form, call.plane, call.count = s.grid.form, plane_size(&s.source, stage.chunk.count), s.channels
    call.row, call.column, call.bias = s.dx.stride[3], s.dx.stride[4], NULL
    memset(dx, 0, s.dx.stride[0] * size)
    for r in range(rows):
        h = r * s.grid.m - s.padding[0]
        call.first_row, call.last_row = max(<int64_t>0, -h), max(<int64_t>0, min(s.grid.side, s.dx.size[3] - h))
        for c in range(columns):
            w = c * s.grid.m - s.padding[1]
            call.first_column = max(<int64_t>0, -w)
            call.last_column = max(<int64_t>0, min(s.grid.side, s.dx.size[4] - w))
            call.pixels = dx + (h * call.row + w * call.column) * size
            call.planes = stage.v + ((image * rows + r) * columns + c) * s.channels * size
            s.grid.kernels.winograd_scatter(&call)


cdef void add_up(const Backward* s, char* sums, int64_t number, int64_t step, int64_t count) noexcept nogil:
    """Add ``number`` runs of ``count`` elements, ``step`` bytes apart, pairwise into the first."""
    cdef int64_t distance = 1, i
    cdef fc_accumulate call
    call.count = count
    while distance < number:
        i = 0
        while i + distance < number:
            call.dst, call.src = sums + i * step, sums + (i + distance) * step
            s.grid.kernels.accumulate(&call)
            i += 2 * distance
        distance *= 2


cdef void add_totals(Stage* stage) noexcept nogil:
    """Add the chunk's sums pairwise, and to the part's bias gradient."""
    cdef Backward* s = stage.s
    cdef int64_t bytes = s.columns * s.grid.itemsize
    cdef fc_accumulate call
    add_up(s, stage.totals, rows_of(stage), bytes, s.columns)
    if stage.first:
        memcpy(db_of(stage), stage.totals, bytes)
        return
    call.dst, call.src, call.count = db_of(stage), stage.totals, s.columns
    s.grid.kernels.accumulate(&call)


cdef inline int64_t totals_bytes(const Backward* s) noexcept nogil:
    return ceil_div(s.images * s.grid.count[2] * s.columns * s.grid.itemsize, 64) * 64


cdef int64_t stage_bytes(const Backward* s) noexcept nogil:
    cdef int64_t lists = 2 * s.images * s.grid.count[2] * s.grid.count[3] + 1
    return chunk_elements(s, s.images) * s.grid.itemsize + totals_bytes(s) + ceil_div(lists * sizeof(int64_t), 64) * 64


cdef void set_stage(Stage* stage, Backward* s, int64_t part, int64_t first, int64_t last, char* memory) noexcept nogil:
    """Lay out the chunk of images [first, last) in ``memory``."""
    cdef Chunk* chunk = &stage.chunk
    cdef int64_t i
    stage.s, stage.part = s, part
    stage.first = first == s.grid.count[0] * part // s.parts
    chunk.group = 0
    for i in range(4):
        chunk.first[i], chunk.count[i] = 0, s.grid.count[i]
    chunk.first[0], chunk.count[0] = first, last - first
    chunk.tiles = chunk.count[0] * chunk.count[2] * chunk.count[3]
    stage.v = memory
    stage.m = memory + s.grid.planes * plane_size(&s.source, chunk.count) * s.grid.itemsize
    stage.totals = memory + chunk_elements(s, s.images) * s.grid.itemsize
    stage.lists = <int64_t*> (stage.totals + totals_bytes(s))
    for i in range(chunk.tiles):
        stage.lists[i], stage.lists[chunk.tiles + i] = i * s.channels, i * s.columns
    stage.lists[2 * chunk.tiles] = 0
