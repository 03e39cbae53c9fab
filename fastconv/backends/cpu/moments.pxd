# Mean and variance of each channel: see moments.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

cdef enum:
    MOMENT_ROWS = 64        # pixels that a kernel takes at a time: their order within a part fixes the bits
    MOMENT_PART = 256       # pixels of a part

# Pixels of a part whose channels are columns: MOMENT_PART, more only where parts would take too much memory. So a
# channel has the same moments alone and beside others.
cdef int64_t moment_part(int64_t pixels, int64_t channels) noexcept nogil

# x (N, C, L) in kernel layout -> means and biased variances, float64, (1, C), or (N, C) of each sample ``apart``.
cdef tuple channel_moments(cnp.ndarray x, bint apart)

# mean, variance (C,) <- partial results (parts, 3, C): start, offset, square, as kernel moment_rows leaves them, of
# ``each`` values but for the last, together ``count``. They are overwritten.
cdef void fold_parts(int64_t parts, int64_t channels, double* partial, double count, double each, double* mean,
                     double* variance) noexcept nogil
