# Pool windows as the pixels of a tile: see unit_windows.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader


cdef enum:
    MOST_PLACES = 254       # the last byte says that there is no gradient, and one is spare


cdef struct Windows:
    # A convolution of stride, padding, dilation and kernel, whose outputs are pooled in boxes of `pool`.
    int64_t kernel[3]
    int64_t stride[3]
    int64_t padding[3]
    int64_t dilation[3]
    int64_t pool[3]
    int64_t pooled[3]
    int64_t places          # conv outputs a window
    int64_t shift[6]        # the reader's first and last tap of each axis


cdef int describe(Windows* windows, geometry, pool_geometry) except -1
cdef void set_window_axes(Windows* windows, Reader* reader, const int64_t* size) noexcept nogil
cdef void list_places(const Windows* windows, const int64_t* step, int64_t* place) noexcept nogil
cdef int64_t list_rows(const Windows* windows, const int64_t* step, int64_t depth, int64_t* row,
                       int64_t* width) noexcept nogil
