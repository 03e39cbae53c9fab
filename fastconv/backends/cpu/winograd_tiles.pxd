# The output of a convolution in square tiles, and their transformed source: see winograd_tiles.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader


cdef struct Grid:
    const Reader* x         # axis 0 as it is; axes 1 and 2 have stride 1 and `kernel` neighbouring taps
    int form
    int64_t m, kernel, side, planes     # side = m + kernel - 1, planes = side * side
    int64_t count[4]        # images, depth, rows and columns of tiles
    int64_t box[4]          # of them in a chunk


cdef struct Chunk:
    # A box of tiles of one group. v: (planes; image, source depth, row, column, channel), planes v_plane elements apart.
    const Grid* grid
    int64_t group
    int64_t first[4]
    int64_t count[4]
    int64_t source_depth    # depth positions of the source that the box reads
    int64_t tiles
    int64_t v_plane
    char* v


cdef inline int64_t apart(int64_t elements) noexcept nogil:
    """The distance of planes of so many elements: an odd number of 64 bytes, so that their lines share no cache set."""
    return (elements + 15) // 16 * 16 + ((elements + 15) // 16 + 1) % 2 * 16


cdef void set_grid(Grid* grid, const Reader* x, int form) noexcept nogil
cdef void choose_box(Grid* grid, int64_t columns, int64_t bytes) noexcept nogil
cdef int64_t chunk_bytes(const Grid* grid, const int64_t* count, int64_t columns) noexcept nogil
cdef int64_t count_chunks(const Grid* grid) noexcept nogil
cdef void locate_chunk(const Grid* grid, int64_t index, Chunk* chunk) noexcept nogil
cdef int64_t source_rows(const Chunk* chunk) noexcept nogil
cdef int64_t buffer_bytes(const Grid* grid) noexcept nogil
cdef void transform_row(const Chunk* chunk, int64_t index, char* buffer) noexcept nogil
cdef void list_tiles(const Chunk* chunk, int64_t columns, int64_t* source, int64_t* destination) noexcept nogil
cdef void list_depth_taps(const Chunk* chunk, int64_t* tap) noexcept nogil
