"""Batch normalisation over (N, C, L), forward and backward. The loops are those of rows.pyx, statistics moments.pyx."""

cimport numpy as cnp

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_normalise, fc_reduce
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport empty_in_order_of, run_map, table
from fastconv.backends.cpu.rows cimport in_kernel_layout, lies_as, normalise_channels, reduce_channels
from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()


cdef cnp.ndarray contiguous(cnp.ndarray values):
    """Per-channel values side by side."""
    return values if cnp.PyArray_IS_C_CONTIGUOUS(values) else np.ascontiguousarray(values)


cdef cnp.ndarray product(cnp.ndarray a, b):
    return contiguous(a) if b is None else contiguous(run_map(table(a).multiply, (a, b), 0))


def normal_constants(cnp.ndarray x, mean, rstd, weight, bias):
    """Return mean, scale and shift (C,), side by side, of (x - mean) * scale + shift."""
    return contiguous(mean), product(rstd, weight), zeros(x) if bias is None else contiguous(bias)


cdef cnp.ndarray zeros(cnp.ndarray x):
    """(C,)"""
    cdef cnp.ndarray nothing = empty((x.shape[1],), x.dtype)
    nothing[...] = 0
    return nothing


cdef int walk(cnp.ndarray y, cnp.ndarray x, cnp.ndarray second, cnp.ndarray mean, cnp.ndarray scale, cnp.ndarray shift,
              cnp.ndarray slope, cnp.ndarray bias, bint relu, bint gradient, cnp.ndarray residual=None) except -1:
    """Run the forward kernel, whose ``second`` is the residual, or the gradient's, whose ``second`` is dy."""
    cdef View yv = view(y), xv = view(x), other, added
    cdef const View* more = NULL
    cdef fc_normalise call
    call.mean, call.scale, call.shift = cnp.PyArray_DATA(mean), cnp.PyArray_DATA(scale), cnp.PyArray_DATA(shift)
    call.slope = NULL if slope is None else cnp.PyArray_DATA(slope)
    call.bias = NULL if bias is None else cnp.PyArray_DATA(bias)
    call.relu = relu
    if second is None:
        normalise_channels(kernels(xv.itemsize).normalise_rows, &call, &yv, &xv, NULL)
        return 0
    other = view(second)
    if residual is not None:
        added = view(residual)
        more = &added
    if gradient:
        normalise_channels(kernels(xv.itemsize).normalise_gradient_rows, &call, &yv, &xv, &other, False, more)
    else:
        normalise_channels(kernels(xv.itemsize).normalise_rows, &call, &yv, &xv, &other)
    return 0


def batch_norm_forward(cnp.ndarray x, mean, rstd, weight, bias, activation=None, residual=None, out=None):
    """activation((x - mean) * rstd * weight + bias + residual)."""
    cdef cnp.ndarray kept = in_kernel_layout(x), y = None, second = None
    if residual is not None:
        second = in_kernel_layout(residual, kept)
    if out is not None and lies_as(out, kept):
        y = out
    else:
        y = in_kernel_layout(empty_in_order_of(kept), kept)
    walk(y, kept, second, contiguous(mean), product(rstd, weight), zeros(x) if bias is None else contiguous(bias), None,
         None, activation == "relu", False)
    if out is None or y is out:
        return y
    copy_into(out, y)
    return out


def batch_norm_backward(cnp.ndarray dy, cnp.ndarray x, mean, rstd, weight, bint training, needs=(True, True, True),
                        bias=None, activation=None, residual=None):
    """-> dx (N, C, L), dweight (C,), dbias (C,), None where ``needs`` says so. See ``Backend.batch_norm_backward``."""
    cdef cnp.ndarray kept = in_kernel_layout(x), gradient = in_kernel_layout(dy, kept), dweight = None, dbias = None
    cdef cnp.ndarray dx = None, mean_ = contiguous(mean), rstd_ = contiguous(rstd), scale = product(rstd, weight)
    cdef cnp.ndarray shift = None, slope = None, passed = None, added = None
    cdef View xv = view(kept), dyv = view(gradient)
    cdef fc_reduce constants
    cdef double share = 1.0 / max(1, x.shape[0] * x.shape[2])
    needs_dx, needs_dweight, needs_dbias = needs
    if needs_dx and residual is not None:
        added = in_kernel_layout(residual, kept)
    constants.mean = constants.scale = constants.shift = NULL
    if activation == "relu":
        passed = zeros(x) if bias is None else contiguous(bias)
        constants.scale, constants.shift = cnp.PyArray_DATA(scale), cnp.PyArray_DATA(passed)
    if needs_dweight or (needs_dbias and passed is not None) or (needs_dx and training):
        constants.mean = cnp.PyArray_DATA(mean_)
        dbias, dweight = empty((x.shape[1],), x.dtype), empty((x.shape[1],), x.dtype)
        reduce_channels(kernels(xv.itemsize).gradient_rows, &constants, &xv, &dyv, <char*> cnp.PyArray_DATA(dbias),
                        <char*> cnp.PyArray_DATA(dweight))
        dweight = product(dweight, rstd_)
    elif needs_dbias:
        dbias = empty((x.shape[1],), x.dtype)
        reduce_channels(kernels(xv.itemsize).sum_rows, &constants, &dyv, NULL, <char*> cnp.PyArray_DATA(dbias), NULL)
    if needs_dx and training:  # mean and rstd move with x: take their share out of the gradient
        dx = in_kernel_layout(empty_in_order_of(kept), kept)
        slope = run_map(table(scale).scale, (product(product(rstd_, dweight), scale),), 0, share)
        shift = run_map(table(scale).scale, (product(scale, dbias),), 0, share)
        walk(dx, kept, gradient, mean_, scale, shift, slope, passed, False, True, added)
    elif needs_dx:
        dx = in_kernel_layout(empty_in_order_of(gradient), gradient)
        walk(dx, gradient, added, zeros(x), scale, zeros(x), None, None, False, False)
    return dx, dweight if needs_dweight else None, dbias if needs_dbias else None


def batch_norm_settle(cnp.ndarray dx, cnp.ndarray x, mean, slope, shift):
    """dx - ((x - mean) * slope + shift). See ``Backend.batch_norm_settle``."""
    cdef cnp.ndarray kept = in_kernel_layout(x), gradient = in_kernel_layout(dx, kept)
    cdef cnp.ndarray y = in_kernel_layout(empty_in_order_of(kept), kept), ones = empty((x.shape[1],), x.dtype)
    ones[...] = 1
    walk(y, kept, gradient, contiguous(mean), ones, contiguous(shift), contiguous(slope), None, False, True)
    return y
