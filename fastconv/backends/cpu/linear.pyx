"""Linear layers: the tiles of a 1x1 convolution over a row of N pixels. Loops: conv_tiles.pyx and weight_tiles.pyx."""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, correlate
from fastconv.backends.cpu.tiles cimport Reader
from fastconv.backends.cpu.weight_tiles cimport Outer, outer_products

from fastconv.backends.cpu.runtime import empty

cnp.import_array()

cdef int64_t NOTHING[1]  # the shift and the weight offset of the only tap
NOTHING[0] = 0


cdef void set_rows(Reader* x, const View* rows) noexcept nogil:
    """Read a matrix (N, channels) as one image of 1 x 1 x N pixels."""
    cdef int i
    x.itemsize, x.data = rows.itemsize, rows.data
    x.n, x.groups, x.depth = 1, 1, rows.size[1]
    for i in range(5):
        x.stride[i] = 0
    x.stride[1], x.stride[4] = rows.stride[1], rows.stride[0]
    for i in range(3):
        x.axis[i].count = x.axis[i].src_size = rows.size[0] if i == 2 else 1
        x.axis[i].dst_base = x.axis[i].src_base = 0
        x.axis[i].dst_step = x.axis[i].src_step = 1
        x.axis[i].taps, x.axis[i].shift, x.axis[i].weight = 1, NOTHING, NOTHING


cdef object product(cnp.ndarray x, cnp.ndarray w, b, int depth_axis):
    """x (N, K) times w with its axis ``depth_axis`` of size K, plus b."""
    cdef View xv = view(x), wv = view(w), yv, bv
    cdef cnp.ndarray y = empty((x.shape[0], w.shape[1 - depth_axis]), x.dtype, "C")
    cdef Correlation problem
    cdef int i
    yv = view(y)
    set_rows(&problem.x, &xv)
    for i in range(5):
        problem.ys[i] = 0
    problem.y, problem.ys[1], problem.ys[4] = yv.data, 1, yv.size[1]
    problem.columns = yv.size[1]
    problem.w, problem.w_group = wv.data, 0
    problem.w_depth, problem.w_column = wv.stride[depth_axis], wv.stride[1 - depth_axis]
    problem.bias = NULL
    problem.bias_stride = 0
    if b is not None:
        bv = view(b)
        problem.bias, problem.bias_stride = bv.data, bv.stride[0]
    if yv.size[1] > 0:
        with nogil:
            correlate(&problem)
    return y


def linear_forward(cnp.ndarray x, cnp.ndarray w, b):
    """x (N, I), w (O, I), b (O,) or None -> y (N, O)."""
    return product(x, w, b, 1)


def linear_backward_input(cnp.ndarray dy, cnp.ndarray w):
    """dy (N, O), w (O, I) -> dx (N, I)."""
    return product(dy, w, None, 0)


def linear_backward_weight(cnp.ndarray dy, cnp.ndarray x):
    """dy (N, O), x (N, I) -> dw (O, I)."""
    cdef cnp.ndarray dw = empty((dy.shape[1], x.shape[1]), x.dtype, "C")
    cdef View yv = view(dy), xv = view(x), wv = view(dw)
    cdef Outer problem
    cdef int i
    set_rows(&problem.x, &xv)
    for i in range(5):
        problem.ys[i] = 0
    problem.dy, problem.ys[1], problem.ys[4] = yv.data, yv.stride[1], yv.stride[0]
    problem.columns = yv.size[1]
    problem.dw, problem.dw_group, problem.dw_column, problem.dw_depth = wv.data, 0, wv.stride[0], 1
    with nogil:
        outer_products(&problem)
    return dw
