# The weight gradient by Winograd's minimal filtering: see winograd_weight.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd_tiles cimport Grid


cdef struct Planes:
    # A transformed weight gradient, in parts that are still to be added; of the problem, what says how dw lies.
    const Outer* problem
    const Grid* grid
    int64_t u_plane         # elements of a plane: (depth taps, depth, columns)
    int64_t parts, part_size    # part_size: elements
    char* u                 # (parts, groups, weights; u_plane)
    bint failed


cdef int winograd_products(Outer* problem, int form) except -1 nogil
cdef void transform_back(Planes* planes) noexcept nogil
