# Few channels a group by Winograd's minimal filtering: see grouped_squares.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_grouped_squares
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.grouped cimport Lanes
from fastconv.backends.cpu.tiles cimport Reader

cdef enum:
    SIDE = 4            # outputs of a tile along rows and columns
    REACH = 6           # and source positions
    PLANES = 36
    BATCH = 8           # tiles of a call: their planes stay in a first-level cache


cdef struct Squares:
    # The destination cut into tiles: index = ((image * depth positions + position) * rows + row) * columns + column.
    const Reader* x
    const Lanes* lanes
    const int64_t* ys       # strides of the destination
    int64_t rows, columns, count


cdef struct Unit:
    # What stays in a second-level cache while it is computed, one block after the other.
    int64_t first, last     # tiles
    int64_t block, end      # blocks


ctypedef void (*batch_task)(void* context, int64_t block, int64_t first, int64_t last) noexcept nogil


cdef void cut_squares(Squares* squares, const Reader* x, const Lanes* lanes, const int64_t* ys) noexcept nogil
cdef int64_t block_planes(const Lanes* lanes) noexcept nogil
cdef int64_t unit_blocks(const Squares* squares, int64_t units) noexcept nogil
cdef int64_t unit_tiles(const Squares* squares, int64_t blocks) noexcept nogil
cdef void each_batch(const Squares* squares, const char* y, const Unit* unit, batch_task task,
                     void* context) noexcept nogil
cdef int64_t batch_bytes(const Squares* squares, int64_t matrices) noexcept nogil
cdef void set_batch(const Squares* squares, int64_t block, int64_t first, int64_t last, char* y, char* memory,
                    fc_grouped_squares* call) noexcept nogil
cdef void gather(const Squares* squares, const char* src, const int64_t* stride, int64_t top, int64_t bottom,
                 int64_t left, int64_t right, int64_t side, int64_t lanes, char* dst) noexcept nogil
cdef object kept_squares(Correlation* problem, cnp.ndarray w, object frozen)
cdef int squares_correlate(Correlation* problem) except -1 nogil
