// Block sizes per instruction set, in one place. A register tile is MR pixels x NV vectors of columns; MR * NV accumulators,
// NV weights and a broadcast must fit the registers: 32 in AVX-512 and NEON, 16 in AVX2 and SSE2 (which scalar code gets).
#pragma once
#include "simd/vec_scalar.hpp"
#if defined(FC_WITH_AVX2)
#include "simd/vec_avx2.hpp"
#endif
#if defined(FC_WITH_AVX512)
#include "simd/vec_avx512.hpp"
#endif
#if defined(FC_WITH_NEON)
#include "simd/vec_neon.hpp"
#endif

namespace fastconv {

template <class V>
struct Blocks;  // mr: pixels, nv: vectors of columns, of the register tile

#define FC_BLOCKS(vec, pixels, vectors)       \
    template <>                               \
    struct Blocks<vec> {                      \
        static constexpr int mr = pixels;     \
        static constexpr int nv = vectors;    \
    };

FC_BLOCKS(scalar::VecF32, 4, 2)
FC_BLOCKS(scalar::VecF64, 4, 2)
#if defined(FC_WITH_AVX2)
FC_BLOCKS(avx2::VecF32, 6, 2)
FC_BLOCKS(avx2::VecF64, 6, 2)
#endif
#if defined(FC_WITH_AVX512)
FC_BLOCKS(FC_AVX512::VecF32, 8, 2)
FC_BLOCKS(FC_AVX512::VecF64, 8, 2)
#endif
#if defined(FC_WITH_NEON)
FC_BLOCKS(neon::VecF32, 6, 4)
FC_BLOCKS(neon::VecF64, 6, 4)
#endif

#undef FC_BLOCKS

}  // namespace fastconv
