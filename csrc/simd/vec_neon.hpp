// Arm NEON (AArch64) vectors: float x 4 and double x 2. The names are those of every vec_*.hpp; vec_scalar.hpp documents them.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace fastconv {
namespace neon {

// Bytes become lanes through memory.
template <class T, class Reg, int width>
struct Bytes {
    static Reg load_bytes(const uint8_t* p, int n) {
        T lanes[width] = {};
        for (int i = 0; i < n; ++i) lanes[i] = static_cast<T>(p[i]);
        Reg a;
        std::memcpy(&a, lanes, sizeof(a));
        return a;
    }
    static void store_bytes(uint8_t* p, Reg a, int n) {
        T lanes[width];
        std::memcpy(lanes, &a, sizeof(a));
        for (int i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(lanes[i]);
    }
    static void store_bytes(uint8_t* p, Reg a) { store_bytes(p, a, width); }
};

struct VecF32 : Bytes<float, float32x4_t, 4> {
    using T = float;
    using Reg = float32x4_t;
    using Mask = uint32x4_t;
    using Index = uint8x16_t;  // bytes
    static constexpr int width = 4;

    static Reg zero() { return vdupq_n_f32(0.0f); }
    static Reg set1(T a) { return vdupq_n_f32(a); }
    static Reg load(const T* p) { return vld1q_f32(p); }
    static void store(T* p, Reg a) { vst1q_f32(p, a); }
    static void stream(T* p, Reg a) { store(p, a); }
    static void fence() {}
    static Reg load_n(const T* p, int n) {
        T lanes[4] = {0, 0, 0, 0};
        for (int i = 0; i < n; ++i) lanes[i] = p[i];
        return vld1q_f32(lanes);
    }
    static void store_n(T* p, Reg a, int n) {
        T lanes[4];
        vst1q_f32(lanes, a);
        for (int i = 0; i < n; ++i) p[i] = lanes[i];
    }
    static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
    static Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
    static Reg mul(Reg a, Reg b) { return vmulq_f32(a, b); }
    static Reg div(Reg a, Reg b) { return vdivq_f32(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
    static Reg max(Reg a, Reg b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
    static Reg min(Reg a, Reg b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
    static Reg sqrt(Reg a) { return vsqrtq_f32(a); }
    static Reg abs(Reg a) { return vabsq_f32(a); }
    static Reg round(Reg a) { return vrndnq_f32(a); }
    static Reg ldexp(Reg a, Reg n) {
        const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
        return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
    }
    static Reg exponent(Reg a) {
        const int32x4_t biased = vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_f32(a), 23));
        return vcvtq_f32_s32(vsubq_s32(biased, vdupq_n_s32(127)));
    }
    static void transpose(Reg (&r)[width]) {
        const float64x2_t a0 = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1]));
        const float64x2_t a1 = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
        const float64x2_t a2 = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3]));
        const float64x2_t a3 = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
        r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a0, a2));
        r[1] = vreinterpretq_f32_f64(vtrn1q_f64(a1, a3));
        r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a0, a2));
        r[3] = vreinterpretq_f32_f64(vtrn2q_f64(a1, a3));
    }
    static Reg load_halves(const T* low, const T* high) { return vcombine_f32(vld1_f32(low), vld1_f32(high)); }
    static Index index(const int32_t* lanes) {
        uint8_t bytes[16];
        for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(4 * lanes[i / 4] + i % 4);
        return vld1q_u8(bytes);
    }
    static Index lanes(Reg a) {
        int32_t whole[width];
        for (int i = 0; i < width; ++i) whole[i] = static_cast<int32_t>(a[i]);
        return index(whole);
    }
    static Reg permute(Reg a, Index i) { return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(a), i)); }
    static Mask greater(Reg a, Reg b) { return vcgtq_f32(a, b); }
    static Mask not_less_equal(Reg a, Reg b) { return vmvnq_u32(vcleq_f32(a, b)); }
    static Mask ordered(Reg a) { return vceqq_f32(a, a); }
    static Mask equal(Reg a, Reg b) { return vceqq_f32(a, b); }
    static Mask differ(Reg a, Reg b) { return vmvnq_u32(vceqq_f32(a, b)); }
    static bool any(Mask a) { return vmaxvq_u32(a) != 0; }
    static Mask both(Mask a, Mask b) { return vandq_u32(a, b); }
    static Reg select(Mask m, Reg a, Reg b) { return vbslq_f32(m, a, b); }
    static Mask bytes_equal(const uint8_t* p, uint8_t b) {
        uint32_t bytes;
        std::memcpy(&bytes, p, sizeof(bytes));
        const uint16x8_t words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
        return vceqq_u32(vmovl_u16(vget_low_u16(words)), vdupq_n_u32(b));
    }
    static Reg pair_rows(Reg first, Reg second) {
        const uint32x4_t low = vshrq_n_u32(rounded(first), 16), high = vandq_u32(rounded(second), upper());
        return vreinterpretq_f32_u32(vorrq_u32(low, high));
    }
    static Reg pair_lanes(Reg a, Reg b) { return pair_rows(vuzp1q_f32(a, b), vuzp2q_f32(a, b)); }
    static Reg dot(Reg a, Reg b, Reg c) {
        const uint32x4_t p = vreinterpretq_u32_f32(a), q = vreinterpretq_u32_f32(b);
        c = fma(vreinterpretq_f32_u32(vandq_u32(p, upper())), vreinterpretq_f32_u32(vandq_u32(q, upper())), c);
        return fma(vreinterpretq_f32_u32(vshlq_n_u32(p, 16)), vreinterpretq_f32_u32(vshlq_n_u32(q, 16)), c);
    }

  private:
    static uint32x4_t upper() { return vdupq_n_u32(0xffff0000u); }
    static uint32x4_t rounded(Reg a) {  // the upper halves are the bfloat16 numbers
        const uint32x4_t bits = vreinterpretq_u32_f32(a);
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        return vbslq_u32(ordered(a), up, vorrq_u32(bits, vdupq_n_u32(0x400000)));
    }
};

struct VecF64 : Bytes<double, float64x2_t, 2> {
    using T = double;
    using Reg = float64x2_t;
    using Mask = uint64x2_t;
    using Index = uint8x16_t;  // bytes
    static constexpr int width = 2;

    static Reg zero() { return vdupq_n_f64(0.0); }
    static Reg set1(T a) { return vdupq_n_f64(a); }
    static Reg load(const T* p) { return vld1q_f64(p); }
    static void store(T* p, Reg a) { vst1q_f64(p, a); }
    static void stream(T* p, Reg a) { store(p, a); }
    static void fence() {}
    static Reg load_n(const T* p, int n) { return n > 1 ? load(p) : n > 0 ? vsetq_lane_f64(*p, zero(), 0) : zero(); }
    static void store_n(T* p, Reg a, int n) {
        if (n > 0) p[0] = vgetq_lane_f64(a, 0);
        if (n > 1) p[1] = vgetq_lane_f64(a, 1);
    }
    static Reg add(Reg a, Reg b) { return vaddq_f64(a, b); }
    static Reg sub(Reg a, Reg b) { return vsubq_f64(a, b); }
    static Reg mul(Reg a, Reg b) { return vmulq_f64(a, b); }
    static Reg div(Reg a, Reg b) { return vdivq_f64(a, b); }
    static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f64(c, a, b); }
    static Reg max(Reg a, Reg b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
    static Reg min(Reg a, Reg b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
    static Reg sqrt(Reg a) { return vsqrtq_f64(a); }
    static Reg abs(Reg a) { return vabsq_f64(a); }
    static Reg round(Reg a) { return vrndnq_f64(a); }
    static Reg ldexp(Reg a, Reg n) {
        const int64x2_t exponent = vaddq_s64(vcvtq_s64_f64(n), vdupq_n_s64(1023));
        return vmulq_f64(a, vreinterpretq_f64_s64(vshlq_n_s64(exponent, 52)));
    }
    static Reg exponent(Reg a) {
        const int64x2_t biased = vreinterpretq_s64_u64(vshrq_n_u64(vreinterpretq_u64_f64(a), 52));
        return vcvtq_f64_s64(vsubq_s64(biased, vdupq_n_s64(1023)));
    }
    static void transpose(Reg (&r)[width]) {
        const Reg a0 = vtrn1q_f64(r[0], r[1]);
        r[1] = vtrn2q_f64(r[0], r[1]);
        r[0] = a0;
    }
    static Reg load_halves(const T* low, const T* high) { return vcombine_f64(vld1_f64(low), vld1_f64(high)); }
    static Index index(const int32_t* lanes) {
        uint8_t bytes[16];
        for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(8 * lanes[i / 8] + i % 8);
        return vld1q_u8(bytes);
    }
    static Index lanes(Reg a) {
        int32_t whole[width];
        for (int i = 0; i < width; ++i) whole[i] = static_cast<int32_t>(a[i]);
        return index(whole);
    }
    static Reg permute(Reg a, Index i) { return vreinterpretq_f64_u8(vqtbl1q_u8(vreinterpretq_u8_f64(a), i)); }
    static Mask greater(Reg a, Reg b) { return vcgtq_f64(a, b); }
    static Mask not_less_equal(Reg a, Reg b) {
        return vreinterpretq_u64_u32(vmvnq_u32(vreinterpretq_u32_u64(vcleq_f64(a, b))));
    }
    static Mask ordered(Reg a) { return vceqq_f64(a, a); }
    static Mask equal(Reg a, Reg b) { return vceqq_f64(a, b); }
    static Mask differ(Reg a, Reg b) { return vreinterpretq_u64_u32(vmvnq_u32(vreinterpretq_u32_u64(vceqq_f64(a, b)))); }
    static bool any(Mask a) { return vmaxvq_u32(vreinterpretq_u32_u64(a)) != 0; }
    static Mask both(Mask a, Mask b) { return vandq_u64(a, b); }
    static Reg select(Mask m, Reg a, Reg b) { return vbslq_f64(m, a, b); }
    static Mask bytes_equal(const uint8_t* p, uint8_t b) {
        const uint64x2_t lanes = vcombine_u64(vcreate_u64(p[0]), vcreate_u64(p[1]));
        return vceqq_u64(lanes, vdupq_n_u64(b));
    }
};

}  // namespace neon
}  // namespace fastconv
