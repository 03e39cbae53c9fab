# Tiles: blocks of destination pixels and the source region that they read, for all convolution kernels. See tiles.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels


cdef enum:
    FAR = 2 * 1024 * 1024   # bytes of an array, which the caches of a core do not hold: what comes next is asked for
    LINE = 64               # bytes of a line of a cache
    BUNDLE_BYTES = 2048     # of a pixel: a run that memory is read well in


cdef struct TileAxis:
    # Destination dst_base + dst_step * j, 0 <= j < count, reads source src_base + src_step * j + shift[t] for each tap
    # t; a source position outside [0, src_size) reads as zero.
    int64_t count, dst_base, dst_step
    int64_t src_base, src_step, src_size
    int64_t taps
    const int64_t* shift    # (taps,) ascending
    const int64_t* weight   # (taps,) offset of each tap in the weight array, elements
    int64_t tile            # destinations a tile
    int64_t extent          # source positions that a full tile spans
    bint trims              # taps that see only padding are worth leaving out


cdef struct Reader:
    # What is read, and how: in place (`direct`), or copied a chunk of channels at a time, channels-last, zero-padded.
    int itemsize
    const fc_kernels* kernel
    const char* data
    int64_t stride[5]       # of the array: n, channel, d, h, w, elements
    int64_t n, groups, depth  # depth: channels of one group, or pairs of them
    int64_t channels        # of one group, where they are read as pairs of bfloat16; else 0
    int64_t chunk, chunks   # depth is read in chunks of at most `chunk` channels
    int64_t taps            # over the three axes
    TileAxis axis[3]
    int64_t n_tile          # images a tile
    int64_t bundle          # groups that are copied together, one group's tile after the other's
    bint direct
    int64_t step[5]         # strides of what the micro-kernel sees: n, channel (1), d, h, w


cdef struct Tile:
    int64_t first[4]        # n, d, h, w
    int64_t count[4]


cdef struct Taps:
    # The taps [first, last) of each axis, d, h and w.
    int64_t first[3]
    int64_t last[3]


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t span(const TileAxis* axis, int64_t outputs) noexcept nogil:
    """Source positions from the first to the last that ``outputs`` neighbouring destinations read."""
    if axis.taps == 0:
        return 1
    return (outputs - 1) * axis.src_step + axis.shift[axis.taps - 1] - axis.shift[0] + 1


cdef inline int64_t source_at(const TileAxis* axis, int64_t output) noexcept nogil:
    """The source position of a destination's first tap."""
    return axis.src_base + axis.src_step * output + (axis.shift[0] if axis.taps else 0)


cdef inline int64_t tile_pixels(const Reader* reader) noexcept nogil:
    return reader.n_tile * reader.axis[0].tile * reader.axis[1].tile * reader.axis[2].tile


cdef inline int64_t tile_bytes(const Reader* reader) noexcept nogil:
    """Bytes of one packed tile of a group; 0 where the array is read in place."""
    return 0 if reader.direct else reader.n_tile * reader.step[0] * reader.itemsize


cdef inline bint dense(const int64_t* stride, int64_t channels) noexcept nogil:
    """Whether rows of an array hold little but these channels, pixel by pixel."""
    return stride[1] == 1 and 0 < stride[4] <= 2 * channels


cdef inline bint begin_lines(const char* data, const int64_t* stride, int itemsize) noexcept nogil:
    """Whether the channels of each pixel of an array begin where a cache line does."""
    cdef int64_t odd = <size_t> data % LINE
    cdef int i
    for i in range(5):
        odd |= stride[i] * itemsize % LINE if i != 1 else 0
    return odd == 0


cdef inline void read_pixels(const char* first, const int64_t* stride, int64_t rows, int64_t columns, int64_t channels,
                             int itemsize) noexcept nogil:
    """Read a byte of each cache line of some dense rows: processors follow reads in the order of memory far ahead."""
    cdef int64_t bytes = ((columns - 1) * stride[4] + channels) * itemsize, row, at
    cdef volatile char _seen
    for row in range(rows if columns > 0 else 0):
        at = 0
        while at < bytes:
            _seen = first[row * stride[3] * itemsize + at]
            at += LINE


cdef inline void set_pairs(Reader* reader, bint pairs) noexcept nogil:
    """Read the ``depth`` channels of a group as they are, or as pairs of bfloat16 numbers."""
    reader.channels = reader.depth if pairs else 0
    if pairs:
        reader.depth = ceil_div(reader.depth, 2)


cdef int64_t even_part(int64_t size, int64_t limit) noexcept nogil
cdef void choose_chunk(Reader* reader, int64_t products) noexcept nogil
cdef void choose_tile(Reader* reader, int64_t pixels, int64_t bytes) noexcept nogil
cdef void choose_bundle(Reader* reader, int64_t pixels, int64_t bytes) noexcept nogil
cdef bint halve_tile(Reader* reader, int64_t pixels) noexcept nogil
cdef int64_t count_tiles(const Reader* reader) noexcept nogil
cdef void finish(Reader* reader) noexcept nogil
cdef void set_steps(Reader* reader, bint direct) noexcept nogil
cdef void list_taps(const Reader* reader, int64_t* offset) noexcept nogil
cdef int64_t list_box_taps(const Reader* reader, const Taps* taps, int64_t depth, bint fold, int64_t* tap,
                           int64_t* wtap) noexcept nogil
cdef bint folds(const Reader* reader, int64_t depth) noexcept nogil
cdef void locate(const Reader* reader, int64_t index, Tile* tile) noexcept nogil
cdef const char* fetch(const Reader* reader, const Tile* tile, int64_t group, int64_t chunk,
                       char* buffer) noexcept nogil
cdef int64_t next_run(const TileAxis* axis, int64_t output, int64_t end, int64_t* first,
                      int64_t* last) noexcept nogil
cdef int64_t list_pixels(const Reader* reader, const Tile* tile, const Tile* box, const int64_t* ys, int64_t* source,
                         int64_t* destination) noexcept nogil
cdef const char* gather_pixels(const Reader* reader, const char* data, const int64_t* stride, const int64_t* pixel,
                               int64_t pixels, int64_t channels, int64_t* packed, char* out) noexcept nogil
cdef int set_forward_axes(Reader* reader, geometry, const int64_t* x_size, const int64_t* w_size,
                          const int64_t* w_stride, int64_t* lists) except -1
