# Where Winograd's products go: see winograd_output.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.winograd cimport Stage


cdef void read_outputs(const Stage* stage) noexcept nogil
cdef void output_tiles(Stage* stage, int64_t block, int64_t first, int64_t last, char* m) noexcept nogil
cdef void pool_tiles(Stage* stage, int64_t block, int64_t first, int64_t last, char* m) noexcept nogil
cdef void clear(Stage* stage, int64_t block, int64_t first, int64_t last) noexcept nogil
