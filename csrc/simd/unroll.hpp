// FC_UNROLL before a loop over a register tile: its arrays live in registers only where the loop is unrolled whole.
#pragma once
#if defined(__clang__)
#define FC_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define FC_UNROLL _Pragma("GCC unroll 32")
#else
#define FC_UNROLL
#endif
