"""Convolution, forward: which source positions each output position sums. The loops are in conv_tiles.pyx.

What follows the sum (a residual, an activation) is done to each output while it is in registers. Only a residual whose
channels do not lie side by side, or of the kernels for groups in vectors, takes one more pass over the result.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, correlate, kept_weights, plain_ending
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.elementwise cimport run_map, table
from fastconv.backends.cpu.grouped cimport grouped_correlate, kept_blocks
from fastconv.backends.cpu.grouped_squares cimport kept_squares, squares_correlate
from fastconv.backends.cpu.tiles cimport set_forward_axes, set_pairs
from fastconv.backends.cpu.winograd cimport kept_transform, winograd_correlate

from fastconv.backends.cpu.runtime import empty

cnp.import_array()


cdef bint in_rows(cnp.ndarray array):
    """Whether a pixel's channels lie side by side."""
    return cnp.PyArray_DIM(array, 1) == 1 or cnp.PyArray_STRIDE(array, 1) == cnp.PyArray_ITEMSIZE(array)


def conv_forward(cnp.ndarray x, cnp.ndarray w, b, geometry, frozen=False, bint lanes=False, int winograd=-1,
                 bint pairs=False, activation=None, residual=None, out=None):
    """x (N, IC, ID, IH, IW), w (OC, IC/G, KD, KH, KW), b (OC,) or None -> y (N, OC, OD, OH, OW), channels-last.

    See ``Backend.conv_act_forward``. ``lanes``: groups in vectors, with ``winograd`` too by F(4x4, 3x3). ``pairs``:
    multiply bfloat16 numbers.
    """
    cdef bint fused = residual is None or (not lanes and in_rows(residual)), relu = activation == "relu"
    cdef cnp.ndarray y
    if out is not None and fused and in_rows(out):
        y = out
    else:
        y = empty(geometry.output_shape, x.dtype, "channels_last")
    convolve(y, x, w, b, geometry, frozen, lanes, winograd, pairs, residual if fused else None, relu and fused)
    if not fused:
        run_map(table(y).add_relu if relu else table(y).add, (y, residual), 0, 0.0, y)
    if out is None or y is out:
        return y
    copy_into(out, y)
    return out


cdef int convolve(cnp.ndarray y, cnp.ndarray x, cnp.ndarray w, b, geometry, frozen, bint lanes, int winograd,
                  bint pairs, residual, bint relu) except -1:
    cdef View xv = view(x), wv = view(w), yv = view(y), other
    cdef Correlation problem
    problem.x.itemsize, problem.x.data, problem.x.stride = xv.itemsize, xv.data, xv.stride
    problem.x.n, problem.x.groups, problem.x.depth = xv.size[0], geometry.groups, wv.size[1]
    set_pairs(&problem.x, pairs)
    problem.y, problem.ys = yv.data, yv.stride
    problem.columns = wv.size[0] // problem.x.groups
    problem.w = wv.data
    problem.bias = problem.packed = NULL
    problem.bias_stride = 0
    plain_ending(&problem)
    problem.relu = relu
    problem.w_group = problem.columns * wv.stride[0]
    problem.w_depth, problem.w_column = wv.stride[1], wv.stride[0]
    if b is not None:
        other = view(b)
        problem.bias, problem.bias_stride = other.data, other.stride[0]
    if residual is not None:
        other = view(residual)
        problem.residual, problem.rs = other.data, other.stride
    cdef int64_t* lists = <int64_t*> malloc(2 * (wv.size[2] + wv.size[3] + wv.size[4]) * sizeof(int64_t))
    if lists == NULL:
        raise MemoryError("conv_forward: no memory for the list of taps")
    try:
        set_forward_axes(&problem.x, geometry, xv.size, wv.size, wv.stride, lists)
        _kept = None  # lives as long as the call
        if frozen is False:
            pass
        elif lanes and winograd >= 0:
            _kept = kept_squares(&problem, w, frozen)
        elif lanes:
            _kept = kept_blocks(&problem, w, frozen)
        elif winograd >= 0:
            _kept = kept_transform(&problem, w, winograd, frozen)
        else:
            _kept = kept_weights(&problem, w, "forward", frozen)
        with nogil:
            if lanes and winograd >= 0:
                squares_correlate(&problem)
            elif lanes:
                grouped_correlate(&problem)
            elif winograd >= 0:
                winograd_correlate(&problem, winograd, False, NULL, False)
            else:
                correlate(&problem)
    finally:
        free(lists)
    return 0
