"""Convolution, forward: which source positions each output position sums. The loops are in conv_tiles.pyx.

What follows the sum (a residual, an activation) is done to each output while it is in registers. Only a residual whose
channels do not lie side by side, or of the kernels for groups in vectors, takes one more pass over the result. Its
moments are taken from the cache where pixels are one row of all images and a single tap sees them: they are those of
runs of pixels then, and runs depend on the shape alone.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

import numpy as np

from fastconv.backends.cpu.arrays cimport View, pixel_step, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, correlate, kept_weights, plain_ending
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.elementwise cimport in_rows, run_map, table
from fastconv.backends.cpu.grouped cimport grouped_correlate, kept_blocks
from fastconv.backends.cpu.grouped_squares cimport kept_squares, squares_correlate
from fastconv.backends.cpu.tiles cimport Reader, set_forward_axes, set_pairs
from fastconv.backends.cpu.winograd cimport kept_transform, winograd_correlate
from fastconv.backends.cpu.winograd_lines cimport lines_correlate

from fastconv.backends.cpu.moments import batch_norm_statistics
from fastconv.backends.cpu.runtime import empty

cnp.import_array()


cdef bint join_pixels(Correlation* problem, const View* x, const View* y) noexcept nogil:
    """Make a problem of a single tap one of a single row, if it is one."""
    cdef Reader* reader = &problem.x
    cdef int64_t pixels = y.size[0] * y.size[2] * y.size[3] * y.size[4]
    cdef int i
    if reader.groups != 1 or reader.depth == 0 or problem.residual != NULL or problem.relu or pixels < 2:
        return False
    if pixel_step(x) == 0 or pixel_step(y) == 0:
        return False
    for i in range(3):
        if reader.axis[i].taps != 1 or reader.axis[i].src_step != 1 or reader.axis[i].src_base != 0:
            return False
        if reader.axis[i].count != x.size[2 + i]:
            return False
    reader.n = reader.axis[0].count = reader.axis[1].count = reader.axis[0].src_size = reader.axis[1].src_size = 1
    reader.axis[2].count = reader.axis[2].src_size = pixels
    reader.stride[4], problem.ys[4] = pixel_step(x), pixel_step(y)
    return True


def conv_forward(cnp.ndarray x, cnp.ndarray w, b, geometry, frozen=False, bint lanes=False, int winograd=-1,
                 bint pairs=False, bint lines=False, activation=None, residual=None, out=None, bint moments=False):
    """x (N, IC, ID, IH, IW), w (OC, IC/G, KD, KH, KW), b (OC,) or None -> y (N, OC, OD, OH, OW), channels-last.

    See ``Backend.conv_act_forward``. ``lanes``: groups in vectors, with ``winograd`` too by F(4x4, 3x3). ``pairs``:
    multiply bfloat16 numbers. ``lines``: by F(4, 5) along rows. ``moments``: return y, means and variances.
    """
    cdef cnp.ndarray mean = None, variance = None
    cdef bint fused = residual is None or (not lanes and in_rows(residual)), relu = activation == "relu"
    cdef cnp.ndarray y
    if out is not None and fused and in_rows(out):
        y = out
    else:
        y = empty(geometry.output_shape, x.dtype, "channels_last")
    if moments and not lanes and winograd < 0 and y.shape[1] > 1:  # sums over one channel go by positions
        mean, variance = np.empty(cnp.PyArray_DIM(y, 1)), np.empty(cnp.PyArray_DIM(y, 1))
    taken = convolve(y, x, w, b, geometry, frozen, lanes, winograd, pairs, lines, residual if fused else None,
                     relu and fused, mean, variance)
    if taken:
        return y, mean.astype(x.dtype), variance.astype(x.dtype)
    if moments:
        length = y.shape[2] * y.shape[3] * y.shape[4]
        return y, *batch_norm_statistics((<object> y).reshape(y.shape[0], y.shape[1], length))
    if not fused:
        run_map(table(y).add_relu if relu else table(y).add, (y, residual), 0, 0.0, y)
    if out is None or y is out:
        return y
    copy_into(out, y)
    return out


cdef bint convolve(cnp.ndarray y, cnp.ndarray x, cnp.ndarray w, b, geometry, frozen, bint lanes, int winograd,
                   bint pairs, bint lines, residual, bint relu, cnp.ndarray mean, cnp.ndarray variance) except -1:
    """Whether ``mean`` and ``variance``, where given, were taken on the way."""
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
        if mean is not None and join_pixels(&problem, &xv, &yv):
            problem.mean = <double*> cnp.PyArray_DATA(mean)
            problem.variance = <double*> cnp.PyArray_DATA(variance)
        _kept = None  # lives as long as the call
        if frozen is False or lines:
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
            elif lines:
                lines_correlate(&problem, NULL, False)
            else:
                correlate(&problem)
    finally:
        free(lists)
    return problem.mean != NULL
