from fastconv.backends.cpu._csrc cimport fc_kernels


cdef const fc_kernels* kernels(int itemsize) noexcept nogil
