"""Batch normalisation over (N, C, L), forward and backward. The loops are those of rows.pyx, statistics moments.pyx."""

cimport numpy as cnp

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_normalise
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport empty_in_order_of, run_map, table
from fastconv.backends.cpu.rows cimport in_kernel_layout, normalise_channels, reduce_channels
from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()


cdef cnp.ndarray contiguous(cnp.ndarray values):
    """Per-channel values side by side."""
    return values if cnp.PyArray_IS_C_CONTIGUOUS(values) else np.ascontiguousarray(values)


cdef cnp.ndarray product(cnp.ndarray a, b):
    return contiguous(a) if b is None else contiguous(run_map(table(a).multiply, (a, b), 0))


cdef cnp.ndarray zeros(cnp.ndarray x):
    """(C,)"""
    cdef cnp.ndarray nothing = empty((x.shape[1],), x.dtype)
    nothing[...] = 0
    return nothing


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
    walk(y, kept, None, contiguous(mean), product(rstd, weight), zeros(x) if bias is None else contiguous(bias), None)
    return y


def batch_norm_backward(cnp.ndarray dy, cnp.ndarray x, mean, rstd, weight, bint training, needs=(True, True, True)):
    """-> dx (N, C, L), dweight (C,), dbias (C,), None where ``needs`` says so."""
    cdef cnp.ndarray kept = in_kernel_layout(x), gradient = in_kernel_layout(dy, kept), dweight = None, dbias = None
    cdef cnp.ndarray dx = None, mean_ = contiguous(mean), rstd_ = contiguous(rstd)
    cdef View xv = view(kept), dyv = view(gradient)
    cdef double share = 1.0 / max(1, x.shape[0] * x.shape[2])
    needs_dx, needs_dweight, needs_dbias = needs
    if needs_dweight or (needs_dx and training):
        dbias, dweight = empty((x.shape[1],), x.dtype), empty((x.shape[1],), x.dtype)
        reduce_channels(kernels(xv.itemsize).gradient_rows, &xv, &dyv, cnp.PyArray_DATA(mean_),
                        <char*> cnp.PyArray_DATA(dbias), <char*> cnp.PyArray_DATA(dweight))
        dweight = product(dweight, rstd_)
    elif needs_dbias:
        dbias = empty((x.shape[1],), x.dtype)
        reduce_channels(kernels(xv.itemsize).sum_rows, &dyv, NULL, NULL, <char*> cnp.PyArray_DATA(dbias), NULL)
    if needs_dx and training:  # mean and rstd move with x: take their share out of the gradient
        dx = in_kernel_layout(empty_in_order_of(kept), kept)
        slope = run_map(table(rstd_).scale, (product(rstd_, dweight),), 0, share)
        walk(dx, kept, gradient, mean_, product(rstd_, weight), run_map(table(rstd_).scale, (dbias,), 0, share), slope)
    elif needs_dx:
        dx = in_kernel_layout(empty_in_order_of(gradient), gradient)
        walk(dx, gradient, None, zeros(x), product(rstd_, weight), zeros(x), None)
    return dx, dweight if needs_dweight else None, dbias if needs_dbias else None
