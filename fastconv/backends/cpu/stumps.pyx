"""The best place to split each feature at: a task a feature."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t

import numpy as np

from fastconv.backends.cpu._csrc cimport FC_BINS, fc_kernels, fc_stump
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport parallel_for, workspace

cnp.import_array()


cdef struct Splits:
    const fc_kernels* kernels
    fc_stump call
    int64_t samples
    bint failed


cdef void split_feature(void* context, int64_t index) noexcept nogil:
    cdef Splits* splits = <Splits*> context
    cdef fc_stump call = splits.call
    call.score += index
    call.bin += index
    call.bins += index * splits.samples
    call.sums = <double*> workspace((FC_BINS + 1) * call.classes * sizeof(double))
    if call.sums == NULL:
        splits.failed = True
        return
    splits.kernels.stump(&call)


def best_splits(bins, weight, start, criterion):
    """See ``Backend.best_splits``."""
    cdef cnp.ndarray rows = np.ascontiguousarray(bins, np.uint8), weights = np.ascontiguousarray(weight, np.float64)
    cdef cnp.ndarray starts = np.ascontiguousarray(start, np.int64)
    cdef cnp.ndarray score = np.empty(rows.shape[0]), bin = np.empty(rows.shape[0], np.int64)
    cdef int64_t features = rows.shape[0]
    cdef Splits splits
    splits.kernels, splits.samples, splits.failed = kernels(8), rows.shape[1], False
    splits.call.score, splits.call.bin = <double*> cnp.PyArray_DATA(score), <int64_t*> cnp.PyArray_DATA(bin)
    splits.call.bins, splits.call.weight = <uint8_t*> cnp.PyArray_DATA(rows), <double*> cnp.PyArray_DATA(weights)
    splits.call.start, splits.call.classes = <int64_t*> cnp.PyArray_DATA(starts), starts.shape[0] - 1
    splits.call.gini = criterion == "gini"
    with nogil:
        parallel_for(features, split_feature, &splits)
    if splits.failed:
        raise MemoryError
    return score, bin
