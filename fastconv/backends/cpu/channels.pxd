# The frame of operations over the channels of (N, C, L): see channels.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels
from fastconv.backends.cpu.arrays cimport View

cdef enum:
    MOST_MATRICES = 4


cdef struct Matrix:
    View view
    int64_t outer, inner    # strides from one sample, and from one position, to the next
    bint in_place           # its positions lie side by side


cdef struct Tile:
    int64_t outer, first, count     # sample (0 if positions are samples), first position, positions
    char* matrix[MOST_MATRICES]
    int64_t ld[MOST_MATRICES]
    char* scratch


cdef struct Positions:
    const fc_kernels* kernels
    void (*compute)(Positions*, const Tile*) noexcept nogil
    const void* arguments           # of `compute`
    Matrix matrix[MOST_MATRICES]    # the first `writes` are written, the others read
    int matrices, writes, itemsize
    int64_t scratch                 # bytes of scratch memory that `compute` gets
    bint by_sample, failed
    bint rows                       # a position's channels lie side by side: the kernels `*_rows`, in place
    int64_t outer, inner, channels
    int64_t tile, tiles, share      # positions a tile; tiles; tiles a task


ctypedef void (*compute_tile)(Positions*, const Tile*) noexcept nogil

cdef void use_positions(Positions* p, int64_t n, int64_t channels, int64_t length, int itemsize) noexcept nogil
cdef void use_matrix(Positions* p, Matrix* matrix, cnp.ndarray array)
cdef int run_positions(Positions* p) except -1
cdef cnp.ndarray over_channels(compute_tile compute, cnp.ndarray a, cnp.ndarray b=*)
