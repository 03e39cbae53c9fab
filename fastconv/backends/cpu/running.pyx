"""Batch norm's arithmetic on arrays of a number a channel (C,): too little of it to be worth more than one call."""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport int64_t

from fastconv.backends.cpu.runtime cimport empty

cnp.import_array()

cdef extern from "<math.h>" nogil:
    float sqrtf(float)

ctypedef fused real:
    float
    double


cdef void reciprocal_roots(real* y, const char* x, int64_t step, int64_t count, real eps) noexcept nogil:
    cdef real value
    cdef int64_t i
    for i in range(count):
        value = (<const real*> (x + i * step))[0] + eps
        y[i] = 1 / (sqrtf(value) if real is float else sqrt(value))


cdef void move(char* y, int64_t step, const char* x, int64_t x_step, int64_t count, real share,
               real factor) noexcept nogil:
    cdef real* into
    cdef int64_t i
    for i in range(count):
        into = <real*> (y + i * step)
        into[0] += ((<const real*> (x + i * x_step))[0] * factor - into[0]) * share


def reciprocal_root(cnp.ndarray variance, double eps):
    """See ``Backend.reciprocal_root``."""
    cdef int64_t count = variance.shape[0]
    cdef cnp.ndarray y = empty((count,), variance.dtype, "C")
    cdef char* data = <char*> cnp.PyArray_DATA(variance)
    if cnp.PyArray_TYPE(variance) == cnp.NPY_FLOAT32:
        reciprocal_roots[float](<float*> cnp.PyArray_DATA(y), data, variance.strides[0], count, <float> eps)
    else:
        reciprocal_roots[double](<double*> cnp.PyArray_DATA(y), data, variance.strides[0], count, eps)
    return y


def move_towards(cnp.ndarray running, cnp.ndarray batch, double share, double factor):
    """See ``Backend.move_towards``."""
    cdef char* into = <char*> cnp.PyArray_DATA(running)
    cdef char* data = <char*> cnp.PyArray_DATA(batch)
    cdef int64_t step = running.strides[0], batch_step = batch.strides[0], count = running.shape[0]
    if cnp.PyArray_TYPE(running) == cnp.NPY_FLOAT32:
        move[float](into, step, data, batch_step, count, <float> share, <float> factor)
    else:
        move[double](into, step, data, batch_step, count, share, factor)
