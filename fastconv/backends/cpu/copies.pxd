# Copies between arrays of any strides: see copies.pyx.

cimport numpy as cnp

# dst <- src, of one shape and dtype (float32 or float64).
cpdef int copy_into(cnp.ndarray dst, cnp.ndarray src) except -1

# An array of undefined content whose axes lie in memory as leader's do, if that is dense (else in C order).
cpdef object empty_like_order(cnp.ndarray leader, tuple shape)
