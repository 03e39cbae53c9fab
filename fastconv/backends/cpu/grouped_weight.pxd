# Weight gradient of convolutions with few channels a group: see grouped_weight.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.grouped cimport Lanes
from fastconv.backends.cpu.weight_tiles cimport Outer


cdef void store_block(Outer* problem, const Lanes* lanes, int64_t index, const char* block) noexcept nogil
cdef int grouped_products(Outer* problem) except -1 nogil
