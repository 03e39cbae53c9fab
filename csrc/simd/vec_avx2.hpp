// AVX2 + FMA vectors: float x 8 and double x 4. The names are those of every vec_*.hpp; vec_scalar.hpp documents them.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "simd/unroll.hpp"

namespace fastconv {
namespace avx2 {

// A window of this table starting at `width - n` has its first n lanes set.
alignas(32) static const int32_t kFirstLanes32[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
alignas(32) static const int64_t kFirstLanes64[8] = {-1, -1, -1, -1, 0, 0, 0, 0};

struct VecF32 {
    using T = float;
    using Reg = __m256;
    using Mask = __m256;
    using Index = __m256i;
    static constexpr int width = 8;

    static Reg zero() { return _mm256_setzero_ps(); }
    static Reg set1(T a) { return _mm256_set1_ps(a); }
    static Reg load(const T* p) { return _mm256_loadu_ps(p); }
    static void store(T* p, Reg a) { _mm256_storeu_ps(p, a); }
    static Reg load_n(const T* p, int n) { return _mm256_maskload_ps(p, first(n)); }
    static void store_n(T* p, Reg a, int n) { _mm256_maskstore_ps(p, first(n), a); }
    static Reg load_halves(const T* low, const T* high) {
        return _mm256_setr_m128(_mm_loadu_ps(low), _mm_loadu_ps(high));
    }
    static void stream(T* p, Reg a) { _mm256_stream_ps(p, a); }
    static void fence() { _mm_sfence(); }
    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
    static Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
    static Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
    static Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
    static Reg sqrt(Reg a) { return _mm256_sqrt_ps(a); }
    static Reg abs(Reg a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
    static Reg round(Reg a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Reg ldexp(Reg a, Reg n) {
        const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
    }
    static Reg exponent(Reg a) {
        const __m256 biased = _mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_castps_si256(a), 23));
        return _mm256_sub_ps(biased, _mm256_set1_ps(127.0f));
    }
    static void transpose(Reg (&r)[width]) {
        Reg a[8], b[8];
        FC_UNROLL
        for (int i = 0; i < 8; i += 2) {
            a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        FC_UNROLL
        for (int i = 0; i < 8; i += 4) {  // b[i + q], lane l of two: column 4 l + q of rows i to i + 3
            b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
            b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
            b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
            b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
        }
        FC_UNROLL
        for (int q = 0; q < 4; ++q) {
            r[q] = _mm256_permute2f128_ps(b[q], b[4 + q], 0x20);
            r[4 + q] = _mm256_permute2f128_ps(b[q], b[4 + q], 0x31);
        }
    }
    static Index index(const int32_t* lanes) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes)); }
    static Index lanes(Reg a) { return _mm256_cvtps_epi32(a); }
    static Reg permute(Reg a, Index i) { return _mm256_permutevar8x32_ps(a, i); }
    static Mask greater(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
    static Mask not_less_equal(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_NLE_UQ); }
    static Mask ordered(Reg a) { return _mm256_cmp_ps(a, a, _CMP_ORD_Q); }
    static Mask equal(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
    static Mask differ(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
    static bool any(Mask a) { return _mm256_movemask_ps(a) != 0; }
    static Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
    static Reg select(Mask m, Reg a, Reg b) { return _mm256_blendv_ps(b, a, m); }
    static Reg load_bytes(const uint8_t* p, int n) {
        if (n < width) {
            uint8_t lanes[width] = {};
            std::memcpy(lanes, p, static_cast<size_t>(n));
            return load_bytes(lanes, width);
        }
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static void store_bytes(uint8_t* p, Reg a, int n) {
        const __m256i whole = _mm256_cvtps_epi32(a);
        const __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
        uint8_t lanes[width];
        _mm_storel_epi64(reinterpret_cast<__m128i*>(lanes), _mm_packus_epi16(half, half));
        std::memcpy(p, lanes, static_cast<size_t>(n));
    }
    static void store_bytes(uint8_t* p, Reg a) {
        const __m256i lanes = _mm256_cvtps_epi32(a);
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
    }
    static Mask bytes_equal(const uint8_t* p, uint8_t b) {
        const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
        return _mm256_castsi256_ps(_mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(b)));
    }
    static Reg pair_rows(Reg first, Reg second) {
        return _mm256_or_ps(lower(rounded(first)), upper(rounded(second)));
    }
    static Reg pair_lanes(Reg a, Reg b) {
        return pair_rows(in_order(_mm256_shuffle_ps(a, b, 0x88)), in_order(_mm256_shuffle_ps(a, b, 0xdd)));
    }
    static Reg dot(Reg a, Reg b, Reg c) {
        return fma(raise(a), raise(b), fma(upper(a), upper(b), c));
    }

  private:
    static Reg upper(Reg a) { return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-0x10000))); }
    static Reg lower(Reg a) { return _mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(a), 16)); }
    static Reg raise(Reg a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16)); }
    static Reg rounded(Reg a) {  // the upper halves are the bfloat16 numbers
        const __m256i bits = _mm256_castps_si256(a);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        return _mm256_blendv_ps(_mm256_castsi256_ps(quiet), _mm256_castsi256_ps(up), ordered(a));
    }
    static Reg in_order(Reg a) {  // what shuffles of 128-bit lanes leave as 0 2 1 3
        return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(a), 0xd8));
    }
    static __m256i first(int n) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kFirstLanes32 + width - n));
    }
};

struct VecF64 {
    using T = double;
    using Reg = __m256d;
    using Mask = __m256d;
    using Index = __m256i;
    static constexpr int width = 4;

    static Reg zero() { return _mm256_setzero_pd(); }
    static Reg set1(T a) { return _mm256_set1_pd(a); }
    static Reg load(const T* p) { return _mm256_loadu_pd(p); }
    static void store(T* p, Reg a) { _mm256_storeu_pd(p, a); }
    static Reg load_n(const T* p, int n) { return _mm256_maskload_pd(p, first(n)); }
    static void store_n(T* p, Reg a, int n) { _mm256_maskstore_pd(p, first(n), a); }
    static Reg load_halves(const T* low, const T* high) {
        return _mm256_setr_m128d(_mm_loadu_pd(low), _mm_loadu_pd(high));
    }
    static void stream(T* p, Reg a) { _mm256_stream_pd(p, a); }
    static void fence() { _mm_sfence(); }
    static Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm256_sub_pd(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
    static Reg div(Reg a, Reg b) { return _mm256_div_pd(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
    static Reg max(Reg a, Reg b) { return _mm256_max_pd(a, b); }
    static Reg min(Reg a, Reg b) { return _mm256_min_pd(a, b); }
    static Reg sqrt(Reg a) { return _mm256_sqrt_pd(a); }
    static Reg abs(Reg a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
    static Reg round(Reg a) { return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    // Adding 2^52 + 1023 leaves n + 1023 in the low bits of the mantissa: AVX2 has no conversion from double to int64.
    static Reg ldexp(Reg a, Reg n) {
        const __m256i bits = _mm256_castpd_si256(_mm256_add_pd(n, _mm256_set1_pd(4503599627370496.0 + 1023.0)));
        return _mm256_mul_pd(a, _mm256_castsi256_pd(_mm256_slli_epi64(bits, 52)));
    }
    // The biased exponent, set into the low bits of 2^52, is a double that exceeds 2^52 by its value.
    static Reg exponent(Reg a) {
        const __m256i biased = _mm256_srli_epi64(_mm256_castpd_si256(a), 52);
        const __m256d sum = _mm256_or_pd(_mm256_castsi256_pd(biased), _mm256_set1_pd(4503599627370496.0));
        return _mm256_sub_pd(sum, _mm256_set1_pd(4503599627370496.0 + 1023.0));
    }
    static void transpose(Reg (&r)[width]) {
        const Reg a0 = _mm256_unpacklo_pd(r[0], r[1]), a1 = _mm256_unpackhi_pd(r[0], r[1]);
        const Reg a2 = _mm256_unpacklo_pd(r[2], r[3]), a3 = _mm256_unpackhi_pd(r[2], r[3]);
        r[0] = _mm256_permute2f128_pd(a0, a2, 0x20);
        r[1] = _mm256_permute2f128_pd(a1, a3, 0x20);
        r[2] = _mm256_permute2f128_pd(a0, a2, 0x31);
        r[3] = _mm256_permute2f128_pd(a1, a3, 0x31);
    }
    static Index index(const int32_t* lanes) {  // each lane as its two halves, 2 i and 2 i + 1
        const __m256i wide = _mm256_cvtepi32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes)));
        const __m256i even = _mm256_slli_epi64(wide, 1);
        return _mm256_or_si256(even, _mm256_slli_epi64(_mm256_add_epi64(even, _mm256_set1_epi64x(1)), 32));
    }
    static Index lanes(Reg a) {
        int32_t whole[width];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(whole), _mm256_cvtpd_epi32(a));
        return index(whole);
    }
    static Reg permute(Reg a, Index i) {
        return _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(a), i));
    }
    static Mask greater(Reg a, Reg b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }
    static Mask not_less_equal(Reg a, Reg b) { return _mm256_cmp_pd(a, b, _CMP_NLE_UQ); }
    static Mask ordered(Reg a) { return _mm256_cmp_pd(a, a, _CMP_ORD_Q); }
    static Mask equal(Reg a, Reg b) { return _mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
    static Mask differ(Reg a, Reg b) { return _mm256_cmp_pd(a, b, _CMP_NEQ_UQ); }
    static bool any(Mask a) { return _mm256_movemask_pd(a) != 0; }
    static Mask both(Mask a, Mask b) { return _mm256_and_pd(a, b); }
    static Reg select(Mask m, Reg a, Reg b) { return _mm256_blendv_pd(b, a, m); }
    static Reg load_bytes(const uint8_t* p, int n) {
        int32_t lanes[width] = {};
        for (int i = 0; i < n; ++i) lanes[i] = p[i];
        return _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes)));
    }
    static void store_bytes(uint8_t* p, Reg a, int n) {
        int32_t lanes[width];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes), _mm256_cvtpd_epi32(a));
        for (int i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(lanes[i]);
    }
    static void store_bytes(uint8_t* p, Reg a) {
        const __m128i words = _mm_packs_epi32(_mm256_cvtpd_epi32(a), _mm_setzero_si128());
        const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
        std::memcpy(p, &bytes, sizeof(bytes));
    }
    static Mask bytes_equal(const uint8_t* p, uint8_t b) {
        int bytes;
        std::memcpy(&bytes, p, sizeof(bytes));
        const __m256i lanes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(bytes));
        return _mm256_castsi256_pd(_mm256_cmpeq_epi64(lanes, _mm256_set1_epi64x(b)));
    }

  private:
    static __m256i first(int n) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kFirstLanes64 + width - n));
    }
};

}  // namespace avx2
}  // namespace fastconv
