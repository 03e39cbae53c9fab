"""Softmax and log-softmax over the channels of (N, C, L), and their gradients."""

from fastconv.backends.cpu._csrc cimport fc_channels
from fastconv.backends.cpu.channels cimport Positions, Tile, over_channels


cdef fc_channels arguments(const Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_channels call
    call.channels, call.positions = p.channels, tile.count
    call.y, call.ldy = tile.matrix[0], tile.ld[0]
    call.a, call.lda = tile.matrix[1], tile.ld[1]
    call.b, call.ldb = (tile.matrix[2], tile.ld[2]) if p.matrices > 2 else (tile.matrix[1], tile.ld[1])
    return call


cdef void softmax_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_channels call = arguments(p, tile)
    if p.rows:
        p.kernels.softmax_forward_rows(&call)
    else:
        p.kernels.softmax_forward(&call)


cdef void softmax_gradient_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_channels call = arguments(p, tile)
    if p.rows:
        p.kernels.softmax_backward_rows(&call)
    else:
        p.kernels.softmax_backward(&call)


cdef void log_softmax_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_channels call = arguments(p, tile)
    if p.rows:
        p.kernels.log_softmax_forward_rows(&call)
    else:
        p.kernels.log_softmax_forward(&call)


cdef void log_softmax_gradient_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_channels call = arguments(p, tile)
    if p.rows:
        p.kernels.log_softmax_backward_rows(&call)
    else:
        p.kernels.log_softmax_backward(&call)


def softmax_forward(x):
    """exp(x - max) / sum."""
    return over_channels(softmax_tile, x)


def softmax_backward(dy, y):
    """y * (dy - sum(dy * y))."""
    return over_channels(softmax_gradient_tile, dy, y)


def log_softmax_forward(x):
    """x - max - log(sum(exp(x - max)))."""
    return over_channels(log_softmax_tile, x)


def log_softmax_backward(dy, y):
    """dy - exp(y) * sum(dy)."""
    return over_channels(log_softmax_gradient_tile, dy, y)
