# What batch norm and its ReLU add to the loop nest of 1x1 convolutions: see conv_norm.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_conv_tile
from fastconv.backends.cpu.conv_tiles cimport Correlation, Near, Plan, Task

cdef int64_t near_pixels(const Plan* plan) noexcept nogil
cdef int64_t near_bytes(const Plan* plan, int64_t blocks) noexcept nogil
cdef void lay_near(const Plan* plan, int64_t blocks, Near* near, char* memory) noexcept nogil
cdef void normalise_part(const Plan* plan, const Task* task, fc_conv_tile* call, int64_t first,
                         int64_t pixels) noexcept nogil
cdef void aim_at_sums(const Plan* plan, const Task* task, fc_conv_tile* call, int64_t block) noexcept nogil
cdef void end_part(const Plan* plan, const Task* task, int64_t pixels, int64_t first) noexcept nogil
cdef int64_t sums_bytes(const Correlation* problem, int64_t tiles) noexcept nogil
cdef void add_sums(Correlation* problem, int64_t tiles, const char* sums) noexcept nogil
