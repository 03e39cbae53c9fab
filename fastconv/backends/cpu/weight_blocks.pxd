# What one task of a weight gradient adds up: see weight_blocks.pyx.

from fastconv.backends.cpu.weight_tiles cimport Block, Outer, Plan


cdef size_t wide_memory(const Plan* plan) noexcept nogil
cdef void add_wide(const Plan* plan, const Block* block, char* memory) noexcept nogil
cdef size_t narrow_memory(const Plan* plan) noexcept nogil
cdef void add_narrow(const Plan* plan, const Block* block, char* memory) noexcept nogil
