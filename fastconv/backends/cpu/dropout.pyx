"""Dropout: the mask of counter-based random words, and its application."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_masked, fc_random_mask, fc_transpose
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport chunk_of, empty_in_order_of, in_order_of, same_strides, table
from fastconv.backends.cpu.runtime cimport empty, parallel_for, workspace
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    CHUNK = 16384   # elements of a mask a task; a multiple of the 4 words that a counter gives
    POSITIONS = 64  # a task that turns its part of a mask round, at most, in so many bytes
    TURN_BYTES = 512 * 1024


cdef void mask_chunk(void* context, int64_t index) noexcept nogil:
    cdef fc_random_mask call = (<fc_random_mask*> context)[0]
    call.first = index * CHUNK
    call.mask += call.first
    call.count = min(<int64_t> CHUNK, call.count - call.first)
    kernels(4).random_mask(&call)


def dropout_mask(shape, double p, key):
    """bool, True with probability 1 - p: element i looks at word i of ``numpy.random.Philox(key=key)``."""
    cdef cnp.ndarray mask = empty(tuple(shape), bool)
    cdef fc_random_mask call
    call.mask, call.count = <uint8_t*> cnp.PyArray_DATA(mask), cnp.PyArray_SIZE(mask)
    call.key[0], call.key[1] = key
    call.threshold = int(p * 2.0**64)  # exact: the product only moves the exponent
    with nogil:
        parallel_for(ceil_div(call.count, CHUNK), mask_chunk, &call)
    return mask


# ------------------------------------------------------------------------------------------ application


cdef struct Apply:
    const fc_kernels* kernels
    fc_masked call
    int itemsize
    int64_t chunk
    # A mask whose positions lie side by side while y's channels do, so that it is turned round on the way:
    int64_t channels, length, across    # across: tasks a sample, of `chunk` positions each
    bint failed


cdef void apply_run(const Apply* apply, int64_t first, int64_t count, const uint8_t* mask) noexcept nogil:
    cdef fc_masked call = apply.call
    call.y, call.x = <char*> call.y + first * apply.itemsize, <const char*> call.x + first * apply.itemsize
    call.mask, call.count = mask, count
    apply.kernels.masked(&call)


cdef void apply_chunk(void* context, int64_t index) noexcept nogil:
    cdef const Apply* apply = <const Apply*> context
    cdef int64_t first = index * apply.chunk
    apply_run(apply, first, min(apply.chunk, apply.call.count - first), apply.call.mask + first)


cdef void apply_turned(void* context, int64_t index) noexcept nogil:
    cdef Apply* apply = <Apply*> context
    cdef int64_t sample = index // apply.across * apply.channels * apply.length
    cdef int64_t first = index % apply.across * apply.chunk
    cdef fc_transpose call
    call.rows, call.columns = min(apply.chunk, apply.length - first), apply.channels
    call.dst, call.src = workspace(call.rows * call.columns), apply.call.mask + sample + first
    call.ld, call.sj = apply.channels, apply.length
    if call.dst == NULL:
        apply.failed = True
        return
    apply.kernels.transpose_bytes(&call)
    apply_run(apply, sample + first * apply.channels, call.rows * call.columns, <const uint8_t*> call.dst)


cdef bint turns(cnp.ndarray y, cnp.ndarray mask):
    """Whether y is channels-last and the mask in C order."""
    cdef int rank = cnp.PyArray_NDIM(y)
    if rank < 3 or cnp.PyArray_SIZE(y) == 0 or not cnp.PyArray_IS_C_CONTIGUOUS(mask):
        return False
    return cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray?> (<object> y).transpose((0, *range(2, rank), 1)))


def dropout_apply(cnp.ndarray x, cnp.ndarray mask, double factor):
    """x * factor where the mask is True, else 0."""
    cdef cnp.ndarray y = empty_in_order_of(x), values = in_order_of(y, x), chosen = mask
    cdef Apply apply
    cdef bint turned = not same_strides(y, mask) and turns(y, mask)
    if not turned:
        chosen = empty_in_order_of(y, mask.dtype)
        if (<object> chosen).strides == (<object> mask).strides:
            chosen = mask
        else:
            chosen[...] = mask
    apply.kernels, apply.itemsize, apply.failed = table(y), <int> cnp.PyArray_ITEMSIZE(y), False
    apply.call.y, apply.call.x = cnp.PyArray_DATA(y), cnp.PyArray_DATA(values)
    apply.call.mask, apply.call.factor = <const uint8_t*> cnp.PyArray_DATA(chosen), factor
    apply.call.count = cnp.PyArray_SIZE(y)
    if turned:
        apply.channels = cnp.PyArray_DIM(y, 1)
        apply.length = apply.call.count // (cnp.PyArray_DIM(y, 0) * apply.channels)
        apply.chunk = max(<int64_t> 1, min(<int64_t> POSITIONS, TURN_BYTES // apply.channels))
        apply.across = ceil_div(apply.length, apply.chunk)
        with nogil:
            parallel_for(cnp.PyArray_DIM(y, 0) * apply.across, apply_turned, &apply)
        if apply.failed:
            raise MemoryError("dropout: no memory for a workspace")
        return y
    apply.chunk = chunk_of(apply.call.count)
    with nogil:
        parallel_for(ceil_div(apply.call.count, apply.chunk), apply_chunk, &apply)
    return y
