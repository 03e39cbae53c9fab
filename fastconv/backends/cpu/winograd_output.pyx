"""Where products of Winograd planes go: outputs, pooled outputs of a unit, or an adjoint's overlapping squares."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fastconv.backends.cpu._csrc cimport fc_winograd, fc_winograd_windows
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.tiles cimport TileAxis, read_pixels
from fastconv.backends.cpu.winograd cimport Plan, Stage
from fastconv.backends.cpu.winograd_tiles cimport Chunk, apart, tile_outputs, tile_start


cdef void read_outputs(const Stage* stage) noexcept nogil:
    """Read where the outputs of a chunk will be, in the order of memory; they are written a tile after the other."""
    cdef const Plan* plan = stage.plan
    cdef const Correlation* problem = plan.problem
    cdef const Chunk* chunk = &stage.chunk
    cdef int64_t first[2]
    cdef int64_t count[2]
    cdef int64_t last, n, d
    cdef int i
    for i in range(2):
        last = chunk.first[2 + i] + chunk.count[2 + i] - 1
        first[i] = max(<int64_t>0, plan.first[i] + plan.step * tile_start(&plan.grid, i, chunk.first[2 + i]))
        last = plan.first[i] + plan.step * (tile_start(&plan.grid, i, last) + tile_outputs(&plan.grid, i, last))
        count[i] = min(last, plan.x.axis[1 + i].count) - first[i]
    for n in range(chunk.first[0], chunk.first[0] + chunk.count[0]):
        for d in range(chunk.first[1], chunk.first[1] + chunk.count[1]):
            last = n * problem.ys[0] + (plan.x.axis[0].dst_base + plan.x.axis[0].dst_step * d) * problem.ys[2]
            read_pixels(problem.y + (last + first[0] * problem.ys[3] + first[1] * problem.ys[4]) * plan.x.itemsize,
                        problem.ys, count[0], count[1], problem.columns, plan.x.itemsize)


cdef void output_tiles(Stage* stage, int64_t block, int64_t first, int64_t last, char* m) noexcept nogil:
    """Transform the products of a block for tiles [first, last) back."""
    cdef Plan* plan = stage.plan
    cdef Correlation* problem = plan.problem
    cdef Chunk* chunk = &stage.chunk
    cdef TileAxis* depth = &plan.x.axis[0]
    cdef int64_t size = plan.x.itemsize, wide = plan.wide, tile, at, n, d, h, w, i, j
    cdef int64_t column = chunk.group * problem.columns + block * wide, rows, columns
    cdef fc_winograd call
    call.form, call.plane = plan.grid.form, apart((last - first) * wide)
    call.count = min(wide, problem.columns - block * wide)
    call.row, call.column = problem.ys[3], problem.ys[4]
    call.bias = plan.bias + column * size if plan.bias != NULL else NULL
    call.relu, call.residual = problem.relu, NULL
    call.residual_row, call.residual_column = problem.rs[3], problem.rs[4]
    for tile in range(first, last):
        at = tile // chunk.count[3]
        i, j = chunk.first[2] + at % chunk.count[2], chunk.first[3] + tile % chunk.count[3]
        h = plan.first[0] + plan.step * tile_start(&plan.grid, 0, i)
        w = plan.first[1] + plan.step * tile_start(&plan.grid, 1, j)
        rows = plan.extent - plan.step * (plan.grid.m - tile_outputs(&plan.grid, 0, i))
        columns = plan.extent - plan.step * (plan.grid.m - tile_outputs(&plan.grid, 1, j))
        at //= chunk.count[2]
        d, n = chunk.first[1] + at % chunk.count[1], chunk.first[0] + at // chunk.count[1]
        call.first_row, call.first_column = max(<int64_t>0, -h), max(<int64_t>0, -w)
        call.last_row = min(rows, plan.x.axis[1].count - h)
        call.last_column = min(columns, plan.x.axis[2].count - w)
        d = depth.dst_base + depth.dst_step * d
        at = n * problem.ys[0] + d * problem.ys[2] + h * problem.ys[3] + w * problem.ys[4]
        call.pixels = problem.y + (at + column) * size
        if problem.residual != NULL:
            at = n * problem.rs[0] + d * problem.rs[2] + h * problem.rs[3] + w * problem.rs[4]
            call.residual = problem.residual + (at + column) * size
        call.planes = m + (tile - first) * wide * size
        if plan.adjoint:
            plan.grid.kernels.winograd_scatter(&call)
        else:
            plan.grid.kernels.winograd_output(&call)


cdef void pool_tiles(Stage* stage, int64_t block, int64_t first, int64_t last, char* m) noexcept nogil:
    """The same of a unit: windows of 2 x 2 outputs go through activation and maximum on the way."""
    cdef Plan* plan = stage.plan
    cdef Correlation* problem = plan.problem
    cdef Chunk* chunk = &stage.chunk
    cdef int64_t size = plan.x.itemsize, wide = plan.wide, column = block * wide, tile, at, n, h, w
    cdef fc_winograd_windows call
    call.form, call.plane, call.relu = plan.grid.form, apart((last - first) * wide), plan.relu
    call.count = min(wide, problem.columns - column)
    call.row = call.index_row = problem.ys[3]
    call.column = call.index_column = problem.ys[4]
    call.bias = plan.bias + column * size if plan.bias != NULL else NULL
    for tile in range(first, last):
        at = tile // chunk.count[3]
        w = 2 * (chunk.first[3] + tile % chunk.count[3])
        h = 2 * (chunk.first[2] + at % chunk.count[2])
        n = chunk.first[0] + at // chunk.count[2]
        call.rows = max(<int64_t>0, min(<int64_t>2, plan.x.axis[1].count // 2 - h))
        call.columns = max(<int64_t>0, min(<int64_t>2, plan.x.axis[2].count // 2 - w))
        at = n * problem.ys[0] + h * problem.ys[3] + w * problem.ys[4] + column
        call.small, call.index = problem.y + at * size, plan.index + at
        call.planes = m + (tile - first) * wide * size
        plan.grid.kernels.winograd_pool(&call)


cdef void clear(Stage* stage, int64_t block, int64_t first, int64_t last) noexcept nogil:
    """Set a block of the planes of tiles [first, last) to the bias, or zero: an adjoint's tiles are added to them."""
    cdef Plan* plan = stage.plan
    cdef Correlation* problem = plan.problem
    cdef Chunk* chunk = &stage.chunk
    cdef int64_t size = plan.x.itemsize, bytes = min(plan.wide, problem.columns - block * plan.wide) * size
    cdef int64_t column = chunk.group * problem.columns + block * plan.wide, tiles = chunk.count[2] * chunk.count[3]
    cdef int64_t plane, n, d, h, _w
    cdef char* row
    for plane in range(first // tiles, last // tiles):
        n, d = chunk.first[0] + plane // chunk.count[1], chunk.first[1] + plane % chunk.count[1]
        for h in range(plan.x.axis[1].count):
            row = problem.y + (n * problem.ys[0] + column + h * problem.ys[3] +
                               (plan.x.axis[0].dst_base + plan.x.axis[0].dst_step * d) * problem.ys[2]) * size
            for _w in range(plan.x.axis[2].count):
                if plan.bias == NULL:
                    memset(row, 0, bytes)
                else:
                    memcpy(row, plan.bias + column * size, bytes)
                row += problem.ys[4] * size
