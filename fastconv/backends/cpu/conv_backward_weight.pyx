"""Convolution, gradient of the weights: what is multiplied with what. The loops are in weight_tiles.pyx."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.grouped_squares_weight cimport squares_products
from fastconv.backends.cpu.grouped_weight cimport grouped_products
from fastconv.backends.cpu.tiles cimport set_forward_axes
from fastconv.backends.cpu.weight_tiles cimport Outer, outer_products
from fastconv.backends.cpu.winograd_weight cimport winograd_products

from fastconv.backends.cpu.runtime import empty

cnp.import_array()


def conv_backward_weight(cnp.ndarray dy, cnp.ndarray x, geometry, bint lanes=False, int winograd=-1,
                         bint pairs=False):
    """dy (N, OC, OD, OH, OW), x (N, IC, ID, IH, IW) -> dw (OC, IC/G, KD, KH, KW), C-contiguous."""
    cdef cnp.ndarray dw = empty(geometry.weight_shape, x.dtype, "C")
    cdef View yv = view(dy), xv = view(x), wv = view(dw)
    cdef Outer problem
    problem.x.itemsize, problem.x.data, problem.x.stride = xv.itemsize, xv.data, xv.stride
    problem.x.n, problem.x.groups, problem.x.depth = xv.size[0], geometry.groups, wv.size[1]
    problem.x.channels, problem.pairs = 0, pairs
    problem.norm = NULL
    problem.columns = wv.size[0] // problem.x.groups
    problem.dy, problem.ys, problem.dw = yv.data, yv.stride, wv.data
    problem.dw_column, problem.dw_depth = wv.stride[0], wv.stride[1]
    problem.dw_group = problem.columns * wv.stride[0]
    cdef int64_t* lists = <int64_t*> malloc(2 * (wv.size[2] + wv.size[3] + wv.size[4]) * sizeof(int64_t))
    if lists == NULL:
        raise MemoryError("conv_backward_weight: no memory for the list of taps")
    try:
        set_forward_axes(&problem.x, geometry, xv.size, wv.size, wv.stride, lists)
        with nogil:
            if lanes and winograd >= 0:
                squares_products(&problem)
            elif lanes:
                grouped_products(&problem)
            elif winograd >= 0:
                winograd_products(&problem, winograd)
            else:
                outer_products(&problem)
    finally:
        free(lists)
    return dw
