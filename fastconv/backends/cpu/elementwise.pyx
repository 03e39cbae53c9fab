"""The frame of elementwise operations: arrays that fill their memory are walked as one run of elements, in chunks.

The result has the memory order of one of the inputs, the leader: channels-last in, channels-last out. Inputs that lie
otherwise are first copied to its order; one value in every place (zero strides) fills a chunk of the workspace.
Which kernel runs is the caller's choice: activation.pyx, arithmetic.pyx, loss.pyx.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_map
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport empty, empty_permuted, parallel_for, workspace

cnp.import_array()

cdef enum:
    CHUNK = 16384  # elements a task
    MOST = 5       # inputs


cdef const fc_kernels* table(cnp.ndarray array) noexcept:
    return kernels(<int> cnp.PyArray_ITEMSIZE(array))


cdef struct Run:
    map_kernel kernel
    const fc_kernels* kernels
    fc_map call
    bint constant[MOST]
    int inputs, constants
    int64_t count
    int itemsize
    bint failed


cdef void run_chunk(void* context, int64_t index) noexcept nogil:
    cdef Run* run = <Run*> context
    cdef fc_map call = run.call
    cdef fc_copy2d fill
    cdef int64_t first = index * CHUNK
    cdef char* memory = NULL
    cdef int k
    call.count = min(<int64_t> CHUNK, run.count - first)
    call.y = <char*> call.y + first * run.itemsize
    if run.constants:
        memory = <char*> workspace(<size_t> (run.constants * CHUNK * run.itemsize))
        if memory == NULL:
            run.failed = True
            return
        fill.rows, fill.ld, fill.si, fill.dj, fill.sj = 1, CHUNK, 0, 1, 0
        fill.columns = fill.padded = call.count
    for k in range(run.inputs):
        if run.constant[k]:
            fill.src, fill.dst = call.x[k], memory
            run.kernels.copy2d(&fill)
            call.x[k] = memory
            memory += CHUNK * run.itemsize
        else:
            call.x[k] = <const char*> call.x[k] + first * run.itemsize
    run.kernel(&call)


def memory_axes(array):
    """Return the axes from the slowest to the fastest in memory."""
    strides = array.strides
    return tuple(sorted(range(array.ndim), key=lambda axis: -strides[axis]))


cdef bint is_dense(cnp.ndarray array):
    """Whether the elements fill a run of memory, the axes in any order."""
    return cnp.PyArray_IS_C_CONTIGUOUS(array) or array.transpose(memory_axes(array)).flags.c_contiguous


cdef bint same_strides(cnp.ndarray a, cnp.ndarray b):
    """Whether two arrays of one shape lie alike."""
    cdef int i
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_STRIDE(a, i) != cnp.PyArray_STRIDE(b, i) and cnp.PyArray_DIM(a, i) > 1:
            return False
    return True


cdef bint is_constant(cnp.ndarray array):
    """Whether one element of memory stands in every place."""
    cdef int i
    for i in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_STRIDE(array, i) != 0 and cnp.PyArray_DIM(array, i) > 1:
            return False
    return True


cdef object empty_in_order_of(cnp.ndarray leader, object dtype=None):
    """An array of undefined content with the leader's shape, and its memory order if the leader is dense (else C)."""
    cdef tuple shape = (<object> leader).shape
    if dtype is None:
        dtype = leader.dtype
    if cnp.PyArray_IS_C_CONTIGUOUS(leader) or not is_dense(leader):
        return empty(shape, dtype)
    return empty_permuted(shape, dtype, memory_axes(leader))


cdef cnp.ndarray in_order_of(cnp.ndarray leader, cnp.ndarray array):
    """``array``, or a copy of it that lies as ``leader`` does."""
    cdef cnp.ndarray copy
    if same_strides(leader, array):
        return array
    copy = empty_in_order_of(leader, array.dtype)
    np.copyto(copy, array)
    return copy


cdef object run_map(map_kernel kernel, tuple inputs, int leader, double scalar=0.0, object into=None):
    """Return kernel(inputs...), arrays of one shape and dtype. ``into``: a dense array to write to, else a new one."""
    cdef cnp.ndarray y = empty_in_order_of(inputs[leader]) if into is None else into
    cdef cnp.ndarray x
    cdef list kept = []
    cdef Run run
    cdef int k
    run.kernel, run.count, run.inputs, run.constants, run.failed = kernel, cnp.PyArray_SIZE(y), len(inputs), 0, False
    if run.count == 0:
        return y
    run.itemsize = <int> cnp.PyArray_ITEMSIZE(y)
    run.kernels = kernels(run.itemsize)
    run.call.y = cnp.PyArray_DATA(y)
    run.call.scalar[0] = scalar
    run.call.scalar[1] = 0.0
    for k in range(run.inputs):
        x = inputs[k]
        run.constant[k] = run.count > 1 and is_constant(x)
        if run.constant[k]:
            run.constants += 1
        else:
            x = in_order_of(y, x)
        kept.append(x)
        run.call.x[k] = cnp.PyArray_DATA(x)
    with nogil:
        parallel_for((run.count + CHUNK - 1) // CHUNK, run_chunk, &run)
    if run.failed:
        raise MemoryError("elementwise operation: no memory for a workspace")
    return y
