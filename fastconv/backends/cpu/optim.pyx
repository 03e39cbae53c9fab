"""Optimiser steps: one fused pass over parameter, gradient and state, all arrays of a step in one parallel region."""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_step
from fastconv.backends.cpu.elementwise cimport is_dense, same_strides
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport parallel_for

cnp.import_array()

ctypedef void (*step_kernel)(const fc_step*) noexcept nogil

cdef enum:
    CHUNK = 8192  # elements a task


cdef struct Item:
    fc_step call
    step_kernel kernel
    int itemsize
    int64_t first_task


cdef struct Steps:
    Item* item
    int64_t items


cdef inline void* advance(const void* array, int64_t nbytes) noexcept nogil:
    return NULL if array == NULL else <char*> array + nbytes


cdef void run_chunk(void* context, int64_t index) noexcept nogil:
    cdef Steps* steps = <Steps*> context
    cdef int64_t low = 0, high = steps.items, middle, first, nbytes
    cdef Item* item
    cdef fc_step call
    while high - low > 1:  # the last item whose first task is not after this one
        middle = (low + high) // 2
        if steps.item[middle].first_task <= index:
            low = middle
        else:
            high = middle
    item = &steps.item[low]
    call = item.call
    first = (index - item.first_task) * CHUNK
    nbytes = first * item.itemsize
    call.count = min(<int64_t> CHUNK, call.count - first)
    call.p, call.g = advance(call.p, nbytes), advance(call.g, nbytes)
    call.first, call.second = advance(call.first, nbytes), advance(call.second, nbytes)
    item.kernel(&call)


cdef tuple as_runs(p, g, states):
    """The arrays as one dense run each: themselves, or C-ordered copies where they lie differently."""
    arrays = [p, g, *states]
    if is_dense(p) and all([a is None or same_strides(p, a) for a in arrays]):
        return arrays, False
    return [None if a is None else np.array(a, order="C") for a in arrays], True


cdef object run(params, grads, states, fc_step call, bint adam):
    """Run the steps; ``states`` is a list of tuples of arrays or None, one tuple a parameter."""
    cdef list kept = [], copied = []
    cdef Steps steps
    cdef Item* item
    cdef int64_t tasks = 0
    cdef cnp.ndarray array
    cdef int k
    steps.items = 0
    steps.item = <Item*> malloc((len(params) + 1) * sizeof(Item))
    if steps.item == NULL:
        raise MemoryError("optimiser step: no memory for its list of arrays")
    try:
        for p, g, state in zip(params, grads, states, strict=True):
            arrays, is_copy = as_runs(p, g, state)
            if p.size == 0:
                continue
            kept.append(arrays)
            if is_copy:
                copied.append(((p, None, *state), arrays))
            item = &steps.item[steps.items]
            item.call = call
            array = arrays[0]
            item.itemsize = <int> cnp.PyArray_ITEMSIZE(array)
            item.kernel = kernels(item.itemsize).adam_step if adam else kernels(item.itemsize).sgd_step
            item.call.count, item.first_task = cnp.PyArray_SIZE(array), tasks
            tasks += (item.call.count + CHUNK - 1) // CHUNK
            item.call.p = cnp.PyArray_DATA(array)
            item.call.first = item.call.second = NULL
            array = arrays[1]
            item.call.g = cnp.PyArray_DATA(array)
            for k in range(2, len(arrays)):
                if arrays[k] is not None:
                    array = arrays[k]
                    if k == 2:
                        item.call.first = cnp.PyArray_DATA(array)
                    else:
                        item.call.second = cnp.PyArray_DATA(array)
            steps.items += 1
        with nogil:
            parallel_for(tasks, run_chunk, &steps)
    finally:
        free(steps.item)
    for originals, copies in copied:
        for original, copy in zip(originals, copies):
            if original is not None:
                np.copyto(original, copy)


def sgd_step(params, grads, buffers, *, double lr, double momentum, double dampening, double weight_decay,
             bint nesterov, bint first):
    """See ``Backend.sgd_step``."""
    cdef fc_step call
    call.lr, call.momentum, call.dampening, call.weight_decay = lr, momentum, dampening, weight_decay
    call.nesterov, call.start = nesterov, first
    run(params, grads, [(buffer,) for buffer in buffers], call, False)


def adam_step(params, grads, means, squares, *, long step, double lr, double beta1, double beta2, double eps,
              double weight_decay, bint decoupled):
    """See ``Backend.adam_step``."""
    cdef fc_step call
    call.lr, call.correction = lr / (1.0 - beta1**step), sqrt(1.0 - beta2**step)
    call.beta1, call.beta2, call.eps = beta1, beta2, eps
    call.weight_decay = 0.0 if decoupled else weight_decay
    call.shrink = 1.0 - lr * weight_decay if decoupled else 1.0
    run(params, grads, list(zip(means, squares, strict=True)), call, True)
