"""Batch norm and its ReLU inside the loop nest of a 1x1 convolution, where pixels are one row of all images.

Forward, some pixels are normalised into the nearest caches and multiplied there, and the next ones asked for meanwhile:
the normalised array is nowhere else. Backward, the input gradients of as many pixels stay in the caches, and go from
there to memory through the gradient of ReLU and batch norm, mean and variance held fixed. What these owe x needs sums
over all pixels first; they are taken on the way.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv.backends.cpu._csrc cimport fc_conv_tile, fc_normalise, fc_normalise_adjoint
from fastconv.backends.cpu.tiles cimport Reader, ceil_div, tile_pixels

cdef enum:
    NEAR_PIXELS = 24            # that are normalised at once, whole register tiles, if weights stay in the caches,
    NEAR_BYTES = 1024 * 1024    # else pixels of so many bytes


cdef inline int64_t whole_lines(int64_t bytes) noexcept nogil:
    return ceil_div(bytes, 64) * 64


cdef inline int64_t sums_width(const Plan* plan, int64_t blocks) noexcept nogil:
    """Columns of ``blocks`` panels, up to whole register tiles."""
    cdef const Reader* x = &plan.problem.x
    return 0 if plan.problem.ending == NULL else ceil_div(blocks * x.kernel.nr, x.kernel.wide) * x.kernel.wide


cdef int64_t near_pixels(const Plan* plan) noexcept nogil:
    """Pixels that are normalised at once: as many as a tile has where weights come from afar for each such part."""
    cdef const Reader* x = &plan.problem.x
    cdef int64_t pixels
    if plan.problem.norm == NULL and plan.problem.ending == NULL:
        return 0
    if plan.part > 0:
        return NEAR_PIXELS
    pixels = NEAR_BYTES // (max(x.chunk, sums_width(plan, ceil_div(plan.blocks, plan.splits))) * x.itemsize)
    return min(tile_pixels(x), max(pixels - pixels % NEAR_PIXELS, <int64_t> NEAR_PIXELS))


cdef inline int64_t source_bytes(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    return 0 if plan.problem.norm == NULL else whole_lines(plan.near * x.chunk * x.itemsize)


cdef int64_t near_bytes(const Plan* plan, int64_t blocks) noexcept nogil:
    """The size of a task's ``Near``, if it takes ``blocks`` panels."""
    cdef int64_t lists = whole_lines(2 * plan.near * sizeof(int64_t))
    return lists + source_bytes(plan) + whole_lines(plan.near * sums_width(plan, blocks) * plan.problem.x.itemsize)


cdef void lay_near(const Plan* plan, int64_t blocks, Near* near, char* memory) noexcept nogil:
    """Say what lies where in ``near_bytes`` of memory."""
    cdef int64_t p
    near.width = sums_width(plan, blocks)
    near.pixel = <int64_t*> memory
    near.spixel = near.pixel + plan.near
    near.source = memory + whole_lines(2 * plan.near * sizeof(int64_t))
    near.sums = near.source + source_bytes(plan)
    for p in range(plan.near):
        near.spixel[p] = p * near.width


cdef void normalise_part(const Plan* plan, const Task* task, fc_conv_tile* call, int64_t first,
                         int64_t pixels) noexcept nogil:
    """Normalise the pixels of ``call``, from number ``first`` of the tile's ``pixels`` on, and read them there; those
    that come next are brought near."""
    cdef const Reader* x = &plan.problem.x
    cdef int64_t size = x.itemsize, channel = task.chunk * x.chunk, p
    cdef const char* source = x.data + (task.tile.first[3] * x.stride[4] + channel) * size
    cdef fc_normalise norm = plan.problem.norm[0]
    norm.mean = <const char*> norm.mean + channel * size
    norm.scale = <const char*> norm.scale + channel * size
    norm.shift = <const char*> norm.shift + channel * size
    norm.x, norm.ldx = source + first * x.stride[4] * size, x.stride[4]
    norm.y, norm.ldy = task.near.source, task.depth
    norm.rows, norm.columns = call.pixels, task.depth
    x.kernel.normalise_rows(&norm)
    for p in range(call.pixels):
        task.near.pixel[p] = p * task.depth
    call.x, call.pixel = task.near.source, task.near.pixel
    call.source, call.spixel = source, task.lists[0] + first + call.pixels
    call.listed = pixels - first - call.pixels


cdef void aim_at_sums(const Plan* plan, const Task* task, fc_conv_tile* call, int64_t block) noexcept nogil:
    """Keep the sums of a panel of columns; what they end with is brought near alone."""
    cdef const Reader* x = &plan.problem.x
    call.y = task.near.sums + (block - task.block) * x.kernel.nr * x.itemsize
    call.ypixel = task.near.spixel
    call.warm = call.later = True


cdef void end_part(const Plan* plan, const Task* task, int64_t pixels, int64_t first) noexcept nogil:
    """From the sums of some pixels, from number ``first`` of the tile on, to y."""
    cdef const Correlation* problem = plan.problem
    cdef int64_t size = problem.x.itemsize, column = task.block * problem.x.kernel.nr
    cdef int64_t pixel = task.tile.first[3] + first, tile = task.tile.first[3] // problem.x.axis[2].tile
    cdef fc_normalise_adjoint end
    if task.block >= task.last_block:  # there are fewer panels than parts
        return
    end.mean = problem.ending.mean + column * size
    end.scale = problem.ending.scale + column * size
    end.shift = problem.ending.shift + column * size
    end.rows, end.columns = pixels, min(problem.columns, task.last_block * problem.x.kernel.nr) - column
    end.dy, end.lddy = task.near.sums, task.near.width
    end.y, end.ldy = problem.y + (pixel * problem.ys[4] + column) * size, problem.ys[4]
    end.x, end.ldx = problem.gate + (pixel * problem.gs[4] + column) * size, problem.gs[4]
    end.residual, end.ldr = NULL, 0
    if problem.residual != NULL:
        end.residual, end.ldr = problem.residual + (pixel * problem.rs[4] + column) * size, problem.rs[4]
    end.first = plan.sums + (tile * 2 * problem.columns + column) * size
    end.second = <char*> end.first + problem.columns * size
    if first == 0:
        memset(end.first, 0, end.columns * size)
        memset(end.second, 0, end.columns * size)
    problem.x.kernel.normalise_adjoint_rows(&end)


cdef int64_t sums_bytes(const Correlation* problem, int64_t tiles) noexcept nogil:
    return 0 if problem.ending == NULL else whole_lines(tiles * 2 * problem.columns * problem.x.itemsize)


cdef void add_sums(Correlation* problem, int64_t tiles, const char* sums) noexcept nogil:
    """Add up the tiles' sums, in their order."""
    cdef int64_t columns = problem.columns, i, c
    cdef double* both[2]
    both[0], both[1] = problem.ending.first, problem.ending.second
    for c in range(columns):
        both[0][c] = both[1][c] = 0
    for i in range(2 * tiles):
        for c in range(columns):
            if problem.x.itemsize == 4:
                both[i % 2][c] += (<const float*> sums)[i * columns + c]
            else:
                both[i % 2][c] += (<const double*> sums)[i * columns + c]
