"""Packing weights: one chunk of channels of a panel of nr columns, as numbers or as pairs of bfloat16.

The columns are described by a copy that is not yet made: how many there are, and how far apart they lie.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_pack_pairs, fc_pack_panel, fc_pair_rows
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div


cdef int64_t tap_step(const Reader* x) noexcept nogil:
    """The distance in the weight array from each tap to the next if it is 1 or -1 throughout, else 0."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t size = 1, step = 0, t
    cdef int i
    for i in range(2, -1, -1):
        if ax[i].taps > 1:
            if step == 0:
                step = ax[i].weight[1] - ax[i].weight[0]
            for t in range(1, ax[i].taps):
                if ax[i].weight[t] - ax[i].weight[t - 1] != step * size:
                    return 0
        size *= ax[i].taps
    return step if step == 1 or step == -1 else 0


cdef void pack_chunk(const Reader* x, fc_copy2d* copy, const char* w, int64_t w_depth, int64_t depth,
                     char* out) noexcept nogil:
    """Pack one chunk of a panel, (taps, depth, nr): copies along whichever of taps and depth lies closer in memory."""
    cdef const TileAxis* ax = &x.axis[0]
    cdef int64_t row = copy.padded * x.itemsize, step = tap_step(x), d, h, tap, k, at
    cdef fc_pack_panel dense
    if x.taps == 0:
        return
    if step != 0 and (w_depth == x.taps or depth == 1):  # (depth, taps) side by side
        at = ax[0].weight[0] + ax[1].weight[0] + ax[2].weight[0]
        dense.src = w + (at if step > 0 else at - x.taps + 1) * x.itemsize
        dense.dst, dense.taps, dense.depth, dense.reversed = out, x.taps, depth, step < 0
        dense.columns, dense.column = copy.columns, copy.sj
        x.kernel.pack_panel(&dense)
        return
    if step != 0 and w_depth != 1:  # a copy for each channel, its rows are the taps; backwards, they fill from the end
        at = ax[0].weight[0] + ax[1].weight[0] + ax[2].weight[0]
        copy.rows, copy.si, copy.ld = x.taps, 1, step * depth * copy.padded
        for k in range(depth):
            copy.src = w + (k * w_depth + (at if step > 0 else at - x.taps + 1)) * x.itemsize
            copy.dst = out + (k + (0 if step > 0 else (x.taps - 1) * depth)) * row
            x.kernel.copy2d(copy)
        return
    copy.rows, copy.si, copy.ld = depth, w_depth, copy.padded
    for d in range(ax[0].taps):
        for h in range(ax[1].taps):
            for tap in range(ax[2].taps):
                copy.src = w + (ax[0].weight[d] + ax[1].weight[h] + ax[2].weight[tap]) * x.itemsize
                copy.dst = out
                x.kernel.copy2d(copy)
                out += depth * row


cdef void pack_pairs(const Reader* x, fc_copy2d* copy, const char* w, int64_t w_depth, int64_t channels, char* floats,
                     char* out) noexcept nogil:
    """Pack the same as pairs of ``channels``: at once if the weights of one tap lie side by side, or via ``floats``."""
    cdef int64_t nr = copy.padded, tap
    cdef fc_pair_rows pairs
    cdef fc_pack_pairs dense
    if x.taps == 1 and (w_depth == 1 or (copy.sj == 1 and copy.columns == nr)):
        w += (x.axis[0].weight[0] + x.axis[1].weight[0] + x.axis[2].weight[0]) * x.itemsize
        if w_depth == 1:
            dense.src, dense.dst, dense.depth = w, out, channels
            dense.columns, dense.column = copy.columns, copy.sj
            x.kernel.pack_pairs(&dense)
            return
        floats, pairs.step = <char*> w, w_depth
    else:
        pack_chunk(x, copy, w, w_depth, channels, floats)
        pairs.step = nr
    pairs.rows = channels
    pairs.row = NULL
    pairs.columns = pairs.ld = nr
    for tap in range(x.taps):
        pairs.src = floats + tap * channels * nr * x.itemsize
        pairs.dst = out + tap * ceil_div(channels, 2) * nr * x.itemsize
        x.kernel.pair_rows(&pairs)
