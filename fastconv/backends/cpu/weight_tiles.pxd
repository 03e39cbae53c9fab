# The loop nest of a weight gradient: see weight_tiles.pyx, and weight_blocks.pyx for what a task does.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_normalise
from fastconv.backends.cpu.tiles cimport Reader, ceil_div


cdef struct Outer:
    # dw[column, depth, tap] = sum over pixels of dy[pixel, column] * x[pixel + tap, depth], group by group.
    Reader x                                    # with the axes of the forward pass
    const char* dy
    int64_t ys[5]
    int64_t columns                             # channels of dy in one group
    char* dw
    int64_t dw_group, dw_column, dw_depth       # strides, elements; taps lie side by side
    const fc_normalise* norm                    # constants that x is normalised with before, if x is one row; or NULL
    bint pairs                                  # multiply bfloat16 numbers, two pixels at a time


cdef struct Plan:
    # Sums are kept as (line, tap, lane): lanes are the channels along vectors, of x where it is `wide`, else of dy;
    # lines are those of the other side, which is broadcast.
    Outer* problem
    bint wide
    int64_t lines, lanes                        # a group
    int64_t line_block, lane_block              # of a task
    int64_t line_blocks, lane_blocks
    int64_t dw_line, dw_lane                    # strides
    int64_t tiles, splits
    bint single                                 # one tap, no padding: tiles are runs of `tile` of the `pixels`
    int64_t pixels, tile
    bint in_place                               # the sums of the first split are dw
    char* partial                               # (splits, groups, lines, taps, lanes), less a split that is in place
    bint failed


cdef struct Block:
    # A task: its lines and lanes, the tiles [first, last), and where its sums are.
    int64_t split, group, line, lane, lines, lanes
    int64_t first, last
    char* sums
    int64_t ld, tap                             # strides of lines and taps there


cdef inline int64_t even_block(int64_t size, int64_t most, int64_t unit) noexcept nogil:
    """The size of equal blocks, at most ``most`` if that is a multiple of ``unit``, each a multiple of ``unit``."""
    cdef int64_t blocks = ceil_div(size, most)
    return ceil_div(ceil_div(size, blocks), unit) * unit


cdef int outer_products(Outer* problem) except -1 nogil
