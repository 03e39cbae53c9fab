# The weight gradient by Winograd's minimal filtering, where it is large: see winograd_panels.pyx.

from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd_tiles cimport Grid, Pixels

cdef bint run_panels(const Outer* problem, const Grid* grid, const Pixels* source,
                     const Pixels* gradient) noexcept nogil
