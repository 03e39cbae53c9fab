"""What every call asks about NumPy arrays, answered without making Python objects. How kernels see one: arrays.pxd."""

cimport numpy as cnp
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uintptr_t

import numpy as np

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        type subtype, cnp.dtype descr, int rank, cnp.npy_intp* sizes, cnp.npy_intp* strides, void* data, int flags,
        object template,
    )

cdef enum:
    MAX_AXES = 32


cdef inline bint is_plain(object value):
    """Whether a kernel takes ``value`` as it is: an ndarray itself, float32 or float64, aligned, in native order."""
    if not cnp.PyArray_CheckExact(value):
        return False
    cdef cnp.ndarray array = <cnp.ndarray> value
    cdef int kind = cnp.PyArray_TYPE(array)
    return (kind == cnp.NPY_FLOAT32 or kind == cnp.NPY_FLOAT64) and cnp.PyArray_ISBEHAVED_RO(array)


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b):
    cdef int i
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True


def usable(operands):
    """See ``Backend.usable``."""
    cdef int kind = -1
    for value in <list> operands if type(operands) is list else <tuple?> operands:
        if value is None:
            continue
        if not is_plain(value):
            return False
        if kind == -1:
            kind = cnp.PyArray_TYPE(<cnp.ndarray> value)
        elif cnp.PyArray_TYPE(<cnp.ndarray> value) != kind:
            return False
    return kind != -1


def steppable(list params, list grads):
    """See ``Backend.steppable``."""
    cdef Py_ssize_t i
    for i in range(len(params)):
        p, g = params[i], grads[i]
        if not is_plain(p) or not is_plain(g) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray> p):
            return False
        if cnp.PyArray_TYPE(<cnp.ndarray> p) != cnp.PyArray_TYPE(<cnp.ndarray> g) or not same_shape(p, g):
            return False
    return True


cdef bint extent(cnp.ndarray array, uintptr_t* low, uintptr_t* high):
    """The bytes [low, high) between which all elements lie; False if there are none."""
    cdef int64_t span
    cdef int i
    low[0] = high[0] = <uintptr_t> cnp.PyArray_DATA(array)
    for i in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_DIM(array, i) == 0:
            return False
        span = (cnp.PyArray_DIM(array, i) - 1) * cnp.PyArray_STRIDE(array, i)
        if span > 0:
            high[0] += span
        else:
            low[0] += span
    high[0] += cnp.PyArray_ITEMSIZE(array)
    return True


def may_share_memory(cnp.ndarray a, cnp.ndarray b):
    """See ``Backend.may_share_memory``."""
    cdef uintptr_t first, first_end, second, second_end
    if not extent(a, &first, &first_end) or not extent(b, &second, &second_end):
        return False
    return first < second_end and second < first_end


def broadcast_to(cnp.ndarray a, shape):
    """See ``Backend.broadcast_to``."""
    cdef cnp.npy_intp sizes[MAX_AXES]
    cdef cnp.npy_intp strides[MAX_AXES]
    cdef int rank = <int> len(shape)
    cdef int i
    if cnp.PyArray_SIZE(a) != 1 or rank < cnp.PyArray_NDIM(a) or rank > MAX_AXES:
        return np.broadcast_to(a, tuple(shape))
    for i in range(rank):
        sizes[i], strides[i] = shape[i], 0
    cdef cnp.dtype descr = a.dtype
    Py_INCREF(descr)  # PyArray_NewFromDescr takes over a reference
    cdef cnp.ndarray view = PyArray_NewFromDescr(
        cnp.ndarray, descr, rank, sizes, strides, cnp.PyArray_DATA(a), cnp.NPY_ARRAY_ALIGNED, None
    )
    cnp.set_array_base(view, a)
    return view


def all_within(cnp.ndarray array, int64_t low, int64_t high):
    """See ``Backend.all_within``."""
    cdef const int64_t* value
    cdef int64_t i, wrong = 0
    if cnp.PyArray_TYPE(array) != cnp.NPY_INT64 or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        return array.size == 0 or bool(low <= array.min() and array.max() < high)
    value = <const int64_t*> cnp.PyArray_DATA(array)
    for i in range(cnp.PyArray_SIZE(array)):
        wrong |= (value[i] < low) | (value[i] >= high)
    return wrong == 0
