"""The frame of elementwise operations. The result fills its memory, in the order of one of the inputs, the leader:
channels-last in, channels-last out.

Inputs that lie as the result does are walked with it as one run of elements, in long chunks. Where one lies otherwise
or is broadcast (zero strides), the result is walked in blocks of rows: what of that input belongs to a block is laid
out beside it in the workspace, and stays there while the next blocks need the same; one call does all of these. Which
kernel runs is the caller's choice: activation.pyx, arithmetic.pyx, loss.pyx.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_map
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport _empty, empty, num_threads, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    LEAST = 8192        # elements a task: at least, and
    MOST = 16384        # at most
    LARGEST = 65536     # where inputs are laid out
    BLOCK = 1024        # elements laid out at a time: they stay in the first-level cache
    WIDEST = 4096       # a row that no input needs laid out
    STREAM_BYTES = 64 * 1024 * 1024     # results and inputs beyond this do not stay in the caches
    MOST_INPUTS = 5
    MOST_AXES = 64      # NumPy's own limit


cdef const fc_kernels* table(cnp.ndarray array) noexcept:
    return kernels(<int> cnp.PyArray_ITEMSIZE(array))


cdef int64_t chunk_of(int64_t count) noexcept nogil:
    """Elements a task, for work whose bits do not depend on how it is cut. Long runs keep the prefetchers going."""
    cdef int64_t share = ceil_div(count, 8 * num_threads())
    return (max(<int64_t> LEAST, min(<int64_t> MOST, share)) + 63) // 64 * 64


cdef struct Input:
    const char* data
    int64_t stride[MOST_AXES]   # along the result's merged axes, slowest first; elements
    bint flat                   # lies as the result does


cdef struct Run:
    map_kernel kernel
    const fc_kernels* kernels
    fc_map call
    Input input[MOST_INPUTS]
    int inputs, itemsize, axes
    int64_t count, chunk
    int64_t size[MOST_AXES]             # of the merged axes
    int64_t rows, inner                 # the last two axes
    int64_t block_rows, block_columns   # a block: several whole rows, or a part of one
    int64_t across, down                # blocks that a row, and that the rows, are cut into
    int64_t blocks, share               # in all; a task
    bint repeats                        # neighbouring blocks read the same of all inputs that are not flat
    bint failed


cdef void run_chunk(void* context, int64_t index) noexcept nogil:
    """All inputs lie alike: one run of elements."""
    cdef Run* run = <Run*> context
    cdef fc_map call = run.call
    cdef int64_t first = index * run.chunk
    cdef int k
    call.rows, call.count = 1, min(run.chunk, run.count - first)
    call.y = <char*> call.y + first * run.itemsize
    for k in range(run.inputs):
        call.x[k], call.step[k] = run.input[k].data + first * run.itemsize, 0
    run.kernel(&call)


cdef void lay_out(const Run* run, const Input* x, const char* src, char* dst, int64_t rows,
                  int64_t columns) noexcept nogil:
    cdef fc_copy2d copy
    copy.dst, copy.src, copy.rows, copy.columns = dst, src, rows, columns
    copy.si = x.stride[run.axes - 2] if run.axes > 1 else 0
    copy.sj, copy.dj = x.stride[run.axes - 1], 1
    if copy.si == 0 and copy.sj == 0:
        copy.rows, copy.columns = 1, rows * columns
    copy.ld = copy.padded = copy.columns
    run.kernels.copy2d(&copy)


cdef int64_t alike(const Run* run, int64_t block, int64_t end) noexcept nogil:
    """How many blocks from ``block`` on, before ``end``, are one call: whole ones that read the same."""
    cdef int64_t left
    if not run.repeats:
        return 1
    if run.across > 1:
        left = run.inner // run.block_columns - block % run.across
    else:
        left = run.rows // run.block_rows - block % run.down
    return max(<int64_t> 1, min(left, end - block))


cdef void run_blocks(void* context, int64_t index) noexcept nogil:
    cdef Run* run = <Run*> context
    cdef fc_map call = run.call
    cdef const char* held[MOST_INPUTS]      # what the workspace holds of each input: from where,
    cdef int64_t held_rows[MOST_INPUTS]     # how many rows
    cdef int64_t held_columns[MOST_INPUTS]
    cdef int64_t block, end, rest, row, column, rows, columns, at
    cdef const Input* x
    cdef const char* src
    cdef char* buffer
    cdef char* memory = <char*> workspace(<size_t> (run.inputs * BLOCK * run.itemsize))
    cdef int k, last = run.axes - 1
    if memory == NULL:
        run.failed = True
        return
    for k in range(run.inputs):
        held[k] = NULL
    block, end = index * run.share, min(run.blocks, (index + 1) * run.share)
    while block < end:
        rest, column = block // run.across, block % run.across * run.block_columns
        rest, row = rest // run.down, rest % run.down * run.block_rows
        rows, columns = min(run.block_rows, run.rows - row), min(run.block_columns, run.inner - column)
        at = (rest * run.rows + row) * run.inner + column
        call.y, call.count = <char*> run.call.y + at * run.itemsize, rows * columns
        call.rows = alike(run, block, end)
        block += call.rows
        for k in range(run.inputs):
            x = &run.input[k]
            call.step[k] = 0
            if x.flat:
                call.x[k], call.step[k] = x.data + at * run.itemsize, call.count
                continue
            src = x.data + (column * x.stride[last] + (row * x.stride[last - 1] if last else 0)) * run.itemsize
            at_axis(run, x, rest, &src)
            if x.stride[last] == 1 and (rows == 1 or x.stride[last - 1] == run.inner):
                call.x[k] = src
                continue
            buffer = memory + k * BLOCK * run.itemsize
            if held[k] != src or held_rows[k] < rows or held_columns[k] != columns:
                lay_out(run, x, src, buffer, rows, columns)
                held[k], held_rows[k], held_columns[k] = src, rows, columns
            call.x[k] = buffer
        run.kernel(&call)


cdef inline void at_axis(const Run* run, const Input* x, int64_t place, const char** src) noexcept nogil:
    """Move ``src`` to a place of the axes before the last two, numbered as the result's memory is."""
    cdef int axis
    for axis in range(run.axes - 3, -1, -1):
        src[0] += place % run.size[axis] * x.stride[axis] * run.itemsize
        place //= run.size[axis]


cdef void order_axes(cnp.ndarray array, int* axes):
    """Set the axes from the slowest to the fastest in memory; those of one stride stay in order."""
    cdef int k, place
    for k in range(cnp.PyArray_NDIM(array)):
        place = k
        while place > 0 and cnp.PyArray_STRIDE(array, axes[place - 1]) < cnp.PyArray_STRIDE(array, k):
            axes[place] = axes[place - 1]
            place -= 1
        axes[place] = k


cdef bint fills(cnp.ndarray array, const int* axes):
    """Whether the elements fill a run of memory in the order of ``axes``."""
    cdef int64_t expected = cnp.PyArray_ITEMSIZE(array)
    cdef int k
    for k in range(cnp.PyArray_NDIM(array) - 1, -1, -1):
        if cnp.PyArray_DIM(array, axes[k]) != 1:
            if cnp.PyArray_STRIDE(array, axes[k]) != expected:
                return False
            expected *= cnp.PyArray_DIM(array, axes[k])
    return True


cdef bint is_dense(cnp.ndarray array):
    """Whether the elements fill a run of memory, the axes in any order."""
    cdef int[MOST_AXES] axes
    if cnp.PyArray_IS_C_CONTIGUOUS(array):
        return True
    order_axes(array, axes)
    return fills(array, axes)


cdef bint same_strides(cnp.ndarray a, cnp.ndarray b):
    """Whether two arrays are of one shape and lie alike."""
    cdef int i
    if not cnp.PyArray_SAMESHAPE(a, b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_STRIDE(a, i) != cnp.PyArray_STRIDE(b, i) and cnp.PyArray_DIM(a, i) > 1:
            return False
    return True


cdef bint nests(cnp.ndarray array, const int* axes):
    """Whether a step along an axis is beyond all steps along those behind it in ``axes``: dense, or a part of such."""
    cdef int64_t least = cnp.PyArray_ITEMSIZE(array)
    cdef int k
    for k in range(cnp.PyArray_NDIM(array) - 1, -1, -1):
        if cnp.PyArray_DIM(array, axes[k]) != 1:
            if cnp.PyArray_STRIDE(array, axes[k]) < least:
                return False
            least = cnp.PyArray_STRIDE(array, axes[k]) * cnp.PyArray_DIM(array, axes[k])
    return True


cdef object empty_in_order_of(cnp.ndarray leader, object dtype=None):
    """An array of undefined content with the leader's shape, dense in its memory order; C where its axes overlap."""
    cdef int[MOST_AXES] axes
    cdef tuple shape = (<object> leader).shape
    if dtype is None:
        dtype = leader.dtype
    if cnp.PyArray_IS_C_CONTIGUOUS(leader) or cnp.PyArray_NDIM(leader) > 32:  # which `empty` may refuse
        return empty(shape, dtype)
    order_axes(leader, axes)
    return _empty(shape, cnp.PyArray_NDIM(leader), dtype, axes) if nests(leader, axes) else empty(shape, dtype)


cdef cnp.ndarray in_order_of(cnp.ndarray leader, cnp.ndarray array):
    """``array``, or a copy of it that lies as ``leader`` does."""
    cdef cnp.ndarray copy
    if same_strides(leader, array):
        return array
    copy = empty_in_order_of(leader, array.dtype)
    np.copyto(copy, array)
    return copy


cdef int64_t stride_along(cnp.ndarray y, cnp.ndarray x, int axis):
    """x's stride, in elements, along an axis of y: 0 where x is broadcast."""
    axis -= cnp.PyArray_NDIM(y) - cnp.PyArray_NDIM(x)
    if axis < 0 or cnp.PyArray_DIM(x, axis) == 1:
        return 0
    return cnp.PyArray_STRIDE(x, axis) // cnp.PyArray_ITEMSIZE(x)


cdef int merge_axes(Run* run, cnp.ndarray y, list inputs) except -1:
    """Set sizes and strides in the order of y's memory; neighbours that are one axis to every input become one."""
    cdef int64_t size
    cdef int[MOST_AXES] axes
    cdef int k, i, axis, last
    cdef bint joins
    run.axes = 0
    order_axes(y, axes)
    for i in range(cnp.PyArray_NDIM(y)):
        axis = axes[i]
        size, last = cnp.PyArray_DIM(y, axis), run.axes - 1
        if size == 1:
            continue
        joins = last >= 0
        for k in range(run.inputs):
            run.input[k].stride[run.axes] = stride_along(y, inputs[k], axis)
            joins = joins and run.input[k].stride[last] == run.input[k].stride[run.axes] * size
        if joins:
            run.size[last] *= size
            for k in range(run.inputs):
                run.input[k].stride[last] = run.input[k].stride[run.axes]
        else:
            run.size[run.axes] = size
            run.axes += 1
    if run.axes == 0:  # one element
        run.size[0], run.axes = 1, 1
        for k in range(run.inputs):
            run.input[k].stride[0] = 1
    return 0


cdef void cut_blocks(Run* run) noexcept nogil:
    cdef int64_t widest = WIDEST    # of a block
    cdef int k
    for k in range(run.inputs):
        if run.input[k].stride[run.axes - 1] != 1:
            widest = BLOCK      # laid out
    run.inner = run.size[run.axes - 1]
    run.rows = run.size[run.axes - 2] if run.axes > 1 else 1
    run.block_columns = run.inner if run.inner <= widest else <int64_t> BLOCK
    run.block_rows = min(run.rows, BLOCK // run.inner) if run.inner < BLOCK else 1
    run.across, run.down = ceil_div(run.inner, run.block_columns), ceil_div(run.rows, run.block_rows)
    run.blocks = run.count // (run.rows * run.inner) * run.down * run.across
    run.share = min(<int64_t> LARGEST, max(chunk_of(run.count), run.count // (8 * num_threads())))
    run.share = max(<int64_t> 1, run.share // (run.block_rows * run.block_columns))
    run.repeats = run.across > 1 or run.axes > 1
    for k in range(run.inputs):
        if run.repeats and not run.input[k].flat:
            run.repeats = run.input[k].stride[run.axes - (1 if run.across > 1 else 2)] == 0


cdef object run_map(map_kernel kernel, tuple inputs, int leader, double scalar=0.0, object into=None,
                    double second=0.0, int kind=0):
    """Return kernel(inputs...), arrays of one dtype that broadcast to the leader's shape. ``into``: a dense array to
    write to, whose shape counts then, else a new one."""
    cdef cnp.ndarray y = empty_in_order_of(inputs[leader]) if into is None else into
    cdef list arrays = list(inputs)
    cdef cnp.ndarray x
    cdef Run run
    cdef bint flat = True
    cdef int k
    run.kernel, run.count, run.inputs, run.failed = kernel, cnp.PyArray_SIZE(y), len(inputs), False
    if run.count == 0:
        return y
    run.itemsize = <int> cnp.PyArray_ITEMSIZE(y)
    run.kernels = kernels(run.itemsize)
    run.call.y = cnp.PyArray_DATA(y)
    run.call.scalar[0] = scalar
    run.call.scalar[1] = second
    run.call.kind = kind
    run.call.stream = into is None and (run.inputs + 1) * run.count * run.itemsize >= STREAM_BYTES
    for k in range(run.inputs):
        x = arrays[k]
        run.input[k].data = <const char*> cnp.PyArray_DATA(x)
        run.input[k].flat = same_strides(y, x)
        flat = flat and run.input[k].flat
    if flat:
        run.chunk = chunk_of(run.count)
        with nogil:
            parallel_for(ceil_div(run.count, run.chunk), run_chunk, &run)
        return y
    merge_axes(&run, y, arrays)
    with nogil:
        cut_blocks(&run)
        parallel_for(ceil_div(run.blocks, run.share), run_blocks, &run)
    if run.failed:
        raise MemoryError("elementwise operation: no memory for a workspace")
    return y
