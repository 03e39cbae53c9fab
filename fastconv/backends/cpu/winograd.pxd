# Winograd's forward pass and input gradient: see winograd.pyx.

from fastconv.backends.cpu.conv_tiles cimport Correlation

cdef int winograd_correlate(Correlation* problem, int form, bint adjoint) except -1 nogil
