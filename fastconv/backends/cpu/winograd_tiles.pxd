# A convolution's output in square tiles, and the transforms of what they read: see winograd_tiles.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_winograd
from fastconv.backends.cpu.tiles cimport FAR, dense

cdef enum:
    KINDS = 4   # of planes, see plane_kind

ctypedef void (*Transform)(const fc_winograd*) noexcept nogil


cdef struct Grid:
    # Square tiles; rows and columns have stride 1 or 2 and `kernel` neighbouring taps, the depth axis is any. What is
    # cut into tiles are outputs of the forward pass: two rows of an input's gradient at stride 2 count as one.
    const fc_kernels* kernels
    int itemsize
    int form
    int64_t m, kernel, side, planes     # side: points along an axis, planes = side * side
    int64_t weights                     # planes of weights, see weight_plane
    int64_t last                        # points that the last output alone reads, the last ones
    int64_t count[4]                    # images, depth, rows and columns of tiles
    int64_t box[4]                      # of them in a chunk
    int64_t whole[2]                    # rows and columns, the first, of m outputs; those behind have one less


cdef struct Chunk:
    # A box of tiles of one group.
    int64_t group
    int64_t first[4]
    int64_t count[4]
    int64_t whole[2]
    int64_t tiles


cdef struct Pixels:
    # An array that tiles read: of an axis `extent` positions from first + step * tile_start on.
    # Its planes: (planes; image, depth position, row, column, channel).
    char* data
    int64_t stride[5]       # n, channel, d, h, w, elements
    int64_t channels        # of one group
    int64_t first[3]
    int64_t size[3]
    int64_t step
    int64_t depth_step      # positions along the depth from one output to the next
    int64_t depth_reach     # and from an output's first to its last
    int64_t extent
    bint trims              # nobody reads planes outside the array
    bint far                # the caches do not hold it: rows are first read in the order of memory
    Transform transform


cdef inline int64_t apart(int64_t elements) noexcept nogil:
    """The distance of planes of so many elements: an odd number of 64 bytes, so that their lines share no cache set."""
    return (elements + 15) // 16 * 16 + ((elements + 15) // 16 + 1) % 2 * 16


cdef inline void find_far(Pixels* pixels, int64_t images, int itemsize) noexcept nogil:
    pixels.far = dense(pixels.stride, pixels.channels) and images * pixels.stride[0] * itemsize > FAR


cdef inline int64_t depth_positions(const Pixels* pixels, int64_t outputs) noexcept nogil:
    """How many positions along the depth so many outputs read."""
    cdef int64_t positions = (outputs - 1) * pixels.depth_step + pixels.depth_reach + 1
    return min(positions, pixels.size[0]) if pixels.trims else positions


cdef inline int64_t plane_size(const Pixels* pixels, const int64_t* count) noexcept nogil:
    """Elements from a plane of a box of tiles to the next."""
    return apart(count[0] * depth_positions(pixels, count[1]) * count[2] * count[3] * pixels.channels)


cdef inline int64_t rows_to_transform(const Pixels* pixels, const Chunk* chunk) noexcept nogil:
    return chunk.count[0] * depth_positions(pixels, chunk.count[1]) * chunk.count[2]


cdef inline int64_t tile_start(const Grid* grid, int axis, int64_t index) noexcept nogil:
    """The first output of a row (axis 0) or column of tiles."""
    return index * grid.m - max(<int64_t>0, index - grid.whole[axis])


cdef inline int64_t tile_outputs(const Grid* grid, int axis, int64_t index) noexcept nogil:
    return grid.m - (index >= grid.whole[axis])


cdef inline int plane_kind(const Grid* grid, const Chunk* chunk, int64_t plane) noexcept nogil:
    """Which tiles a plane is multiplied for. Those of the last points are read by the last output alone: 1: without
    short rows, 2: without short columns, 3: without both."""
    cdef bint rows = plane // grid.side + grid.last >= grid.side and chunk.whole[0] < chunk.count[2]
    cdef bint columns = plane % grid.side + grid.last >= grid.side and chunk.whole[1] < chunk.count[3]
    return rows + 2 * columns


cdef inline int64_t weight_point(int64_t point) noexcept nogil:
    """Of 9 points at stride 2, whose weight it meets, of 6."""
    return point if point < 4 else 4 if point == 7 else 5


cdef inline int64_t weight_plane(const Grid* grid, int64_t plane) noexcept nogil:
    """Which plane of weights a plane is multiplied with."""
    if grid.weights == grid.planes:
        return plane
    return weight_point(plane // 9) * 6 + weight_point(plane % 9)


cdef inline bint shares_weights(const Grid* grid, int64_t plane) noexcept nogil:
    """Whether a plane before was multiplied with the same plane of weights."""
    cdef int64_t row = plane // 9, column = plane % 9
    return grid.weights < grid.planes and (row > 4 and row != 7 or column > 4 and column != 7)


cdef inline int64_t tiles_before(const Chunk* chunk, int kind, int64_t tile) noexcept nogil:
    """How many tiles of this kind come before ``tile``, of all."""
    cdef int64_t rows = chunk.whole[0] if kind & 1 else chunk.count[2]
    cdef int64_t columns = chunk.whole[1] if kind & 2 else chunk.count[3]
    cdef int64_t plane = chunk.count[2] * chunk.count[3], row = tile % plane // chunk.count[3]
    if kind == 0:
        return tile
    if row >= rows:
        return (tile // plane + 1) * rows * columns
    return (tile // plane * rows + row) * columns + min(tile % chunk.count[3], columns)


cdef inline bint tiles_lie_even(const Chunk* chunk, const Pixels* pixels) noexcept nogil:
    """Whether the tiles that list_tiles lists follow one another, a pixel's channels apart."""
    return ((chunk.count[1] == 1 or pixels.depth_step == 1) and
            (chunk.count[0] == 1 or depth_positions(pixels, chunk.count[1]) == chunk.count[1]))


cdef void set_form(Grid* grid, const fc_kernels* kernels, int itemsize, int form) noexcept nogil
cdef void set_tiles(Grid* grid, int axis, int64_t size, bint even) noexcept nogil
cdef int64_t chunk_bytes(const Grid* grid, const int64_t* count, const Pixels* pixels, int64_t columns) noexcept nogil
cdef void choose_box(Grid* grid, const Pixels* pixels, int64_t columns, int64_t bytes,
                     bint planes) noexcept nogil
cdef void even_images(Grid* grid, int64_t threads) noexcept nogil
cdef int64_t count_chunks(const Grid* grid) noexcept nogil
cdef void locate_chunk(const Grid* grid, int64_t index, Chunk* chunk) noexcept nogil
cdef int64_t buffer_bytes(const Grid* grid, const Pixels* pixels) noexcept nogil
cdef void transform_row(const Grid* grid, const Chunk* chunk, const Pixels* pixels, int64_t index, char* planes,
                        char* buffer) noexcept nogil
cdef void list_tiles(const Chunk* chunk, const Pixels* pixels, int64_t* lists) noexcept nogil
cdef void list_products(const Chunk* chunk, int64_t columns, int64_t* lists) noexcept nogil
