# How a Winograd problem is cut: see winograd_plan.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.winograd cimport Plan


cdef int64_t product_bytes(const Plan* plan, int64_t tiles) noexcept nogil
cdef bint in_parts(const Plan* plan, int64_t tiles) noexcept nogil
cdef int64_t packed_before(const Plan* plan) noexcept nogil
cdef int64_t own_weights(const Plan* plan, int64_t tiles) noexcept nogil
cdef void make_plan(Plan* plan, Correlation* problem, int form, int adjoint, int64_t* reversed_taps) noexcept nogil
cdef void choose_tasks(Plan* plan) noexcept nogil
