"""Softmax, log-softmax and the losses over channels of (N, C, L): the frame that cuts positions into tiles.

Where there are some dozens of channels, and a position's lie side by side, kernels take them as rows. Else a tile is a
matrix (channels, positions) with neighbouring positions. Where the array's lie so, the kernel works in
place; else the tile is copied to the workspace and back, and any strides reach the kernels as one pattern. Positions
are those of a sample, or the samples themselves where L is 1. Which kernel runs on a tile: softmax.pyx and loss.pyx.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d
from fastconv.backends.cpu.arrays cimport view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport empty_in_order_of
from fastconv.backends.cpu.runtime cimport parallel_for, workspace

cnp.import_array()

cdef enum:
    MOST_POSITIONS = 256
    TILE_BYTES = 128 * 1024
    TASK_BYTES = 32 * 1024
    ROW_BYTES = 128     # of channels, that are worth a kernel of rows


cdef void use_positions(Positions* p, int64_t n, int64_t channels, int64_t length, int itemsize) noexcept nogil:
    """Set how positions are counted and cut."""
    cdef int64_t tile
    p.by_sample = length == 1
    p.outer = 1 if p.by_sample else n
    p.inner = n if p.by_sample else length
    p.channels, p.itemsize = channels, itemsize
    p.kernels = kernels(itemsize)
    tile = min(<int64_t> MOST_POSITIONS, TILE_BYTES // max(<int64_t> 1, channels * itemsize))
    if tile > p.kernels.width:
        tile -= tile % p.kernels.width
    p.tile = max(<int64_t> 1, tile)
    p.tiles = p.outer * ((p.inner + p.tile - 1) // p.tile)
    p.share = max(<int64_t> 1, TASK_BYTES // max(<int64_t> 1, min(p.tile, p.inner) * channels * itemsize))
    p.failed, p.scratch = False, 0


cdef void use_matrix(Positions* p, Matrix* matrix, cnp.ndarray array):
    """Describe an array (N, C, L)."""
    matrix.view = view(array)
    matrix.outer = 0 if p.by_sample else matrix.view.stride[0]
    matrix.inner = matrix.view.stride[0 if p.by_sample else 2]
    matrix.in_place = matrix.inner == 1 or p.inner == 1 or p.tile == 1


cdef int64_t row_stride(const Positions* p, const Matrix* matrix) noexcept nogil:
    return matrix.inner if p.rows else matrix.view.stride[1] if matrix.in_place else p.tile


cdef void copy_tile(const Positions* p, const Matrix* matrix, char* at, char* buffer, int64_t count,
                    bint back) noexcept nogil:
    """Copy a tile between the array and the buffer (channels, tile)."""
    cdef fc_copy2d copy
    copy.rows, copy.columns, copy.padded = p.channels, count, count
    if back:
        copy.dst, copy.ld, copy.dj = at, matrix.view.stride[1], matrix.inner
        copy.src, copy.si, copy.sj = buffer, p.tile, 1
    else:
        copy.dst, copy.ld, copy.dj = buffer, p.tile, 1
        copy.src, copy.si, copy.sj = at, matrix.view.stride[1], matrix.inner
    p.kernels.copy2d(&copy)


cdef void run_tiles(void* context, int64_t index) noexcept nogil:
    cdef Positions* p = <Positions*> context
    cdef int64_t bytes = p.tile * p.channels * p.itemsize, across = (p.inner + p.tile - 1) // p.tile, tile, count, at
    cdef char* memory = <char*> workspace(p.matrices * bytes + p.scratch)
    cdef char* place[MOST_MATRICES]
    cdef char* source[MOST_MATRICES]
    cdef Matrix* matrix
    cdef Tile here
    cdef int k
    if memory == NULL:
        p.failed = True
        return
    here.scratch = memory + p.matrices * bytes
    for tile in range(index * p.share, min(p.tiles, (index + 1) * p.share)):
        here.outer, here.first = tile // across, tile % across * p.tile
        here.count = count = min(p.tile, p.inner - here.first)
        for k in range(p.matrices):
            matrix = &p.matrix[k]
            at = here.outer * matrix.outer + here.first * matrix.inner
            source[k] = matrix.view.data + at * p.itemsize
            place[k] = source[k] if matrix.in_place else memory + k * bytes
            here.matrix[k], here.ld[k] = place[k], row_stride(p, matrix)
            if not matrix.in_place and k >= p.writes:
                copy_tile(p, matrix, source[k], place[k], count, False)
        p.compute(p, &here)
        for k in range(p.writes):
            if not p.matrix[k].in_place:
                copy_tile(p, &p.matrix[k], source[k], place[k], count, True)


cdef int run_positions(Positions* p) except -1:
    """Run ``p.compute`` on every tile."""
    cdef int k
    p.rows = p.channels * p.itemsize >= ROW_BYTES
    for k in range(p.matrices):
        p.rows = p.rows and p.matrix[k].view.stride[1] == 1
    for k in range(p.matrices):
        p.matrix[k].in_place = p.rows or p.matrix[k].in_place
    if p.channels > 0 and p.inner > 0:
        with nogil:
            parallel_for((p.tiles + p.share - 1) // p.share, run_tiles, p)
    if p.failed:
        raise MemoryError("operation over channels: no memory for a workspace")
    return 0


cdef cnp.ndarray over_channels(compute_tile compute, cnp.ndarray a, cnp.ndarray b=None):
    """Return y, in the memory order of the last input, from a and perhaps b, arrays (N, C, L)."""
    cdef cnp.ndarray y = empty_in_order_of(a if b is None else b)
    cdef Positions p
    use_positions(&p, a.shape[0], a.shape[1], a.shape[2], <int> cnp.PyArray_ITEMSIZE(a))
    p.compute, p.arguments, p.writes = compute, NULL, 1
    use_matrix(&p, &p.matrix[0], y)
    use_matrix(&p, &p.matrix[1], a)
    p.matrices = 2
    if b is not None:
        use_matrix(&p, &p.matrix[2], b)
        p.matrices = 3
    run_positions(&p)
    return y
