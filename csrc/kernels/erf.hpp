// The error function and the bell curve on vectors. The polynomial and the rational function were fitted at Chebyshev nodes
// with 60 digits; their relative error is 9e-9 (float) and 1e-17 (double), below a sixth of an ulp. First coefficients are
// the highest.
#pragma once
#include "kernels/math.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class T>
struct ErfConstants;

// exp(-x^2 / 2) is 0 beyond `limit`. `above` / `below` is erfcx(t) where exp(-t^2) is not 0: no term cancels another.
// `small`: erf(x) / x by x^2 up to 1.
template <>
struct ErfConstants<float> {
    static constexpr float limit = 20.0f;
    static constexpr float above[] = {0.0321609965f, 0.226181172f, 0.725218652f, 1.23229768f, 1.0f};
    static constexpr float below[] = {0.0570030715f, 0.400925227f, 1.31345048f, 2.38894952f, 2.36067736f, 1.0f};
    static constexpr float small[] = {7.875875e-05f, -0.00080168643f, 0.0051890872f, -0.026854211f,
                                      0.11283594f,   -0.37612626f,    1.1283791f};
};
template <>
struct ErfConstants<double> {
    static constexpr double limit = 60.0;
    static constexpr double above[] = {
        3.086267990551116034e-06, 7.776228100742734365e-05, 0.0009635841377396816192, 0.007670261378616293676,
        0.04330122072829673239, 0.1813298168108882199, 0.5736808242288724573, 1.371147910447162313,
        2.431152736382496873, 3.059943628640852768, 2.482399859083992011, 1.0};
    static constexpr double below[] = {
        5.470267584778870012e-06, 0.0001378300544267907136, 0.001710643549402277377, 0.01366409934510618847,
        0.07760063450587863726, 0.3281274091416660553, 1.054350379057681389, 2.584370429555844775,
        4.781252637331953145, 6.49441060764819965, 6.134271458767228465, 3.610779026179504579,
        1.0};
    static constexpr double small[] = {
        -7.795898827002142e-10, 1.3720064546777686e-08, -1.6208483801871705e-07, 1.6447424703317362e-06,
        -1.492473690741966e-05, 0.00012055294904839707, -0.0008548325975389692,  0.0052239776071164225,
        -0.02686617064323777,   0.11283791670945006,    -0.37612638903183543,    1.1283791670955126};
};

// |x|, bounded so that its square is finite.
template <class V>
static inline typename V::Reg bounded_size(typename V::Reg x) {
    return V::min(V::set1(ErfConstants<typename V::T>::limit), V::abs(x));  // NaN stays
}

// share * erfcx(factor * size) for a bounded size, where erfcx(t) = exp(t^2) erfc(t).
template <class V>
static inline typename V::Reg scaled_erfc(typename V::Reg size, typename V::T factor, typename V::T share) {
    using C = ErfConstants<typename V::T>;
    const typename V::Reg t = V::mul(size, V::set1(factor));
    return V::div(polynomial<V>(C::above, t, share), polynomial<V>(C::below, t));
}

// exp(-factor * size^2), factor 1 or 1/2, for a bounded size; 0 where that is not a normal number. The square's rounding
// counts, since it would be multiplied by size^2. Where the result is 0, n may be beyond what ldexp knows.
template <class V>
static inline typename V::Reg gaussian(typename V::Reg size, typename V::T factor) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    using M = MathConstants<T>;
    const Reg scaled = V::mul(size, V::set1(-factor)), x = V::mul(size, scaled), low = product_rest<V>(size, scaled, x);
    const Reg n = V::round(V::mul(x, V::set1(T(1.44269504088896340736))));
    const Reg r = V::fma(n, V::set1(-M::ln2_low), V::add(V::fma(n, V::set1(-M::ln2_high), x), low));
    const Reg power = V::ldexp(V::add(V::set1(T(1)), expm1_series<V>(r)), n);
    return V::select(V::greater(V::set1(M::normal), x), V::zero(), power);
}

template <class V>
static inline typename V::Reg erf(typename V::Reg x) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const Reg one = V::set1(T(1)), size = bounded_size<V>(x);
    const Reg small = V::mul(x, polynomial<V>(ErfConstants<T>::small, V::mul(x, x)));
    const Reg large = V::sub(one, V::mul(gaussian<V>(size, T(1)), scaled_erfc<V>(size, T(1), T(1))));
    const Reg odd = V::select(V::greater(V::zero(), x), V::sub(V::zero(), large), large);
    return V::select(V::greater(one, size), small, odd);
}

}  // namespace fastconv
