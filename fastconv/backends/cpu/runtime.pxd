# What other extensions use of the runtime (csrc/include/fastconv/runtime.h). They call it through this module and do
# not link it themselves: one thread pool and one buffer pool in the process.

from libc.stdint cimport int64_t

ctypedef void (*fc_task)(void* context, int64_t index) noexcept nogil

# Run task(context, i) once for each i in [0, count), on several threads; return when all have finished. Denormals are
# flushed in tasks; the caller's floating-point state is as before afterwards.
cdef void parallel_for(int64_t count, fc_task task, void* context) noexcept nogil

# This thread's scratch memory, valid until its next `workspace` call; NULL if memory is short. A task may run on the
# thread that called parallel_for: do not hold a workspace across a region whose tasks use theirs.
cdef void* workspace(size_t nbytes) noexcept nogil

# New arrays on pooled memory, of undefined content; MemoryError if memory is short.
cpdef object empty(tuple shape, object dtype, str order=*)
cpdef object empty_permuted(tuple shape, object dtype, tuple axes)
cdef object _empty(tuple shape, int rank, object dtype, const int* slowest_first)

# Memory from the buffer pool (NULL if it is short), and its return with the size that was asked for.
cdef void* allocate(size_t nbytes) noexcept nogil
cdef void release(void* block, size_t nbytes) noexcept nogil

# How many threads a parallel region may use.
cdef int num_threads() noexcept nogil
