"""Weights in Winograd's planes, a panel of nr output channels at a time: all of it, or part after part.

A panel of many channels and depth taps takes megabytes. Where a task needs one only once it transforms and multiplies
parts of one depth tap and PACKED_DEPTH channels, which stay in a second-level cache.

Weights are packed a few channels at a time, all their taps side by side: (depth / PACKED, taps, PACKED, nr). Of more
channels the taps would lie a multiple of 4 KB apart, and push one another out of the first-level cache.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_winograd
from fastconv.backends.cpu.conv_tiles cimport Correlation
from fastconv.backends.cpu.panels cimport pack_chunk
from fastconv.backends.cpu.runtime cimport parallel_for, workspace
from fastconv.backends.cpu.tiles cimport Reader, ceil_div
from fastconv.backends.cpu.winograd_tiles cimport apart


cdef enum:
    PACKED = 16


cdef Part whole_block(const Plan* plan, char* u, int64_t panel) noexcept nogil:
    """All of a block of transformed weights ``u``, from a panel on, index group * panels + panel."""
    cdef Part part
    part.u, part.u_plane, part.panel = u + panel * panel_bytes(plan), plan.u_plane, plan.grid.weights * plan.u_plane
    part.tap, part.taps, part.begin, part.depth = 0, plan.x.axis[0].taps, 0, plan.x.depth
    return part


cdef int64_t panel_bytes(const Plan* plan) noexcept nogil:
    """Bytes of a panel of transformed weights."""
    return plan.grid.weights * plan.u_plane * plan.x.itemsize


cdef int64_t weight_bytes(const Plan* plan) noexcept nogil:
    """Bytes of all transformed weights."""
    return plan.x.groups * plan.panels * panel_bytes(plan)


cdef int64_t packing_bytes(const Plan* plan) noexcept nogil:
    """Bytes of the weights that are transformed at a time."""
    return plan.x.taps * min(<int64_t> PACKED_DEPTH, plan.x.depth) * plan.x.kernel.nr * plan.x.itemsize


cdef inline int64_t part_plane(const Plan* plan) noexcept nogil:
    return apart(min(<int64_t> PACKED_DEPTH, plan.x.depth) * plan.x.kernel.nr)


cdef int64_t part_bytes(const Plan* plan) noexcept nogil:
    """Bytes of a part of a panel."""
    return plan.grid.weights * part_plane(plan) * plan.x.itemsize


cdef inline int64_t packed_size(const Plan* plan, int64_t depth) noexcept nogil:
    """Bytes of so many channels, packed."""
    return plan.x.taps * depth * plan.x.kernel.nr * plan.x.itemsize


cdef void pack_weights(const Plan* plan, int64_t panel, int64_t begin, int64_t depth, char* packed) noexcept nogil:
    """Pack some channels of a panel, index group * panels + panel."""
    cdef const Correlation* problem = plan.problem
    cdef const Reader* x = &plan.x
    cdef int64_t group = panel // plan.panels, nr = x.kernel.nr, first = panel % plan.panels * nr, done = 0, count
    cdef const char* w = problem.w
    cdef fc_copy2d copy
    w += (group * problem.w_group + first * problem.w_column + begin * problem.w_depth) * x.itemsize
    copy.columns = min(nr, problem.columns - first)
    copy.padded = nr
    copy.dj, copy.sj = 1, problem.w_column
    while done < depth:
        count = min(<int64_t> PACKED, depth - done)
        pack_chunk(x, &copy, w + done * problem.w_depth * x.itemsize, problem.w_depth, count,
                   packed + packed_size(plan, done))
        done += count


cdef void transform_tap(const Plan* plan, int64_t tap, int64_t depth, const char* packed, char* u,
                        int64_t u_plane) noexcept nogil:
    """Transform what was packed of a depth tap to ``u`` (weights; u_plane)."""
    cdef fc_winograd call
    cdef int64_t done = 0
    call.form, call.plane = plan.grid.form, u_plane
    call.first_row = call.first_column = 0
    call.last_row = call.last_column = plan.grid.kernel
    while done < depth:
        call.count = call.column = min(<int64_t> PACKED, depth - done) * plan.x.kernel.nr
        call.row = plan.grid.kernel * call.column
        call.pixels = <char*> packed + packed_size(plan, done) + tap * plan.grid.kernel * call.row * plan.x.itemsize
        call.planes = u + done * plan.x.kernel.nr * plan.x.itemsize
        plan.x.kernel.winograd_filter(&call)
        done += PACKED


cdef Part transform_part(const Plan* plan, int64_t tap, int64_t begin, int64_t depth, const char* packed,
                         char* u, int64_t panel) noexcept nogil:
    """Transform what was packed of a block's ``panel``, one depth tap, channels from ``begin`` on, to a part ``u``."""
    cdef Part part
    part.u, part.u_plane, part.panel = u, part_plane(plan), plan.grid.weights * part_plane(plan)
    part.tap, part.taps, part.begin, part.depth = tap, 1, begin, depth
    transform_tap(plan, tap, depth, packed, u + panel * part_bytes(plan), part.u_plane)
    return part


cdef void transform_panel(const Plan* plan, int64_t panel, int64_t begin, int64_t end, char* u,
                          char* packed) noexcept nogil:
    """Transform channels [begin, end) of all depth taps to where they belong in a whole panel ``u``."""
    cdef int64_t depth, t
    while begin < end:
        depth = min(<int64_t> PACKED, end - begin)
        pack_weights(plan, panel, begin, depth, packed)
        for t in range(plan.x.axis[0].taps):
            transform_tap(plan, t, depth, packed, u + (t * plan.x.depth + begin) * plan.x.kernel.nr * plan.x.itemsize,
                          plan.u_plane)
        begin += depth


cdef void prepare_weights(void* context, int64_t index) noexcept nogil:
    """Transform a panel's weights for some channels: index = (group * panels + panel) * parts + part."""
    cdef Plan* plan = <Plan*> context
    cdef int64_t parts = ceil_div(plan.x.depth, PACKED_DEPTH), begin = index % parts * PACKED_DEPTH
    cdef int64_t panel = index // parts
    cdef char* packed = <char*> workspace(packed_size(plan, PACKED))
    if packed == NULL:
        plan.failed = True
        return
    transform_panel(plan, panel, begin, min(begin + PACKED_DEPTH, plan.x.depth),
                    plan.u + panel * panel_bytes(plan), packed)


cdef void prepare_all(Plan* plan) noexcept nogil:
    """Transform all weights of a plan to its ``u``."""
    parallel_for(plan.x.groups * plan.panels * ceil_div(plan.x.depth, PACKED_DEPTH), prepare_weights, plan)
