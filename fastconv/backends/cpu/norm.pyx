"""Batch normalisation over (N, C, L): statistics, forward and backward. The loops are those of rows.pyx."""

cimport numpy as cnp

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_normalise
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport empty_in_order_of
from fastconv.backends.cpu.rows cimport in_kernel_layout, normalise_channels, reduce_channels
from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()


cdef cnp.ndarray contiguous(values, dtype):
    """Per-channel values in the kernel's dtype, side by side."""
    return np.ascontiguousarray(values, dtype)


cdef cnp.ndarray product(rstd, weight, dtype):
    """rstd * weight; infinities and NaN are results, not warnings."""
    with np.errstate(all="ignore"):
        return contiguous(rstd if weight is None else rstd * weight, dtype)


def batch_norm_statistics(cnp.ndarray x):
    """x (N, C, L) -> mean (C,), biased variance (C,).

    Two passes, the second around the rounded mean of the first. Its sum of deviations, 0 but for rounding, corrects
    both results (Chan, Golub and LeVeque 1983, equation 1.7).
    """
    cdef cnp.ndarray kept = in_kernel_layout(x)
    cdef View v = view(kept)
    cdef cnp.ndarray first = empty((v.size[1],), x.dtype), second = empty((v.size[1],), x.dtype), near
    count = max(1, x.shape[0] * x.shape[2])
    reduce_channels(kernels(v.itemsize).sum_rows, &v, NULL, NULL, NULL, <char*> cnp.PyArray_DATA(first), NULL)
    near = contiguous(first / count, x.dtype)
    reduce_channels(
        kernels(v.itemsize).moment_rows, &v, NULL, cnp.PyArray_DATA(near), NULL, <char*> cnp.PyArray_DATA(first),
        <char*> cnp.PyArray_DATA(second),
    )
    with np.errstate(all="ignore"):
        off = np.divide(first, count, dtype=np.float64)
        variance = np.maximum(np.divide(second, count, dtype=np.float64) - off * off, 0.0)
        return (near + off).astype(x.dtype), variance.astype(x.dtype)


cdef int walk(cnp.ndarray y, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray mean, cnp.ndarray scale, cnp.ndarray shift,
              cnp.ndarray slope) except -1:
    """Run the forward kernel, or the backward one where there is a dy."""
    cdef View yv = view(y), xv = view(x), dyv
    cdef fc_normalise call
    call.mean, call.scale, call.shift = cnp.PyArray_DATA(mean), cnp.PyArray_DATA(scale), cnp.PyArray_DATA(shift)
    if dy is None:
        call.slope = NULL
        normalise_channels(kernels(xv.itemsize).normalise_rows, &call, &yv, &xv, NULL)
    else:
        dyv = view(dy)
        call.slope = cnp.PyArray_DATA(slope)
        normalise_channels(kernels(xv.itemsize).normalise_gradient_rows, &call, &yv, &xv, &dyv)
    return 0


def batch_norm_forward(cnp.ndarray x, mean, rstd, weight, bias):
    """(x - mean) * rstd * weight + bias."""
    cdef cnp.ndarray kept = in_kernel_layout(x), y = in_kernel_layout(empty_in_order_of(kept), kept)
    scale = product(rstd, weight, x.dtype)
    shift = np.zeros(x.shape[1], x.dtype) if bias is None else contiguous(bias, x.dtype)
    walk(y, kept, None, contiguous(mean, x.dtype), scale, shift, None)
    return y


def batch_norm_backward(cnp.ndarray dy, cnp.ndarray x, mean, rstd, weight, bint training):
    """-> dx (N, C, L), dweight (C,), dbias (C,)."""
    cdef cnp.ndarray kept = in_kernel_layout(x), gradient = in_kernel_layout(dy, kept)
    cdef cnp.ndarray dx = in_kernel_layout(empty_in_order_of(kept), kept), mean_ = contiguous(mean, x.dtype)
    cdef cnp.ndarray rstd_ = contiguous(rstd, x.dtype), dbias = empty((x.shape[1],), x.dtype)
    cdef cnp.ndarray dweight = empty((x.shape[1],), x.dtype)
    cdef View xv = view(kept), dyv = view(gradient)
    reduce_channels(
        kernels(xv.itemsize).gradient_rows, &xv, &dyv, cnp.PyArray_DATA(mean_), cnp.PyArray_DATA(rstd_),
        <char*> cnp.PyArray_DATA(dbias), <char*> cnp.PyArray_DATA(dweight),
    )
    count = max(1, x.shape[0] * x.shape[2])
    scale = product(rstd, weight, x.dtype)
    with np.errstate(all="ignore"):
        if training:  # mean and rstd move with x: take their share out of the gradient
            walk(dx, kept, gradient, mean_, scale, contiguous(dbias / count, x.dtype),
                 contiguous(rstd_ * dweight / count, x.dtype))
        else:
            dx = in_kernel_layout(dx, gradient)  # which leads here, and a copy may lie otherwise than x
            nothing = np.zeros(x.shape[1], x.dtype)
            walk(dx, gradient, None, nothing, scale, nothing, None)
    return dx, dweight, dbias
