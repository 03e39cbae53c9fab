# Weight gradient of few channels a group by Winograd's minimal filtering: see grouped_squares_weight.pyx.

from fastconv.backends.cpu.weight_tiles cimport Outer


cdef int squares_products(Outer* problem) except -1 nogil
