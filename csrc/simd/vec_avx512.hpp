// AVX-512F vectors: float x 16 and double x 8. The names are those of every vec_*.hpp; vec_scalar.hpp documents them.
// With FC_WITH_AVX512_BF16 (AVX512BW and AVX512_BF16 as well) they are types of another name, whose pairs are native.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "simd/unroll.hpp"

#if defined(FC_WITH_AVX512_BF16)
#define FC_AVX512 avx512_bf16
#else
#define FC_AVX512 avx512
#endif

namespace fastconv {
namespace FC_AVX512 {

#if defined(FC_WITH_AVX512_BF16)
alignas(64) static const int16_t kInterleave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#endif

struct VecF32 {
    using T = float;
    using Reg = __m512;
    using Mask = __mmask16;
    using Index = __m512i;
    static constexpr int width = 16;

    static Reg zero() { return _mm512_setzero_ps(); }
    static Reg set1(T a) { return _mm512_set1_ps(a); }
    static Reg load(const T* p) { return _mm512_loadu_ps(p); }
    static void store(T* p, Reg a) { _mm512_storeu_ps(p, a); }
    static Reg load_n(const T* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
    static void store_n(T* p, Reg a, int n) { _mm512_mask_storeu_ps(p, first(n), a); }
    static Reg load_halves(const T* low, const T* high) {  // an insertion would take a pipe that permutes
        return _mm512_mask_loadu_ps(_mm512_castps256_ps512(_mm256_loadu_ps(low)), 0xff00, high - width / 2);
    }
    static void stream(T* p, Reg a) { _mm512_stream_ps(p, a); }
    static void fence() { _mm_sfence(); }
    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
    static Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
    static Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
    static Reg min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
    static Reg sqrt(Reg a) { return _mm512_sqrt_ps(a); }
    static Reg abs(Reg a) { return _mm512_abs_ps(a); }
    static Reg round(Reg a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Reg ldexp(Reg a, Reg n) { return _mm512_scalef_ps(a, n); }
    static Reg exponent(Reg a) { return _mm512_getexp_ps(a); }
    static void transpose(Reg (&r)[width]) {
        Reg a[16], b[16];
        FC_UNROLL
        for (int i = 0; i < 16; i += 2) {
            a[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
            a[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
        }
        FC_UNROLL
        for (int i = 0; i < 16; i += 4) {  // b[i + q], lane l of four: column 4 l + q of rows i to i + 3
            b[i] = unpacklo_pairs(a[i], a[i + 2]);
            b[i + 1] = unpackhi_pairs(a[i], a[i + 2]);
            b[i + 2] = unpacklo_pairs(a[i + 1], a[i + 3]);
            b[i + 3] = unpackhi_pairs(a[i + 1], a[i + 3]);
        }
        FC_UNROLL
        for (int q = 0; q < 4; ++q) {
            const Reg even = _mm512_shuffle_f32x4(b[q], b[4 + q], 0x88);
            const Reg odd = _mm512_shuffle_f32x4(b[q], b[4 + q], 0xdd);
            const Reg even2 = _mm512_shuffle_f32x4(b[8 + q], b[12 + q], 0x88);
            const Reg odd2 = _mm512_shuffle_f32x4(b[8 + q], b[12 + q], 0xdd);
            r[q] = _mm512_shuffle_f32x4(even, even2, 0x88);
            r[4 + q] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
            r[8 + q] = _mm512_shuffle_f32x4(even, even2, 0xdd);
            r[12 + q] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
        }
    }
    static Index index(const int32_t* lanes) { return _mm512_loadu_si512(lanes); }
    static Index lanes(Reg a) { return _mm512_cvtps_epi32(a); }
    static Reg permute(Reg a, Index i) { return _mm512_permutexvar_ps(i, a); }
    static Mask greater(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
    static Mask not_less_equal(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ); }
    static Mask ordered(Reg a) { return _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q); }
    static Mask equal(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
    static Mask differ(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
    static bool any(Mask a) { return a != 0; }
    static Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
    static Reg select(Mask m, Reg a, Reg b) { return _mm512_mask_blend_ps(m, b, a); }
    static Reg load_bytes(const uint8_t* p, int n) {
        if (n < width) {
            uint8_t lanes[width] = {};
            std::memcpy(lanes, p, static_cast<size_t>(n));
            return load_bytes(lanes, width);
        }
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static void store_bytes(uint8_t* p, Reg a, int n) {
        const Mask lanes = n < width ? first(n) : static_cast<Mask>(0xffff);
        _mm512_mask_cvtepi32_storeu_epi8(p, lanes, _mm512_cvtps_epi32(a));
    }
    static void store_bytes(uint8_t* p, Reg a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
    }
    static Mask bytes_equal(const uint8_t* p, uint8_t b) {
        const __m512i lanes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        return _mm512_cmpeq_epi32_mask(lanes, _mm512_set1_epi32(b));
    }
#if defined(FC_WITH_AVX512_BF16)
    static Reg pair_rows(Reg first, Reg second) {
        const __m512i order = _mm512_load_si512(kInterleave);
        return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, as<__m512i>(_mm512_cvtne2ps_pbh(second, first))));
    }
    static Reg pair_lanes(Reg a, Reg b) { return as<Reg>(_mm512_cvtne2ps_pbh(b, a)); }
    static Reg dot(Reg a, Reg b, Reg c) { return _mm512_dpbf16_ps(c, as<__m512bh>(a), as<__m512bh>(b)); }
#else
    static Reg pair_rows(Reg first, Reg second) {
        const __m512i low = _mm512_srli_epi32(rounded(first), 16);
        return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_and_si512(rounded(second), upper())));
    }
    static Reg pair_lanes(Reg a, Reg b) {
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
        return pair_rows(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
    }
    static Reg dot(Reg a, Reg b, Reg c) {
        const __m512i p = _mm512_castps_si512(a), q = _mm512_castps_si512(b);
        c = fma(_mm512_castsi512_ps(_mm512_and_si512(p, upper())), _mm512_castsi512_ps(_mm512_and_si512(q, upper())), c);
        return fma(_mm512_castsi512_ps(_mm512_slli_epi32(p, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(q, 16)), c);
    }
#endif

  private:
#if defined(FC_WITH_AVX512_BF16)
    template <class To, class From>
    static To as(From a) {
        To b;
        std::memcpy(&b, &a, sizeof b);
        return b;
    }
#else
    static __m512i upper() { return _mm512_set1_epi32(-0x10000); }
    static __m512i rounded(Reg a) {  // the upper halves are the bfloat16 numbers
        const __m512i bits = _mm512_castps_si512(a);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        return _mm512_mask_mov_epi32(_mm512_or_si512(bits, _mm512_set1_epi32(0x400000)), ordered(a), up);
    }
#endif
    static Reg unpacklo_pairs(Reg a, Reg b) {
        return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    }
    static Reg unpackhi_pairs(Reg a, Reg b) {
        return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    }
    static Mask first(int n) { return static_cast<Mask>((1u << n) - 1u); }
};

struct VecF64 {
    using T = double;
    using Reg = __m512d;
    using Mask = __mmask8;
    using Index = __m512i;
    static constexpr int width = 8;

    static Reg zero() { return _mm512_setzero_pd(); }
    static Reg set1(T a) { return _mm512_set1_pd(a); }
    static Reg load(const T* p) { return _mm512_loadu_pd(p); }
    static void store(T* p, Reg a) { _mm512_storeu_pd(p, a); }
    static Reg load_n(const T* p, int n) { return _mm512_maskz_loadu_pd(first(n), p); }
    static void store_n(T* p, Reg a, int n) { _mm512_mask_storeu_pd(p, first(n), a); }
    static Reg load_halves(const T* low, const T* high) {
        return _mm512_mask_loadu_pd(_mm512_castpd256_pd512(_mm256_loadu_pd(low)), 0xf0, high - width / 2);
    }
    static void stream(T* p, Reg a) { _mm512_stream_pd(p, a); }
    static void fence() { _mm_sfence(); }
    static Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm512_sub_pd(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
    static Reg div(Reg a, Reg b) { return _mm512_div_pd(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
    static Reg max(Reg a, Reg b) { return _mm512_max_pd(a, b); }
    static Reg min(Reg a, Reg b) { return _mm512_min_pd(a, b); }
    static Reg sqrt(Reg a) { return _mm512_sqrt_pd(a); }
    static Reg abs(Reg a) { return _mm512_abs_pd(a); }
    static Reg round(Reg a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Reg ldexp(Reg a, Reg n) { return _mm512_scalef_pd(a, n); }
    static Reg exponent(Reg a) { return _mm512_getexp_pd(a); }
    static void transpose(Reg (&r)[width]) {
        Reg a[8];
        FC_UNROLL
        for (int i = 0; i < 8; i += 2) {  // a[i + q], lane l of four: column 2 l + q of rows i and i + 1
            a[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
            a[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
        }
        FC_UNROLL
        for (int q = 0; q < 2; ++q) {
            const Reg even = _mm512_shuffle_f64x2(a[q], a[2 + q], 0x88);
            const Reg odd = _mm512_shuffle_f64x2(a[q], a[2 + q], 0xdd);
            const Reg even2 = _mm512_shuffle_f64x2(a[4 + q], a[6 + q], 0x88);
            const Reg odd2 = _mm512_shuffle_f64x2(a[4 + q], a[6 + q], 0xdd);
            r[q] = _mm512_shuffle_f64x2(even, even2, 0x88);
            r[2 + q] = _mm512_shuffle_f64x2(odd, odd2, 0x88);
            r[4 + q] = _mm512_shuffle_f64x2(even, even2, 0xdd);
            r[6 + q] = _mm512_shuffle_f64x2(odd, odd2, 0xdd);
        }
    }
    static Index index(const int32_t* lanes) {
        return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes)));
    }
    static Index lanes(Reg a) { return _mm512_cvtepi32_epi64(_mm512_cvtpd_epi32(a)); }
    static Reg permute(Reg a, Index i) { return _mm512_permutexvar_pd(i, a); }
    static Mask greater(Reg a, Reg b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
    static Mask not_less_equal(Reg a, Reg b) { return _mm512_cmp_pd_mask(a, b, _CMP_NLE_UQ); }
    static Mask ordered(Reg a) { return _mm512_cmp_pd_mask(a, a, _CMP_ORD_Q); }
    static Mask equal(Reg a, Reg b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
    static Mask differ(Reg a, Reg b) { return _mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ); }
    static bool any(Mask a) { return a != 0; }
    static Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
    static Reg select(Mask m, Reg a, Reg b) { return _mm512_mask_blend_pd(m, b, a); }
    static Reg load_bytes(const uint8_t* p, int n) {
        uint8_t lanes[width] = {};
        std::memcpy(lanes, p, static_cast<size_t>(n));
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(lanes));
        return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(bytes));
    }
    static void store_bytes(uint8_t* p, Reg a, int n) {
        const __mmask16 lanes = static_cast<__mmask16>((1u << n) - 1u);
        _mm512_mask_cvtepi32_storeu_epi8(p, lanes, _mm512_castsi256_si512(_mm512_cvtpd_epi32(a)));
    }
    static void store_bytes(uint8_t* p, Reg a) {
        const __m512i lanes = _mm512_castsi256_si512(_mm512_cvtpd_epi32(a));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(lanes));
    }
    static Mask bytes_equal(const uint8_t* p, uint8_t b) {
        const __m512i lanes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
        return _mm512_cmpeq_epi64_mask(lanes, _mm512_set1_epi64(b));
    }

  private:
    static Mask first(int n) { return static_cast<Mask>((1u << n) - 1u); }
};

}  // namespace FC_AVX512
}  // namespace fastconv
