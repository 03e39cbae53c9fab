# Convolution by Winograd's minimal filtering: see winograd.pyx, winograd_plan.pyx for how it is cut, and
# winograd_output.pyx for where its products go.

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t

from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.tiles cimport Reader
from fastconv.backends.cpu.winograd_tiles cimport Chunk, Grid, Pixels


cdef enum:
    ADJOINT_OF_IMAGES = 1   # tiles all m apart, chunks of whole images
    ADJOINT_OF_PLANES = 2   # the forward pass's tiles, chunks of whole planes


cdef struct Plan:
    Correlation* problem
    Reader x                # the problem's, with kernel positions in ascending order for the adjoint
    Grid grid
    Pixels source
    int adjoint             # 0, or one of these ways
    int64_t first[2]        # where the first tile's output begins along rows and columns
    int64_t extent          # pixels of a whole tile's output along an axis,
    int64_t step            # and of a row of what is cut into tiles
    int64_t panels          # of nr columns of weights, a group
    int64_t at_once         # panels that are multiplied together, a block, of
    int64_t wide            # so many columns
    int64_t blocks          # a group
    bint far                # the caches do not hold the outputs, which are read before they are written
    bint own                # each chunk is one thread's; else all threads share one after the other,
    int64_t parts           # whose tiles are cut into so many
    bint prepared           # all weights are transformed first; else they were before, or tasks do as they go
    int64_t u_plane         # elements of a panel of one plane of weights: (depth taps, depth, nr)
    char* u                 # (groups, panels, weights; u_plane), or NULL: each task transforms what it needs
    char* bias              # (groups * columns,), side by side, or NULL
    uint8_t* index          # of a unit: places of the maxima, laid out as its pooled output; or NULL
    bint relu
    bint failed


cdef struct Part:
    # Of the panels of a block of transformed weights: some channels of consecutive depth taps.
    char* u                 # (weights; u_plane): (taps, depth, nr), the taps as far apart as in a whole panel
    int64_t u_plane, panel  # elements from plane to plane, from panel to panel
    int64_t tap, taps
    int64_t begin, depth


cdef struct Stage:
    # A chunk, its transformed source, and what the micro-kernel needs to know of both.
    Plan* plan
    Chunk chunk
    int64_t v_plane
    char* v
    int64_t* lists          # of each kind, tiles in a source plane and in a product plane; depth taps, their weights


cdef object kept_transform(Correlation* problem, cnp.ndarray w, int form, object frozen)
cdef int winograd_correlate(Correlation* problem, int form, int adjoint, uint8_t* index, bint relu) except -1 nogil
