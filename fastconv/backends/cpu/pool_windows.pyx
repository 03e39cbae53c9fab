"""The windows of a pooling (geometry.AxisWindows) as C data, and what they say about one row of outputs.

Regular, dilated and adaptive windows are the same lists. No loop over an array here: pool.pyx, pool_backward.pyx.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu._csrc cimport fc_pool_row


cdef int list_windows(Axes* axes, geometry) except -1:
    """Copy the windows of the three axes to C; free with ``free_windows``."""
    cdef Windows* axis
    cdef int64_t o
    cdef int i
    for i in range(3):
        axes.axis[i].start = NULL
    for i in range(3):
        axis = &axes.axis[i]
        windows = geometry.windows[i]
        axis.size, axis.count, axis.step = geometry.input[i], geometry.output[i], windows.step
        axis.start = <int64_t*> malloc(3 * axis.count * sizeof(int64_t))
        if axis.start == NULL:
            free_windows(axes)
            raise MemoryError("pooling: no memory for the list of windows")
        axis.length, axis.divisor = axis.start + axis.count, axis.start + 2 * axis.count
        for o in range(axis.count):
            axis.start[o], axis.length[o], axis.divisor[o] = windows.start[o], windows.count[o], windows.divisor[o]
    axes.divisor = geometry.divisor_override or 0
    return 0


cdef void free_windows(Axes* axes) noexcept:
    cdef int i
    for i in range(3):
        free(axes.axis[i].start)


cdef inline int64_t window_end(const Windows* axis, int64_t o) noexcept nogil:
    return axis.start[o] + (axis.length[o] - 1) * axis.step + 1


cdef void h_range(const Axes* axes, int64_t first, int64_t last, int64_t* low, int64_t* high) noexcept nogil:
    """The input rows that the output rows [first, last) see."""
    cdef const Windows* axis = &axes.axis[1]
    cdef int64_t o
    low[0], high[0] = axis.start[first], window_end(axis, first)
    for o in range(first + 1, last):
        low[0] = min(low[0], axis.start[o])
        high[0] = max(high[0], window_end(axis, o))


cdef void describe(const Axes* axes, int64_t od, int64_t oh, fc_pool_row* row) noexcept nogil:
    """What a row says whatever the array: window sizes, divisors, places in the plane."""
    cdef const Windows* d = &axes.axis[0]
    cdef const Windows* h = &axes.axis[1]
    cdef const Windows* w = &axes.axis[2]
    row.pixels = w.count
    row.w_start, row.w_count = w.start, w.length
    row.d_count, row.h_count = d.length[od], h.length[oh]
    row.divisor = axes.divisor if axes.divisor else d.divisor[od] * h.divisor[oh]
    row.w_divisor = w.divisor
    if axes.divisor:
        row.w_divisor = NULL
    row.plane_first = (d.start[od] * h.size + h.start[oh]) * w.size
    row.plane_step[0], row.plane_step[1], row.plane_step[2] = d.step * h.size * w.size, h.step * w.size, w.step
