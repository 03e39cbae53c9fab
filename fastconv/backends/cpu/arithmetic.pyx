"""Arithmetic with NumPy's broadcasting. Sums live in reduce.pyx."""

cimport numpy as cnp

import numpy as np

from fastconv.backends.cpu.elementwise cimport is_dense, map_kernel, run_map, same_strides, table
from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()


cdef bint spans(cnp.ndarray a, cnp.ndarray b):
    """Whether a has the shape of the result with b, an array that broadcasts with it."""
    cdef int k, ahead = cnp.PyArray_NDIM(a) - cnp.PyArray_NDIM(b)
    if ahead < 0:
        return False
    for k in range(cnp.PyArray_NDIM(b)):
        if cnp.PyArray_DIM(b, k) != 1 and cnp.PyArray_DIM(b, k) != cnp.PyArray_DIM(a, ahead + k):
            return False
    return True


cdef object binary(map_kernel kernel, cnp.ndarray a, cnp.ndarray b):
    """In the memory order of the operand that has the result's shape, else C."""
    if cnp.PyArray_SAMESHAPE(a, b):
        return run_map(kernel, (a, b), 0 if is_dense(a) else 1)
    if spans(a, b):
        return run_map(kernel, (a, b), 0)
    if spans(b, a):
        return run_map(kernel, (a, b), 1)
    shape = np.broadcast_shapes((<object> a).shape, (<object> b).shape)
    return run_map(kernel, (a, b), 0, 0.0, empty(shape, a.dtype))


def add(a, b):
    """a + b."""
    return binary(table(a).add, a, b)


def subtract(a, b):
    """a - b."""
    return binary(table(a).subtract, a, b)


def multiply(a, b):
    """a * b."""
    return binary(table(a).multiply, a, b)


def divide(a, b):
    """a / b."""
    return binary(table(a).divide, a, b)


def maximum(a, b):
    """The larger; NaN where either is."""
    return binary(table(a).maximum, a, b)


def power(a, b):
    """a ** b."""
    return binary(table(a).power, a, b)


def power_slope(a, b):
    """See ``Backend.power_slope``."""
    return binary(table(a).power_slope, a, b)


def power_exponent_slope(a, b):
    """See ``Backend.power_exponent_slope``."""
    return binary(table(a).power_exponent_slope, a, b)


def scale(a, double factor):
    """a * factor."""
    return run_map(table(a).scale, (a,), 0, factor)


def accumulate(cnp.ndarray into, cnp.ndarray value):
    """into += value."""
    if is_dense(into) and same_strides(into, value):
        run_map(table(into).add, (into, value), 0, 0.0, into)
    else:
        with np.errstate(all="ignore"):
            np.add(into, value, out=into)
