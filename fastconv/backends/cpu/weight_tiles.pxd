# The loop nest of a weight gradient: see weight_tiles.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader


cdef struct Outer:
    # dw[column, depth, tap] = sum over pixels of dy[pixel, column] * x[pixel + tap, depth], group by group.
    Reader x                                    # the broadcast side, with the axes of the forward pass
    const char* dy                              # the vector side
    int64_t ys[5]
    int64_t columns                             # channels of dy in one group
    char* dw
    int64_t dw_group, dw_column, dw_depth       # strides, elements; taps lie side by side


cdef int outer_products(Outer* problem) except -1 nogil
