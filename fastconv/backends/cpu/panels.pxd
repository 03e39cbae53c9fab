# Packing weights into panels: see panels.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d
from fastconv.backends.cpu.tiles cimport Reader


cdef void pack_chunk(const Reader* x, fc_copy2d* copy, const char* w, int64_t w_depth, int64_t depth,
                     char* out) noexcept nogil
cdef void pack_pairs(const Reader* x, fc_copy2d* copy, const char* w, int64_t w_depth, int64_t channels, char* floats,
                     char* out) noexcept nogil
