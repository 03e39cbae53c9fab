"""Local response normalisation over the channels of (N, C, L): the frame is that of channels.pyx."""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_local_response
from fastconv.backends.cpu.channels cimport Positions, Tile, run_positions, use_matrix, use_positions
from fastconv.backends.cpu.elementwise cimport empty_in_order_of

cnp.import_array()


cdef inline fc_local_response at_tile(const Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_local_response call = (<const fc_local_response*> p.arguments)[0]
    call.channels, call.positions, call.terms = p.channels, tile.count, tile.scratch
    call.y, call.ldy = tile.matrix[0], tile.ld[0]
    return call


cdef void forward_tile(Positions* p, const Tile* tile) noexcept nogil:
    """y, scale <- x"""
    cdef fc_local_response call = at_tile(p, tile)
    call.scale, call.ldscale = tile.matrix[1], tile.ld[1]
    call.x, call.ldx = tile.matrix[2], tile.ld[2]
    if p.rows:
        p.kernels.lrn_forward_rows(&call)
    else:
        p.kernels.lrn_forward(&call)


cdef void gradient_tile(Positions* p, const Tile* tile) noexcept nogil:
    """dx <- dy, x, scale"""
    cdef fc_local_response call = at_tile(p, tile)
    call.dy, call.lddy = tile.matrix[1], tile.ld[1]
    call.x, call.ldx = tile.matrix[2], tile.ld[2]
    call.scale, call.ldscale = tile.matrix[3], tile.ld[3]
    if p.rows:
        p.kernels.lrn_backward_rows(&call)
    else:
        p.kernels.lrn_backward(&call)


cdef int run(Positions* p, fc_local_response* call, cnp.ndarray x, list matrices, int64_t before,
             int64_t after) except -1:
    """Run on the tiles of ``matrices``, arrays of x's shape. The window: so many channels before and after its own."""
    cdef int64_t channels = x.shape[1]
    cdef int k
    call.before = min(before, channels)
    call.size = call.before + 1 + min(after, channels)
    use_positions(p, x.shape[0], x.shape[1], x.shape[2], <int> cnp.PyArray_ITEMSIZE(x))
    p.arguments, p.matrices = call, <int> len(matrices)
    p.scratch = ((p.channels + call.size) * p.kernels.width + p.kernels.width) * p.itemsize
    for k in range(p.matrices):
        use_matrix(p, &p.matrix[k], matrices[k])
    return run_positions(p)


def local_response_norm_forward(cnp.ndarray x, int64_t size, double alpha, double beta, double k):
    """See ``Backend.local_response_norm_forward``."""
    cdef cnp.ndarray y = empty_in_order_of(x), scale = empty_in_order_of(x)
    cdef Positions p
    cdef fc_local_response call
    call.alpha, call.beta, call.k = alpha / size, beta, k
    p.compute, p.writes = forward_tile, 2
    run(&p, &call, x, [y, scale, x], size // 2, size - 1 - size // 2)
    return y, scale


def local_response_norm_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray scale, int64_t size, double alpha,
                                 double beta):
    """See ``Backend.local_response_norm_backward``."""
    cdef cnp.ndarray dx = empty_in_order_of(x)
    cdef Positions p
    cdef fc_local_response call
    call.alpha, call.beta = alpha / size, beta
    p.compute, p.writes = gradient_tile, 1
    run(&p, &call, x, [dx, dy, x, scale], size - 1 - size // 2, size // 2)
    return dx
