"""Losses, one value a position, and their gradients: on channels (nll, cross-entropy) and elementwise (mse, bce)."""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_channels, fc_targets
from fastconv.backends.cpu.channels cimport Positions, Tile, compute_tile, run_positions, use_matrix, use_positions
from fastconv.backends.cpu.elementwise cimport empty_in_order_of, run_map, table
from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()


# ------------------------------------------------------------------------------- negative log-likelihood


cdef struct Labels:
    fc_targets call         # what every tile shares; arrays as a whole
    int64_t target_outer, target_inner, dloss_outer, dloss_inner, loss_outer


cdef fc_targets at_tile(const Positions* p, const Tile* tile, int matrix) noexcept nogil:
    """The arguments for a tile; ``matrix`` holds the log-probabilities."""
    cdef const Labels* labels = <const Labels*> p.arguments
    cdef fc_targets call = labels.call
    cdef int64_t at = tile.outer * labels.loss_outer + tile.first
    call.channels, call.positions = p.channels, tile.count
    call.y, call.ldy = tile.matrix[0], tile.ld[0]
    call.log_prob, call.ldl = tile.matrix[matrix], tile.ld[matrix]
    call.target += tile.outer * labels.target_outer + tile.first * labels.target_inner
    if call.loss != NULL:
        call.loss = <char*> call.loss + at * p.itemsize
        call.scale = <char*> call.scale + at * p.itemsize
    if call.dloss != NULL:
        at = tile.outer * labels.dloss_outer + tile.first * labels.dloss_inner
        call.dloss = <char*> call.dloss + at * p.itemsize
    return call


cdef void nll_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_targets call = at_tile(p, tile, 0)
    if p.rows:
        p.kernels.nll_forward_rows(&call)
    else:
        p.kernels.nll_forward(&call)


cdef void nll_gradient_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_targets call = at_tile(p, tile, 0)
    if p.rows:
        p.kernels.nll_backward_rows(&call)
    else:
        p.kernels.nll_backward(&call)


cdef void cross_entropy_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_channels softmax
    cdef fc_targets call = at_tile(p, tile, 0)
    softmax.channels, softmax.positions = p.channels, tile.count
    softmax.y, softmax.ldy = tile.matrix[0], tile.ld[0]
    softmax.a, softmax.lda = tile.matrix[1], tile.ld[1]
    softmax.b, softmax.ldb = tile.matrix[1], tile.ld[1]
    if p.rows:
        p.kernels.log_softmax_forward_rows(&softmax)
        p.kernels.nll_forward_rows(&call)
    else:
        p.kernels.log_softmax_forward(&softmax)
        p.kernels.nll_forward(&call)


cdef void cross_entropy_gradient_tile(Positions* p, const Tile* tile) noexcept nogil:
    cdef fc_targets call = at_tile(p, tile, 1)
    if p.rows:
        p.kernels.cross_entropy_backward_rows(&call)
    else:
        p.kernels.cross_entropy_backward(&call)


cdef class Target:
    """Labels and weights of one call, and the arrays that they keep alive."""

    cdef Labels labels
    cdef object target, weight, dloss, loss, scale

    def __init__(self, cnp.ndarray target, weight, int64_t ignore_index, double smoothing):
        cdef cnp.ndarray array
        self.target = target
        self.labels.call.target = <const int64_t*> cnp.PyArray_DATA(target)
        set_strides(target, &self.labels.target_outer, &self.labels.target_inner)
        self.labels.call.target_step = self.labels.target_inner
        self.labels.call.ignore_index, self.labels.call.smoothing = ignore_index, smoothing
        self.labels.call.weight = self.labels.call.loss = self.labels.call.scale = self.labels.call.dloss = NULL
        if weight is not None:
            self.weight = array = np.ascontiguousarray(weight)
            self.labels.call.weight = cnp.PyArray_DATA(array)

    cdef int give_loss(self, dtype) except -1:
        """Make the arrays (N, L) that the forward pass writes."""
        cdef cnp.ndarray loss, scale
        self.loss = loss = empty(self.target.shape, dtype)
        self.scale = scale = empty(self.target.shape, dtype)
        self.labels.call.loss, self.labels.call.scale = cnp.PyArray_DATA(loss), cnp.PyArray_DATA(scale)
        self.labels.loss_outer = loss.shape[1]

    cdef void take_gradient(self, cnp.ndarray dloss):
        self.dloss = dloss
        self.labels.call.dloss = cnp.PyArray_DATA(dloss)
        set_strides(dloss, &self.labels.dloss_outer, &self.labels.dloss_inner)
        self.labels.call.dloss_step = self.labels.dloss_inner


cdef void set_strides(cnp.ndarray array, int64_t* outer, int64_t* inner):
    """Strides, in elements, of (N, L) as positions are counted: from sample to sample, from position to position."""
    cdef int64_t itemsize = cnp.PyArray_ITEMSIZE(array)
    cdef bint by_sample = array.shape[1] == 1
    outer[0] = 0 if by_sample else array.strides[0] // itemsize
    inner[0] = array.strides[0 if by_sample else 1] // itemsize


cdef object run_target(Target target, compute_tile compute, cnp.ndarray a, cnp.ndarray b=None, bint writes=True):
    """Run ``compute`` on the tiles of a, which is written if ``writes``, and of b, arrays (N, C, L); return a."""
    cdef Positions p
    use_positions(&p, a.shape[0], a.shape[1], a.shape[2], <int> cnp.PyArray_ITEMSIZE(a))
    p.compute, p.arguments, p.matrices, p.writes = compute, &target.labels, 1, writes
    use_matrix(&p, &p.matrix[0], a)
    if b is not None:
        use_matrix(&p, &p.matrix[1], b)
        p.matrices = 2
    run_positions(&p)
    return a


def nll_forward(log_prob, target, weight, int64_t ignore_index, double label_smoothing):
    """-> loss (N, L), scale (N, L)."""
    cdef Target labels = Target(target, weight, ignore_index, label_smoothing)
    labels.give_loss(log_prob.dtype)
    run_target(labels, nll_tile, log_prob, None, False)
    return labels.loss, labels.scale


def nll_backward(dloss, target, int64_t channels, weight, int64_t ignore_index, double label_smoothing):
    """-> dlog_prob (N, C, L)."""
    cdef Target labels = Target(target, weight, ignore_index, label_smoothing)
    labels.take_gradient(dloss)
    n, length = target.shape
    return run_target(labels, nll_gradient_tile, empty((n, channels, length), dloss.dtype))


def cross_entropy_forward(x, target, weight, int64_t ignore_index, double label_smoothing):
    """-> loss (N, L), scale (N, L), log_prob (N, C, L)."""
    cdef Target labels = Target(target, weight, ignore_index, label_smoothing)
    labels.give_loss(x.dtype)
    log_prob = run_target(labels, cross_entropy_tile, empty_in_order_of(x), x)
    return labels.loss, labels.scale, log_prob


def cross_entropy_backward(dloss, log_prob, target, weight, int64_t ignore_index, double label_smoothing):
    """-> dx (N, C, L)."""
    cdef Target labels = Target(target, weight, ignore_index, label_smoothing)
    labels.take_gradient(dloss)
    return run_target(labels, cross_entropy_gradient_tile, empty_in_order_of(log_prob), log_prob)


# -------------------------------------------------------------------------------------------- elementwise


def mse_forward(x, target):
    """(x - target)^2."""
    return run_map(table(x).mse_forward, (x, target), 0)


def mse_backward(dloss, x, target):
    """2 * dloss * (x - target)."""
    return run_map(table(x).mse_backward, (dloss, x, target), 1)


cdef object ones_like(x, factor):
    """``factor``, or ones of x's shape where there is none: one element in every place."""
    return np.broadcast_to(x.dtype.type(1), x.shape) if factor is None else factor


def bce_with_logits_forward(x, target, weight, pos_weight):
    """weight * (pos_weight * target * softplus(-x) + (1 - target) * softplus(x))."""
    inputs = (x, target, ones_like(x, weight), ones_like(x, pos_weight))
    return run_map(table(x).bce_with_logits_forward, inputs, 0)


def bce_with_logits_backward(dloss, x, target, weight, pos_weight):
    """The gradient with respect to x."""
    inputs = (dloss, x, target, ones_like(x, weight), ones_like(x, pos_weight))
    return run_map(table(x).bce_with_logits_backward, inputs, 1)
