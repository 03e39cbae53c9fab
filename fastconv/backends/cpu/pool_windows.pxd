# The windows of a pooling as C data, seen from either side: see pool_windows.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_pool_axis


cdef struct Windows:
    fc_pool_axis list       # target t sees the sources first[t] + step * i, 0 <= i < count[t]
    int64_t targets, sources
    int64_t extent          # places along the axis: windows lie within so many positions


cdef struct Axes:
    Windows axis[3]
    int64_t divisor         # of every average


cdef int list_outputs(Axes* axes, geometry) except -1
cdef int list_inputs(Axes* axes, geometry) except -1
cdef void free_windows(Axes* axes) noexcept
cdef void source_range(const Windows* axis, int64_t first, int64_t last, int64_t* low, int64_t* high) noexcept nogil
