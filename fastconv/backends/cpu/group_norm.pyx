"""Group normalisation of (N, C, L), forward and backward. Where channels lie side by side, each sample is summed and
walked over by itself, channel by channel, and what its channels say is put together for the groups; else the groups of
all samples are rows of numbers, and so are their channels. The loops are those of rows.pyx, statistics moments.pyx.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_normalise, fc_reduce
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport empty_in_order_of
from fastconv.backends.cpu.lines cimport line_gradients, line_moments
from fastconv.backends.cpu.moments cimport channel_moments
from fastconv.backends.cpu.rows cimport channels_are_columns, in_kernel_layout, normalise_channels, reduce_channels
from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()

ctypedef fused number:
    float
    double


cdef bint taken_apart(cnp.ndarray x):
    """Whether each sample is a matrix of pixels and channels."""
    cdef View v = view(x)
    return v.size[1] > 1 and v.size[2] > 1 and channels_are_columns(&v)


cdef cnp.ndarray in_rows(cnp.ndarray x, bint apart):
    """x as its kernels take it: (N, C, L), or (1, N * C, L) in C order."""
    return in_kernel_layout(x) if apart else np.ascontiguousarray(x).reshape(1, x.shape[0] * x.shape[1], x.shape[2])


cdef cnp.ndarray by_channel(of_groups, int64_t c, dtype):
    """(N, G) -> (N, C)"""
    return np.ascontiguousarray(np.repeat(of_groups, c // max(1, of_groups.shape[1]), 1), dtype)


cdef int lay_constants(cnp.ndarray centre, cnp.ndarray scale, cnp.ndarray shift, const number[:, :] mean,
                       const number[:, :] rstd, const number[:] weight, const number[:] bias) except -1:
    """The groups' mean and rstd (N, G), times weight and with bias (C,), as constants of channels (N, C)."""
    cdef number* centres = <number*> cnp.PyArray_DATA(centre)
    cdef number* scales = <number*> cnp.PyArray_DATA(scale)
    cdef number* shifts = <number*> cnp.PyArray_DATA(shift)
    cdef int64_t channels = cnp.PyArray_DIM(centre, 1), each = channels // max(1, mean.shape[1]), n, c, g
    cdef bint scaled = weight is not None, shifted = bias is not None
    cdef number factor
    for n in range(mean.shape[0]):
        for g in range(mean.shape[1]):
            factor = rstd[n, g]
            for c in range(g * each, (g + 1) * each):
                centres[c], scales[c] = mean[n, g], factor * weight[c] if scaled else factor
                shifts[c] = bias[c] if shifted else 0
        centres, scales, shifts = centres + channels, scales + channels, shifts + channels
    return 0


cdef int walk(cnp.ndarray y, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray mean, cnp.ndarray scale, cnp.ndarray shift,
              cnp.ndarray slope, bint apart) except -1:
    """y <- (x - mean) * scale + shift; with dy, dy * scale - ((x - mean) * slope + shift). Constants (N, C)."""
    cdef View yv = view(y), xv = view(x), dyv
    cdef fc_normalise call
    call.mean, call.scale, call.shift = cnp.PyArray_DATA(mean), cnp.PyArray_DATA(scale), cnp.PyArray_DATA(shift)
    call.slope, call.bias, call.relu = NULL, NULL, 0
    if dy is None:
        normalise_channels(kernels(xv.itemsize).normalise_rows, &call, &yv, &xv, NULL, apart)
        return 0
    dyv, call.slope = view(dy), cnp.PyArray_DATA(slope)
    normalise_channels(kernels(xv.itemsize).normalise_gradient_rows, &call, &yv, &xv, &dyv, apart)
    return 0


def group_norm_forward(cnp.ndarray x, groups, weight, bias, eps):
    """-> y (N, C, L), mean (N, G), rstd (N, G). See ``Backend.group_norm_forward``."""
    cdef int64_t n = x.shape[0], c = x.shape[1]
    cdef bint apart = taken_apart(x)
    cdef cnp.ndarray rows = in_rows(x, apart), y, centre, scale, shift
    with np.errstate(all="ignore"):  # infinities; a variance of 0 without an eps
        if apart:
            means, variances = (a.reshape(n, groups, c // groups) for a in channel_moments(rows, True))
            mean, variance = means.mean(2), variances.mean(2) + means.var(2)
        else:
            lines = rows.reshape(n * groups, x.size // max(1, n * groups))
            mean, variance = (a.reshape(n, groups) for a in line_moments(lines))
        mean = mean.astype(x.dtype)
        rstd = 1 / np.sqrt(variance.astype(x.dtype) + x.dtype.type(eps))
    centre, scale, shift = (empty((n, c), x.dtype) for _ in range(3))
    if cnp.PyArray_ITEMSIZE(x) == 4:
        lay_constants[float](centre, scale, shift, mean, rstd, weight, bias)
    else:
        lay_constants[double](centre, scale, shift, mean, rstd, weight, bias)
    y = empty_in_order_of(rows)
    walk(y, rows, None, centre, scale, shift, None, apart)
    return y.reshape((<object> x).shape), mean, rstd


def group_norm_backward(cnp.ndarray dy, cnp.ndarray x, mean, rstd, weight, needs=(True, True, True)):
    """-> dx (N, C, L), dweight (C,), dbias (C,), None where ``needs`` says so. See ``Backend.group_norm_backward``."""
    cdef int64_t n = x.shape[0], c = x.shape[1], groups = mean.shape[1]
    cdef bint apart = taken_apart(x)
    cdef cnp.ndarray rows = in_rows(x, apart), dx = None
    cdef cnp.ndarray gradient = in_kernel_layout(dy, rows) if apart else in_rows(dy, False)
    cdef cnp.ndarray centre = by_channel(mean, c, x.dtype), total = empty((n, c), x.dtype)
    cdef cnp.ndarray moment = empty((n, c), x.dtype)
    cdef View xv = view(rows), dyv = view(gradient)
    cdef fc_reduce constants
    cdef double share = <double> n * groups / max(1, x.size)
    constants.mean, constants.scale, constants.shift = cnp.PyArray_DATA(centre), NULL, NULL
    if apart:  # of dy, and of dy * (x - mean)
        reduce_channels(kernels(xv.itemsize).gradient_rows, &constants, &xv, &dyv, <char*> cnp.PyArray_DATA(total),
                        <char*> cnp.PyArray_DATA(moment), True)
    else:
        line_gradients(rows, gradient, centre, total, moment)
    with np.errstate(all="ignore"):
        root = by_channel(rstd, c, np.float64)
        if needs[0]:  # mean and rstd move with x: take their share out of the gradient
            scale = root if weight is None else root * weight
            parts = (share * (scale * sums).reshape(n, groups, c // max(1, groups)).sum(2) for sums in (total, moment))
            shift, slope = (by_channel(part, c, np.float64) for part in parts)
            shift, slope, scale = (a.astype(x.dtype) for a in (shift, slope * root * root, scale))
            dx = empty_in_order_of(rows)
            walk(dx, rows, gradient, centre, scale, shift, slope, apart)
            dx = dx.reshape((<object> x).shape)
        dweight = (moment * root).sum(0).astype(x.dtype) if needs[1] else None
        return dx, dweight, total.sum(0, np.float64).astype(x.dtype) if needs[2] else None
