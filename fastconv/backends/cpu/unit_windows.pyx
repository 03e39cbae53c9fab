"""Pool windows as the pixels of a tile: a window reads what all of its conv outputs read.

So tiles.pyx cuts tiles of whole windows and fetches their source as it does for a convolution's pixels. Described here:
where the conv outputs of a window lie (its places), and where the taps of one of them lie.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu.tiles cimport Reader


cdef int describe(Windows* windows, geometry, pool_geometry) except -1:
    """Take over a convolution (None: each output is an input) and the max-pool over its outputs."""
    cdef tuple kernel, stride, padding, dilation, output = pool_geometry.output, axes = pool_geometry.windows
    cdef int i
    windows.places = 1
    if geometry is not None:
        kernel, stride, padding, dilation = geometry.kernel, geometry.stride, geometry.padding, geometry.dilation
    for i in range(3):
        windows.kernel[i], windows.stride[i], windows.padding[i], windows.dilation[i] = 1, 1, 0, 1
        if geometry is not None:
            windows.kernel[i], windows.stride[i] = kernel[i], stride[i]
            windows.padding[i], windows.dilation[i] = padding[i], dilation[i]
        windows.pool[i], windows.pooled[i] = axes[i].count[0], output[i]
        windows.places *= windows.pool[i]
    return 0


cdef void set_window_axes(Windows* windows, Reader* reader, const int64_t* size) noexcept nogil:
    """Set the axes of a reader of an array with these sizes; its pixels are the windows."""
    cdef int64_t reach
    cdef int i
    for i in range(3):
        reach = (windows.pool[i] - 1) * windows.stride[i] + (windows.kernel[i] - 1) * windows.dilation[i]
        windows.shift[2 * i], windows.shift[2 * i + 1] = 0, reach
        reader.axis[i].shift = reader.axis[i].weight = windows.shift + 2 * i
        reader.axis[i].taps = 2 if reach > 0 else 1
        reader.axis[i].count, reader.axis[i].dst_base, reader.axis[i].dst_step = windows.pooled[i], 0, 1
        reader.axis[i].src_base, reader.axis[i].src_step = -windows.padding[i], windows.stride[i] * windows.pool[i]
        reader.axis[i].src_size = size[i]


cdef void list_places(const Windows* windows, const int64_t* step, int64_t* place) noexcept nogil:
    """Where each place of a window lies relative to the first; ``step``: of one pixel along d, h and w."""
    cdef int64_t d, h, w, q = 0
    for d in range(windows.pool[0]):
        for h in range(windows.pool[1]):
            for w in range(windows.pool[2]):
                place[q] = d * windows.stride[0] * step[0] + h * windows.stride[1] * step[1]
                place[q] += w * windows.stride[2] * step[2]
                q += 1


cdef int64_t list_rows(const Windows* windows, const int64_t* step, int64_t depth, int64_t* row,
                       int64_t* width) noexcept nogil:
    """Where the runs of neighbouring taps and channels of a place begin; return how many, of ``width`` elements."""
    cdef bint fold = step[2] == depth and (windows.dilation[2] == 1 or windows.kernel[2] == 1)
    cdef int64_t d, h, w, r = 0
    width[0] = depth * (windows.kernel[2] if fold else 1)
    for d in range(windows.kernel[0]):
        for h in range(windows.kernel[1]):
            for w in range(1 if fold else windows.kernel[2]):
                row[r] = d * windows.dilation[0] * step[0] + h * windows.dilation[1] * step[1]
                row[r] += w * windows.dilation[2] * step[2]
                r += 1
    return r
