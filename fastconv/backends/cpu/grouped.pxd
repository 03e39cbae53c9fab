# Convolution of few channels a group, and what its loop nests share: see grouped.pyx.

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

from fastconv.backends.cpu._csrc cimport fc_blocks
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.tiles cimport Reader, Tile, TileAxis


cdef struct Lanes:
    # How the channels of all groups are cut into vectors of whole groups.
    fc_blocks blocks
    int64_t groups          # of the problem
    int64_t block_groups    # of a block
    int64_t chunk_blocks    # blocks of a reader's chunk
    int64_t rows            # of the kernel, over depth and height
    int64_t width           # lanes of a packed block: a vector, or the vectors of one group
    int64_t wblock          # elements of a packed block: (rows, depth, taps of a row, width)
    int32_t* lane
    int64_t slides          # taps along an axis of planes that the depthwise kernels serve, or 0
    bint large              # the arrays do not stay in the caches: store past them
    bint far                # nor does the source in a core's: read ahead


cdef struct Plan:
    Correlation* problem
    Lanes lanes
    int64_t* size           # of the destination, five axes: of the adjoint alone
    char* packed            # (blocks, rows, depth, taps of a row, width)
    char* bias              # (blocks, width)
    bint failed


cdef int64_t set_lanes(Lanes* lanes, Reader* x, int64_t columns) noexcept nogil
cdef void fill_lanes(Lanes* lanes, int64_t width) noexcept nogil
cdef bint in_place(const Reader* x) noexcept nogil
cdef void set_chunks(Lanes* lanes, Reader* x, int64_t chunk_blocks) noexcept nogil
cdef void finish_lanes(Reader* x) noexcept nogil
cdef void set_large(Lanes* lanes, const Reader* x) noexcept nogil
cdef bint streams(const Lanes* lanes, const Correlation* problem) noexcept nogil
cdef bint next_known(const Lanes* lanes, const Reader* x) noexcept nogil
cdef const char* next_rows(const Lanes* lanes, const Reader* x, const Tile* tile, int64_t n, int64_t d,
                           int64_t* size) noexcept nogil
cdef int64_t line_start(const Correlation* problem, const Tile* tile, int64_t n, int64_t d, int64_t h) noexcept nogil
cdef void pack_block(void* context, int64_t index) noexcept nogil
cdef void pack_bias(Plan* plan, int64_t index) noexcept nogil
cdef void cut(Plan* plan) noexcept nogil
cdef void share_of_chunk(const Lanes* lanes, const Reader* x, int64_t chunk, fc_blocks* blocks) noexcept nogil
cdef int64_t lanes_of(const Lanes* lanes, int64_t block) noexcept nogil
cdef enum:
    PLANE = 9               # taps of a 3x3 plane

cdef bint inside(const TileAxis* axis, int64_t output, int64_t tap) noexcept nogil
cdef int64_t source_plane(const Reader* x, const Tile* tile, int64_t n, int64_t d, int64_t kd) noexcept nogil
cdef int64_t source_row(const Reader* x, const Tile* tile, int64_t n, int64_t d, int64_t h, int64_t kd,
                        int64_t kh) noexcept nogil

cdef object kept_blocks(Correlation* problem, cnp.ndarray w, object frozen)
cdef int grouped_correlate(Correlation* problem) except -1 nogil
