# The arguments of sums over rows and of normalisation (csrc/include/fastconv/norm.h), as in _arguments.pxd.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/kernels.h" nogil:
    ctypedef struct fc_reduce:
        const void* x
        const void* dy
        const void* mean
        void* first
        void* second
        int64_t rows, columns, ldx, lddy
        const void* scale
        const void* shift

    ctypedef struct fc_moments:
        const void* x
        double* start
        double* offset
        double* square
        int64_t count, rows, columns, ldx

    ctypedef struct fc_normalise:
        void* y
        const void* x
        const void* dy
        const void* mean
        const void* scale
        const void* shift
        const void* slope
        const void* bias
        const void* residual
        int64_t rows, columns, ldy, ldx, lddy, ldr
        int32_t stream, relu, by_row

    ctypedef struct fc_normalise_adjoint:
        void* y
        const void* x
        const void* dy
        const void* residual
        const void* mean
        const void* scale
        const void* shift
        void* first
        void* second
        int64_t rows, columns, ldy, ldx, lddy, ldr

    ctypedef struct fc_local_response:
        void* y
        void* scale
        const void* x
        const void* dy
        void* terms
        int64_t channels, positions, size, before, ldy, ldscale, ldx, lddy
        double alpha, beta, k
