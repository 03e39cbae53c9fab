"""Convolution, forward: which source positions each output position sums. The loops are in conv_tiles.pyx."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, correlate, kept_weights
from fastconv.backends.cpu.grouped cimport grouped_correlate
from fastconv.backends.cpu.tiles cimport set_forward_axes, set_pairs
from fastconv.backends.cpu.winograd cimport winograd_correlate

from fastconv.backends.cpu.runtime import empty

cnp.import_array()


def conv_forward(cnp.ndarray x, cnp.ndarray w, b, geometry, bint frozen=False, bint lanes=False, int winograd=-1,
                 bint pairs=False):
    """x (N, IC, ID, IH, IW), w (OC, IC/G, KD, KH, KW), b (OC,) or None -> y (N, OC, OD, OH, OW), channels-last.

    ``frozen``: packed weights are worth keeping for the next call. ``pairs``: multiply bfloat16 numbers.
    """
    cdef cnp.ndarray y = empty(geometry.output_shape, x.dtype, "channels_last")
    cdef View xv = view(x), wv = view(w), yv = view(y), bv
    cdef Correlation problem
    problem.x.itemsize, problem.x.data, problem.x.stride = xv.itemsize, xv.data, xv.stride
    problem.x.n, problem.x.groups, problem.x.depth = xv.size[0], geometry.groups, wv.size[1]
    set_pairs(&problem.x, pairs)
    problem.y, problem.ys = yv.data, yv.stride
    problem.columns = wv.size[0] // problem.x.groups
    problem.w = wv.data
    problem.bias = problem.packed = NULL
    problem.bias_stride = 0
    problem.w_group = problem.columns * wv.stride[0]
    problem.w_depth, problem.w_column = wv.stride[1], wv.stride[0]
    if b is not None:
        bv = view(b)
        problem.bias, problem.bias_stride = bv.data, bv.stride[0]
    cdef int64_t* lists = <int64_t*> malloc(2 * (wv.size[2] + wv.size[3] + wv.size[4]) * sizeof(int64_t))
    if lists == NULL:
        raise MemoryError("conv_forward: no memory for the list of taps")
    try:
        set_forward_axes(&problem.x, geometry, xv.size, wv.size, wv.stride, lists)
        if frozen and not lanes and winograd < 0:
            _kept = kept_weights(&problem, w, "forward")  # lives as long as the call
        with nogil:
            if lanes:
                grouped_correlate(&problem)
            elif winograd >= 0:
                winograd_correlate(&problem, winograd, False, NULL, False)
            else:
                correlate(&problem)
    finally:
        free(lists)
    return y
