# Winograd's minimal filtering along rows alone: see winograd_lines.pyx.

from libc.stdint cimport uint8_t

from fastconv.backends.cpu.conv_tiles cimport Correlation


cdef int lines_correlate(Correlation* problem, uint8_t* index, bint relu) except -1 nogil
