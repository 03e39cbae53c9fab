"""Pooling, forward and backward: what each verb asks of the walk over boxes (pool_boxes.pyx).

What max pooling of small windows keeps for its gradient is a byte for each output: the winner's place in its window,
an eighth of an index. Each input then asks the few windows that see it. Most outputs of larger windows are far from
most inputs, so that it is the outputs that are scattered, from places too where samples are tasks enough, else from
indices.
"""

cimport numpy as cnp

import numpy as np

from fastconv.backends.cpu.arrays cimport view
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.pool_boxes cimport Pool, run, side_by_side
from fastconv.backends.cpu.pool_windows cimport Axes, free_windows, list_inputs, list_outputs
from fastconv.backends.cpu.runtime cimport empty

from fastconv.backends.cpu.pool_scatter import MOST_WALKED, expand, expands, scatter

cnp.import_array()

cdef int EXACT_FLOAT = 1 << 24               # whole numbers below it are exact in float32


cdef class Places:
    """Winners as bytes, in the order in which the walk over boxes comes to them."""

    cdef cnp.ndarray array

    def __init__(self, array):
        self.array = array


cdef object extents(geometry):
    """How many positions the windows of each axis extend over, at most."""
    return [(max(axis.count) - 1) * axis.step + 1 for axis in geometry.windows]


cdef int prepare(Pool* pool, cnp.ndarray source, cnp.ndarray target, geometry) except -1:
    """A walk without indices."""
    pool.source, pool.target = view(source), view(target)
    pool.images = side_by_side(geometry, pool.source.itemsize)
    pool.index = NULL
    pool.index_bytes, pool.index_of_source = 0, False
    return 0


cdef int walk(Pool* pool) except -1:
    """Run, and free the windows."""
    try:
        run(pool)
    finally:
        free_windows(&pool.axes)
    return 0


cdef bint takes(out, geometry):
    """Whether the kernels may write to ``out``: channels side by side, and images one by one."""
    cdef cnp.ndarray y
    if out is None:
        return False
    y = out
    itemsize = <int> cnp.PyArray_ITEMSIZE(y)
    lies = cnp.PyArray_DIM(y, 1) == 1 or cnp.PyArray_STRIDE(y, 1) == itemsize
    return lies and side_by_side(geometry, itemsize) == 1


cdef object written(cnp.ndarray y, out):
    if out is None or y is out:
        return y
    copy_into(out, y)
    return out


def max_pool_forward(cnp.ndarray x, geometry, str keep="indices", out=None):
    """x (N, C, D, H, W) -> y (N, C, OD, OH, OW), and indices of its shape, winners for the gradient, or None."""
    cdef Pool pool
    d, h, w = extents(geometry)
    if keep == "winners" and d * h * w > MOST_WALKED:
        if not expands(geometry, d * h * w, side_by_side(geometry, <int> cnp.PyArray_ITEMSIZE(x))):
            keep = "indices"
    if keep == "indices" and x.dtype == np.float32:
        if ((d - 1) * geometry.input[1] + h - 1) * geometry.input[2] + w > EXACT_FLOAT:
            wide = max_pool_forward(x.astype(np.float64), geometry)  # the kernel counts places in the dtype
            return written(wide[0].astype(np.float32, order="K"), out), wide[1]
    cdef cnp.ndarray y = out if takes(out, geometry) else empty(geometry.output_shape, x.dtype, "channels_last")
    cdef cnp.ndarray indices = None
    prepare(&pool, x, y, geometry)
    if keep != "nothing":
        if keep == "indices":
            indices = empty(geometry.output_shape, np.int64, "channels_last")
        else:
            indices = empty((cnp.PyArray_SIZE(y),), np.uint8)
        pool.index = <char*> cnp.PyArray_DATA(indices)
        pool.index_bytes = cnp.PyArray_ITEMSIZE(indices)
    if cnp.PyArray_SIZE(y):
        pool.kernel = kernels(pool.source.itemsize).max_pool
        list_outputs(&pool.axes, geometry)
        if keep == "indices":
            pool.axes.axis[1].list.place = geometry.input[2]
            pool.axes.axis[0].list.place = geometry.input[1] * geometry.input[2]
        walk(&pool)
    return written(y, out), Places(indices) if keep == "winners" else indices


ctypedef int (*list_windows)(Axes* axes, object geometry) except -1


cdef object average(list_windows targets, cnp.ndarray source, cnp.ndarray target, geometry):
    """Averages over the windows that ``targets`` lists."""
    cdef Pool pool
    prepare(&pool, source, target, geometry)
    if cnp.PyArray_SIZE(target):
        pool.kernel = kernels(pool.source.itemsize).avg_pool
        targets(&pool.axes, geometry)
        walk(&pool)
    return target


def avg_pool_forward(cnp.ndarray x, geometry, out=None):
    """x (N, C, D, H, W) -> y (N, C, OD, OH, OW)."""
    y = out if takes(out, geometry) else empty(geometry.output_shape, x.dtype, "channels_last")
    return written(average(list_outputs, x, y, geometry), out)


def max_pool_backward(cnp.ndarray dy, winners, geometry):
    """dy (N, C, OD, OH, OW) and what the forward pass kept, or any indices of dy's shape -> dx (N, C, D, H, W)."""
    cdef Pool pool
    if not isinstance(winners, Places):
        return scatter(dy, winners, geometry)
    d, h, w = extents(geometry)
    images = side_by_side(geometry, <int> cnp.PyArray_ITEMSIZE(dy))
    if cnp.PyArray_SIZE(dy) and (d * h * w > MOST_WALKED or expands(geometry, d * h * w, images)):
        return expand(dy, (<Places> winners).array, geometry, images)
    cdef cnp.ndarray dx = empty(geometry.input_shape, dy.dtype, "channels_last")
    prepare(&pool, dy, dx, geometry)
    pool.index = <char*> cnp.PyArray_DATA((<Places> winners).array)
    pool.index_bytes, pool.index_of_source = 1, True
    if cnp.PyArray_SIZE(dx):
        pool.kernel = kernels(pool.source.itemsize).max_pool_backward
        list_inputs(&pool.axes, geometry)
        walk(&pool)
    return dx


def avg_pool_backward(cnp.ndarray dy, geometry):
    """dy (N, C, OD, OH, OW) -> dx (N, C, D, H, W)."""
    return average(list_inputs, dy, empty(geometry.input_shape, dy.dtype, "channels_last"), geometry)
