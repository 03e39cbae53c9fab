# Maxima and minima along the middle axis: see extremes.pyx.

cimport numpy as cnp

# a (before, count, after), C-contiguous and not empty -> (before, 1, after)
cdef cnp.ndarray best_middle(cnp.ndarray a, bint largest)
