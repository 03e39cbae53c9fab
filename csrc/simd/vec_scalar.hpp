// Vectors of one element, in plain C++: the fallback for every processor, and the meaning of the names that each
// vec_*.hpp gives. The comparisons follow IEEE 754: `greater` is false where an operand is NaN, `not_less_equal` true.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fastconv {
namespace scalar {

template <class Element>
struct VecOne {
    using T = Element;
    using Reg = Element;
    using Mask = bool;
    using Index = int;
    static constexpr int width = 1;

    static Reg zero() { return 0; }
    static Reg set1(T a) { return a; }                       // every lane
    static Reg load(const T* p) { return *p; }               // `width` elements, any alignment
    static void store(T* p, Reg a) { *p = a; }
    static Reg load_n(const T* p, int n) { return n > 0 ? *p : T(0); }  // the first n lanes, 0 elsewhere; 0 <= n <= width
    static void store_n(T* p, Reg a, int n) { if (n > 0) *p = a; }      // the first n lanes; the rest is not touched
    static Reg load_halves(const T*, const T*) { return 0; }            // width / 2 lanes of each
    static void stream(T* p, Reg a) { *p = a; }  // store past the caches; p aligned to the vector, `fence` afterwards
    static void fence() {}
    static Reg add(Reg a, Reg b) { return a + b; }
    static Reg sub(Reg a, Reg b) { return a - b; }
    static Reg mul(Reg a, Reg b) { return a * b; }
    static Reg div(Reg a, Reg b) { return a / b; }
    static Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }  // fused where the instruction set has it
    static Reg max(Reg a, Reg b) { return a > b ? a : b; }     // b where either is NaN
    static Reg min(Reg a, Reg b) { return a < b ? a : b; }     // b where either is NaN
    static Reg sqrt(Reg a) { return std::sqrt(a); }
    static Reg abs(Reg a) { return std::fabs(a); }
    static Reg round(Reg a) { return std::nearbyint(a); }      // to the nearest whole number, ties to even
    static Reg ldexp(Reg a, Reg n) { return std::ldexp(a, static_cast<int>(n)); }  // a * 2^n, n whole, 2^n normal
    static Reg exponent(Reg a) { return std::logb(a); }        // e of a = m * 2^e, 1 <= m < 2; a positive and normal
    static void transpose(Reg (&)[width]) {}                   // a square of `width` vectors
    static Index index(const int32_t*) { return 0; }           // `width` lane numbers, 0 <= number < width
    static Index lanes(Reg) { return 0; }                      // lane numbers that are whole numbers of T
    static Reg permute(Reg a, Index) { return a; }             // lane l is lane number l of a
    static Mask greater(Reg a, Reg b) { return a > b; }
    static Mask not_less_equal(Reg a, Reg b) { return !(a <= b); }
    static Mask ordered(Reg a) { return a == a; }              // not NaN
    static Mask equal(Reg a, Reg b) { return a == b; }
    static Mask differ(Reg a, Reg b) { return a != b; }        // true where either is NaN
    static bool any(Mask a) { return a; }
    static Mask both(Mask a, Mask b) { return a && b; }
    static Reg select(Mask m, Reg a, Reg b) { return m ? a : b; }  // a where the mask is set
    // The first n lanes (1 <= n <= width) as bytes; they are whole numbers in [0, 255].
    static Reg load_bytes(const uint8_t* p, int) { return static_cast<T>(*p); }
    static void store_bytes(uint8_t* p, Reg a, int) { *p = static_cast<uint8_t>(a); }
    static void store_bytes(uint8_t* p, Reg a) { *p = static_cast<uint8_t>(a); }  // whole numbers in [0, 255]
    static Mask bytes_equal(const uint8_t* p, uint8_t b) { return *p == b; }      // `width` bytes

    // Only of float: a lane as a pair of bfloat16, the first in the low half. Rounding is to nearest, ties to even.
    static Reg pair_rows(Reg first, Reg second) {              // lane l: (first[l], second[l])
        return from_bits(rounded(first) >> 16 | (rounded(second) & 0xffff0000u));
    }
    // Lane l: elements 2 l and 2 l + 1 of a and, behind it, b.
    static Reg pair_lanes(Reg a, Reg b) { return pair_rows(a, b); }
    // c + products of the second elements, then + products of the first ones: two fused multiply-adds.
    static Reg dot(Reg a, Reg b, Reg c) {
        const uint32_t p = bits(a), q = bits(b);
        c = fma(from_bits(p & 0xffff0000u), from_bits(q & 0xffff0000u), c);
        return fma(from_bits(p << 16), from_bits(q << 16), c);
    }

  private:
    static uint32_t bits(Reg a) {
        uint32_t b;
        std::memcpy(&b, &a, sizeof b);
        return b;
    }
    static Reg from_bits(uint32_t b) {
        Reg a;
        std::memcpy(&a, &b, sizeof a);
        return a;
    }
    static uint32_t rounded(Reg a) {  // the upper half is the bfloat16
        const uint32_t b = bits(a);
        return a == a ? b + 0x7fff + (b >> 16 & 1) : b | 0x400000;
    }
};

using VecF32 = VecOne<float>;
using VecF64 = VecOne<double>;

}  // namespace scalar
}  // namespace fastconv
