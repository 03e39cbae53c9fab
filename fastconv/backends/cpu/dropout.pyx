"""Dropout: the mask of counter-based random words, and its application."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_masked, fc_random_mask
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.elementwise cimport chunk_of, empty_in_order_of, in_order_of, table
from fastconv.backends.cpu.runtime cimport empty, parallel_for

cnp.import_array()

cdef enum:
    CHUNK = 16384  # elements a task; a multiple of the 4 words that a counter gives


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
        parallel_for((call.count + CHUNK - 1) // CHUNK, mask_chunk, &call)
    return mask


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
    cdef cnp.ndarray y = empty_in_order_of(x), values = in_order_of(y, x), chosen
    cdef Apply apply
    chosen = empty_in_order_of(y, mask.dtype)
    if (<object> chosen).strides != (<object> mask).strides:
        chosen[...] = mask
    else:
        chosen = mask
    apply.kernels, apply.itemsize = table(y), <int> cnp.PyArray_ITEMSIZE(y)
    apply.call.y, apply.call.x = cnp.PyArray_DATA(y), cnp.PyArray_DATA(values)
    apply.call.mask, apply.call.factor = <const uint8_t*> cnp.PyArray_DATA(chosen), factor
    apply.call.count = cnp.PyArray_SIZE(y)
    apply.chunk = chunk_of(apply.call.count)
    with nogil:
        parallel_for((apply.call.count + apply.chunk - 1) // apply.chunk, apply_chunk, &apply)
    return y
