"""Products of matrices (..., M, K) and (..., K, P) of any strides, the leading axes broadcast by strides of 0.

A task takes some rows and some panels of columns of one matrix, or several small matrices. It packs a panel of b and
runs the micro-kernel of convolutions, to which rows are pixels, over the rows of a: where they lie, or, if a sum's
numbers are apart there, copied. Every sum runs over K in order, however it is cut. A few rows read b as it lies
(few_rows.hpp), and a column is a row of the transposed product.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport FC_FEW_ROWS, fc_conv_tile, fc_copy2d, fc_few_rows, fc_kernels
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport empty, num_threads, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport FAR, ceil_div

cnp.import_array()

cdef enum:
    MOST_AXES = 64          # NumPy's own limit
    CHUNK = 256             # of K: a panel stays in the first-level cache
    MOST_ROWS = 512         # of a task: their chunk stays in the second-level cache, and a panel serves all
    FEWEST_ROWS = 64        # of a task, where rows are shared out
    TASKS_PER_THREAD = 4
    LEAST_PRODUCTS = 131072     # a task, of small matrices


cdef struct Side:
    const char* data
    int64_t row, column             # strides in elements
    int64_t lead[MOST_AXES]         # 0 where it is broadcast


cdef struct Products:
    const fc_kernels* kernels
    int itemsize, axes
    int64_t size[MOST_AXES]         # of the leading axes
    int64_t count                   # of matrices
    int64_t rows, depth, columns
    Side a, b
    char* y
    bint few, in_place              # by few_rows; rows of a are read where they lie
    int64_t chunk, panels
    int64_t tile, tiles             # rows of a task, and into how many parts rows and panels are cut
    int64_t split, splits
    int64_t share                   # matrices a task
    bint failed


cdef struct Part:
    int64_t row, rows, panel, last_panel
    int64_t* pixel
    int64_t* ypixel
    char* packed
    char* copied


cdef const char* matrix(const Products* p, const Side* side, int64_t index) noexcept nogil:
    """Where matrix number ``index`` lies."""
    cdef int64_t at = 0
    cdef int k
    for k in range(p.axes - 1, -1, -1):
        at += index % p.size[k] * side.lead[k]
        index //= p.size[k]
    return side.data + at * p.itemsize


cdef void few_products(const Products* p, const Part* part, const char* a, const char* b, char* y) noexcept nogil:
    cdef int64_t first = part.panel * p.kernels.nr
    cdef fc_few_rows call
    call.x, call.ldx, call.bias = a, p.a.row, NULL
    call.rows, call.depth, call.columns = p.rows, p.depth, min(p.columns, part.last_panel * p.kernels.nr) - first
    call.by_rows, call.far = p.b.column == 1, p.depth * p.columns * p.itemsize > FAR
    call.w, call.ldw = b + first * p.b.column * p.itemsize, p.b.row if call.by_rows else p.b.column
    call.y, call.ldy = y + first * p.itemsize, p.columns
    p.kernels.few_rows(&call)


cdef const char* rows_of(const Products* p, const Part* part, const char* a, int64_t k, int64_t depth) noexcept nogil:
    """A chunk of the part's rows as the micro-kernel takes them."""
    cdef fc_copy2d copy
    a += (part.row * p.a.row + k * p.a.column) * p.itemsize
    if p.in_place:
        return a
    copy.src, copy.si, copy.sj = a, p.a.row, p.a.column
    copy.dst, copy.ld, copy.dj = part.copied, p.chunk, 1
    copy.rows, copy.columns, copy.padded = part.rows, depth, depth
    p.kernels.copy2d(&copy)
    return part.copied


cdef void add_products(const Products* p, const Part* part, const char* a, const char* b, char* y) noexcept nogil:
    """The part's rows and panels of one matrix, chunk by chunk."""
    cdef int64_t nr = p.kernels.nr, step = p.kernels.wide // nr, k = 0, panel, i
    cdef int64_t tap = 0
    cdef fc_copy2d pack
    cdef fc_conv_tile call
    pack.ld, pack.dj, pack.padded = nr, 1, nr
    pack.si, pack.sj = p.b.row, p.b.column
    call.pixel, call.ypixel, call.pixels, call.listed = part.pixel, part.ypixel, part.rows, 0
    call.tap, call.wtap, call.taps = &tap, &tap, 1
    call.w, call.panel, call.relu, call.warm = part.packed, p.chunk * nr, 0, 0
    call.bias = call.residual = call.gate = call.source = NULL
    call.later = False
    while k < p.depth:
        call.depth, call.accumulate = min(p.chunk, p.depth - k), k > 0
        call.x = rows_of(p, part, a, k, call.depth)
        pack.rows = call.depth
        panel = part.panel
        while panel < part.last_panel:
            for i in range(min(step, part.last_panel - panel)):
                pack.src = b + (k * p.b.row + (panel + i) * nr * p.b.column) * p.itemsize
                pack.dst = part.packed + i * p.chunk * nr * p.itemsize
                pack.columns = min(nr, p.columns - (panel + i) * nr)
                p.kernels.copy2d(&pack)
            call.columns = min(p.columns, min(panel + step, part.last_panel) * nr) - panel * nr
            call.y = y + (part.row * p.columns + panel * nr) * p.itemsize
            p.kernels.conv_tile(&call)
            panel += step
        k += p.chunk


cdef void run_products(void* context, int64_t index) noexcept nogil:
    """index = (matrices * tiles + tile) * splits + split."""
    cdef Products* p = <Products*> context
    cdef int64_t first = index // (p.tiles * p.splits) * p.share, m, i
    cdef int64_t lists = 2 * ceil_div(p.tile, 8) * 64, panel = ceil_div(p.chunk * p.kernels.wide * p.itemsize, 64) * 64
    cdef int64_t copied = 0 if p.in_place else p.tile * p.chunk * p.itemsize
    cdef char* memory = <char*> workspace(lists + panel + copied)
    cdef const char* a
    cdef const char* b
    cdef char* y
    cdef Part part
    if memory == NULL:
        p.failed = True
        return
    part.row, part.panel = index // p.splits % p.tiles * p.tile, index % p.splits * p.split
    part.rows, part.last_panel = min(p.tile, p.rows - part.row), min(p.panels, part.panel + p.split)
    if part.rows <= 0 or part.panel >= part.last_panel:
        return
    part.pixel, part.packed, part.copied = <int64_t*> memory, memory + lists, memory + lists + panel
    part.ypixel = part.pixel + p.tile
    for i in range(part.rows):
        part.pixel[i], part.ypixel[i] = i * (p.a.row if p.in_place else p.chunk), i * p.columns
    for m in range(first, min(p.count, first + p.share)):
        a, b, y = matrix(p, &p.a, m), matrix(p, &p.b, m), p.y + m * p.rows * p.columns * p.itemsize
        if p.few:
            few_products(p, &part, a, b, y)
        else:
            add_products(p, &part, a, b, y)


cdef void cut(Products* p) noexcept nogil:
    """Cut the work into tasks; what a task is changes no sum."""
    cdef int64_t wanted = TASKS_PER_THREAD * num_threads() if num_threads() > 1 else 1
    p.in_place = p.a.column == 1 or p.depth == 1
    p.few = p.rows <= FC_FEW_ROWS and p.in_place and (p.b.column == 1 or p.b.row == 1)
    p.chunk, p.panels = min(<int64_t> CHUNK, p.depth), ceil_div(p.columns, p.kernels.nr)
    p.tile, p.splits = min(<int64_t> MOST_ROWS, p.rows), 1
    while p.count * ceil_div(p.rows, p.tile) * p.splits < wanted:
        if p.splits < p.panels and p.rows * p.depth * p.columns > LEAST_PRODUCTS * p.splits:
            p.splits = min(p.panels, 2 * p.splits)
        elif p.tile >= 2 * FEWEST_ROWS:
            p.tile = ceil_div(ceil_div(p.tile, 2), 8) * 8
        else:
            break
    p.tiles, p.split = ceil_div(p.rows, p.tile), ceil_div(p.panels, p.splits)
    p.share = 1
    if p.tiles * p.splits == 1:
        p.share = LEAST_PRODUCTS // max(<int64_t> 1, p.rows * p.depth * p.columns)
        p.share = max(<int64_t> 1, min(p.share, ceil_div(p.count, wanted)))


cdef int set_side(Products* p, Side* side, cnp.ndarray x) except -1:
    cdef int ndim = cnp.PyArray_NDIM(x), k, axis
    side.data = <const char*> cnp.PyArray_DATA(x)
    side.row = cnp.PyArray_STRIDE(x, ndim - 2) // p.itemsize
    side.column = cnp.PyArray_STRIDE(x, ndim - 1) // p.itemsize
    for k in range(p.axes):
        axis = k - (p.axes - (ndim - 2))
        side.lead[k] = 0
        if axis >= 0 and cnp.PyArray_DIM(x, axis) > 1:
            side.lead[k] = cnp.PyArray_STRIDE(x, axis) // p.itemsize
    return 0


cdef void take_as_row(Products* p) noexcept nogil:
    """A product with a column is that of its transpose, a row, with the transposed a: y lies the same."""
    cdef Side column = p.b
    p.b, p.a = p.a, column
    p.a.row, p.a.column = p.a.column, p.a.row
    p.b.row, p.b.column = p.b.column, p.b.row
    p.rows, p.columns = p.columns, p.rows


def matmul(cnp.ndarray a, cnp.ndarray b):
    """See ``Backend.matmul``."""
    cdef Products p
    cdef int k, last = cnp.PyArray_NDIM(a) - 1
    cdef tuple lead = (<object> a).shape[:last - 1], other = (<object> b).shape[:cnp.PyArray_NDIM(b) - 2]
    if lead != other:
        lead = np.broadcast_shapes(lead, other)
    p.rows, p.depth = cnp.PyArray_DIM(a, last - 1), cnp.PyArray_DIM(a, last)
    p.columns = cnp.PyArray_DIM(b, cnp.PyArray_NDIM(b) - 1)
    cdef cnp.ndarray y = empty((*lead, p.rows, p.columns), a.dtype)
    if cnp.PyArray_SIZE(y) == 0:
        return y
    if p.depth == 0:  # sums of nothing
        (<object> y)[...] = 0
        return y
    p.itemsize, p.axes, p.failed = <int> cnp.PyArray_ITEMSIZE(y), <int> len(lead), False
    p.kernels, p.y = kernels(p.itemsize), <char*> cnp.PyArray_DATA(y)
    p.count = cnp.PyArray_SIZE(y) // (p.rows * p.columns)
    for k in range(p.axes):
        p.size[k] = lead[k]
    set_side(&p, &p.a, a)
    set_side(&p, &p.b, b)
    with nogil:
        if p.columns == 1:
            take_as_row(&p)
        cut(&p)
        parallel_for(ceil_div(p.count, p.share) * p.tiles * p.splits, run_products, &p)
    if p.failed:
        raise MemoryError("matmul: no memory for a workspace")
    return y
