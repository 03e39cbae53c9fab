# Mean and variance of each channel: see moments.pyx.

cimport numpy as cnp

# x (N, C, L) in kernel layout -> means and biased variances, float64, (1, C), or (N, C) of each sample ``apart``.
cdef tuple channel_moments(cnp.ndarray x, bint apart)
