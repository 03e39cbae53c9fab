# The frame of elementwise operations: see elementwise.pyx.

cimport numpy as cnp

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_map, fc_kernels

ctypedef void (*map_kernel)(const fc_map*) noexcept nogil

# y = kernel(inputs...), inputs that broadcast to inputs[leader], in its memory order.
cdef object run_map(map_kernel kernel, tuple inputs, int leader, double scalar=*, object into=*,
                    double second=*, int kind=*)

# Elements a task, for work whose bits do not depend on how it is cut.
cdef int64_t chunk_of(int64_t count) noexcept nogil

# The kernels for the array's dtype.
cdef const fc_kernels* table(cnp.ndarray array) noexcept

cdef object empty_in_order_of(cnp.ndarray leader, object dtype=*)
cdef cnp.ndarray in_order_of(cnp.ndarray leader, cnp.ndarray array)
cdef bint is_dense(cnp.ndarray array)


cdef inline bint in_rows(cnp.ndarray array):
    """Whether a pixel's channels, axis 1, lie side by side."""
    return cnp.PyArray_DIM(array, 1) == 1 or cnp.PyArray_STRIDE(array, 1) == cnp.PyArray_ITEMSIZE(array)


# The axes from the slowest to the fastest in memory.
cdef void order_axes(cnp.ndarray array, int* axes)
cdef bint same_strides(cnp.ndarray a, cnp.ndarray b)
