# What one task of a weight gradient adds up: see weight_blocks.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader
from fastconv.backends.cpu.weight_tiles cimport Block, Plan

cdef enum:
    LINE = 64               # bytes


cdef inline size_t whole_lines(size_t bytes) noexcept nogil:
    return (bytes + LINE - 1) // LINE * LINE


cdef inline int64_t copied_row(const Reader* x, int64_t channels) noexcept nogil:
    """Elements from pixel to pixel in a copy: an odd number of cache lines, so that rows spread over the cache."""
    cdef int64_t line = LINE // x.itemsize
    return ((channels + line - 1) // line | 1) * line


cdef size_t wide_memory(const Plan* plan) noexcept nogil
cdef void add_wide(const Plan* plan, const Block* block, char* memory) noexcept nogil
cdef size_t narrow_memory(const Plan* plan) noexcept nogil
cdef void add_narrow(const Plan* plan, const Block* block, char* memory) noexcept nogil
