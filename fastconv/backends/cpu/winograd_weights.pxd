# Weights in Winograd's planes: see winograd_weights.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.winograd cimport Part, Plan

cdef enum:
    PACKED_DEPTH = 64       # channels whose weights are transformed at a time


cdef Part whole_block(const Plan* plan, char* u, int64_t panel) noexcept nogil
cdef int64_t panel_bytes(const Plan* plan) noexcept nogil
cdef int64_t weight_bytes(const Plan* plan) noexcept nogil
cdef int64_t packing_bytes(const Plan* plan) noexcept nogil
cdef int64_t part_bytes(const Plan* plan) noexcept nogil
cdef void pack_weights(const Plan* plan, int64_t panel, int64_t begin, int64_t depth, char* packed) noexcept nogil
cdef Part transform_part(const Plan* plan, int64_t tap, int64_t begin, int64_t depth, const char* packed,
                         char* u, int64_t panel) noexcept nogil
cdef void transform_panel(const Plan* plan, int64_t panel, int64_t begin, int64_t end, char* u,
                          char* packed) noexcept nogil
cdef void prepare_all(Plan* plan) noexcept nogil
