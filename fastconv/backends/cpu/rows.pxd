# Sums over N and L of (N, C, L), and walks over it a constant a channel: see rows.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_normalise, fc_reduce
from fastconv.backends.cpu.arrays cimport View

ctypedef void (*reduce_kernel)(const fc_reduce*) noexcept nogil
ctypedef void (*normalise_kernel)(const fc_normalise*) noexcept nogil

cdef enum:
    LANES = 64          # columns where positions lie side by side; a multiple of every vector's width
    COLUMNS = 512       # channels a task where they lie side by side
    LEAST_ROWS = 256    # pixels that a partial result adds up: at least,
    PART = 16384        # elements: at least
    MOST_PARTS = 32     # partial results: at most


cdef struct Cut:
    int64_t rows                    # a part: of pixels where channels are columns, else of samples
    int64_t parts, c_block, blocks  # channels a task, and how many such blocks


# Whether the kernels' columns are channels (else positions), and whether and how all samples' pixels make one matrix.
cdef bint channels_are_columns(const View* x) noexcept nogil
cdef bint rows_join(const View* x) noexcept nogil
cdef void join_rows(View* x) noexcept nogil
cdef Cut cut_rows(const View* x, bint columns) noexcept nogil


cdef inline char* element(const View* v, int64_t n, int64_t c, int64_t spot) noexcept nogil:
    return v.data + (n * v.stride[0] + c * v.stride[1] + spot * v.stride[2]) * v.itemsize


# first (C,) and second (C,) or NULL <- kernel's sums over N and L of x and dy (or NULL), (N, C, L) in kernel layout.
# `constants`: its mean, scale and shift are (C,), contiguous, or NULL. `apart`: each sample has constants and sums of
# its own, all (N, C); its channels are columns.
cdef int reduce_channels(reduce_kernel kernel, const fc_reduce* constants, const View* x, const View* dy, char* first,
                         char* second, bint apart=*) except -1

# call.y <- kernel; the columns' constants in `call` are (C,), contiguous, or NULL. `apart`: as above; L is not 1.
# `residual` (or NULL) is added to a gradient.
cdef int normalise_channels(normalise_kernel kernel, const fc_normalise* call, const View* y, const View* x,
                            const View* dy, bint apart=*, const View* residual=*) except -1

# `array`, or a copy, with its channels or its positions side by side, as `like` has them where that is given.
cdef cnp.ndarray in_kernel_layout(cnp.ndarray array, cnp.ndarray like=*)

# Whether it is so already.
cdef bint lies_as(cnp.ndarray array, cnp.ndarray like)
