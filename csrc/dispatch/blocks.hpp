// Block sizes per instruction set, in one place. A register tile is MR pixels x NV vectors of columns; MR * NV accumulators,
// NV weights and a broadcast must fit the registers: 32 in AVX-512 and NEON, 16 in AVX2 and SSE2 (which scalar code gets).
// Where columns suffice a tile is WIDE pixels x 2 NV vectors, if WIDE is not 0: more multiply-adds for what is loaded.
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
struct Blocks;  // mr: pixels, nv: vectors of columns, of the register tile; wide: pixels of one of 2 nv vectors

#define FC_BLOCKS(vec, pixels, vectors, most) \
    template <>                               \
    struct Blocks<vec> {                      \
        static constexpr int mr = pixels;     \
        static constexpr int nv = vectors;    \
        static constexpr int wide = most;     \
    };

FC_BLOCKS(scalar::VecF32, 4, 2, 0)
FC_BLOCKS(scalar::VecF64, 4, 2, 0)
#if defined(FC_WITH_AVX2)
FC_BLOCKS(avx2::VecF32, 6, 2, 0)
FC_BLOCKS(avx2::VecF64, 6, 2, 0)
#endif
#if defined(FC_WITH_AVX512)
FC_BLOCKS(FC_AVX512::VecF32, 8, 2, 6)
FC_BLOCKS(FC_AVX512::VecF64, 8, 2, 6)
#endif
#if defined(FC_WITH_NEON)
FC_BLOCKS(neon::VecF32, 6, 4, 0)
FC_BLOCKS(neon::VecF64, 6, 4, 0)
#endif

#undef FC_BLOCKS

// Vectors of columns of the widest register tile, and pixels of one of `vectors`.
template <class V>
constexpr int most_vectors = Blocks<V>::wide ? 2 * Blocks<V>::nv : Blocks<V>::nv;

template <class V>
constexpr int block_pixels(int vectors) {
    return vectors <= Blocks<V>::nv ? Blocks<V>::mr : Blocks<V>::wide * most_vectors<V> / vectors;
}

}  // namespace fastconv
