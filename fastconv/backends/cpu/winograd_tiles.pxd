# A convolution's output in square tiles, and the transforms of what they read: see winograd_tiles.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_winograd

ctypedef void (*Transform)(const fc_winograd*) noexcept nogil


cdef struct Grid:
    # Square tiles; rows and columns have stride 1 and `kernel` neighbouring taps, the depth axis is any.
    const fc_kernels* kernels
    int itemsize
    int form
    int64_t m, kernel, side, planes     # side = m + kernel - 1, planes = side * side
    int64_t count[4]                    # images, depth, rows and columns of tiles
    int64_t box[4]                      # of them in a chunk


cdef struct Chunk:
    # A box of tiles of one group.
    int64_t group
    int64_t first[4]
    int64_t count[4]
    int64_t tiles


cdef struct Pixels:
    # An array that tiles read: tile t of an axis reads `extent` positions from first + t * m on.
    # Its planes: (planes; image, depth position, row, column, channel).
    char* data
    int64_t stride[5]       # n, channel, d, h, w, elements
    int64_t channels        # of one group
    int64_t first[3]
    int64_t size[3]
    int64_t depth_step      # positions along the depth from one output to the next
    int64_t depth_reach     # and from an output's first to its last
    int64_t extent
    bint trims              # nobody reads planes outside the array
    Transform transform


cdef inline int64_t apart(int64_t elements) noexcept nogil:
    """The distance of planes of so many elements: an odd number of 64 bytes, so that their lines share no cache set."""
    return (elements + 15) // 16 * 16 + ((elements + 15) // 16 + 1) % 2 * 16


cdef inline int64_t depth_positions(const Pixels* pixels, int64_t outputs) noexcept nogil:
    return (outputs - 1) * pixels.depth_step + pixels.depth_reach + 1


cdef inline int64_t plane_size(const Pixels* pixels, const int64_t* count) noexcept nogil:
    """Elements from a plane of a box of tiles to the next."""
    return apart(count[0] * depth_positions(pixels, count[1]) * count[2] * count[3] * pixels.channels)


cdef inline int64_t rows_to_transform(const Pixels* pixels, const Chunk* chunk) noexcept nogil:
    return chunk.count[0] * depth_positions(pixels, chunk.count[1]) * chunk.count[2]


cdef inline bint tiles_lie_even(const Chunk* chunk, const Pixels* pixels) noexcept nogil:
    """Whether the tiles that list_tiles lists follow one another, a pixel's channels apart."""
    return ((chunk.count[1] == 1 or pixels.depth_step == 1) and
            (chunk.count[0] == 1 or depth_positions(pixels, chunk.count[1]) == chunk.count[1]))


cdef void set_form(Grid* grid, const fc_kernels* kernels, int itemsize, int form) noexcept nogil
cdef int64_t chunk_bytes(const Grid* grid, const int64_t* count, const Pixels* pixels, int64_t columns) noexcept nogil
cdef void choose_box(Grid* grid, const Pixels* pixels, int64_t columns, int64_t bytes) noexcept nogil
cdef void even_images(Grid* grid, int64_t threads) noexcept nogil
cdef int64_t count_chunks(const Grid* grid) noexcept nogil
cdef void locate_chunk(const Grid* grid, int64_t index, Chunk* chunk) noexcept nogil
cdef int64_t buffer_bytes(const Grid* grid, const Pixels* pixels) noexcept nogil
cdef void transform_row(const Grid* grid, const Chunk* chunk, const Pixels* pixels, int64_t index, char* planes,
                        char* buffer) noexcept nogil
cdef void list_tiles(const Chunk* chunk, const Pixels* pixels, int64_t* at) noexcept nogil
