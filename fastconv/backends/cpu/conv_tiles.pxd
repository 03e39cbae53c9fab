# The loop nest that a convolution's forward pass and its input gradient share: see conv_tiles.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_normalise
from fastconv.backends.cpu.tiles cimport LINE, Reader, Tile, begin_lines


cdef enum:
    SHORT_SUM = 64                  # products that take less time than memory does for their result, which is
    PAST_BYTES = 32 * 1024 * 1024   # stored past the caches, if it is larger


cdef struct Ending:
    # The gradient of a normalisation and its ReLU, of whose x the gate is in this case. See conv_norm.pyx.
    const char* mean                    # (columns,), as what follows
    const char* scale
    const char* shift
    double* first                       # <- the sums of fc_normalise_adjoint over all pixels
    double* second


cdef struct Correlation:
    # y[n, column] = relu(residual[n, column] + bias[column] + sum), the sum over taps and depth of x[n, depth] *
    # w[depth, column], group by group; 0 where gate[n, column] is not above 0.
    Reader x                            # the source and the three axes
    char* y                             # channels side by side
    int64_t ys[5]
    int64_t columns                     # destination channels of one group
    const char* w
    int64_t w_group, w_depth, w_column  # strides, elements
    const char* bias                    # (groups * columns,) or NULL
    int64_t bias_stride
    const fc_normalise* norm            # constants that x is normalised with before, if it is a single row; or NULL
    Ending* ending                      # what the sums go through, if y is a single row; or NULL
    char* packed                        # weights that were packed (or transformed) before, or NULL
    const char* residual                # added to the finished sum, its channels side by side; or NULL
    int64_t rs[5]
    bint relu                           # then max(0, .)
    const char* gate                    # a ReLU's output, its channels side by side; or NULL
    int64_t gs[5]
    double* mean                        # (columns,) <- y's moments, of one group, if x is a single row; or NULL
    double* variance


cdef struct Plan:
    Correlation* problem
    int64_t blocks      # panels of nr columns a group
    int64_t splits      # parts into which a tile's panels are shared out
    char* packed        # (groups, blocks, chunks, taps, chunk, nr), not if fused
    char* bias          # (groups, blocks, nr)
    double* moments     # (tiles, 3, columns): start, offset, square; if they are wanted
    char* sums          # (tiles, 2, columns), those of an ending
    int64_t part        # pixels that all panels see before the next pixels do, or 0
    int64_t near        # of them where they are normalised, or 0
    bint few            # one tile of few pixels and one tap
    bint fused          # one tile, weights not kept: each task packs its panels, which need not leave the cache
    bint parts          # a tile's pixels are fixed: they are a part of moments or of an ending's sums
    bint past           # y is stored past the caches
    bint failed         # a thread found no memory for its workspace


cdef struct Near:
    # A task's memory for pixels that are normalised before they are multiplied, or behind that.
    char* source
    char* sums          # rows of `width`
    int64_t width
    int64_t* pixel      # where pixels lie in `source`, and
    int64_t* spixel     # in `sums`


cdef struct Task:
    # What the boxes of one task share.
    Tile tile
    int64_t group, block, last_block, chunk, depth
    bint fold
    char* panels        # memory for those that are multiplied at once, if fused
    int64_t* lists[6]   # pixels in the source and in y, taps in the source and in a panel, pixels in residual and gate
    Near near


cdef inline void plain_ending(Correlation* problem) noexcept nogil:
    problem.norm = NULL
    problem.ending = NULL
    problem.residual = problem.gate = NULL
    problem.relu = False
    problem.mean = NULL


cdef inline bint goes_past(const Correlation* problem) noexcept nogil:
    """Whether y is stored past the caches. No bit depends on it."""
    cdef const Reader* x = &problem.x
    cdef int64_t bytes = problem.columns * x.itemsize, pixels = x.n * x.axis[0].count * x.axis[1].count
    if x.taps * x.depth >= SHORT_SUM or x.chunks > 1 or problem.mean != NULL or problem.ending != NULL:
        return False
    if bytes % LINE or pixels * x.axis[2].count * x.groups * bytes <= PAST_BYTES or x.kernel.width == 1:
        return False
    return problem.residual != problem.y and begin_lines(problem.y, problem.ys, x.itemsize)


cdef object kept_weights(Correlation* problem, cnp.ndarray w, object kind, object frozen)
cdef int correlate(Correlation* problem) except -1 nogil
