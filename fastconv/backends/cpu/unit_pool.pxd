# The passes over a convolution's output: see unit_pool.pyx.

cimport numpy as cnp


cpdef cnp.ndarray channels_last(cnp.ndarray array)
