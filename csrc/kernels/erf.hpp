// The error function and the bell curve on vectors. Polynomials were fitted at Chebyshev nodes with 50 digits; their
// relative error is 4e-9 (float) and 1e-17 (double), below a tenth of an ulp. Their first coefficient is the highest.
#pragma once
#include "kernels/math.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class T>
struct ErfConstants;

// exp(-x^2) is 0 beyond `limit`; multiples of 1 / grid up to there have exact squares. `scaled`: (1 + 2 t) erfcx(t) by
// u = (t - 3) / (t + 3); `small`: erf(x) / x by x^2 up to 1.
template <>
struct ErfConstants<float> {
    static constexpr float limit = 20.0f, grid = 64.0f;
    static constexpr float scaled[] = {-0.0002690068f, -0.0007758974f, 0.0020097822f, 0.0025729046f,
                                       -0.023800058f,  0.068292744f,   -0.11927094f,  0.12964685f,
                                       -0.047562372f,  -0.13562116f,   1.253008f};
    static constexpr float small[] = {7.875875e-05f, -0.00080168643f, 0.0051890872f, -0.026854211f,
                                      0.11283594f,   -0.37612626f,    1.1283791f};
};
template <>
struct ErfConstants<double> {
    static constexpr double limit = 60.0, grid = 1048576.0;
    static constexpr double scaled[] = {
        -1.0672595214976916e-09, -6.467844455782987e-09, -5.756503996147508e-09, 4.1134756392158016e-08,
        8.977480611608504e-08,   -1.4410354379681688e-07, -6.056586389337659e-07, 3.6066863475424126e-07,
        3.4661596712796173e-06,  -7.34163165466839e-07,  -2.0098253837625926e-05, 4.950552349634667e-06,
        0.0001250987929274765,   -0.00010516006241299548, -0.000779832185525928,  0.0018886903981696801,
        0.002529391807900063,    -0.023770514921937647,  0.06830802734440604,    -0.11927366341516857,
        0.12964515870275026,     -0.04756229435345306,   -0.1356211061245811,    1.2530080582697296};
    static constexpr double small[] = {
        -7.795898827002142e-10, 1.3720064546777686e-08, -1.6208483801871705e-07, 1.6447424703317362e-06,
        -1.492473690741966e-05, 0.00012055294904839707, -0.0008548325975389692,  0.0052239776071164225,
        -0.02686617064323777,   0.11283791670945006,    -0.37612638903183543,    1.1283791670955126};
};

template <class V, int N>
static inline typename V::Reg polynomial(const typename V::T (&coefficients)[N], typename V::Reg x) {
    typename V::Reg p = V::set1(coefficients[0]);
    FC_UNROLL
    for (int k = 1; k < N; ++k) p = V::fma(p, x, V::set1(coefficients[k]));
    return p;
}

// erfcx(t) = exp(t^2) erfc(t) for finite t >= 0 (the form is that of Shepherd and Laframboise 1981).
template <class V>
static inline typename V::Reg scaled_erfc(typename V::Reg t) {
    using T = typename V::T;
    const typename V::Reg three = V::set1(T(3)), u = V::div(V::sub(t, three), V::add(t, three));
    return V::div(polynomial<V>(ErfConstants<T>::scaled, u), V::fma(V::set1(T(2)), t, V::set1(T(1))));
}

// exp(-factor * x^2), factor 1 or 1/2, for size = |x|; 0 where that is not a normal number. x^2 is the exact square of
// x rounded to the grid and a small rest, since its own rounding would be multiplied by x^2.
template <class V>
static inline typename V::Reg gaussian(typename V::Reg size, typename V::T factor) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    using M = MathConstants<T>;
    using C = ErfConstants<T>;
    size = V::min(V::set1(C::limit), size);  // NaN stays
    const Reg coarse = V::mul(V::round(V::mul(size, V::set1(C::grid))), V::set1(1 / C::grid));
    const Reg high = V::mul(V::mul(coarse, coarse), V::set1(-factor));
    const Reg low = V::mul(V::mul(V::sub(size, coarse), V::add(size, coarse)), V::set1(-factor));
    const Reg normal = V::set1(M::normal), x = V::add(high, low);
    const Reg n = V::round(V::mul(V::max(normal, x), V::set1(T(1.44269504088896340736))));
    const Reg r = V::fma(n, V::set1(-M::ln2_low), V::add(V::fma(n, V::set1(-M::ln2_high), high), low));
    const Reg power = V::ldexp(V::add(V::set1(T(1)), expm1_series<V>(r)), n);
    return V::select(V::greater(normal, x), V::zero(), power);
}

template <class V>
static inline typename V::Reg erf(typename V::Reg x) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const Reg zero = V::zero(), one = V::set1(T(1));
    const Reg size = V::min(V::set1(ErfConstants<T>::limit), V::abs(x));  // NaN stays
    const Reg small = V::mul(x, polynomial<V>(ErfConstants<T>::small, V::mul(x, x)));
    const Reg large = V::sub(one, V::mul(gaussian<V>(size, T(1)), scaled_erfc<V>(size)));
    const Reg odd = V::select(V::greater(zero, x), V::sub(zero, large), large);
    return V::select(V::greater(one, size), small, odd);
}

}  // namespace fastconv
