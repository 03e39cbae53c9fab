# The walk over the boxes of a pooling: see pool_boxes.pyx.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_pool_box
from fastconv.backends.cpu.arrays cimport View
from fastconv.backends.cpu.pool_windows cimport Axes

ctypedef void (*box_kernel)(const fc_pool_box*) noexcept nogil


cdef struct Pool:
    # What the caller says:
    box_kernel kernel
    const fc_kernels* kernels
    Axes axes
    View source, target     # target: channels-last, contiguous
    int64_t images          # images that lie side by side as lanes; 1: channels alone do
    int64_t index_bytes     # 8: int64 beside the target; 1: places, in the order of the walk; 0: none
    char* index
    bint index_of_source    # places are read beside the source, else written beside the target
    # What ``run`` decides:
    bint packed             # the source goes through the workspace
    bint stream             # the target is stored past the caches
    int64_t rows, channels  # a box: target rows along h, channels
    int64_t h_boxes, c_boxes, n_boxes, boxes, share  # share: boxes a task
    int64_t source_bytes, target_bytes, box_bytes   # of the workspace
    bint failed


cdef int run(Pool* pool) except -1
cdef int64_t side_by_side(geometry, int itemsize) except -1
