"""What moves elements about: copies between arrays of any strides on all threads, concatenation, reshaping.

A copy walks the destination in the order of its memory. Axes that follow each other in both arrays are one; the last is
a matrix' columns, and the one along which the source's elements lie closest its rows, so what is turned is turned in
registers.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport is_dense
from fastconv.backends.cpu.runtime cimport empty, empty_permuted, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_Reshape(cnp.ndarray array, object shape)

cdef enum:
    MOST_AXES = 64
    SMALL = 4096        # elements that NumPy copies as fast
    PIECE = 16384       # elements a task
    LONG = 4096         # columns a task where they are many
    TURNED = 64         # rows a task that is turned: all that it takes of a line of the source


cdef struct Copy:
    const fc_kernels* kernels
    char* dst
    const char* src
    int64_t size[MOST_AXES]     # slowest first; the last two are rows and columns
    int64_t to[MOST_AXES]       # strides in elements
    int64_t at[MOST_AXES]
    int axes, itemsize
    int64_t rows, columns       # a piece
    int64_t down, across, pieces, share


cdef inline int64_t distance(int64_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef void copy_pieces(void* context, int64_t index) noexcept nogil:
    cdef Copy* c = <Copy*> context
    cdef int64_t piece, place, row, column
    cdef char* dst
    cdef const char* src
    cdef int k
    cdef fc_copy2d call
    call.si, call.sj, call.ld, call.dj = c.at[c.axes - 2], c.at[c.axes - 1], c.to[c.axes - 2], c.to[c.axes - 1]
    for piece in range(index * c.share, min(c.pieces, (index + 1) * c.share)):
        column = piece % c.across * c.columns
        place = piece // c.across
        row = place % c.down * c.rows
        place //= c.down
        dst = c.dst + (row * call.ld + column * call.dj) * c.itemsize
        src = c.src + (row * call.si + column * call.sj) * c.itemsize
        for k in range(c.axes - 3, -1, -1):
            dst += place % c.size[k] * c.to[k] * c.itemsize
            src += place % c.size[k] * c.at[k] * c.itemsize
            place //= c.size[k]
        call.dst, call.src = dst, src
        call.rows, call.columns = min(c.rows, c.size[c.axes - 2] - row), min(c.columns, c.size[c.axes - 1] - column)
        call.padded = call.columns
        c.kernels.copy2d(&call)


cdef void join_axes(Copy* c, cnp.ndarray dst, cnp.ndarray src) noexcept:
    """Set sizes and strides from dst's slowest axis to its fastest; neighbours in both arrays become one."""
    cdef int[MOST_AXES] order
    cdef int k, place, axis, last
    cdef int64_t to, at, size
    for k in range(cnp.PyArray_NDIM(dst)):
        place = k
        while place > 0 and distance(cnp.PyArray_STRIDE(dst, order[place - 1])) < distance(cnp.PyArray_STRIDE(dst, k)):
            order[place] = order[place - 1]
            place -= 1
        order[place] = k
    c.axes = 0
    for k in range(cnp.PyArray_NDIM(dst)):
        axis, last = order[k], c.axes - 1
        if cnp.PyArray_DIM(dst, axis) == 1:
            continue
        size = cnp.PyArray_DIM(dst, axis)
        to, at = cnp.PyArray_STRIDE(dst, axis) // c.itemsize, cnp.PyArray_STRIDE(src, axis) // c.itemsize
        if last >= 0 and c.to[last] == to * size and c.at[last] == at * size:
            c.size[last] *= size
            c.to[last], c.at[last] = to, at
        else:
            c.size[c.axes], c.to[c.axes], c.at[c.axes] = size, to, at
            c.axes += 1
    while c.axes < 2:  # a matrix at least
        for k in range(c.axes, 0, -1):
            c.size[k], c.to[k], c.at[k] = c.size[k - 1], c.to[k - 1], c.at[k - 1]
        c.size[0], c.to[0], c.at[0] = 1, 0, 0
        if c.axes == 0:
            c.to[0] = c.at[0] = 1
        c.axes += 1


cdef void choose_rows(Copy* c) noexcept nogil:
    """Move the axis along which the source lies closest, the last apart, before the last."""
    cdef int k, best = c.axes - 2
    cdef int64_t size, to, at
    for k in range(c.axes - 1):
        if c.size[k] > 1 and distance(c.at[k]) < distance(c.at[best]):
            best = k
    size, to, at = c.size[best], c.to[best], c.at[best]
    for k in range(best, c.axes - 2):
        c.size[k], c.to[k], c.at[k] = c.size[k + 1], c.to[k + 1], c.at[k + 1]
    c.size[c.axes - 2], c.to[c.axes - 2], c.at[c.axes - 2] = size, to, at


cpdef int copy_into(cnp.ndarray dst, cnp.ndarray src) except -1:
    """dst <- src, of one shape and dtype."""
    cdef Copy c
    cdef int64_t count = cnp.PyArray_SIZE(dst)
    if count == 0:
        return 0
    c.itemsize = <int> cnp.PyArray_ITEMSIZE(dst)
    c.kernels = kernels(c.itemsize)
    c.dst, c.src = <char*> cnp.PyArray_DATA(dst), <const char*> cnp.PyArray_DATA(src)
    join_axes(&c, dst, src)
    with nogil:
        c.columns = min(c.size[c.axes - 1], <int64_t> LONG)
        if c.at[c.axes - 1] != 1:
            choose_rows(&c)
            c.columns = min(c.columns, PIECE // min(c.size[c.axes - 2], <int64_t> TURNED))
        c.rows = max(<int64_t> 1, min(c.size[c.axes - 2], PIECE // c.columns))
        c.down, c.across = ceil_div(c.size[c.axes - 2], c.rows), ceil_div(c.size[c.axes - 1], c.columns)
        c.pieces = count // (c.size[c.axes - 1] * c.size[c.axes - 2]) * c.down * c.across
        c.share = max(<int64_t> 1, PIECE // (c.rows * c.columns))
        parallel_for(ceil_div(c.pieces, c.share), copy_pieces, &c)
    return 0


cpdef object empty_like_order(cnp.ndarray leader, tuple shape):
    """An array of undefined content, its axes in leader's order if that is dense, else C."""
    cdef int ndim = cnp.PyArray_NDIM(leader)
    if cnp.PyArray_IS_C_CONTIGUOUS(leader) or ndim > 32 or not is_dense(leader):
        return empty(shape, leader.dtype)
    slowest_first = sorted([(-leader.strides[axis], axis) for axis in range(ndim)])
    return empty_permuted(shape, leader.dtype, tuple([axis for _, axis in slowest_first]))


def cat(arrays, int axis, out=None):
    """See ``Backend.cat``."""
    cdef cnp.ndarray y, a, part
    shape = list(arrays[0].shape)
    shape[axis] = sum([array.shape[axis] for array in arrays])
    y = empty_like_order(max(arrays, key=lambda array: array.size), tuple(shape)) if out is None else out
    cdef list place = [slice(None)] * len(shape)
    cdef int64_t start = 0
    for a in arrays:
        place[axis] = slice(start, start + a.shape[axis])
        part = (<object> y)[tuple(place)]
        if cnp.PyArray_DATA(part) != cnp.PyArray_DATA(a) or (<object> part).strides != (<object> a).strides:
            copy_into(part, a)  # else it lies there
        start += a.shape[axis]
    return y


cdef bint is_view(cnp.ndarray a, tuple shape) except -1:
    """Whether strides can express ``a`` under another shape of as many elements, of which there are some: of its axes
    in logical order, those that become one, or are cut across one another, must follow each other in memory."""
    cdef int64_t[MOST_AXES] size, stride
    cdef int64_t old, new
    cdef int k, count = 0, first = 0, last, taken = 0
    for k in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, k) != 1:
            size[count], stride[count] = cnp.PyArray_DIM(a, k), cnp.PyArray_STRIDE(a, k)
            count += 1
    while first < count:
        last, old, new = first, size[first], 1
        while old != new:
            if old < new:
                last += 1
                old *= size[last]
            elif taken < len(shape):
                new *= <int64_t> shape[taken]
                taken += 1
            else:  # not as many elements: NumPy says so
                return True
        for k in range(first, last):
            if stride[k] != size[k + 1] * stride[k + 1]:
                return False
        first = last + 1
    return True


def reshape(cnp.ndarray a, shape):
    """See ``Backend.reshape``."""
    cdef cnp.ndarray copy
    cdef bint known = cnp.PyArray_TYPE(a) in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) and cnp.PyArray_ISBEHAVED_RO(a)
    cdef bint large = cnp.PyArray_SIZE(a) > SMALL and not cnp.PyArray_IS_C_CONTIGUOUS(a)
    if known and large and not is_view(a, tuple(shape)):
        copy = empty((<object> a).shape, a.dtype)
        copy_into(copy, a)
        a = copy
    return PyArray_Reshape(a, shape)
