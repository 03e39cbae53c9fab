"""Dropout: the mask of counter-based random words, and its application."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_masked, fc_random_mask, fc_transpose
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport chunk_of, empty_in_order_of, in_order_of, same_strides, table
from fastconv.backends.cpu.runtime cimport empty, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    CHUNK = 16384   # elements a task; a multiple of the 4 words that a counter gives
    POSITIONS = 64  # a task that turns a mask round


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


cdef struct Turn:
    char* dst           # (N, L, C)
    const char* src     # (N, C, L)
    int64_t channels, length, across    # across: tasks a sample


cdef void turn_some(void* context, int64_t index) noexcept nogil:
    cdef Turn* turn = <Turn*> context
    cdef int64_t sample = index // turn.across * turn.channels * turn.length, first = index % turn.across * POSITIONS
    cdef fc_transpose call
    call.dst, call.src = turn.dst + sample + first * turn.channels, turn.src + sample + first
    call.rows, call.columns = min(<int64_t> POSITIONS, turn.length - first), turn.channels
    call.ld, call.sj = turn.channels, turn.length
    kernels(4).transpose_bytes(&call)


cdef cnp.ndarray in_mask_order(cnp.ndarray y, cnp.ndarray mask):
    """The mask as y lies, a dense array of its shape."""
    cdef cnp.ndarray turned = empty_in_order_of(y, mask.dtype)
    cdef Turn turn
    cdef int rank = cnp.PyArray_NDIM(y)
    if same_strides(turned, mask):
        return mask
    last = (<object> turned).transpose((0, *range(2, rank), 1)) if rank > 2 else turned
    if not cnp.PyArray_IS_C_CONTIGUOUS(mask) or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray?> last):
        turned[...] = mask
        return turned
    turn.dst, turn.src = <char*> cnp.PyArray_DATA(turned), <const char*> cnp.PyArray_DATA(mask)
    turn.channels = cnp.PyArray_DIM(y, 1)
    turn.length = cnp.PyArray_SIZE(y) // max(1, cnp.PyArray_DIM(y, 0) * turn.channels)
    turn.across = ceil_div(turn.length, POSITIONS)
    with nogil:
        parallel_for(cnp.PyArray_DIM(y, 0) * turn.across, turn_some, &turn)
    return turned


cdef struct Apply:
    const fc_kernels* kernels
    fc_masked call
    int itemsize
    int64_t chunk


cdef void apply_chunk(void* context, int64_t index) noexcept nogil:
    cdef Apply* apply = <Apply*> context
    cdef fc_masked call = apply.call
    cdef int64_t first = index * apply.chunk
    call.y, call.x = <char*> call.y + first * apply.itemsize, <const char*> call.x + first * apply.itemsize
    call.mask += first
    call.count = min(apply.chunk, call.count - first)
    apply.kernels.masked(&call)


def dropout_apply(cnp.ndarray x, cnp.ndarray mask, double factor):
    """x * factor where the mask is True, else 0."""
    cdef cnp.ndarray y = empty_in_order_of(x), values = in_order_of(y, x), chosen = in_mask_order(y, mask)
    cdef Apply apply
    apply.kernels, apply.itemsize = table(y), <int> cnp.PyArray_ITEMSIZE(y)
    apply.call.y, apply.call.x = cnp.PyArray_DATA(y), cnp.PyArray_DATA(values)
    apply.call.mask, apply.call.factor = <const uint8_t*> cnp.PyArray_DATA(chosen), factor
    apply.call.count = cnp.PyArray_SIZE(y)
    apply.chunk = chunk_of(apply.call.count)
    with nogil:
        parallel_for(ceil_div(apply.call.count, apply.chunk), apply_chunk, &apply)
    return y
