"""Convolution, gradient of the input (and the transposed convolution forward): one dense problem per output phase.

With stride s, input position i receives from kernel position k only where i + padding - k * dilation is a multiple of
s. Positions with the same residue of i + padding modulo s (a phase) share one set of kernel positions and read
neighbouring output positions, so that each phase is a convolution of stride 1 and no zero is multiplied. The loops are
in conv_tiles.pyx, for a few channels in narrow.pyx, for few a group in grouped.pyx; depthwise_adjoint.pyx takes the
four phases of a plane at once. What follows the sum (a residual, a gate) is done while it is in registers, or, by
kernels that do not, in a pass of its own. Winograd's filtering takes the four phases of a plane at once as well.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu._csrc cimport FC_NARROW, FC_WINOGRAD_STRIDED, FC_WINOGRAD_TRANSPOSED
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, correlate, plain_ending
from fastconv.backends.cpu.depthwise_adjoint cimport adjoint_correlate, set_adjoint_axis
from fastconv.backends.cpu.elementwise cimport in_rows, run_map, table
from fastconv.backends.cpu.grouped cimport grouped_correlate
from fastconv.backends.cpu.grouped_squares cimport squares_correlate
from fastconv.backends.cpu.narrow cimport is_narrow, narrow_correlate
from fastconv.backends.cpu.tiles cimport TileAxis, set_pairs
from fastconv.backends.cpu.winograd cimport ADJOINT_OF_IMAGES, ADJOINT_OF_PLANES, winograd_correlate

from fastconv.backends.cpu.runtime import empty

cnp.import_array()

cdef int64_t MOST_DEPTH = 2048      # channels that are summed in one piece,
cdef int64_t FEWEST_PIXELS = 512    # unless pixels are few
cdef int64_t NEAR = 1024 * 1024     # bytes of both arrays' images that all phases see before the next ones


cdef void set_phase(TileAxis* axis, int64_t residue, int64_t size, int64_t kernel, int64_t stride, int64_t padding,
                    int64_t dilation, int64_t w_stride, int64_t* shift, int64_t* weight) noexcept nogil:
    """Describe one axis of one phase. ``residue`` is that of i + padding modulo stride."""
    cdef int64_t first = (residue - padding) % stride, k, taps = 0
    if first < 0:
        first += stride
    axis.dst_base, axis.dst_step = first, stride
    axis.count = (size - first + stride - 1) // stride if first < size else 0
    axis.src_base, axis.src_step = (first + padding) // stride, 1
    for k in range(kernel - 1, -1, -1):  # the last kernel position reads the first source position
        if k * dilation % stride == residue:
            shift[taps] = -(k * dilation - residue) // stride
            weight[taps] = k * w_stride
            taps += 1
    axis.taps, axis.shift, axis.weight = taps, shift, weight


cdef void set_both_phases(TileAxis* axis, int64_t size, int64_t padding, int64_t w_stride,
                          int64_t* lists) noexcept nogil:
    """Describe an axis with stride 2 and three taps for Winograd's filtering, whose tiles begin at odd positions of the
    padded input: at the first from ``dst_base`` on, which reads the output from ``src_base`` on."""
    cdef int64_t k
    axis.dst_base, axis.dst_step, axis.count = (padding & 1) - 1, 1, size
    axis.src_base, axis.src_step = ((padding + 1) >> 1) - 1, 1
    for k in range(3):
        lists[k], lists[3 + k] = 0, (2 - k) * w_stride
    axis.taps, axis.shift, axis.weight = 3, lists, lists + 3


cdef bint ends_at_once(cnp.ndarray w, cnp.ndarray residual, tuple strides):
    """Whether each result is stored once, after what is added to it was read, by one task."""
    cdef View wv = view(w), rv = view(residual)
    cdef int64_t pixels = rv.size[0], stride
    cdef int i
    for i in range(3):
        stride = strides[i]
        pixels *= rv.size[2 + i] // stride  # of a phase
        if wv.size[2 + i] != 1:
            return False
    return wv.size[1] == rv.size[1] and wv.size[0] <= MOST_DEPTH and pixels >= FEWEST_PIXELS


def conv_backward_input(cnp.ndarray dy, cnp.ndarray w, b, geometry, residual=None, gate=None, bint lanes=False,
                        int winograd=-1, bint adjoint=False, bint planes=False, bint pairs=False, bint spare=False):
    """dy (N, OC, OD, OH, OW), w (OC, IC/G, KD, KH, KW), b (IC,) or None -> dx (N, IC, ID, IH, IW), channels-last.

    See ``Backend.conv_backward_input``.
    """
    cdef cnp.ndarray dx
    cdef bint fuses = not lanes and not adjoint and cnp.PyArray_DIM(w, 1) > FC_NARROW, adds, gates
    adds = fuses and residual is not None and in_rows(residual)
    if spare and adds and winograd < 0 and ends_at_once(w, residual, geometry.stride):
        dx = residual
    else:
        dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    gates = fuses and gate is not None and winograd < 0 and in_rows(gate) and (adds or residual is None)
    solve(dx, dy, w, b, geometry, residual if adds else None, gate if gates else None, lanes, winograd,
          0 if not adjoint else ADJOINT_OF_PLANES if planes else ADJOINT_OF_IMAGES, pairs)
    if residual is not None and not adds:
        run_map(table(dx).add, (dx, residual), 0, 0.0, dx)
    if gate is not None and not gates:
        run_map(table(dx).relu_backward, (dx, gate), 0, 0.0, dx)
    return dx


cdef int solve(cnp.ndarray dx, cnp.ndarray dy, cnp.ndarray w, b, geometry, residual, gate, bint lanes, int winograd,
               int adjoint, bint pairs) except -1:
    cdef View yv = view(dy), wv = view(w), xv = view(dx), other
    cdef Correlation problem
    cdef int64_t taps = wv.size[2] + wv.size[3] + wv.size[4], used, phase, residue, first = 0, images = yv.size[0]
    cdef int64_t stride[3]
    cdef int64_t padding[3]
    cdef int64_t dilation[3]
    cdef int64_t groups = geometry.groups, row = (geometry.whole or geometry).input[2], columns
    cdef int i
    cdef bint adjoint_planes = lanes and wv.size[1] == 1 and wv.size[0] == groups
    cdef bint transposed = winograd == FC_WINOGRAD_STRIDED
    if transposed:
        winograd = FC_WINOGRAD_TRANSPOSED
    problem.x.itemsize, problem.x.stride, problem.ys = yv.itemsize, yv.stride, xv.stride
    problem.columns = wv.size[1]
    problem.w = wv.data
    problem.bias = problem.packed = NULL
    plain_ending(&problem)
    problem.bias_stride = 0
    problem.w_group = wv.size[0] // groups * wv.stride[0]
    problem.w_depth, problem.w_column = wv.stride[0], wv.stride[1]
    if b is not None:
        other = view(b)
        problem.bias, problem.bias_stride = other.data, other.stride[0]
    if residual is not None:
        other = view(residual)
        problem.residual, problem.rs = other.data, other.stride
    if gate is not None:
        other = view(gate)
        problem.gate, problem.gs = other.data, other.stride
    for i in range(3):
        stride[i], padding[i], dilation[i] = geometry.stride[i], geometry.padding[i], geometry.dilation[i]
        problem.x.axis[i].src_size = yv.size[2 + i]
        if i > 0 and (wv.size[2 + i] != 3 or stride[i] != 2 or dilation[i] != 1):
            adjoint_planes = False
    cdef bint planes = adjoint_planes or transposed     # all phases of a plane at once
    if lanes and not adjoint_planes and stride[0] * stride[1] * stride[2] > 1:
        images = NEAR // max(<int64_t>1, (abs(yv.stride[0]) + abs(xv.stride[0])) * yv.itemsize)
    images = max(<int64_t>1, images)
    cdef int64_t* lists = <int64_t*> malloc(2 * taps * sizeof(int64_t))
    if lists == NULL:
        raise MemoryError("conv_backward_input: no memory for the list of taps")
    try:
        with nogil:
            while first < yv.size[0]:
                problem.x.n = min(images, yv.size[0] - first)
                problem.x.data = yv.data + first * yv.stride[0] * yv.itemsize
                problem.y = xv.data + first * xv.stride[0] * xv.itemsize
                for phase in range(stride[0] if planes else stride[0] * stride[1] * stride[2]):
                    residue = phase
                    used = 0
                    problem.x.groups, problem.x.depth = groups, wv.size[0] // groups
                    set_pairs(&problem.x, pairs)
                    for i in range(1, 3 if planes else 0):
                        if transposed:
                            set_both_phases(&problem.x.axis[i], xv.size[2 + i], padding[i], wv.stride[2 + i],
                                            lists + 6 * (i - 1))
                        else:
                            set_adjoint_axis(&problem.x.axis[i], xv.size[2 + i], padding[i], wv.stride[2 + i],
                                             lists + 6 * (i - 1))
                        used = 12
                    for i in range(0 if planes else 2, -1, -1):
                        set_phase(&problem.x.axis[i], residue % stride[i], xv.size[2 + i], wv.size[2 + i], stride[i],
                                  padding[i], dilation[i], wv.stride[2 + i], lists + used,
                                  lists + used + wv.size[2 + i])
                        used += 2 * wv.size[2 + i]
                        residue //= stride[i]
                    columns = (row - problem.x.axis[2].dst_base + stride[2] - 1) // stride[2]  # of a row's phase
                    if adjoint_planes:
                        adjoint_correlate(&problem, &xv.size[0])
                    elif lanes and winograd >= 0:
                        squares_correlate(&problem)
                    elif lanes:
                        grouped_correlate(&problem)
                    elif winograd >= 0:
                        winograd_correlate(&problem, winograd, adjoint, NULL, False)
                    elif not pairs and is_narrow(&problem, columns):
                        narrow_correlate(&problem)
                    else:
                        correlate(&problem)
                first += images
    finally:
        free(lists)
    return 0
