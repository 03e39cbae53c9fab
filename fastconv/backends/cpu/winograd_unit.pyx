"""Units of a 2-D convolution and a 2 x 2 max-pool, by Winograd's minimal filtering.

Forward, windows are pooled as the products of their tile are transformed back (winograd.pyx). Backward, the pooled
gradient of a chunk of images is spread over its windows and transformed once, for both gradients: in each plane it is
multiplied with the source, which adds to the transformed weight gradient, and with the weights, which gives the
transformed input gradient: the adjoint of the forward pass, added to the images tile by tile. All threads work on one
chunk after the other, first by rows of tiles, then by planes, then by images; chunks depend on the shape alone.

Memory: transformed weights and their gradient, and a chunk within 3 MB.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from fastconv.backends.cpu._csrc cimport (
    fc_accumulate, fc_conv_tile, fc_copy2d, fc_outer_tile, fc_winograd, fc_winograd_windows,
)
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, plain_ending
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, empty, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport ceil_div, set_forward_axes
from fastconv.backends.cpu.unit_pool cimport channels_last
from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd cimport kept_transform, winograd_correlate
from fastconv.backends.cpu.winograd_tiles cimport (
    Chunk, Grid, Pixels, apart, buffer_bytes, plane_size, set_form, transform_row,
)
from fastconv.backends.cpu.winograd_weight cimport Planes, transform_back

cnp.import_array()

cdef int64_t CHUNK_BYTES = 3 * 1024 * 1024
cdef int64_t CHUNK_TILES = 256      # a sum over more tiles is a sum of sums, which rounds less
cdef int64_t PACKED_DEPTH = 16      # output channels whose weights are transformed at a time
cdef int64_t NOTHING[1]             # the only depth tap
NOTHING[0] = 0


def winograd_unit_forward(cnp.ndarray x, cnp.ndarray w, b, geometry, activation, pool_geometry, int form, frozen):
    """x (N, IC, 1, IH, IW), w (OC, IC, 1, KH, KW), b (OC,) or None -> y and index (N, OC, 1, PH, PW)."""
    cdef cnp.ndarray y = empty(pool_geometry.output_shape, x.dtype, "channels_last")
    cdef cnp.ndarray index = empty(pool_geometry.output_shape, np.uint8, "channels_last")
    cdef View xv = view(x), wv = view(w), yv = view(y), bv
    cdef Correlation problem
    cdef bint relu = activation == "relu"
    cdef uint8_t* places = <uint8_t*> cnp.PyArray_DATA(index)
    if cnp.PyArray_SIZE(y) == 0:
        return y, index
    problem.x.itemsize, problem.x.data, problem.x.stride = xv.itemsize, xv.data, xv.stride
    problem.x.n, problem.x.groups, problem.x.depth, problem.x.channels = xv.size[0], 1, wv.size[1], 0
    problem.y, problem.ys, problem.columns = yv.data, yv.stride, wv.size[0]
    problem.w, problem.w_group, problem.w_depth, problem.w_column = wv.data, 0, wv.stride[1], wv.stride[0]
    problem.bias = problem.packed = NULL
    plain_ending(&problem)
    problem.bias_stride = 0
    if b is not None:
        bv = view(b)
        problem.bias, problem.bias_stride = bv.data, bv.stride[0]
    cdef int64_t* lists = <int64_t*> malloc(2 * (1 + wv.size[3] + wv.size[4]) * sizeof(int64_t))
    if lists == NULL:
        raise MemoryError("convolution with pooling: no memory for the list of taps")
    try:
        set_forward_axes(&problem.x, geometry, xv.size, wv.size, wv.stride, lists)
        _kept = None if frozen is False else kept_transform(&problem, w, form, frozen)  # lives as long as the call
        with nogil:
            winograd_correlate(&problem, form, False, places, relu)
    finally:
        free(lists)
    return y, index


# ------------------------------------------------------------------------------------------------ backward


cdef struct Backward:
    Grid grid
    Pixels source
    View dy, index, w, dx
    bint copies             # dy's channels do not lie side by side
    bint input, weight      # which gradients are wanted
    int64_t channels, columns
    int64_t padding[2]
    int64_t panels, u_plane         # panels of nr input channels, and elements of a panel's plane: (columns, nr)
    int64_t sum_plane               # of a plane of the transformed weight gradient: (channels, columns)
    int64_t packing                 # tasks that transform weights
    char* u                         # (panels, planes; u_plane)
    char* sums                      # (planes; sum_plane)
    char* v                         # planes of the source, then of its gradient
    char* m                         # planes of the gradient
    char* totals                    # (rows of tiles, columns): sums of the gradient
    int64_t* lists                  # tiles in a plane of v, in one of m, a panel's columns there, the channels
    char* db
    Chunk chunk
    bint failed


cdef void transform_weights(Backward* s, int64_t index) noexcept nogil:
    """Some output channels of a panel, index = panel * parts + part: packed as (taps, depth, nr), then transformed."""
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


cdef void transform_gradient(Backward* s, int64_t index, char* buffer) noexcept nogil:
    """A row of tiles of the pooled gradient: index = image * rows + row, of the chunk."""
    cdef int64_t size = s.grid.itemsize, width = s.dy.size[4], columns = s.columns, i, w
    cdef int64_t n = s.chunk.first[0] + index // s.grid.count[2], h = 2 * (index % s.grid.count[2])
    cdef char* dy = s.dy.data + (n * s.dy.stride[0] + h * s.dy.stride[3]) * size
    cdef uint8_t* places = <uint8_t*> s.index.data + n * s.index.stride[0] + h * s.index.stride[3]
    cdef fc_copy2d copy
    cdef fc_winograd_windows call
    call.form, call.plane, call.count = s.grid.form, apart(s.chunk.tiles * columns), columns
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
    call.total = s.totals + index * columns * size
    memset(call.total, 0, columns * size)
    for w in range(s.grid.count[3]):
        call.columns = min(<int64_t>2, width - 2 * w)
        call.small, call.index = dy + 2 * w * call.column * size, places + 2 * w * call.index_column
        call.planes = s.m + (index * s.grid.count[3] + w) * columns * size
        s.grid.kernels.winograd_unpool(&call)


cdef inline int64_t rows_of(const Backward* s) noexcept nogil:
    return s.chunk.count[0] * s.grid.count[2]


cdef inline int64_t packing_bytes(const Backward* s) noexcept nogil:
    return 64 + max(buffer_bytes(&s.grid, &s.source), 2 * s.dy.size[4] * s.columns * s.grid.itemsize)


cdef void transform_task(void* context, int64_t index) noexcept nogil:
    """Weights, rows of tiles of the gradient, and of the source."""
    cdef Backward* s = <Backward*> context
    cdef char* buffer
    if index < s.packing:
        transform_weights(s, index)
        return
    index -= s.packing
    buffer = <char*> workspace(packing_bytes(s))
    if buffer == NULL:
        s.failed = True
    elif index < rows_of(s):
        transform_gradient(s, index, buffer)
    else:
        transform_row(&s.grid, &s.chunk, &s.source, index - rows_of(s), s.v, buffer)


cdef void multiply_task(void* context, int64_t plane) noexcept nogil:
    """A plane's products: with the source, and with the weights, over what held the source."""
    cdef Backward* s = <Backward*> context
    cdef int64_t size = s.grid.itemsize, nr = s.grid.kernels.nr, tiles = s.chunk.tiles, column = 0, panel
    cdef char* v = s.v + plane * plane_size(&s.source, s.chunk.count) * size
    cdef char* m = s.m + plane * apart(tiles * s.columns) * size
    cdef fc_outer_tile outer
    cdef fc_conv_tile call
    if s.weight:
        outer.x, outer.xpixel, outer.ypixel, outer.row = v, s.lists, s.lists + tiles, s.lists + 2 * tiles + 1
        outer.rows, outer.pixels, outer.ld, outer.next = s.channels, tiles, s.columns, 0
        outer.accumulate = s.chunk.first[0] > 0
        while column < s.columns:
            outer.columns = min(nr, s.columns - column)
            outer.dy = m + column * size
            outer.dw = s.sums + (plane * s.sum_plane + column) * size
            s.grid.kernels.outer_tile(&outer)
            column += nr
    if s.input:
        call.x, call.pixel, call.ypixel = m, s.lists + tiles, s.lists
        call.tap = call.wtap = s.lists + 2 * tiles
        call.pixels, call.taps, call.depth, call.listed = tiles, 1, s.columns, 0
        call.bias, call.accumulate, call.residual, call.gate, call.relu = NULL, False, NULL, NULL, False
        for panel in range(s.panels):
            call.columns = min(nr, s.channels - panel * nr)
            call.w = s.u + (panel * s.grid.planes + plane) * s.u_plane * size
            call.y = v + panel * nr * size
            s.grid.kernels.conv_tile(&call)


cdef void scatter_task(void* context, int64_t image) noexcept nogil:
    """An image's input gradient from its tiles."""
    cdef Backward* s = <Backward*> context
    cdef int64_t size = s.grid.itemsize, rows = s.grid.count[2], columns = s.grid.count[3], h, w, r, c
    cdef char* dx = s.dx.data + (s.chunk.first[0] + image) * s.dx.stride[0] * size
    cdef fc_winograd call
    call.form, call.plane, call.count = s.grid.form, plane_size(&s.source, s.chunk.count), s.channels
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
            call.planes = s.v + ((image * rows + r) * columns + c) * s.channels * size
            s.grid.kernels.winograd_scatter(&call)


cdef void add_totals(Backward* s) noexcept nogil:
    """Add the chunk's sums pairwise, and to the bias gradient."""
    cdef int64_t bytes = s.columns * s.grid.itemsize, rows = rows_of(s), step = 1, row
    cdef fc_accumulate call
    call.count = s.columns
    while step < rows:
        row = 0
        while row + step < rows:
            call.dst, call.src = s.totals + row * bytes, s.totals + (row + step) * bytes
            s.grid.kernels.accumulate(&call)
            row += 2 * step
        step *= 2
    call.dst, call.src = s.db, s.totals
    if s.chunk.first[0] == 0:
        memcpy(s.db, s.totals, bytes)
    else:
        s.grid.kernels.accumulate(&call)


cdef inline int64_t chunk_elements(const Backward* s, int64_t images) noexcept nogil:
    """Elements of the planes of a chunk."""
    cdef int64_t tiles = images * s.grid.count[2] * s.grid.count[3]
    return s.grid.planes * (apart(tiles * s.channels) + apart(tiles * s.columns))


cdef void run(Backward* s, int64_t images) noexcept nogil:
    """All chunks of so many images."""
    cdef int64_t n = 0, i
    s.chunk.group = 0
    for i in range(4):
        s.chunk.first[i], s.chunk.count[i] = 0, s.grid.count[i]
    while n < s.grid.count[0]:
        s.chunk.first[0], s.chunk.count[0] = n, min(images, s.grid.count[0] - n)
        s.chunk.tiles = s.chunk.count[0] * s.grid.count[2] * s.grid.count[3]
        s.m = s.v + s.grid.planes * plane_size(&s.source, s.chunk.count) * s.grid.itemsize
        for i in range(s.chunk.tiles):
            s.lists[i], s.lists[s.chunk.tiles + i] = i * s.channels, i * s.columns
        s.lists[2 * s.chunk.tiles] = 0
        for i in range(s.channels):
            s.lists[2 * s.chunk.tiles + 1 + i] = i
        s.packing = s.panels * ceil_div(s.columns, PACKED_DEPTH) if s.input and n == 0 else 0
        parallel_for(s.packing + (2 if s.weight else 1) * rows_of(s), transform_task, s)
        parallel_for(s.grid.planes, multiply_task, s)
        if s.input:
            parallel_for(s.chunk.count[0], scatter_task, s)
        add_totals(s)
        n += images


cdef void set_source(Backward* s, View* x) noexcept nogil:
    cdef int i
    s.source.data, s.source.stride, s.source.channels = x.data, x.stride, s.channels
    s.source.depth_step, s.source.depth_reach = 1, 0
    s.source.first[0], s.source.size[0] = 0, 1
    for i in range(2):
        s.source.first[1 + i], s.source.size[1 + i] = -s.padding[i], x.size[3 + i]
    s.source.extent, s.source.transform = s.grid.side, s.grid.kernels.winograd_input


def winograd_unit_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray x, cnp.ndarray w, geometry, needs, int form):
    """dy and index (N, OC, 1, PH, PW), x (N, IC, 1, IH, IW), w (OC, IC, 1, KH, KW) -> dx channels-last, dw and db."""
    cdef cnp.ndarray dx = None, weight = np.ascontiguousarray(w), places = channels_last(index)
    cdef cnp.ndarray dw = empty(geometry.weight_shape, dy.dtype, "C"), db = empty((geometry.oc,), dy.dtype, "C")
    cdef View xv = view(x)
    cdef Backward s
    cdef Planes planes
    cdef Outer problem
    cdef int64_t images, tiles, chunk, totals, bytes
    s.input, s.weight, s.failed, planes.failed = needs[0], needs[1] or needs[2], False, False
    if s.input:
        dx = empty(geometry.input_shape, dy.dtype, "channels_last")
        s.dx = view(dx)
    if cnp.PyArray_SIZE(dy) == 0:
        for array in (dx, dw, db):
            if array is not None:
                array.fill(0)
        return dx, dw, db
    s.dy, s.index, s.w = view(dy), view(places), view(weight)
    s.channels, s.columns, s.db = geometry.ic, geometry.oc, <char*> cnp.PyArray_DATA(db)
    s.copies = s.dy.stride[1] != 1
    s.padding[0], s.padding[1] = geometry.padding[1], geometry.padding[2]
    set_form(&s.grid, kernels(s.dy.itemsize), s.dy.itemsize, form)
    set_source(&s, &xv)
    s.grid.count[0], s.grid.count[1] = s.dy.size[0], 1
    s.grid.count[2], s.grid.count[3] = ceil_div(s.dy.size[3], 2), ceil_div(s.dy.size[4], 2)
    s.grid.box = s.grid.count
    tiles = s.grid.count[2] * s.grid.count[3]
    images = max(<int64_t>1, min(s.grid.count[0], CHUNK_TILES // tiles))
    while images > 1 and chunk_elements(&s, images) * s.grid.itemsize > CHUNK_BYTES:
        images -= 1
    images = ceil_div(s.grid.count[0], ceil_div(s.grid.count[0], images))
    s.panels, s.u_plane = ceil_div(s.channels, s.grid.kernels.nr), apart(s.columns * s.grid.kernels.nr)
    s.sum_plane = apart(s.channels * s.columns)
    chunk = chunk_elements(&s, images)
    totals = ceil_div(images * s.grid.count[2] * s.columns, 16) * 16
    bytes = (chunk + totals + s.grid.planes * (s.panels * s.u_plane + s.sum_plane)) * s.grid.itemsize
    bytes += (2 * images * tiles + 1 + s.channels) * sizeof(int64_t)
    problem.x.itemsize, problem.x.groups, problem.x.depth = s.grid.itemsize, 1, s.channels
    problem.x.channels, problem.pairs = 0, False
    problem.x.axis[0].taps, problem.x.axis[0].weight = 1, NOTHING
    problem.columns, problem.dw, problem.dw_group = s.columns, <char*> cnp.PyArray_DATA(dw), 0
    problem.dw_depth = s.grid.kernel * s.grid.kernel
    problem.dw_column = problem.dw_depth * s.channels
    with nogil:
        s.v = <char*> allocate(bytes)
        if s.v == NULL:
            s.failed = True
        else:
            s.totals = s.v + chunk * s.grid.itemsize
            s.u = s.totals + totals * s.grid.itemsize
            s.sums = s.u + s.grid.planes * s.panels * s.u_plane * s.grid.itemsize
            s.lists = <int64_t*> (s.sums + s.grid.planes * s.sum_plane * s.grid.itemsize)
            run(&s, images)
            if s.weight:
                planes.problem, planes.grid, planes.u, planes.u_plane = &problem, &s.grid, s.sums, s.sum_plane
                transform_back(&planes)
        release(s.v, bytes)
    if s.failed or planes.failed:
        raise MemoryError("gradient of convolution with pooling: no memory for transforms or a workspace")
    return dx, dw, db
