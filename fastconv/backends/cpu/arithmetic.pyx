"""Arithmetic on arrays of one shape; broadcasting and odd strides are NumPy's. Sums live in reduce.pyx."""

cimport numpy as cnp

import numpy as np

from fastconv.backends.cpu.elementwise cimport is_dense, map_kernel, run_map, same_strides, table

cnp.import_array()


cdef object binary(map_kernel kernel, object ufunc, cnp.ndarray a, cnp.ndarray b):
    if not cnp.PyArray_SAMESHAPE(a, b) or not same_strides(a, b) or not is_dense(a):
        with np.errstate(all="ignore"):
            return np.asarray(ufunc(a, b))
    return run_map(kernel, (a, b), 0)


def add(a, b):
    """a + b."""
    return binary(table(a).add, np.add, a, b)


def subtract(a, b):
    """a - b."""
    return binary(table(a).subtract, np.subtract, a, b)


def multiply(a, b):
    """a * b."""
    return binary(table(a).multiply, np.multiply, a, b)


def divide(a, b):
    """a / b."""
    return binary(table(a).divide, np.divide, a, b)


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
