# How a NumPy array enters a kernel: a pointer, sizes and strides in elements. Rank up to 5.

cimport numpy as cnp
from libc.stdint cimport int64_t


cdef struct View:
    char* data
    int itemsize
    int64_t size[5]
    int64_t stride[5]


cdef inline View view(cnp.ndarray array):
    """The array as data; the caller keeps it alive. Strides of axes of size 1 are what NumPy says, and never used."""
    cdef View v
    cdef int i
    v.data = <char*> cnp.PyArray_DATA(array)
    v.itemsize = <int> cnp.PyArray_ITEMSIZE(array)
    for i in range(cnp.PyArray_NDIM(array)):
        v.size[i] = cnp.PyArray_DIM(array, i)
        v.stride[i] = cnp.PyArray_STRIDE(array, i) // v.itemsize
    return v


cdef inline int64_t pixel_step(const View* v) noexcept nogil:
    """How far apart the pixels of all samples, volumes and planes (N, C, D, H, W) lie, if at one distance; else 0."""
    cdef int64_t step = 0, expected = 0
    cdef int i
    for i in range(4, -1, -1):
        if i == 1 or v.size[i] == 1:
            continue
        if step == 0:
            step = expected = v.stride[i]
        if v.stride[i] != expected:
            return 0
        expected *= v.size[i]
    return step
