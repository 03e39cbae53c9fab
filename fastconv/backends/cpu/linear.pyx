"""Linear layers: the tiles of a 1x1 convolution over a row of N pixels. Loops: conv_tiles.pyx and weight_tiles.pyx."""

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport FC_FEW_ROWS, fc_few_rows, fc_kernels
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.conv_tiles cimport Correlation, correlate, kept_weights, plain_ending
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport num_threads, parallel_for
from fastconv.backends.cpu.tiles cimport FAR, Reader, ceil_div, set_pairs
from fastconv.backends.cpu.weight_tiles cimport Outer, outer_products

from fastconv.backends.cpu.runtime import empty

cnp.import_array()

cdef int64_t NOTHING[1]  # the shift and the weight offset of the only tap
NOTHING[0] = 0

# What a task of few rows takes.
cdef int64_t TASK_WEIGHTS = 24 * 1024
cdef int64_t LEAST_COLUMNS = 64
cdef int64_t LEAST_BY_ROWS = 512  # a row's piece is long enough to be read as a stream
cdef int64_t MOST_BY_ROWS = 4096  # the sums of a piece stay in a first-level cache
cdef int64_t TASKS_PER_THREAD = 4
# Weights that stay in the threads' second-level caches, and the columns that a thread adds before it hands them on.
cdef int64_t STAYING_BYTES = 1024 * 1024
cdef int64_t PIECE = 256

# Of an array of weights: smaller ones are read as they lie sooner than packed ones are looked up.
cdef int64_t TINY_BYTES = 32 * 1024
cdef int64_t LEAST_KEPT = 512 * 1024
cdef int64_t MOST_KEPT = 4 * 1024 * 1024


cdef void set_rows(Reader* x, const View* rows) noexcept nogil:
    """Read a matrix (N, channels) as one image of 1 x 1 x N pixels."""
    cdef int i
    x.itemsize, x.data = rows.itemsize, rows.data
    x.n, x.groups, x.depth, x.channels = 1, 1, rows.size[1], 0
    for i in range(5):
        x.stride[i] = 0
    x.stride[1], x.stride[4] = rows.stride[1], rows.stride[0]
    for i in range(3):
        x.axis[i].count = x.axis[i].src_size = rows.size[0] if i == 2 else 1
        x.axis[i].dst_base = x.axis[i].src_base = 0
        x.axis[i].dst_step = x.axis[i].src_step = 1
        x.axis[i].taps, x.axis[i].shift, x.axis[i].weight = 1, NOTHING, NOTHING


cdef struct FewRows:
    fc_few_rows call
    const fc_kernels* kernel
    int64_t itemsize, share  # columns a task


cdef void run_few_rows(void* context, int64_t index) noexcept nogil:
    cdef FewRows* few = <FewRows*> context
    cdef fc_few_rows call = few.call
    cdef int64_t first = index * few.share
    call.columns = min(few.share, call.columns - first)
    call.w = <const char*> call.w + first * (1 if call.by_rows else call.ldw) * few.itemsize
    call.y = <char*> call.y + first * few.itemsize
    if call.bias != NULL:
        call.bias = <const char*> call.bias + first * few.itemsize
    few.kernel.few_rows(&call)


cdef struct Relay:
    fc_few_rows call
    const fc_kernels* kernel
    int64_t itemsize, share     # rows of weights a thread
    int64_t wave


cdef void run_relay(void* context, int64_t index) noexcept nogil:
    """Add one thread's rows of weights to one piece of y."""
    cdef Relay* relay = <Relay*> context
    cdef fc_few_rows call = relay.call
    cdef int64_t owner = index, row = owner * relay.share, column = (relay.wave - owner) * PIECE
    if column < 0 or column >= call.columns:
        return
    call.depth, call.columns = min(relay.share, call.depth - row), min(PIECE, call.columns - column)
    call.x = <const char*> call.x + row * relay.itemsize
    call.w = <const char*> call.w + (row * call.ldw + column) * relay.itemsize
    call.y = <char*> call.y + column * relay.itemsize
    if owner > 0:
        call.bias = call.y
    relay.kernel.few_rows(&call)


cdef bint runs_as_relay(const fc_few_rows* call, const fc_kernels* kernel, int64_t itemsize) noexcept nogil:
    """One row of x, no bias: a thread adds its own rows of the weights to a piece of y after the thread before it has.

    These are the rows that it reads in the forward pass and writes in the gradient and the optimiser's step: a line of
    weights that no other core reads is twice as fast to write. Pieces are handed on from one parallel region to the
    next, so the order of the sums is that of one thread. A thread whose turn it is not has an empty task, so that no
    other begins with its rows. False where the weights do not stay in the caches anyway.
    """
    cdef Relay relay
    cdef int64_t threads = num_threads(), pieces = ceil_div(call.columns, PIECE)
    if call.depth * call.columns * itemsize > threads * STAYING_BYTES:
        return False
    if threads == 1 or call.rows != 1 or call.bias != NULL or call.depth < 8 * threads or pieces < 2 * threads:
        return False
    relay.call, relay.kernel, relay.itemsize, relay.share = call[0], kernel, itemsize, ceil_div(call.depth, threads)
    relay.call.far = False
    threads = ceil_div(call.depth, relay.share)
    for relay.wave in range(pieces + threads - 1):
        parallel_for(threads, run_relay, &relay)
    return True


cdef bint few_rows(const Correlation* problem, const View* x, bint by_rows) noexcept nogil:
    """Solve a problem of few rows, of elements side by side, with weights as they lie; False if it is not like that.

    The sums are those of `correlate`, so that a row's bits do not depend on the number of rows.
    """
    cdef FewRows few
    cdef int64_t tasks, rows = x.size[0], depth = x.size[1], near = problem.w_column if by_rows else problem.w_depth
    if rows == 0 or rows > FC_FEW_ROWS or depth == 0 or near != 1:
        return False
    if problem.bias != NULL and problem.bias_stride != 1 and problem.columns > 1:
        return False
    if x.stride[1] != 1 and depth > 1:
        return False
    few.itemsize, few.kernel = x.itemsize, kernels(x.itemsize)
    few.call.x, few.call.w, few.call.bias, few.call.y = x.data, problem.w, problem.bias, problem.y
    few.call.rows, few.call.depth, few.call.columns, few.call.by_rows = rows, depth, problem.columns, by_rows
    few.call.ldx, few.call.ldy = x.stride[0], problem.ys[4]
    few.call.ldw = problem.w_depth if by_rows else problem.w_column
    few.call.far = depth * problem.columns * few.itemsize > FAR
    few.share = max(TASK_WEIGHTS // depth, LEAST_COLUMNS)
    if by_rows:
        if runs_as_relay(&few.call, few.kernel, few.itemsize):
            return True
        # From memory, the longest streams that every thread can have.
        tasks = num_threads() * (ceil_div(problem.columns, num_threads() * MOST_BY_ROWS) if few.call.far else
                                 TASKS_PER_THREAD)
        few.share = max(few.share, LEAST_BY_ROWS, min(MOST_BY_ROWS, ceil_div(problem.columns, tasks * 16) * 16))
    parallel_for(ceil_div(problem.columns, few.share), run_few_rows, &few)
    return True


cdef bint keeps(object frozen, int64_t nbytes, bint pairs, int64_t rows):
    """Whether to use packed weights of an earlier call.

    In a dict of their own they are read and nothing else. Elsewhere they are compared first: that reads as much twice
    more, which takes longer than to pack what does not stay in the caches.
    """
    if type(frozen) is dict:
        return pairs or rows > FC_FEW_ROWS or nbytes >= TINY_BYTES
    return frozen is not False and (pairs or (rows > FC_FEW_ROWS and LEAST_KEPT <= nbytes <= MOST_KEPT))


cdef object product(cnp.ndarray x, cnp.ndarray w, b, int depth_axis, object frozen, bint pairs):
    """x (N, K) times w with its axis ``depth_axis`` of size K, plus b."""
    cdef View xv = view(x), wv = view(w), yv, bv
    cdef cnp.ndarray y = empty((x.shape[0], w.shape[1 - depth_axis]), x.dtype, "C")
    cdef Correlation problem
    cdef int i
    if x.shape[1] == 0:  # sums of nothing
        (<object> y)[...] = 0 if b is None else b
        return y
    yv = view(y)
    set_rows(&problem.x, &xv)
    set_pairs(&problem.x, pairs)
    for i in range(5):
        problem.ys[i] = 0
    problem.y, problem.ys[1], problem.ys[4] = yv.data, 1, yv.size[1]
    problem.columns = yv.size[1]
    problem.w, problem.w_group = wv.data, 0
    problem.w_depth, problem.w_column = wv.stride[depth_axis], wv.stride[1 - depth_axis]
    problem.bias = problem.packed = NULL
    plain_ending(&problem)
    problem.bias_stride = 0
    if b is not None:
        bv = view(b)
        problem.bias, problem.bias_stride = bv.data, bv.stride[0]
    if yv.size[1] > 0:
        if keeps(frozen, cnp.PyArray_NBYTES(w), pairs, xv.size[0]):
            _kept = kept_weights(&problem, w, depth_axis, frozen)  # lives as long as the call
        with nogil:
            if problem.packed != NULL or pairs or not few_rows(&problem, &xv, depth_axis == 0):
                correlate(&problem)
    return y


cdef inline bint as_pairs(cnp.ndarray a, str compute):
    """Whether bfloat16 numbers are multiplied; the mode does not concern float64."""
    return compute == "bf16" and cnp.PyArray_ITEMSIZE(a) == 4


def linear_forward(cnp.ndarray x, cnp.ndarray w, b, frozen=False, str compute="float32"):
    """x (N, I), w (O, I), b (O,) or None -> y (N, O)."""
    return product(x, w, b, 1, frozen, as_pairs(x, compute))


def linear_backward_input(cnp.ndarray dy, cnp.ndarray w, str compute="float32"):
    """dy (N, O), w (O, I) -> dx (N, I)."""
    return product(dy, w, None, 0, False, as_pairs(dy, compute))


cdef struct OneRow:
    fc_few_rows call
    const fc_kernels* kernel
    int64_t itemsize, rows, tasks


cdef void run_one_row(void* context, int64_t index) noexcept nogil:
    """Rows of dw: a few numbers of dy, a product of depth 1, times the row x."""
    cdef OneRow* one = <OneRow*> context
    cdef fc_few_rows call = one.call
    cdef int64_t row = one.rows * index // one.tasks, last = one.rows * (index + 1) // one.tasks
    while row < last:
        call.rows = min(<int64_t> FC_FEW_ROWS, last - row)
        call.x = <const char*> one.call.x + row * one.call.ldx * one.itemsize
        call.y = <char*> one.call.y + row * one.call.ldy * one.itemsize
        one.kernel.few_rows(&call)
        row += call.rows


cdef bint one_row(const View* dy, const View* x, const View* dw) noexcept nogil:
    """Write dw for a batch of one, row by row; False if it is none, or x not side by side.

    Every thread has as many rows, those whose weights it moves in the optimiser's step.
    """
    cdef OneRow one
    cdef int64_t threads = num_threads()
    if x.size[0] != 1 or x.size[1] == 0 or (x.stride[1] != 1 and x.size[1] > 1):
        return False
    one.itemsize, one.kernel = x.itemsize, kernels(x.itemsize)
    one.call.x, one.call.ldx, one.call.w, one.call.ldw = dy.data, dy.stride[1], x.data, 0
    one.call.y, one.call.ldy, one.call.bias = dw.data, dw.stride[0], NULL
    one.call.depth, one.call.columns, one.call.by_rows, one.call.far = 1, x.size[1], True, False
    one.rows = dw.size[0]
    one.tasks = ceil_div(one.rows, ceil_div(max(<int64_t> 1, TASK_WEIGHTS // x.size[1]), FC_FEW_ROWS) * FC_FEW_ROWS)
    if one.tasks > 1:
        one.tasks = ceil_div(one.tasks, threads) * threads
    parallel_for(one.tasks, run_one_row, &one)
    return True


def linear_backward_weight(cnp.ndarray dy, cnp.ndarray x, str compute="float32"):
    """dy (N, O), x (N, I) -> dw (O, I)."""
    cdef cnp.ndarray dw = empty((dy.shape[1], x.shape[1]), x.dtype, "C")
    cdef View yv = view(dy), xv = view(x), wv = view(dw)
    cdef Outer problem
    cdef int i
    set_rows(&problem.x, &xv)
    for i in range(5):
        problem.ys[i] = 0
    problem.dy, problem.ys[1], problem.ys[4] = yv.data, yv.stride[1], yv.stride[0]
    problem.columns, problem.pairs = yv.size[1], as_pairs(x, compute)
    problem.norm = NULL
    problem.dw, problem.dw_group, problem.dw_column, problem.dw_depth = wv.data, 0, wv.stride[0], 1
    with nogil:
        if problem.pairs or not one_row(&yv, &xv, &wv):
            outer_products(&problem)
    return dw
