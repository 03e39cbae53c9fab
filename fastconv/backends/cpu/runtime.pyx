"""The runtime as Python and Cython see it: the number of threads, and NumPy arrays whose memory comes from the pool.

The pools themselves are C++ (csrc/runtime), linked into this extension alone. Other extensions cimport
``parallel_for``, ``workspace`` and ``empty`` from here. No kernel lives here.
"""

cimport cython
cimport numpy as cnp
from cpython.ref cimport Py_INCREF
from libc.stdint cimport PTRDIFF_MAX, int64_t, intptr_t, uint64_t

import numpy as np

from fastconv import config
from fastconv.errors import ArgumentError, DTypeError, ShapeError, mismatch
from fastconv.arguments import integer

cnp.import_array()

cdef extern from "fastconv/runtime.h" nogil:
    enum: FC_MAX_THREADS
    void fc_parallel_for(int64_t count, fc_task task, void* context)
    void fc_set_num_threads(int threads)
    int fc_get_num_threads()
    void* fc_workspace(size_t nbytes)
    size_t fc_workspace_bytes()
    void* fc_alloc(size_t nbytes)
    void fc_free(void* block, size_t nbytes)
    void fc_empty_cache()
    size_t fc_cached_bytes()
    size_t fc_allocated_bytes()
    uint64_t fc_float_state()
    void fc_set_float_state(uint64_t state)

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        type subtype, cnp.dtype descr, int rank, cnp.npy_intp* sizes, cnp.npy_intp* strides, void* data, int flags,
        object template,
    )

cdef extern from "pythread.h" nogil:
    unsigned long PyThread_get_thread_ident()

cdef enum:
    POOLED_BYTES = 4096  # smaller arrays come from NumPy's own small cache
    MAX_AXES = 32

cdef void parallel_for(int64_t count, fc_task task, void* context) noexcept nogil:
    fc_parallel_for(count, task, context)


cdef void* workspace(size_t nbytes) noexcept nogil:
    return fc_workspace(nbytes)


cdef void* allocate(size_t nbytes) noexcept nogil:
    return fc_alloc(nbytes)


cdef void release(void* block, size_t nbytes) noexcept nogil:
    if block != NULL:
        fc_free(block, nbytes)


cdef int num_threads() noexcept nogil:
    return fc_get_num_threads()


def set_num_threads(n):
    """Set how many threads an operation may use; 1 runs everything in the calling thread.

    Results do not depend on it. The default is FASTCONV_NUM_THREADS, or the processors that the process may use.

    Args:
        n: a whole number from 1 to 4096; it may exceed the number of processors.

    Raises:
        ArgumentError: ``n`` is not such a number.

    >>> before = get_num_threads()
    >>> set_num_threads(2)
    >>> get_num_threads()
    2
    >>> set_num_threads(before)
    """
    threads = integer("set_num_threads", "n", n, 1)
    if threads > FC_MAX_THREADS:
        raise ArgumentError(mismatch("set_num_threads", f"n <= {FC_MAX_THREADS}", threads))
    fc_set_num_threads(threads)


def get_num_threads():
    """Return how many threads an operation may use."""
    return fc_get_num_threads()


_emptied = []


def on_empty_cache(action):
    """Have ``action()`` called by ``empty_cache``, before the buffer pool is emptied."""
    _emptied.append(action)


def empty_cache():
    """Give memory that is kept for future arrays and calls back to the system."""
    for action in _emptied:
        action()
    with nogil:
        fc_empty_cache()


def cached_bytes():
    """Return how many bytes are kept for future arrays."""
    return fc_cached_bytes()


def allocated_bytes():
    """Return how many bytes living arrays have taken from the pool."""
    return fc_allocated_bytes()


def workspace_bytes():
    """Return how many bytes of scratch memory all threads hold."""
    return fc_workspace_bytes()


# ------------------------------------------------------------------------------------------------- arrays


@cython.final
@cython.freelist(64)
cdef class Buffer:
    """A block of the pool: the ``base`` of an array. The block goes back when the array and its views have gone."""

    cdef void* data
    cdef size_t nbytes

    def __dealloc__(self):
        fc_free(self.data, self.nbytes)


cpdef object empty(tuple shape, object dtype, str order="C"):
    """Return an array of undefined content whose memory comes from the pool.

    Args:
        shape: the logical shape.
        dtype: anything that ``numpy.dtype`` takes, except dtypes that hold objects.
        order: how elements lie in memory: ``"C"``, or ``"channels_last"`` for a shape (N, C, spatial...): N slowest,
            then the spatial axes, C fastest. The shape stays logical; only the strides differ.

    Raises:
        ArgumentError: another order. ShapeError: a size that is negative, or fewer than two axes for channels_last.
        DTypeError: a dtype that holds objects. MemoryError: memory is short.

    >>> empty((2, 3, 4, 5), "float32").strides
    (240, 80, 20, 4)
    >>> empty((2, 3, 4, 5), "float32", "channels_last").strides
    (240, 4, 60, 12)
    """
    cdef int axes[MAX_AXES]
    cdef int rank = _rank(shape)
    cdef int k
    for k in range(rank):
        axes[k] = k
    if order == "channels_last":
        if rank < 2:
            raise ShapeError(mismatch("empty", "shape (N, C, ...) for order='channels_last'", shape))
        for k in range(1, rank - 1):
            axes[k] = k + 1
        axes[rank - 1] = 1
    elif order != "C":
        raise ArgumentError(mismatch("empty", "order to be 'C' or 'channels_last'", repr(order)))
    return _empty(shape, rank, dtype, axes)


cpdef object empty_permuted(tuple shape, object dtype, tuple axes):
    """Return ``empty`` with its axes in any memory order, given from the slowest to the fastest.

    Raises:
        ArgumentError: ``axes`` is not a permutation of the axes of ``shape``. Otherwise as ``empty``.

    >>> empty_permuted((2, 3, 4), "float64", (2, 0, 1)).strides
    (24, 8, 48)
    """
    cdef int order[MAX_AXES]
    cdef int rank = _rank(shape)
    cdef int k
    if sorted(axes) != list(range(rank)):
        raise ArgumentError(mismatch("empty_permuted", f"axes to be a permutation of {rank} axes", axes))
    for k in range(rank):
        order[k] = axes[k]
    return _empty(shape, rank, dtype, order)


cdef int _rank(tuple shape) except -1:
    if len(shape) > MAX_AXES:
        raise ShapeError(mismatch("empty", f"shape of at most {MAX_AXES} axes", f"{len(shape)} axes"))
    return <int>len(shape)


cdef object _empty(tuple shape, int rank, object dtype, const int* slowest_first):
    cdef cnp.dtype descr = dtype if isinstance(dtype, cnp.dtype) else np.dtype(dtype)
    cdef cnp.npy_intp sizes[MAX_AXES]
    cdef cnp.npy_intp strides[MAX_AXES]
    cdef cnp.npy_intp stride = descr.itemsize
    cdef bint nothing = False
    cdef int k, axis
    if descr.type_num > cnp.NPY_CLONGDOUBLE and descr.hasobject:  # no number
        raise DTypeError(mismatch("empty", "dtype without objects", descr))
    for k in range(rank - 1, -1, -1):
        axis = slowest_first[k]
        sizes[axis] = shape[axis]
        if sizes[axis] < 0:
            raise ShapeError(mismatch("empty", "shape without negative sizes", shape))
        strides[axis] = stride
        if sizes[axis] == 0:
            nothing = True
        elif stride > PTRDIFF_MAX // 2 // sizes[axis]:
            raise MemoryError(f"empty: no memory for shape {shape} of {descr}")
        else:
            stride *= sizes[axis]

    cdef Buffer buffer = None
    if stride >= POOLED_BYTES and not nothing:
        buffer = Buffer.__new__(Buffer)
        buffer.nbytes = stride
        buffer.data = fc_alloc(stride)
        if buffer.data == NULL:
            raise MemoryError(f"empty: no memory for shape {shape} of {descr}")
    Py_INCREF(descr)  # PyArray_NewFromDescr takes over a reference
    cdef cnp.ndarray array = PyArray_NewFromDescr(
        cnp.ndarray, descr, rank, sizes, strides, NULL if buffer is None else buffer.data, cnp.NPY_ARRAY_BEHAVED, None
    )
    if buffer is not None:
        cnp.set_array_base(array, buffer)
    return array


# ------------------------------------------------------------------------------- what the tests look through

cdef struct Probe:
    int64_t inner
    int64_t* visits  # (count, max(inner, 1))
    int64_t* thread  # (count,)
    uint64_t* state  # (count,)
    double* subnormal  # (count, 2)


cdef struct InnerProbe:
    int64_t* visits


cdef void _inner_probe_task(void* context, int64_t index) noexcept nogil:
    (<InnerProbe*>context).visits[index] += 1


cdef void _probe_task(void* context, int64_t index) noexcept nogil:
    cdef Probe* probe = <Probe*>context
    cdef InnerProbe inner
    inner.visits = probe.visits + index * max(probe.inner, <int64_t>1)
    probe.state[index] = fc_float_state()
    probe.thread[index] = <int64_t>PyThread_get_thread_ident()
    probe.subnormal[2 * index] *= 2.0
    probe.subnormal[2 * index + 1] *= 0.5
    if probe.inner == 0:
        inner.visits[0] += 1
    else:
        fc_parallel_for(probe.inner, _inner_probe_task, &inner)


def _probe(int64_t count, int64_t inner=0, state=None):
    """Run ``count`` tasks, each a nested region of ``inner`` if that is positive, and tell what they saw.

    The caller's floating-point state is set to ``state`` for the time of the call. Returns a dict: ``visits`` of each
    (nested) index; ``thread`` and ``state`` in each task; ``products`` (count, 2) of a subnormal number times 2, and of
    the smallest normal number times 0.5; ``before`` and ``after``, the caller's floating-point state around the region.
    """
    rows = max(count, 0)
    cdef cnp.ndarray visits = np.zeros((rows, max(inner, 1)), np.int64)
    cdef cnp.ndarray thread = np.zeros(rows, np.int64)
    cdef cnp.ndarray states = np.zeros(rows, np.uint64)
    cdef cnp.ndarray products = np.full((rows, 2), (5e-324, 2.2250738585072014e-308))
    cdef Probe probe
    probe.inner = inner
    probe.visits = <int64_t*>cnp.PyArray_DATA(visits)
    probe.thread = <int64_t*>cnp.PyArray_DATA(thread)
    probe.state = <uint64_t*>cnp.PyArray_DATA(states)
    probe.subnormal = <double*>cnp.PyArray_DATA(products)
    cdef bint change = state is not None
    cdef uint64_t own = fc_float_state()
    cdef uint64_t wanted = state if change else own
    cdef uint64_t before, after
    with nogil:
        if change:
            fc_set_float_state(wanted)
        before = fc_float_state()
        fc_parallel_for(count, _probe_task, &probe)
        after = fc_float_state()
        if change:
            fc_set_float_state(own)
    return {
        "visits": visits, "thread": thread, "state": states, "products": products, "before": before, "after": after
    }


cdef void _empty_task(void* context, int64_t index) noexcept nogil:
    pass


def _empty_regions(int64_t count, int64_t regions):
    """Run ``regions`` parallel regions of ``count`` tasks that do nothing, one after the other: what a region costs."""
    cdef int64_t _i
    with nogil:
        for _i in range(regions):
            fc_parallel_for(count, _empty_task, NULL)


def _probe_workspace(size_t nbytes):
    """Return the address of this thread's workspace after asking for ``nbytes``, and the bytes of all workspaces."""
    return <intptr_t>fc_workspace(nbytes), fc_workspace_bytes()


set_num_threads(config.num_threads())
