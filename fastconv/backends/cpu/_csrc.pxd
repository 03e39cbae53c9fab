# What the C++ side offers: the tables of micro-kernels and their arguments (csrc/include/fastconv).
# The structs are listed by the fields that Cython touches; sizes and offsets count elements.

from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/kernels.h" nogil:
    ctypedef struct fc_conv_tile:
        const void* x
        const int64_t* pixel
        const int64_t* tap
        const void* w
        const void* bias
        void* y
        const int64_t* ypixel
        int64_t pixels, taps, depth, columns
        int32_t accumulate

    ctypedef struct fc_outer_tile:
        const void* x
        const int64_t* xpixel
        const int64_t* row
        const void* dy
        const int64_t* ypixel
        void* dw
        int64_t pixels, rows, columns, ld
        int32_t accumulate

    ctypedef struct fc_depthwise_tile:
        const void* x
        const int64_t* pixel
        const int64_t* tap
        const void* w
        const void* bias
        void* y
        const int64_t* ypixel
        int64_t pixels, taps, channels, ld

    ctypedef struct fc_depthwise_outer:
        const void* x
        const int64_t* xpixel
        const int64_t* tap
        const void* dy
        const int64_t* ypixel
        void* dw
        int64_t pixels, taps, channels, ld
        int32_t accumulate

    ctypedef struct fc_copy2d:
        void* dst
        const void* src
        int64_t rows, columns, padded, ld, dj, si, sj

    ctypedef struct fc_accumulate:
        void* dst
        const void* src
        int64_t count

    ctypedef struct fc_kernels:
        int64_t width, mr, nr
        void (*conv_tile)(const fc_conv_tile*) noexcept nogil
        void (*outer_tile)(const fc_outer_tile*) noexcept nogil
        void (*depthwise_tile)(const fc_depthwise_tile*) noexcept nogil
        void (*depthwise_outer)(const fc_depthwise_outer*) noexcept nogil
        void (*copy2d)(const fc_copy2d*) noexcept nogil
        void (*accumulate)(const fc_accumulate*) noexcept nogil

    int FC_SCALAR, FC_AVX2, FC_AVX512, FC_NEON, FC_F32, FC_F64
    int fc_isa_available(int isa)
    const fc_kernels* fc_kernels_for(int isa, int dtype)
