# Sums over each row of a matrix: see lines.pyx.

cimport numpy as cnp


cdef tuple line_moments(cnp.ndarray lines)
cdef int line_gradients(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray mean, cnp.ndarray total,
                        cnp.ndarray moment) except -1
