// What compilers spell differently. FC_UNROLL before a loop over a register tile: its arrays live in registers only
// where the loop is unrolled whole.
#pragma once
#if defined(__clang__)
#define FC_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define FC_UNROLL _Pragma("GCC unroll 32")
#else
#define FC_UNROLL
#endif

// FC_INLINE: a piece of a kernel whose arrays are its caller's registers.
#if defined(__GNUC__) || defined(__clang__)
#define FC_INLINE inline __attribute__((always_inline))
#else
#define FC_INLINE inline
#endif

// FC_PREFETCH(p): memory at p will be read soon; p may be any address. FC_PREFETCH_OUTER(p): a little later, so that the
// second-level cache is near enough. (A macro: GCC drops calls of a function that does nothing else.)
#if defined(__GNUC__) || defined(__clang__)
#define FC_PREFETCH(p) __builtin_prefetch(p)
#define FC_PREFETCH_OUTER(p) __builtin_prefetch(p, 0, 2)
#else
#define FC_PREFETCH(p) static_cast<void>(p)
#define FC_PREFETCH_OUTER(p) static_cast<void>(p)
#endif

// The same for a lambda, after its parameters.
#if defined(__GNUC__) || defined(__clang__)
#define FC_INLINE_LAMBDA __attribute__((always_inline))
#else
#define FC_INLINE_LAMBDA
#endif

// FC_OPAQUE(p): a pointer that the compiler does not take apart again. An operand in memory at a base and an index is two
// instructions for many a processor, at a base alone half of one.
#if defined(__GNUC__) || defined(__clang__)
#define FC_OPAQUE(p) __asm__("" : "+r"(p))
#else
#define FC_OPAQUE(p) static_cast<void>(0)
#endif
