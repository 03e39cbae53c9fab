"""The windows of a pooling (geometry.AxisWindows) as C data: which inputs an output sees, or which outputs an input.

Regular, dilated and adaptive windows are the same lists. Either way the positions that one target sees lie at equal
distances, so that a list names the first and how many. No loop over an array here: pool_boxes.pyx.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc


cdef int64_t* reserve(Axes* axes, Windows* axis, int64_t targets, int64_t sources) except NULL:
    """Memory for the lists of an axis, which starts at ``list.first``."""
    cdef int64_t* memory = <int64_t*> malloc((3 * targets + 2 * sources) * sizeof(int64_t))
    if memory == NULL:
        free_windows(axes)
        raise MemoryError("pooling: no memory for the list of windows")
    axis.targets, axis.sources = targets, sources
    axis.list.first, axis.list.count = memory, memory + targets
    axis.list.start = axis.list.divisor = NULL
    axis.list.weight = NULL
    return memory


cdef void clear(Axes* axes) noexcept:
    cdef int i
    for i in range(3):
        axes.axis[i].list.first = NULL
    axes.divisor = 1


cdef void finish(Axes* axes) noexcept:
    """Number the places of a window, the last axis fastest."""
    axes.axis[2].list.place = 1
    axes.axis[1].list.place = axes.axis[2].extent
    axes.axis[0].list.place = axes.axis[1].extent * axes.axis[2].extent


cdef int64_t extent_of(windows) except -1:
    return (max(windows.count) - 1) * windows.step + 1


cdef int list_outputs(Axes* axes, geometry) except -1:
    """Targets are outputs, sources inputs; free with ``free_windows``."""
    cdef Windows* axis
    cdef int64_t* memory
    cdef int64_t o, count
    cdef tuple start, length, divisor
    cdef int i
    clear(axes)
    for i in range(3):
        axis = &axes.axis[i]
        windows = geometry.windows[i]
        start, length, divisor = windows.start, windows.count, windows.divisor
        count = len(start)
        memory = reserve(axes, axis, count, 0)
        for o in range(count):
            memory[o], memory[count + o], memory[2 * count + o] = start[o], length[o], divisor[o]
        axis.sources, axis.list.step, axis.extent = geometry.input[i], windows.step, extent_of(windows)
        if geometry.divisor_override is None:
            axis.list.divisor = memory + 2 * count
    axes.divisor = geometry.divisor_override or 1
    finish(axes)
    return 0


cdef int list_inputs(Axes* axes, geometry) except -1:
    """Targets are inputs, sources the outputs whose windows see them; free with ``free_windows``."""
    cdef Windows* axis
    cdef int64_t* memory
    cdef double* weight
    cdef int64_t o, p, j, targets, sources, step
    cdef tuple start, length, divisor
    cdef bint alike = geometry.divisor_override is not None
    cdef int i
    clear(axes)
    if not alike:
        alike = all([len(set(windows.divisor)) == 1 for windows in geometry.windows])
        for windows in geometry.windows if alike else ():
            axes.divisor *= windows.divisor[0]
    else:
        axes.divisor = geometry.divisor_override
    for i in range(3):
        axis = &axes.axis[i]
        windows = geometry.windows[i]
        start, length, divisor = windows.start, windows.count, windows.divisor
        targets, sources, step = geometry.input[i], len(start), windows.step
        memory = reserve(axes, axis, targets, sources)
        for p in range(2 * targets):
            memory[p] = 0
        axis.list.step, axis.extent = 1, extent_of(windows)
        axis.list.start = memory + 2 * targets
        weight = <double*> (memory + 2 * targets + sources)
        if not alike:
            axis.list.weight = weight
        for o in range(sources):
            memory[2 * targets + o] = start[o]
            weight[o] = 1.0 / <int64_t> divisor[o]
            for j in range(<int64_t> length[o]):
                p = <int64_t> start[o] + step * j
                if memory[targets + p] == 0:
                    memory[p] = o
                elif memory[targets + p] == 1:
                    axis.list.step = o - memory[p]
                memory[targets + p] += 1
    finish(axes)
    return 0


cdef void free_windows(Axes* axes) noexcept:
    cdef int i
    for i in range(3):
        free(<void*> axes.axis[i].list.first)


cdef void source_range(const Windows* axis, int64_t first, int64_t last, int64_t* low, int64_t* high) noexcept nogil:
    """The sources [low, high) that the targets [first, last) see."""
    cdef int64_t t
    low[0], high[0] = axis.sources, 0
    for t in range(first, last):
        if axis.list.count[t]:
            low[0] = min(low[0], axis.list.first[t])
            high[0] = max(high[0], axis.list.first[t] + (axis.list.count[t] - 1) * axis.list.step + 1)
    high[0] = max(low[0], high[0])
