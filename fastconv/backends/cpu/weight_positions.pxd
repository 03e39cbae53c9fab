# What the tiles of a weight gradient read: see weight_positions.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader, Tile


cdef struct Seen:
    # A tile, the numbers of its positions along each axis, and where positions and outputs lie.
    Tile tile
    int64_t* place[3]
    int64_t positions[3]
    int64_t* position
    int64_t* output
    int64_t* row            # what ``list_pairs`` needs for a row
    int64_t reads, outputs


cdef int64_t most_positions(const Reader* x) noexcept nogil
cdef int64_t seen_lists(const Reader* x) noexcept nogil
cdef void set_lists(const Reader* x, Seen* seen, int64_t* memory) noexcept nogil
cdef void see(const Reader* x, const int64_t* ys, int64_t number, Seen* seen) noexcept nogil
cdef int64_t list_pairs(const Reader* x, const Seen* seen, const int64_t* tap, int64_t ldx, int64_t ldy,
                        int64_t* xpixel, int64_t* ypixel) noexcept nogil
