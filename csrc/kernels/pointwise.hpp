// Functions of one variable with their slopes: a struct a kind. An element's bits do not depend on its place. The kinds
// and their parameters are those of include/fastconv/elementwise.h; what they cost in accuracy is in
// tests/backends/cpu/test_pointwise_kernels.py.
#pragma once
#include <cmath>
#include <cstdint>

#include "fastconv/elementwise.h"
#include "kernels/elementwise.hpp"
#include "kernels/erf.hpp"
#include "kernels/math.hpp"
#include "kernels/power.hpp"

namespace fastconv {
namespace pointwise {

template <class V>
struct Parameters {
    typename V::Reg a, b;

    explicit Parameters(const fc_map* map)
        : a(V::set1(static_cast<typename V::T>(map->scalar[0]))), b(V::set1(static_cast<typename V::T>(map->scalar[1]))) {}
};

// What each kind sees of V.
#define FC_NAMES                  \
    using T = typename V::T;      \
    using Reg = typename V::Reg;  \
    using P = Parameters<V>;      \
    static Reg number(double value) { return V::set1(static_cast<T>(value)); }

// exp(x) - 1 for x <= 0, accurate relative to itself.
template <class V>
static inline typename V::Reg expm1_below(typename V::Reg x) {
    using T = typename V::T;
    typename V::Reg n;
    const typename V::Reg q = reduced_expm1<V>(V::max(V::set1(T(-2) * MathConstants<T>::saturated), x), n);
    const typename V::Reg power = V::ldexp(V::set1(T(1)), n);
    return V::fma(power, q, V::sub(power, V::set1(T(1))));
}

template <class V>
struct elu {
    FC_NAMES
    static Reg forward(Reg x, const P& p) {
        const Reg below = V::mul(p.a, expm1_below<V>(V::div(V::min(V::zero(), x), p.b)));
        return V::select(V::greater(x, V::zero()), x, below);
    }
    static Reg slope(Reg x, const P& p) {
        const Reg below = V::mul(V::div(p.a, p.b), exp_below<V>(V::div(V::min(V::zero(), x), p.b)));
        return V::select(V::greater(x, V::zero()), number(1), below);
    }
};

template <class V>
struct gelu {
    FC_NAMES
    static Reg half_erfc(Reg size) { return scaled_erfc<V>(size, T(0.70710678118654752440), T(0.5)); }
    static Reg forward(Reg x, const P&) {  // Phi(-|x|) = exp(-x^2 / 2) erfcx(|x| / sqrt(2)) / 2
        const Reg size = bounded_size<V>(x), tail = V::mul(gaussian<V>(size, T(0.5)), half_erfc(size));
        return V::mul(x, V::select(V::greater(V::zero(), x), tail, V::sub(number(1), tail)));
    }
    static Reg slope(Reg x, const P&) {  // of -|x|; that of |x| is its distance from 1
        const Reg size = bounded_size<V>(x), bell = gaussian<V>(size, T(0.5));
        const Reg far = V::mul(bell, V::fma(size, number(-0.39894228040143267794), half_erfc(size)));
        const Reg ratio = polynomial<V>(ErfConstants<T>::small, V::mul(V::mul(number(0.5), size), size));
        const Reg rest = V::fma(number(0.35355339059327376220), ratio, V::mul(number(0.39894228040143267794), bell));
        const Reg near = V::fma(V::sub(V::zero(), size), rest, number(0.5));  // Phi(0) and little that is rounded
        const Reg below = V::select(V::greater(number(0.75), size), near, far);
        return V::select(V::greater(V::zero(), x), below, V::sub(number(1), below));
    }
};

template <class V>
struct gelu_tanh {  // (1 + tanh(u)) / 2 is the sigmoid of 2 u
    FC_NAMES
    static Reg twice(Reg x, Reg square) {
        return V::mul(V::mul(number(1.59576912160573071176), x), V::fma(number(0.044715), square, number(1)));
    }
    static Reg forward(Reg x, const P&) { return V::mul(x, sigmoid<V>(twice(x, V::mul(x, x)))); }
    static Reg slope(Reg x, const P&) {
        x = V::min(number(100), V::max(number(-100), x));  // beyond, it is 0 or 1
        const Reg square = V::mul(x, x), u = twice(x, square);
        const Reg s = sigmoid<V>(u), rest = sigmoid<V>(V::sub(V::zero(), u));
        const Reg inner = V::fma(number(0.134145), square, number(1));
        const Reg rise = V::mul(V::mul(number(1.59576912160573071176), x), inner);
        return V::mul(s, V::fma(rise, rest, number(1)));
    }
};

template <class V>
struct silu {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return V::mul(x, sigmoid<V>(x)); }
    static Reg slope(Reg x, const P&) {  // s (1 + x (1 - s))
        x = V::min(number(1000), V::max(number(-1000), x));  // beyond, it is 0 or 1
        const Reg small = exp_below<V>(V::sub(V::zero(), V::abs(x))), large = V::div(number(1), V::add(number(1), small));
        const Reg other = V::mul(small, large);
        const typename V::Mask below = V::greater(V::zero(), x);
        const Reg s = V::select(below, other, large), rest = V::select(below, large, other);
        return V::mul(s, V::fma(x, rest, number(1)));
    }
};

template <class V>
struct mish {  // tanh(softplus(x)) = d / (d + 2), d = e (e + 2), e = exp(x)
    FC_NAMES
    static Reg most() { return V::set1(T(2) * MathConstants<T>::saturated); }  // from here on the tanh is 1
    static Reg forward(Reg x, const P&) {
        const Reg e = exp_below<V>(V::min(most(), x)), d = V::mul(e, V::add(e, number(2)));
        return V::mul(x, V::div(d, V::add(d, number(2))));
    }
    static Reg slope(Reg x, const P&) {  // e ((e + 2) (d + 2) + 4 x (1 + e)) / (d + 2)^2
        x = V::min(most(), V::max(number(-1000), x));
        const Reg e = exp_below<V>(x), more = V::add(e, number(2)), d2 = V::fma(e, more, number(2));
        const Reg sum = V::fma(more, d2, V::mul(V::mul(number(4), x), V::add(number(1), e)));
        return V::div(V::mul(V::div(e, d2), sum), d2);
    }
};

template <class V>
struct hardswish {
    FC_NAMES
    static Reg forward(Reg x, const P&) {
        const Reg share = V::mul(V::add(x, number(3)), number(1.0 / 6));
        return V::mul(x, V::min(number(1), V::max(V::zero(), share)));
    }
    static Reg slope(Reg x, const P&) {
        const Reg inside = V::mul(V::add(x, number(1.5)), number(1.0 / 3));
        const Reg above = V::select(V::not_less_equal(x, number(-3)), inside, V::zero());
        return V::select(V::not_less_equal(number(3), x), above, number(1));
    }
};

template <class V>
static inline typename V::Mask inside(typename V::Reg x, typename V::Reg low, typename V::Reg high) {
    return V::both(V::greater(x, low), V::greater(high, x));
}

template <class V>
struct hardsigmoid {
    FC_NAMES
    static Reg forward(Reg x, const P& p) { return V::min(number(1), V::max(V::zero(), V::fma(p.a, x, p.b))); }
    static Reg slope(Reg x, const P& p) {
        return V::select(inside<V>(V::fma(p.a, x, p.b), V::zero(), number(1)), p.a, V::zero());
    }
};

template <class V>
struct softplus {
    FC_NAMES
    static Reg forward(Reg x, const P& p) { return V::div(fastconv::softplus<V>(V::mul(p.a, x)), p.a); }
    static Reg slope(Reg x, const P& p) { return sigmoid<V>(V::mul(p.a, x)); }
};

template <class V>
struct softsign {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return V::div(x, V::add(number(1), V::abs(x))); }
    static Reg slope(Reg x, const P&) {
        const Reg part = V::div(number(1), V::add(number(1), V::abs(x)));
        return V::mul(part, part);
    }
};

template <class V>
struct clip {
    FC_NAMES
    static Reg forward(Reg x, const P& p) { return V::min(p.b, V::max(p.a, x)); }  // NaN stays
    static Reg slope(Reg x, const P& p) {  // 1 at the bounds, 0 where x is NaN
        const Reg below = V::select(V::not_less_equal(x, p.b), V::zero(), number(1));
        return V::select(V::not_less_equal(p.a, x), V::zero(), below);
    }
};

template <class V>
struct hardtanh {
    FC_NAMES
    static Reg forward(Reg x, const P& p) { return clip<V>::forward(x, p); }
    static Reg slope(Reg x, const P& p) { return V::select(inside<V>(x, p.a, p.b), number(1), V::zero()); }
};

template <class V>
struct exp {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return fastconv::exp<V>(x); }
    static Reg slope(Reg x, const P&) { return fastconv::exp<V>(x); }
};

template <class V>
struct log {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return fastconv::log<V>(x); }
    static Reg slope(Reg x, const P&) { return V::div(number(1), x); }
};

template <class V>
struct sqrt {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return V::sqrt(x); }
    static Reg slope(Reg x, const P&) { return V::div(number(0.5), V::sqrt(x)); }
};

template <class V>
struct abs {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return V::abs(x); }
    static Reg slope(Reg x, const P&) {
        const Reg below = V::select(V::greater(V::zero(), x), number(-1), x);
        return V::select(V::greater(x, V::zero()), number(1), below);
    }
};

template <class V>
struct reciprocal {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return V::div(number(1), x); }
    static Reg slope(Reg x, const P&) {
        const Reg part = V::div(number(1), x);
        return V::mul(part, V::sub(V::zero(), part));
    }
};

template <class V>
struct erf {
    FC_NAMES
    static Reg forward(Reg x, const P&) { return fastconv::erf<V>(x); }
    static Reg slope(Reg x, const P&) {
        return V::mul(number(1.12837916709551257390), gaussian<V>(bounded_size<V>(x), T(1)));
    }
};

// x^b; for a whole b or one that ends in a half, by products, where they are few.
template <class V>
struct power {
    FC_NAMES
    static bool few(double exponent) {
        return std::fabs(exponent) <= 9 && 2 * exponent == std::nearbyint(2 * exponent);
    }
    static Reg multiplied(Reg x, double exponent) {
        const Reg base = exponent < 0 ? V::div(number(1), x) : x;
        const int twice = static_cast<int>(std::fabs(2 * exponent));
        Reg y = twice % 2 ? V::sqrt(base) : number(1);
        for (int k = 0; k < twice / 2; ++k) y = V::mul(y, base);
        return y;
    }
    static Sum<V> exact(double exponent) { return {number(exponent), number(exponent - static_cast<T>(exponent))}; }
};

#undef FC_NAMES

// As map, with one loop for both ways of storing: what goes past the caches is laid out first.
template <class V, int N, class F>
static inline void staged_map(const fc_map* a, F f) {
    using T = typename V::T;
    constexpr int64_t staged = 512;
    alignas(64) T stage[staged];
    const bool stream = streams<V>(a);
    const int64_t chunk = stream ? staged : a->count;
    T* y = static_cast<T*>(a->y);
    for (int64_t row = 0; row < a->rows; ++row, y += a->count) {
        for (int64_t first = 0; first < a->count; first += chunk) {
            const int64_t count = a->count - first < chunk ? a->count - first : chunk;
            T* to = stream ? stage : y + first;
            for (int64_t i = 0; i < count; i += V::width) {
                const int n = count - i < V::width ? static_cast<int>(count - i) : V::width;
                typename V::Reg r[N];
                FC_UNROLL
                for (int k = 0; k < N; ++k) r[k] = load_some<V>(a->x[k], row * a->step[k] + first + i, n);
                store_some<V>(to, i, f(r), n);
            }
            if (!stream) continue;
            int64_t i = 0;
            for (; i + V::width <= count; i += V::width) V::stream(y + first + i, V::load(stage + i));
            const int rest = static_cast<int>(count - i);
            if (rest) V::store_n(y + first + i, V::load_n(stage + i, rest), rest);
        }
    }
    if (stream) V::fence();
}

template <class V, template <class> class Kind>
static void forward_of(const fc_map* a) {
    const Parameters<V> p(a);
    staged_map<V, 1>(a, [=](const typename V::Reg* r) { return Kind<V>::forward(r[0], p); });
}

template <class V, template <class> class Kind>
static void gradient_of(const fc_map* a) {
    const Parameters<V> p(a);
    staged_map<V, 2>(a, [=](const typename V::Reg* r) { return V::mul(r[0], Kind<V>::slope(r[1], p)); });
}

}  // namespace pointwise

// r[0]: x
template <class V>
void pointwise_forward(const fc_map* a) {
    switch (a->kind) {
#define FC_POINTWISE_CASE(name) \
    case FC_POINTWISE_##name:   \
        return pointwise::forward_of<V, pointwise::name>(a);
        FC_POINTWISE_KINDS(FC_POINTWISE_CASE)
#undef FC_POINTWISE_CASE
        default: {
            const double exponent = a->scalar[1];
            using Power = pointwise::power<V>;
            if (Power::few(exponent)) {
                return pointwise::staged_map<V, 1>(a, [=](const typename V::Reg* r) { return Power::multiplied(r[0], exponent); });
            }
            const Sum<V> b = Power::exact(exponent);
            pointwise::staged_map<V, 1>(a, [=](const typename V::Reg* r) { return raise<V>(r[0], b); });
        }
    }
}

// r[0]: dy, r[1]: x
template <class V>
void pointwise_backward(const fc_map* a) {
    switch (a->kind) {
#define FC_POINTWISE_CASE(name) \
    case FC_POINTWISE_##name:   \
        return pointwise::gradient_of<V, pointwise::name>(a);
        FC_POINTWISE_KINDS(FC_POINTWISE_CASE)
#undef FC_POINTWISE_CASE
        default: {
            const double exponent = a->scalar[1];
            const typename V::Reg factor = V::set1(static_cast<typename V::T>(a->scalar[0]));
            using Power = pointwise::power<V>;
            if (Power::few(exponent)) {
                return pointwise::staged_map<V, 2>(a, [=](const typename V::Reg* r) {
                    return V::mul(r[0], V::mul(factor, Power::multiplied(r[1], exponent)));
                });
            }
            const Sum<V> b = Power::exact(exponent);
            pointwise::staged_map<V, 2>(a, [=](const typename V::Reg* r) {
                return V::mul(r[0], V::mul(factor, raise<V>(r[1], b)));
            });
        }
    }
}

// r[0]^r[1], and its slopes in either.
template <class V>
void power(const fc_map* a) {
    pointwise::staged_map<V, 2>(a, [](const typename V::Reg* r) { return raise<V>(r[0], {r[1], V::zero()}); });
}

template <class V>
void power_slope(const fc_map* a) {
    using Reg = typename V::Reg;
    const Reg zero = V::zero(), one = V::set1(typename V::T(1));
    pointwise::staged_map<V, 2>(a, [=](const Reg* r) {
        const Reg less = V::sub(r[1], one), rest = V::sub(r[1], V::add(less, one));
        const Reg low = V::select(V::ordered(rest), rest, zero);  // infinities have none
        return V::select(V::equal(r[1], zero), zero, V::mul(r[1], raise<V>(r[0], {less, low})));
    });
}

template <class V>
void power_exponent_slope(const fc_map* a) {
    using Reg = typename V::Reg;
    const Reg zero = V::zero();
    pointwise::staged_map<V, 2>(a, [=](const Reg* r) {
        const Reg slope = V::mul(raise<V>(r[0], {r[1], zero}), log<V>(r[0]));
        return V::select(V::equal(r[0], zero), V::select(V::greater(zero, r[1]), slope, zero), slope);
    });
}

}  // namespace fastconv
