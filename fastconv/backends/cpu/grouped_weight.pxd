# Weight gradient of convolutions with few channels a group: see grouped_weight.pyx.

from fastconv.backends.cpu.weight_tiles cimport Outer


cdef int grouped_products(Outer* problem) except -1 nogil
