# A single tap that sees no padding: see weight_pixels.pyx.

from fastconv.backends.cpu.weight_tiles cimport Block, Plan


cdef bint sees_no_padding(const Plan* plan) noexcept nogil
cdef void choose_pixels(Plan* plan) noexcept nogil
cdef size_t pixels_memory(const Plan* plan) noexcept nogil
cdef void add_pixels(const Plan* plan, const Block* block, const Block* after, char* memory) noexcept nogil
