# The arguments of Winograd's micro-kernels (csrc/include/fastconv/winograd.h), as in _arguments.pxd.
from libc.stdint cimport int32_t, int64_t, uint8_t


cdef extern from "fastconv/kernels.h" nogil:
    int FC_WINOGRAD_4X3, FC_WINOGRAD_4X5, FC_WINOGRAD_STRIDED, FC_WINOGRAD_TRANSPOSED

    ctypedef struct fc_winograd:
        void* pixels
        void* planes
        const void* bias
        int64_t row, column, plane, first_row, last_row, first_column, last_column, count, residual_row, residual_column
        int32_t form, relu
        const void* residual

    ctypedef struct fc_winograd_windows:
        void* small
        uint8_t* index
        void* planes
        const void* bias
        void* total
        int64_t row, column, index_row, index_column, plane, rows, columns, count
        int32_t form, relu

    ctypedef struct fc_winograd_line:
        void* dst
        const void* src
        int64_t step, plane, count

    ctypedef struct fc_winograd_lines:
        const void* x
        const int64_t* tap
        const void* w
        const void* bias
        void* y
        uint8_t* index
        const void* residual
        int64_t tile, xplane, wplane, taps, row, column, residual_row, residual_column, rows, outputs, channels
        int32_t relu
