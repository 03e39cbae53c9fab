# Copies of whole arrays into parts of others: see copying.pyx.

cimport numpy as cnp

# dst[...] = src, float32 or float64 both, of one shape.
cdef void copy_into(cnp.ndarray dst, cnp.ndarray src)
