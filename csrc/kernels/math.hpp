// Exponentials and logarithms on vectors: argument reduction and a Taylor series, its remainder below half an ulp on
// the reduced range. Results that would be subnormal are 0 where the caller flushes them.
#pragma once
#include <cmath>
#include <limits>

#include "simd/unroll.hpp"

namespace fastconv {

template <class T>
struct MathConstants;

// exp is 0 below `lowest`, a normal number above `normal`, infinite above `highest`; tanh(saturated) rounds to 1.
// ln 2 = ln2_high + ln2_low; n * ln2_high is exact (Cody and Waite). `exp_series`: of
// (exp(r) - 1 - r) / r^2, the first coefficient is the highest.
template <>
struct MathConstants<float> {
    static constexpr float lowest = -104.0f, highest = 89.0f, normal = -87.33654f, saturated = 10.0f;
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float exp_series[] = {1.98412698e-4f, 1.38888889e-3f, 8.33333333e-3f,
                                           4.16666667e-2f, 1.66666667e-1f, 0.5f};
    static constexpr int log1p_terms = 8, log_terms = 5;
};
template <>
struct MathConstants<double> {
    static constexpr double lowest = -746.0, highest = 710.0, normal = -708.39641853226408, saturated = 20.0;
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr double exp_series[] = {
        1.6059043836821614599e-10, 2.0876756987868098979e-09, 2.5052108385441718775e-08, 2.7557319223985890653e-07,
        2.7557319223985890653e-06, 2.4801587301587301587e-05, 1.9841269841269841270e-04, 1.3888888888888888889e-03,
        8.3333333333333333333e-03, 4.1666666666666666667e-02, 1.6666666666666666667e-01, 0.5};
    static constexpr int log1p_terms = 16, log_terms = 11;
};

// share * p(x), for a power of two; the first coefficient is the highest.
template <class V, int N>
static inline typename V::Reg polynomial(const typename V::T (&coefficients)[N], typename V::Reg x,
                                         typename V::T share = 1) {
    typename V::Reg p = V::set1(share * coefficients[0]);
    FC_UNROLL
    for (int k = 1; k < N; ++k) p = V::fma(p, x, V::set1(share * coefficients[k]));
    return p;
}

// a b - p, which is exact where p is the rounded product.
template <class V>
static inline typename V::Reg product_rest(typename V::Reg a, typename V::Reg b, typename V::Reg p) {
    if constexpr (V::width == 1) {
        return std::fma(a, b, -p);
    } else {
        return V::fma(a, b, V::sub(V::zero(), p));
    }
}

// exp(r) - 1 for |r| <= ln 2 / 2, accurate relative to itself.
template <class V>
static inline typename V::Reg expm1_series(typename V::Reg r) {
    return V::fma(V::mul(r, r), polynomial<V>(MathConstants<typename V::T>::exp_series, r), r);
}

// x = n ln 2 + r with |r| <= ln 2 / 2: sets n, returns exp(r) - 1.
template <class V>
static inline typename V::Reg reduced_expm1(typename V::Reg x, typename V::Reg& n) {
    using T = typename V::T;
    using C = MathConstants<T>;
    n = V::round(V::mul(x, V::set1(T(1.44269504088896340736))));
    return expm1_series<V>(V::fma(n, V::set1(-C::ln2_low), V::fma(n, V::set1(-C::ln2_high), x)));
}

// a * 2^n, where 2^n alone may not be a normal number.
template <class V>
static inline typename V::Reg ldexp_far(typename V::Reg a, typename V::Reg n) {
    const typename V::Reg half = V::round(V::mul(n, V::set1(typename V::T(0.5))));
    return V::ldexp(V::ldexp(a, half), V::sub(n, half));
}

template <class V>
static inline typename V::Reg exp(typename V::Reg x) {
    using T = typename V::T;
    using C = MathConstants<T>;
    typename V::Reg n;
    x = V::min(V::set1(C::highest), V::max(V::set1(C::lowest), x));  // NaN stays
    const typename V::Reg power = V::add(V::set1(T(1)), reduced_expm1<V>(x, n));
    return ldexp_far<V>(power, n);
}

// exp(x) for x <= 80; 0 where that is not a normal number.
template <class V>
static inline typename V::Reg exp_below(typename V::Reg x) {
    using T = typename V::T;
    const typename V::Reg normal = V::set1(MathConstants<T>::normal);
    typename V::Reg n;
    const typename V::Reg power = V::add(V::set1(T(1)), reduced_expm1<V>(V::max(normal, x), n));  // NaN stays
    return V::select(V::greater(normal, x), V::zero(), V::ldexp(power, n));
}

template <class V>
static inline typename V::Reg tanh(typename V::Reg x) {
    using T = typename V::T;
    const typename V::Reg one = V::set1(T(1)), two = V::set1(T(2));
    typename V::Reg n;
    const typename V::Reg size = V::min(V::set1(MathConstants<T>::saturated), V::abs(x));
    const typename V::Reg q = reduced_expm1<V>(V::mul(two, size), n);
    const typename V::Reg power = V::ldexp(one, n);
    const typename V::Reg expm1 = V::fma(power, q, V::sub(power, one));
    const typename V::Reg y = V::div(expm1, V::add(expm1, two));
    const typename V::Reg odd = V::select(V::greater(V::zero(), x), V::sub(V::zero(), y), y);
    return V::select(V::greater(V::abs(x), V::zero()), odd, x);  // -0 and NaN are their own
}

// 1 / (1 + exp(-x)); small results keep their relative precision.
template <class V>
static inline typename V::Reg sigmoid(typename V::Reg x) {
    const typename V::Reg one = V::set1(typename V::T(1));
    const typename V::Reg small = exp_below<V>(V::sub(V::zero(), V::abs(x)));
    return V::div(V::select(V::greater(V::zero(), x), small, one), V::add(one, small));
}

// log(1 + u) = 2 artanh(s), s = u / (2 + u), for 0 <= u <= 1, accurate relative to itself.
template <class V>
static inline typename V::Reg log1p(typename V::Reg u) {
    using T = typename V::T;
    constexpr int terms = MathConstants<T>::log1p_terms;
    const typename V::Reg s = V::div(u, V::add(V::set1(T(2)), u)), z = V::mul(s, s), twice = V::add(s, s);
    typename V::Reg p = V::set1(T(1) / T(2 * terms + 1));
    FC_UNROLL
    for (int k = terms - 1; k >= 1; --k) p = V::fma(p, z, V::set1(T(1) / T(2 * k + 1)));
    return V::fma(V::mul(twice, z), p, twice);
}

// m 2^e with m within sqrt(2) of 1.
template <class V>
struct Binary {
    typename V::Reg m, e;
};

template <class V>
static inline Binary<V> binary(typename V::Reg a) {
    using T = typename V::T;
    const typename V::Reg e = V::exponent(a), m = ldexp_far<V>(a, V::sub(V::zero(), e));
    const typename V::Mask large = V::greater(m, V::set1(T(1.41421356237309504880)));
    return {V::select(large, V::mul(m, V::set1(T(0.5))), m), V::select(large, V::add(e, V::set1(T(1))), e)};
}

// log(a): NaN below 0, minus infinity of 0. With a = 2^e (1 + f), 1 + f within sqrt(2) of 1, and s = f / (2 + f), it is
// e ln 2 + f - f^2 / 2 + s (f^2 / 2 + 2/3 s^2 + 2/5 s^4 + ...), whose largest terms are exact.
template <class V>
static inline typename V::Reg log(typename V::Reg a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    using C = MathConstants<T>;
    const Reg zero = V::zero(), half = V::set1(T(0.5)), infinity = V::set1(std::numeric_limits<T>::infinity());
    const Binary<V> parts = binary<V>(a);
    const Reg f = V::sub(parts.m, V::set1(T(1))), s = V::div(f, V::add(V::set1(T(2)), f)), z = V::mul(s, s);
    Reg p = V::set1(T(2) / T(2 * C::log_terms + 1));
    FC_UNROLL
    for (int k = C::log_terms - 1; k >= 1; --k) p = V::fma(p, z, V::set1(T(2) / T(2 * k + 1)));
    const Reg square = V::mul(half, V::mul(f, f));
    const Reg rest = V::fma(parts.e, V::set1(C::ln2_low), V::mul(s, V::fma(p, z, square)));
    const Reg y = V::fma(parts.e, V::set1(C::ln2_high), V::sub(f, V::sub(square, rest)));
    const Reg outside = V::select(V::equal(a, zero), V::sub(zero, infinity), V::set1(std::numeric_limits<T>::quiet_NaN()));
    return V::select(V::greater(a, zero), V::select(V::equal(a, infinity), a, y), outside);
}

// log(1 + exp(x)), which never overflows.
template <class V>
static inline typename V::Reg softplus(typename V::Reg x) {
    const typename V::Reg rest = log1p<V>(exp_below<V>(V::sub(V::zero(), V::abs(x))));
    return V::add(V::max(V::zero(), x), rest);
}

}  // namespace fastconv
