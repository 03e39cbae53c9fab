# Sums over N and L of (N, C, L), and walks over it a constant a channel: see rows.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_normalise, fc_reduce
from fastconv.backends.cpu.arrays cimport View

ctypedef void (*reduce_kernel)(const fc_reduce*) noexcept nogil
ctypedef void (*normalise_kernel)(const fc_normalise*) noexcept nogil

# first (C,) and second (C,) or NULL <- kernel's sums over N and L of x and dy (or NULL), (N, C, L) in kernel layout.
cdef int reduce_channels(reduce_kernel kernel, const View* x, const View* dy, const void* mean, const void* scale,
                         char* first, char* second) except -1

# call.y <- kernel; the columns' constants in `call` are (C,), contiguous, or NULL.
cdef int normalise_channels(normalise_kernel kernel, const fc_normalise* call, const View* y, const View* x,
                            const View* dy) except -1

# `array`, or a copy, with its channels or its positions side by side, as `like` has them where that is given.
cdef cnp.ndarray in_kernel_layout(cnp.ndarray array, cnp.ndarray like=*)
