/* The run-time system under every kernel: threads, scratch memory, buffers, floating-point state. A plain C ABI.
 *
 * One copy of it lives in a process: only the extension `fastconv.backends.cpu.runtime` compiles and links
 * csrc/runtime; other extensions reach it through that module. What a task computes is not decided here. */
#ifndef FASTCONV_RUNTIME_H
#define FASTCONV_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------- threads */

enum { FC_MAX_THREADS = 4096 };

/* One piece of a parallel region. It must not throw, touch Python, or fork. */
typedef void (*fc_task)(void* context, int64_t index);

/* Run task(context, i) exactly once for each i in [0, count); return when all have finished.
 *
 * Threads that are free take the next index, the caller among them. Which thread runs which index is not
 * specified, so an index must stand for work whose result does not depend on it; make it some microseconds long.
 * Calls may be nested in tasks, and come from several threads at once. Call it without the GIL.
 * Tasks run with denormals flushed to zero, rounding to nearest and exceptions masked; the caller's
 * floating-point state, sticky flags included, is as before when the call returns. */
void fc_parallel_for(int64_t count, fc_task task, void* context);

/* The threads that one parallel region may use, its caller counted in. Values are clamped to [1, FC_MAX_THREADS].
 * Regions that have begun are not affected. */
void fc_set_num_threads(int threads);
int fc_get_num_threads(void);

/* -------------------------------------------------------------------------------------- scratch memory */

/* This thread's scratch memory: at least `bytes`, 64-byte aligned, undefined content; NULL if memory is short.
 *
 * Valid until the same thread's next fc_workspace call, and that includes one in a task that this thread runs
 * while it waits in fc_parallel_for: do not hold a workspace across a parallel region whose tasks use theirs.
 * It grows, never shrinks, and goes when the thread ends. */
void* fc_workspace(size_t bytes);

/* The bytes of all threads' workspaces. */
size_t fc_workspace_bytes(void);

/* --------------------------------------------------------------------------------------------- buffers */

/* Memory for arrays, 64-byte aligned, undefined content; NULL if memory is short even with the cache emptied.
 *
 * Sizes are rounded up to classes (by at most 12.5 %, or to a cache line); a freed block is kept and is the
 * first to be lent again in its class. Free with the size asked for. Safe to call from any thread. */
void* fc_alloc(size_t bytes);
void fc_free(void* block, size_t bytes);

/* Give the kept blocks back to the system. */
void fc_empty_cache(void);

/* Bytes kept for reuse, and bytes lent at present. Their sum stays within 5/4 of the most ever lent at once (since
 * the cache was last emptied), or within 256 MB where that is more. */
size_t fc_cached_bytes(void);
size_t fc_allocated_bytes(void);

/* -------------------------------------------------------------------------------- floating-point state */

/* This thread's floating-point control and status: MXCSR on x86, FPCR | FPSR << 32 on Arm, 0 elsewhere. */
uint64_t fc_float_state(void);
void fc_set_float_state(uint64_t state);

#ifdef __cplusplus
}
#endif
#endif
