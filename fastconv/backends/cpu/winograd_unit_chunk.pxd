# A chunk of images of a unit's gradients by Winograd's minimal filtering: see winograd_unit_chunk.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.arrays cimport View
from fastconv.backends.cpu.winograd_tiles cimport Chunk, Grid, Pixels, apart


cdef struct Backward:
    Grid grid
    Pixels source
    View dy, index, w, dx
    bint copies             # dy's channels do not lie side by side
    bint input, weight      # which gradients are wanted
    int64_t channels, columns
    int64_t padding[2]
    int64_t panels, u_plane         # panels of nr input channels, and elements of a panel's plane: (columns, nr)
    int64_t sum_plane               # of a plane of the transformed weight gradient: (channels, columns)
    int64_t images, parts           # of a chunk; of the batch,
    int64_t together                # and of a task: a power of 2
    char* u                         # (panels, planes; u_plane)
    char* sums                      # (parts, planes; sum_plane)
    char* db                        # (parts, columns)
    bint failed


cdef struct Stage:
    # A chunk, its transforms, and where their products go.
    Backward* s
    Chunk chunk
    int64_t part
    bint first                      # of its part
    char* v                         # planes of the source, then of its gradient
    char* m                         # planes of the gradient
    char* totals                    # (rows of tiles, columns): sums of the gradient
    int64_t* lists                  # tiles in a plane of v, in one of m, a panel's columns there, the channels


cdef inline int64_t sum_bytes(const Backward* s) noexcept nogil:
    """Bytes of the transformed weight gradient of a part."""
    return s.grid.planes * s.sum_plane * s.grid.itemsize


cdef inline int64_t rows_of(const Stage* stage) noexcept nogil:
    return stage.chunk.count[0] * stage.s.grid.count[2]


cdef inline int64_t rows_to_transform(const Stage* stage) noexcept nogil:
    """Rows of tiles of the gradient, and of the source if that is wanted."""
    return (2 if stage.s.weight else 1) * rows_of(stage)


cdef inline int64_t chunk_elements(const Backward* s, int64_t images) noexcept nogil:
    """Elements of the planes of a chunk."""
    cdef int64_t tiles = images * s.grid.count[2] * s.grid.count[3]
    return s.grid.planes * (apart(tiles * s.channels) + apart(tiles * s.columns))


cdef int64_t weight_tasks(const Backward* s) noexcept nogil
cdef void transform_weights(void* context, int64_t index) noexcept nogil
cdef int64_t packing_bytes(const Backward* s) noexcept nogil
cdef int64_t stage_bytes(const Backward* s) noexcept nogil
cdef void set_stage(Stage* stage, Backward* s, int64_t part, int64_t first, int64_t last, char* memory) noexcept nogil
cdef void transform(Stage* stage, int64_t index, char* buffer) noexcept nogil
cdef void multiply(Stage* stage, int64_t plane) noexcept nogil
cdef void add_to_task(const Stage* stage, int64_t plane) noexcept nogil
cdef void scatter(Stage* stage, int64_t image) noexcept nogil
cdef void add_up(const Backward* s, char* sums, int64_t number, int64_t step, int64_t count) noexcept nogil
cdef void add_totals(Stage* stage) noexcept nogil
