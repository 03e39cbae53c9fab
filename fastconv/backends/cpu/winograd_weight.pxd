# Winograd's weight gradient: see winograd_weight.pyx.

from fastconv.backends.cpu.weight_tiles cimport Outer

cdef int winograd_products(Outer* problem, int form) except -1 nogil
