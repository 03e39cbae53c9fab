"""Batch norm, its ReLU and a 1x1 convolution as one: the normalised array is never in memory.

What is not such a convolution over rows of pixels, or too small to gain, ``declines`` names; the backend then takes the
verbs one by one.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_normalise
from fastconv.backends.cpu.arrays cimport View, pixel_step, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, Ending, correlate, kept_weights, plain_ending
from fastconv.backends.cpu.tiles cimport Reader
from fastconv.backends.cpu.weight_tiles cimport Outer, outer_products

from fastconv.backends.cpu.moments import batch_norm_statistics
from fastconv.backends.cpu.norm import normal_constants
from fastconv.backends.cpu.runtime import empty

cnp.import_array()

cdef int64_t[2] ORIGIN = [0, 0]     # of the only tap, in the source and in the weights

FEWEST_PIXELS = 512     # for fewer, sums are cut into parts, and the weights are what costs
MOST_CHANNELS = 2304    # whose sum is one piece


def declines(cnp.ndarray x, geometry):
    """Return why the verbs run one by one, or None."""
    plain = geometry.kernel == geometry.stride == (1, 1, 1) and geometry.padding == (0, 0, 0)
    if not plain or geometry.groups != 1 or geometry.input != geometry.output:
        return "not 1x1 over all pixels"
    if geometry.compute != "float32":
        return "rounds its operands"
    if geometry.n * geometry.output[0] * geometry.output[1] * geometry.output[2] < FEWEST_PIXELS:
        return "few pixels"
    if not 0 < geometry.ic <= MOST_CHANNELS or not 0 < geometry.oc <= MOST_CHANNELS:
        return "channels"
    return None if lies_in_rows(x) else "the order of its input's memory"


def lies_in_rows(cnp.ndarray array):
    """Whether pixels of (N, C, D, H, W) lie at one distance, and each one's channels side by side."""
    cdef View v = view(array)
    return pixel_step(&v) > 0 and (v.size[1] == 1 or v.stride[1] == 1)


cdef void set_row(Reader* reader, View* x, int64_t pixels) noexcept nogil:
    """All pixels as one row, which a single tap sees."""
    cdef int i
    reader.itemsize, reader.data, reader.stride = x.itemsize, x.data, x.stride
    reader.n = reader.groups = 1
    reader.channels, reader.depth, reader.stride[4] = 0, x.size[1], pixel_step(x)
    for i in range(3):
        reader.axis[i].count = reader.axis[i].src_size = pixels if i == 2 else 1
        reader.axis[i].dst_base = reader.axis[i].src_base = 0
        reader.axis[i].dst_step = reader.axis[i].src_step = 1
        reader.axis[i].taps, reader.axis[i].shift, reader.axis[i].weight = 1, ORIGIN, ORIGIN + 1


cdef void set_norm(fc_normalise* norm, constants) except *:
    """constants: mean, scale and shift, arrays side by side that the caller holds."""
    cdef cnp.ndarray mean, scale, shift
    mean, scale, shift = constants
    norm.mean, norm.scale, norm.shift = cnp.PyArray_DATA(mean), cnp.PyArray_DATA(scale), cnp.PyArray_DATA(shift)
    norm.dy = norm.slope = norm.bias = norm.residual = NULL
    norm.relu, norm.stream, norm.by_row = True, 2, False


cdef void set_ends(Correlation* problem, View* y, View* w, int columns) noexcept nogil:
    """Where results go, and the weights, whose axis ``columns`` are the results' channels; nothing before or behind."""
    problem.y, problem.ys = y.data, y.stride
    problem.ys[4] = pixel_step(y)
    problem.columns = problem.w_group = w.size[columns]
    problem.w, problem.w_depth, problem.w_column = w.data, w.stride[1 - columns], w.stride[columns]
    problem.bias = problem.packed = NULL
    problem.bias_stride = 0
    plain_ending(problem)


cdef int64_t pixels_of(const View* x) noexcept nogil:
    return x.size[0] * x.size[2] * x.size[3] * x.size[4]


def norm_conv_forward(cnp.ndarray x, mean, rstd, weight, bias, cnp.ndarray w, b, geometry, bint moments, frozen):
    """-> y (N, OC, D, H, W), channels-last, and its mean and variance, or None. See ``Backend.norm_conv_forward``."""
    cdef cnp.ndarray y = empty(geometry.output_shape, x.dtype, "channels_last")
    cdef cnp.ndarray m = np.empty(y.shape[1]), v = np.empty(y.shape[1])
    cdef View xv = view(x), wv = view(w), yv = view(y), bv
    cdef Correlation problem
    cdef fc_normalise norm
    constants = normal_constants(x, mean, rstd, weight, bias)
    set_norm(&norm, constants)
    set_row(&problem.x, &xv, pixels_of(&xv))
    set_ends(&problem, &yv, &wv, 0)
    if b is not None:
        bv = view(b)
        problem.bias, problem.bias_stride = bv.data, bv.stride[0]
    problem.norm = &norm
    if moments and problem.columns > 1:  # one channel's lie in another order, in which sums round otherwise
        problem.mean, problem.variance = <double*> cnp.PyArray_DATA(m), <double*> cnp.PyArray_DATA(v)
    _kept = None if frozen is False else kept_weights(&problem, w, "forward", frozen)  # lives as long as the call
    with nogil:
        correlate(&problem)
    if not moments:
        return y, None, None
    if problem.mean != NULL:
        return y, m.astype(x.dtype), v.astype(x.dtype)
    return y, *batch_norm_statistics((<object> y).reshape(y.shape[0], y.shape[1], y.shape[2] * y.shape[3] * y.shape[4]))


def norm_conv_backward_input(cnp.ndarray dy, cnp.ndarray w, cnp.ndarray x, mean, rstd, weight, bias, geometry,
                             cnp.ndarray residual, cnp.ndarray out):
    """-> dx (N, IC, D, H, W), channels-last or ``out``, dweight, dbias (IC,).

    See ``Backend.norm_conv_backward_input``.
    """
    cdef cnp.ndarray dx = empty(geometry.input_shape, x.dtype, "channels_last") if out is None else out
    cdef cnp.ndarray first = np.empty(x.shape[1]), second = np.empty(x.shape[1]), m, scale, shift
    cdef View yv = view(dy), wv = view(w), xv = view(x), dxv = view(dx), rv
    cdef Correlation problem
    cdef Ending ending
    m, scale, shift = normal_constants(x, mean, rstd, weight, bias)
    ending.mean, ending.scale = <const char*> cnp.PyArray_DATA(m), <const char*> cnp.PyArray_DATA(scale)
    ending.shift = <const char*> cnp.PyArray_DATA(shift)
    ending.first, ending.second = <double*> cnp.PyArray_DATA(first), <double*> cnp.PyArray_DATA(second)
    set_row(&problem.x, &yv, pixels_of(&yv))
    set_ends(&problem, &dxv, &wv, 1)
    problem.ending = &ending
    problem.gate, problem.gs = xv.data, xv.stride
    problem.gs[4] = pixel_step(&xv)
    if residual is not None:
        rv = view(residual)
        problem.residual, problem.rs = rv.data, rv.stride
        problem.rs[4] = pixel_step(&rv)
    with nogil:
        correlate(&problem)
    return dx, second.astype(x.dtype) * rstd, first.astype(x.dtype)


def norm_conv_backward_weight(cnp.ndarray dy, cnp.ndarray x, mean, rstd, weight, bias, geometry):
    """-> dw (OC, IC, 1, 1, 1), C-contiguous. See ``Backend.norm_conv_backward_weight``."""
    cdef cnp.ndarray dw = empty(geometry.weight_shape, x.dtype, "C")
    cdef View yv = view(dy), xv = view(x), wv = view(dw)
    cdef Outer problem
    cdef fc_normalise norm
    constants = normal_constants(x, mean, rstd, weight, bias)
    set_norm(&norm, constants)
    set_row(&problem.x, &xv, pixels_of(&xv))
    problem.norm, problem.pairs = &norm, False
    problem.columns = wv.size[0]
    problem.dy, problem.ys, problem.dw = yv.data, yv.stride, wv.data
    problem.ys[4] = pixel_step(&yv)
    problem.dw_column, problem.dw_depth, problem.dw_group = wv.stride[0], wv.stride[1], wv.stride[0] * wv.size[0]
    with nogil:
        outer_products(&problem)
    return dw
