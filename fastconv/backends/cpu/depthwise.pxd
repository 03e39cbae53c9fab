# The loop nests of depthwise convolution, for problems with one channel in and out of each group: see depthwise.pyx.

from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.weight_tiles cimport Outer


cdef int depthwise_correlate(Correlation* problem) except -1 nogil
cdef int depthwise_products(Outer* problem) except -1 nogil
