// Squares of 16 x 16 bytes. Not a Vec: every processor's smallest vectors do.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "simd/unroll.hpp"

namespace fastconv {

// The bytes of a's and b's first (zip_low) or last (zip_high) halves in turn.
#if defined(__SSE2__) || defined(_M_X64)
using Bytes16 = __m128i;
static FC_INLINE Bytes16 zip_low(Bytes16 a, Bytes16 b) { return _mm_unpacklo_epi8(a, b); }
static FC_INLINE Bytes16 zip_high(Bytes16 a, Bytes16 b) { return _mm_unpackhi_epi8(a, b); }
#elif defined(__aarch64__)
using Bytes16 = uint8x16_t;
static FC_INLINE Bytes16 zip_low(Bytes16 a, Bytes16 b) { return vzip1q_u8(a, b); }
static FC_INLINE Bytes16 zip_high(Bytes16 a, Bytes16 b) { return vzip2q_u8(a, b); }
#else
struct Bytes16 {
    uint8_t lane[16];
};
static inline Bytes16 zip_from(const Bytes16& a, const Bytes16& b, int from) {
    Bytes16 both;
    for (int i = 0; i < 8; ++i) both.lane[2 * i] = a.lane[from + i], both.lane[2 * i + 1] = b.lane[from + i];
    return both;
}
static inline Bytes16 zip_low(const Bytes16& a, const Bytes16& b) { return zip_from(a, b, 0); }
static inline Bytes16 zip_high(const Bytes16& a, const Bytes16& b) { return zip_from(a, b, 8); }
#endif

// dst[i * ld + j] = src[i + j * sj] for 0 <= i, j < 16. Each round moves a bit of the row's number to the column's.
static inline void transpose_square(const uint8_t* src, int64_t sj, uint8_t* dst, int64_t ld) {
    Bytes16 a[16], b[16];
    FC_UNROLL
    for (int j = 0; j < 16; ++j) std::memcpy(&a[j], src + j * sj, 16);
    FC_UNROLL
    for (int round = 0; round < 4; ++round) {
        FC_UNROLL
        for (int j = 0; j < 8; ++j) b[2 * j] = zip_low(a[j], a[j + 8]), b[2 * j + 1] = zip_high(a[j], a[j + 8]);
        FC_UNROLL
        for (int j = 0; j < 16; ++j) a[j] = b[j];
    }
    FC_UNROLL
    for (int i = 0; i < 16; ++i) std::memcpy(dst + i * ld, &a[i], 16);
}

}  // namespace fastconv
