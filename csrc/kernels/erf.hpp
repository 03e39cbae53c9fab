// The error function and the bell curve on vectors. Polynomials were fitted at Chebyshev nodes with 50 digits; their
// relative error is 9e-9 (float) and 1e-17 (double), below a sixth of an ulp. Their first coefficient is the highest.
#pragma once
#include "kernels/math.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class T>
struct ErfConstants;

// exp(-x^2 / 2) is 0 beyond `limit`. x + coarse, for x up to there, is rounded to a multiple of a power of two whose
// multiples have exact squares. `scaled`: (t + centre) erfcx(t) by 1 / (t + centre) - middle: its terms hardly cancel.
// `small`: erf(x) / x by x^2 up to 1.
template <>
struct ErfConstants<float> {
    static constexpr float limit = 20.0f, coarse = 131072.0f, centre = 1.75f, middle = 0.071428575f;
    static constexpr float scaled[] = {-55.549297f, 139.0841f,    -129.28218f, 41.73537f,  8.902598f,  -3.7454731f,
                                       -4.212258f,  -0.62799734f, 1.5467108f,  1.7826898f, 1.2179141f, 0.64266086f};
    static constexpr float small[] = {7.875875e-05f, -0.00080168643f, 0.0051890872f, -0.026854211f,
                                      0.11283594f,   -0.37612626f,    1.1283791f};
};
template <>
struct ErfConstants<double> {
    static constexpr double limit = 60.0, coarse = 4294967296.0, centre = 3.5, middle = 0.03571428571428571;
    static constexpr double scaled[] = {
        28270223326.50624,  -64133935589.681694, 61190848260.27739,  -30161444968.829613, 6834951668.250704,
        260171513.20640063, -517397256.1628173,  121989182.44206995, -22680441.805402547, 4169070.4078331897,
        483280.9440586848,  14984.668361746439,  -81805.40480457495, -40547.99308437281,  -7760.260026682956,
        2725.754056927476,  3351.71366319138,    1935.7347953245273, 855.2253884250275,   322.10432917955575,
        108.23582933558295, 33.26075089064615,   9.492579656777604,  2.5428056894638122,  0.6442523324937891};
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

// share * erfcx(factor * size) for a bounded size, where erfcx(t) = exp(t^2) erfc(t). The variable is that of Shepherd
// and Laframboise 1981, but for scale and shift.
template <class V>
static inline typename V::Reg scaled_erfc(typename V::Reg size, typename V::T factor, typename V::T share) {
    using C = ErfConstants<typename V::T>;
    const typename V::Reg distance = V::fma(size, V::set1(factor), V::set1(C::centre));
    const typename V::Reg r = V::div(V::set1(typename V::T(1)), distance);
    return V::mul(polynomial<V>(C::scaled, V::sub(r, V::set1(C::middle)), share), r);
}

// exp(-factor * size^2), factor 1 or 1/2, for a bounded size; 0 where that is not a normal number. The square is that
// of a coarse number, which is exact, and a small rest, since its own rounding would be multiplied by size^2. Where
// the result is 0, n may be beyond what ldexp knows.
template <class V>
static inline typename V::Reg gaussian(typename V::Reg size, typename V::T factor) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    using M = MathConstants<T>;
    const Reg shift = V::set1(ErfConstants<T>::coarse), coarse = V::sub(V::add(size, shift), shift);
    const Reg scaled = V::mul(coarse, V::set1(-factor)), high = V::mul(coarse, scaled);
    const Reg low = V::mul(V::sub(size, coarse), V::fma(size, V::set1(-factor), scaled));
    const Reg x = V::add(high, low), n = V::round(V::mul(x, V::set1(T(1.44269504088896340736))));
    const Reg r = V::fma(n, V::set1(-M::ln2_low), V::add(V::fma(n, V::set1(-M::ln2_high), high), low));
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
