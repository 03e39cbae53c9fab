# The loop nest that a convolution's forward pass and its input gradient share: see conv_tiles.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader


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
    char* packed                        # weights that were packed (or transformed) before, or NULL
    const char* residual                # added to the finished sum, its channels side by side; or NULL
    int64_t rs[5]
    bint relu                           # then max(0, .)
    const char* gate                    # a ReLU's output, its channels side by side; or NULL
    int64_t gs[5]
    double* mean                        # (columns,) <- y's moments, of one group, if x is a single row; or NULL
    double* variance


cdef inline void plain_ending(Correlation* problem) noexcept nogil:
    problem.residual = problem.gate = NULL
    problem.relu = False
    problem.mean = NULL


cdef object kept_weights(Correlation* problem, cnp.ndarray w, object kind, object frozen)
cdef int correlate(Correlation* problem) except -1 nogil
