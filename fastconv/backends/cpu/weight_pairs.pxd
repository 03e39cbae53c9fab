# A task of a weight gradient in bfloat16: see weight_pairs.pyx.

from fastconv.backends.cpu.weight_tiles cimport Block, Plan


cdef size_t pairs_memory(const Plan* plan) noexcept nogil
cdef void add_pairs(const Plan* plan, const Block* block, char* memory) noexcept nogil
