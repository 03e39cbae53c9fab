# Packed weights that are kept between calls: see weight_cache.pyx.

cimport numpy as cnp


cdef class Panels:
    # A block of the buffer pool, given back with the object.
    cdef char* data
    cdef size_t nbytes

cdef Panels new_panels(size_t nbytes)
cdef object kept_panels(object frozen, cnp.ndarray w, object kind, object build)
cpdef object cached_panels(cnp.ndarray w, object kind, object build)
