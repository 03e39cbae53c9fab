# Correlations with few destination channels: see narrow.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.conv_tiles cimport Correlation


cdef bint is_narrow(const Correlation* problem, int64_t columns) noexcept nogil
cdef int narrow_correlate(Correlation* problem) except -1 nogil
