"""Optimiser steps: one fused pass over parameter, gradient and state, all arrays of a step in one parallel region."""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

import numpy as np

from fastconv.backends.cpu._csrc cimport fc_kernels, fc_step
from fastconv.backends.cpu.elementwise cimport is_dense, same_strides
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport num_threads, parallel_for
from fastconv.backends.cpu.tiles cimport ceil_div

from fastconv.errors import ShapeError, mismatch

cnp.import_array()

ctypedef void (*step_kernel)(const fc_step*) noexcept nogil

# A task takes the same part of every array, in whole LINEs. So the threads share out each array as its gradient and the
# layer's forward pass do, and find their parts in their caches.
cdef enum:
    LINE = 64
    LEAST = 16 * 1024     # elements a task: some microseconds
    MOST = 64 * 1024      # more, and there are more tasks
    TASKS_PER_THREAD = 4
    MOST_PER_THREAD = 16


cdef struct Item:
    fc_step call
    step_kernel kernel
    int64_t itemsize


cdef struct Steps:
    Item* item
    int64_t items, tasks


cdef inline void* advance(const void* array, int64_t nbytes) noexcept nogil:
    return NULL if array == NULL else <char*> array + nbytes


cdef void run_task(void* context, int64_t index) noexcept nogil:
    cdef const Steps* steps = <const Steps*> context
    cdef const Item* item
    cdef fc_step call
    cdef int64_t i, lines, first, nbytes
    for i in range(steps.items):
        item = &steps.item[i]
        lines = ceil_div(item.call.count, LINE)
        first = lines * index // steps.tasks * LINE
        call, nbytes = item.call, first * item.itemsize
        call.count = min(lines * (index + 1) // steps.tasks * LINE, call.count) - first
        if call.count <= 0:
            continue
        call.p, call.g = advance(call.p, nbytes), advance(call.g, nbytes)
        call.first, call.second = advance(call.first, nbytes), advance(call.second, nbytes)
        item.kernel(&call)


cdef inline bint is_run(object array):
    return array is None or cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray> array)


cdef bint are_runs(object p, object g, object first, object second):
    """Whether the arrays, None apart, fill a run of memory each, their elements in the same order."""
    if is_run(p) and is_run(g) and is_run(first) and is_run(second):
        return True
    return is_dense(p) and all([a is None or same_strides(p, a) for a in (g, first, second)])


cdef inline bint is_like(cnp.ndarray a, cnp.ndarray b):
    return cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b) and cnp.PyArray_SAMESHAPE(a, b)


cdef inline void* data(object array):
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray> array)


cdef int64_t count_tasks(int64_t elements) noexcept nogil:
    """One task where there is too little to be worth waking a thread; else as many for each thread."""
    cdef int64_t threads = num_threads(), tasks
    if threads == 1 or elements <= LEAST:
        return 1
    tasks = max(min(elements // LEAST, TASKS_PER_THREAD * threads), min(elements // MOST, MOST_PER_THREAD * threads))
    return ceil_div(tasks, threads) * threads


cdef object run(list params, list grads, list firsts, list seconds, const fc_step* call, bint adam):
    """Run the step on parameters, gradients and states; ``seconds`` is None where there is one state."""
    cdef list copied = []
    cdef Steps steps
    cdef Item* item
    cdef int64_t elements = 0
    cdef const fc_kernels* table
    cdef cnp.ndarray p
    cdef Py_ssize_t i
    if len(grads) != len(params) or len(firsts) != len(params) or (seconds is not None and len(seconds) != len(params)):
        raise ValueError("optimiser step: lists of different lengths")
    steps.items = 0
    steps.item = <Item*> malloc((len(params) + 1) * sizeof(Item))
    if steps.item == NULL:
        raise MemoryError("optimiser step: no memory for its list of arrays")
    try:
        for i in range(len(params)):
            p, g, first, second = params[i], grads[i], firsts[i], None if seconds is None else seconds[i]
            if adam and (first is None or second is None):
                raise ShapeError(mismatch("optimiser step", "a state for each parameter", "None"))
            for state in (first, second):
                if state is not None and not is_like(<cnp.ndarray?> state, p):
                    expected = f"a state like its parameter, {p.dtype} {(<object> p).shape}"
                    raise ShapeError(mismatch("optimiser step", expected, f"{state.dtype} {state.shape}"))
            if cnp.PyArray_SIZE(p) == 0:
                continue
            if not are_runs(p, g, first, second):
                originals = p, g, first, second
                copies = tuple([None if a is None else np.array(a, order="C") for a in originals])
                copied.append((originals, copies))
                p, g, first, second = copies
            item = &steps.item[steps.items]
            item.call, item.itemsize = call[0], cnp.PyArray_ITEMSIZE(p)
            table = kernels(<int> item.itemsize)
            item.kernel = table.adam_step if adam else table.sgd_step
            item.call.count = cnp.PyArray_SIZE(p)
            item.call.p, item.call.g, item.call.first, item.call.second = data(p), data(g), data(first), data(second)
            elements += item.call.count
            steps.items += 1
        if elements:
            with nogil:
                steps.tasks = count_tasks(elements)
                parallel_for(steps.tasks, run_task, &steps)
    finally:
        free(steps.item)
    for originals, copies in copied:
        for k in (0, 2, 3):  # 1 is the gradient
            if originals[k] is not None:
                np.copyto(originals[k], copies[k])


def sgd_step(params, grads, buffers, *, double lr, double momentum, double dampening, double weight_decay,
             bint nesterov, bint first):
    """See ``Backend.sgd_step``."""
    cdef fc_step call
    call.lr, call.momentum, call.dampening, call.weight_decay = lr, momentum, dampening, weight_decay
    call.nesterov, call.start = nesterov, first
    run(list(params), list(grads), list(buffers), None, &call, False)


def adam_step(params, grads, means, squares, *, long step, double lr, double beta1, double beta2, double eps,
              double weight_decay, bint decoupled):
    """See ``Backend.adam_step``."""
    cdef fc_step call
    call.lr, call.correction = lr / (1.0 - beta1**step), sqrt(1.0 - beta2**step)
    call.beta1, call.beta2, call.eps = beta1, beta2, eps
    call.weight_decay = 0.0 if decoupled else weight_decay
    call.shrink = 1.0 - lr * weight_decay if decoupled else 1.0
    run(list(params), list(grads), list(means), list(squares), &call, True)
