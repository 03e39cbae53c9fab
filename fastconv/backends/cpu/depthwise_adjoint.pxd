# The input gradient of depthwise convolutions with 3x3 taps a plane and a step of 2: see depthwise_adjoint.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.tiles cimport TileAxis


cdef void set_adjoint_axis(TileAxis* axis, int64_t size, int64_t padding, int64_t w_stride,
                           int64_t* lists) noexcept nogil
cdef int adjoint_correlate(Correlation* problem, int64_t* size) except -1 nogil
