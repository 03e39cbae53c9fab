"""Units of a 2-D convolution and a 2 x 2 max-pool, by Winograd's minimal filtering: the forward pass.

Windows are pooled as the products of their tile are transformed back (winograd.pyx, winograd_lines.pyx).
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc

import numpy as np

from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, plain_ending
from fastconv.backends.cpu.runtime cimport empty
from fastconv.backends.cpu.tiles cimport set_forward_axes
from fastconv.backends.cpu.winograd cimport kept_transform, winograd_correlate
from fastconv.backends.cpu.winograd_lines cimport lines_correlate

cnp.import_array()


def winograd_unit_forward(cnp.ndarray x, cnp.ndarray w, b, geometry, activation, pool_geometry, int form, frozen):
    """x (N, IC, 1, IH, IW), w (OC, IC, 1, KH, KW), b (OC,) or None -> y and index (N, OC, 1, PH, PW).

    A ``form`` below 0 is F(4, 5) along rows.
    """
    cdef cnp.ndarray y = empty(pool_geometry.output_shape, x.dtype, "channels_last")
    cdef cnp.ndarray index = empty(pool_geometry.output_shape, np.uint8, "channels_last")
    cdef View xv = view(x), wv = view(w), yv = view(y), bv
    cdef Correlation problem
    cdef bint relu = activation == "relu"
    cdef uint8_t* places = <uint8_t*> cnp.PyArray_DATA(index)
    if cnp.PyArray_SIZE(y) == 0:
        return y, index
    problem.x.itemsize, problem.x.data, problem.x.stride = xv.itemsize, xv.data, xv.stride
    problem.x.n, problem.x.groups, problem.x.depth, problem.x.channels = xv.size[0], 1, wv.size[1], 0
    problem.y, problem.ys, problem.columns = yv.data, yv.stride, wv.size[0]
    problem.w, problem.w_group, problem.w_depth, problem.w_column = wv.data, 0, wv.stride[1], wv.stride[0]
    problem.bias = problem.packed = NULL
    plain_ending(&problem)
    problem.bias_stride = 0
    if b is not None:
        bv = view(b)
        problem.bias, problem.bias_stride = bv.data, bv.stride[0]
    cdef int64_t* lists = <int64_t*> malloc(2 * (1 + wv.size[3] + wv.size[4]) * sizeof(int64_t))
    if lists == NULL:
        raise MemoryError("convolution with pooling: no memory for the list of taps")
    try:
        set_forward_axes(&problem.x, geometry, xv.size, wv.size, wv.stride, lists)
        _kept = None  # lives as long as the call
        if frozen is not False and form >= 0:
            _kept = kept_transform(&problem, w, form, frozen)
        with nogil:
            if form < 0:
                lines_correlate(&problem, places, relu)
            else:
                winograd_correlate(&problem, form, False, places, relu)
    finally:
        free(lists)
    return y, index
