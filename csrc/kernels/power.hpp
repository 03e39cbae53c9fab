// General powers on vectors: exp(b log |a|). What is multiplied by b is the logarithm as the sum of two numbers, since
// its relative error counts as often as the exponential's argument is large. Edge cases are those of IEEE 754's pow.
#pragma once
#include <limits>

#include "kernels/math.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// high + low, low a rounding error's size.
template <class V>
struct Sum {
    typename V::Reg high, low;
};

// a + b, where |a| >= |b| or a is 0, and the small numbers `low`.
template <class V>
static inline Sum<V> ordered_sum(typename V::Reg a, typename V::Reg b, typename V::Reg low) {
    const typename V::Reg high = V::add(a, b);
    return {high, V::add(V::add(V::sub(a, high), b), low)};
}

template <class V>
static inline Sum<V> product(const Sum<V>& a, const Sum<V>& b) {
    const typename V::Reg high = V::mul(a.high, b.high);
    return {high, V::fma(a.high, b.low, V::fma(a.low, b.high, product_rest<V>(a.high, b.high, high)))};
}

template <class T>
struct TwoThirds;  // less its rounding
template <>
struct TwoThirds<float> {
    static constexpr float rest = -1.98682148e-8f;
};
template <>
struct TwoThirds<double> {
    static constexpr double rest = 3.70074341541718826e-17;
};

// log(a) of a positive, normal number: e ln 2 + 2 s + s z (2/3 + z (2/5 + ...)), z = s^2. Terms that matter are sums.
template <class V>
static inline Sum<V> log_sum(typename V::Reg a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    using C = MathConstants<T>;
    const Reg one = V::set1(T(1)), zero = V::zero();
    const Binary<V> parts = binary<V>(a);
    const Reg f = V::sub(parts.m, one), d = V::add(parts.m, one), d_low = V::sub(parts.m, V::sub(d, one));
    const Reg inverse = V::div(one, d), part = V::mul(f, inverse), back = V::mul(part, d);
    const Reg left = V::sub(V::sub(f, back), V::fma(part, d_low, product_rest<V>(part, d, back)));
    const Sum<V> s{part, V::mul(left, inverse)}, z = product<V>(s, s);
    Reg p = V::set1(T(2) / T(2 * C::log_terms + 1));
    FC_UNROLL
    for (int k = C::log_terms - 1; k >= 2; --k) p = V::fma(p, z.high, V::set1(T(2) / T(2 * k + 1)));
    const Sum<V> series = ordered_sum<V>(V::set1(T(2) / T(3)), V::mul(p, z.high), V::set1(TwoThirds<T>::rest));
    const Sum<V> cube = product<V>(s, product<V>(z, series));
    const Sum<V> m = ordered_sum<V>(V::add(s.high, s.high), cube.high, V::add(cube.low, V::add(s.low, s.low)));
    const Reg low = V::fma(parts.e, V::set1(C::ln2_low), m.low);
    return ordered_sum<V>(V::fma(parts.e, V::set1(C::ln2_high), zero), m.high, low);
}

// exp(x.high + x.low). A low part counts only where the high one needs no bounds.
template <class V>
static inline typename V::Reg exp_sum(const Sum<V>& x) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    using C = MathConstants<T>;
    const Reg high = V::min(V::set1(C::highest), V::max(V::set1(C::lowest), x.high));  // NaN stays
    const Reg low = V::select(V::equal(high, x.high), x.low, V::zero());
    const Reg n = V::round(V::mul(high, V::set1(T(1.44269504088896340736))));
    const Reg r = V::fma(n, V::set1(-C::ln2_low), V::add(V::fma(n, V::set1(-C::ln2_high), high), low));
    return ldexp_far<V>(V::add(V::set1(T(1)), expm1_series<V>(r)), n);
}

// a^b, b = high + low.
template <class V>
static inline typename V::Reg raise(typename V::Reg a, const Sum<V>& b) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    using Mask = typename V::Mask;
    const Reg zero = V::zero(), one = V::set1(T(1)), infinity = V::set1(std::numeric_limits<T>::infinity());
    const Reg size = V::abs(a), half = V::mul(b.high, V::set1(T(0.5)));
    const Mask plain = V::both(V::greater(size, zero), V::greater(infinity, size));
    const Reg beyond = V::select(V::equal(size, zero), V::sub(zero, infinity), size);  // the logarithm of 0, infinity, NaN
    Sum<V> x = log_sum<V>(V::select(plain, size, one));
    x = {V::select(plain, x.high, beyond), V::select(plain, x.low, zero)};
    Reg y = exp_sum<V>(product<V>(b, x));
    y = V::select(V::both(V::equal(size, one), V::ordered(b.high)), one, y);  // 1^infinity
    const Mask whole = V::both(V::equal(V::round(b.high), b.high), V::equal(V::round(b.low), b.low));
    const Mask odd = V::both(whole, V::differ(V::round(half), half));
    const Reg none = V::select(V::equal(size, infinity), y, V::set1(std::numeric_limits<T>::quiet_NaN()));
    const Reg turned = V::select(odd, V::mul(V::set1(T(-1)), y), V::select(whole, y, none));  // -0 too
    y = V::select(V::greater(zero, a), turned, y);
    const Reg of_zero = V::select(V::greater(b.high, zero), a, V::div(one, a));  // of either sign
    y = V::select(V::both(V::equal(a, zero), odd), of_zero, y);
    y = V::select(V::equal(a, one), one, y);
    return V::select(V::both(V::equal(b.high, zero), V::equal(b.low, zero)), one, y);
}

}  // namespace fastconv
