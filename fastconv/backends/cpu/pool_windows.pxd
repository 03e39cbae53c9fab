# The windows of a pooling as C data: see pool_windows.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_pool_row


cdef struct Windows:
    int64_t size, count     # of the input, of the outputs
    int64_t step
    int64_t* start          # (count,)
    int64_t* length
    int64_t* divisor


cdef struct Axes:
    Windows axis[3]
    int64_t divisor         # divisor_override, or 0


cdef int list_windows(Axes* axes, geometry) except -1
cdef void free_windows(Axes* axes) noexcept
cdef void h_range(const Axes* axes, int64_t first, int64_t last, int64_t* low, int64_t* high) noexcept nogil
cdef void describe(const Axes* axes, int64_t od, int64_t oh, fc_pool_row* row) noexcept nogil
