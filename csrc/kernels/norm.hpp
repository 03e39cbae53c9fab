// Sums over rows and normalisation, a constant a column; lanes are columns. Contracts in include/fastconv/norm.h.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

#include "fastconv/norm.h"
#include "kernels/finish.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

constexpr int64_t kRowBlock = 256;     // rows summed apart before `first` takes them: bounds the rounding error
constexpr int64_t kColumnBlock = 512;  // columns whose sums stay in the first-level cache
constexpr int64_t kConstants = 1024;   // columns whose constants do
constexpr int64_t kFirstRows = 16;     // rows whose mean the first sums are taken around
constexpr int kRowGroup = 4;           // rows that one load of a column's sums serves
constexpr int64_t kAheadBytes = 8192;  // memory is asked for so far before: prefetchers do not expect rows in groups

// Sums of a block of rows and columns.
template <class V>
struct BlockSums {
    alignas(64) typename V::T first[kColumnBlock], second[kColumnBlock];
};

// What sums are taken with, a value a column; `scale` and `shift` where a ReLU masks dy. Any may be null.
template <class T>
struct SumConstants {
    const T *mean, *scale, *shift;
};

// (x - mean) * scale + shift
template <class V>
static inline typename V::Reg normalised(typename V::Reg x, typename V::Reg mean, typename V::Reg scale,
                                         typename V::Reg shift) {
    return V::fma(V::sub(x, mean), scale, shift);
}

// sums += f over G rows from x and dy on: f(x, dy, mean, first, second) adds one row. `begins`: sums are not yet set.
template <class V, int G, bool Gradient, class F>
static inline void sum_group(const typename V::T* x, int64_t ldx, const typename V::T* dy, int64_t lddy,
                             const SumConstants<typename V::T>& constants, int64_t columns, bool begins,
                             BlockSums<V>* sums, F f) {
    using Reg = typename V::Reg;
    const auto ahead = [](int64_t ld) {
        return std::max(kRowGroup * ld, kAheadBytes / static_cast<int64_t>(sizeof(typename V::T)));
    };
    const int64_t x_ahead = ahead(ldx), dy_ahead = ahead(Gradient ? lddy : 0);
    for (int64_t c = 0; c < columns; c += V::width) {
        const int n = columns - c < V::width ? static_cast<int>(columns - c) : V::width;
        Reg first = begins ? V::zero() : load_some<V>(sums->first, c, n);
        Reg second = begins ? V::zero() : load_some<V>(sums->second, c, n);
        const Reg centre = constants.mean ? load_some<V>(constants.mean, c, n) : V::zero();
        const bool masks = Gradient && constants.scale;
        const Reg scale = masks ? load_some<V>(constants.scale, c, n) : V::zero();
        const Reg shift = masks ? load_some<V>(constants.shift, c, n) : V::zero();
        Reg group_first = V::zero(), group_second = V::zero();  // by themselves: a sum of sums rounds less
        FC_UNROLL
        for (int k = 0; k < G; ++k) {
            FC_PREFETCH_OUTER(x + k * ldx + c + x_ahead);
            if (Gradient) FC_PREFETCH_OUTER(dy + k * lddy + c + dy_ahead);
            const Reg value = load_some<V>(x, k * ldx + c, n);
            Reg slope = Gradient ? load_some<V>(dy, k * lddy + c, n) : V::zero();
            if (masks) slope = masked<V>(slope, normalised<V>(value, centre, scale, shift));
            f(value, slope, centre, group_first, group_second);
        }
        first = V::add(first, group_first), second = V::add(second, group_second);
        store_some<V>(sums->first, c, first, n);
        store_some<V>(sums->second, c, second, n);
    }
}

// sums = f over rows [r0, r1) and columns [c0, c0 + columns).
template <class V, bool Gradient, class F>
static inline void sum_block(const void* x, int64_t ldx, const void* dy, int64_t lddy,
                             const SumConstants<typename V::T>& constants, int64_t r0, int64_t r1, int64_t c0,
                             int64_t columns, BlockSums<V>* sums, F f) {
    using T = typename V::T;
    int64_t r = r0;
    for (; r + kRowGroup <= r1; r += kRowGroup) {
        const T* slope = Gradient ? static_cast<const T*>(dy) + r * lddy + c0 : nullptr;
        sum_group<V, kRowGroup, Gradient>(static_cast<const T*>(x) + r * ldx + c0, ldx, slope, lddy, constants,
                                          columns, r == r0, sums, f);
    }
    for (; r < r1; ++r) {
        const T* slope = Gradient ? static_cast<const T*>(dy) + r * lddy + c0 : nullptr;
        sum_group<V, 1, Gradient>(static_cast<const T*>(x) + r * ldx + c0, ldx, slope, lddy, constants, columns,
                                  r == r0, sums, f);
    }
}

// body(r0, r1, c0, columns) for each block.
template <class F>
static inline void each_block(int64_t rows, int64_t columns, F body) {
    for (int64_t r0 = 0; r0 < rows; r0 += kRowBlock) {
        const int64_t r1 = rows - r0 < kRowBlock ? rows : r0 + kRowBlock;
        for (int64_t c0 = 0; c0 < columns; c0 += kColumnBlock) {
            body(r0, r1, c0, columns - c0 < kColumnBlock ? columns - c0 : kColumnBlock);
        }
    }
}

template <class V>
static inline void add_to(void* total, int64_t at, const typename V::T* sums, int64_t columns) {
    for (int64_t c = 0; c < columns; c += V::width) {
        const int n = columns - c < V::width ? static_cast<int>(columns - c) : V::width;
        store_some<V>(total, at + c, V::add(load_some<V>(total, at + c, n), load_some<V>(sums, c, n)), n);
    }
}

template <class V, bool Gradient, bool Second, class F>
static inline void reduce(const fc_reduce* a, F f) {
    BlockSums<V> sums;
    each_block(a->rows, a->columns, [&](int64_t r0, int64_t r1, int64_t c0, int64_t columns) {
        const auto from = [c0](const void* values) {
            return values ? static_cast<const typename V::T*>(values) + c0 : nullptr;
        };
        const SumConstants<typename V::T> constants{from(a->mean), from(a->scale), from(a->shift)};
        sum_block<V, Gradient>(a->x, a->ldx, a->dy, a->lddy, constants, r0, r1, c0, columns, &sums, f);
        add_to<V>(a->first, c0, sums.first, columns);
        if (Second) add_to<V>(a->second, c0, sums.second, columns);
    });
}

// first += x
template <class V>
void sum_rows(const fc_reduce* a) {
    using Reg = typename V::Reg;
    reduce<V, false, false>(a, [](Reg x, Reg, Reg, Reg& first, Reg&) { first = V::add(first, x); });
}

// first += dy, second += dy * (x - mean)
template <class V>
void gradient_rows(const fc_reduce* a) {
    using Reg = typename V::Reg;
    reduce<V, true, true>(a, [](Reg x, Reg dy, Reg mean, Reg& first, Reg& second) {
        first = V::add(first, dy);
        second = V::fma(dy, V::sub(x, mean), second);
    });
}

// Moments in one pass. A block's sums are taken around the mean so far (the first block's around its first rows'), then the
// two groups are merged (Chan, Golub and LeVeque 1983, equation 2.1). What the block's distance from that mean costs in
// rounding is in proportion to what the same distance adds to the squares, so this is as good as two passes.
template <class V>
void moment_rows(const fc_moments* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    BlockSums<V> sums;
    alignas(64) T centre[kColumnBlock];
    each_block(a->rows, a->columns, [&](int64_t r0, int64_t r1, int64_t c0, int64_t columns) {
        double* start = a->start + c0;
        double* offset = a->offset + c0;
        double* square = a->square + c0;
        const double before = static_cast<double>(a->count + r0), rows = static_cast<double>(r1 - r0);
        if (before == 0) {
            const int64_t some = r1 - r0 < kFirstRows ? r1 - r0 : kFirstRows;
            sum_block<V, false>(a->x, a->ldx, nullptr, 0, {}, r0, r0 + some, c0, columns, &sums,
                                [](Reg x, Reg, Reg, Reg& first, Reg&) { first = V::add(first, x); });
            for (int64_t c = 0; c < columns; ++c) {
                start[c] = centre[c] = static_cast<T>(sums.first[c] / static_cast<double>(some));
                offset[c] = square[c] = 0;
            }
        } else {
            for (int64_t c = 0; c < columns; ++c) centre[c] = static_cast<T>(start[c] + offset[c]);
        }
        sum_block<V, false>(a->x, a->ldx, nullptr, 0, {centre, nullptr, nullptr}, r0, r1, c0, columns, &sums,
                            [](Reg x, Reg, Reg around, Reg& first, Reg& second) {
                                const Reg d = V::sub(x, around);
                                first = V::add(first, d);
                                second = V::fma(d, d, second);
                            });
        const double share = rows / (before + rows), both = before * share, inverse = 1 / rows;
        for (int64_t c = 0; c < columns; ++c) {
            const double off = sums.first[c] * inverse, distance = (centre[c] - start[c]) + off - offset[c];
            square[c] += sums.second[c] - sums.first[c] * off + distance * distance * both;
            offset[c] += distance * share;
        }
    });
}

// The constants of a vector of columns, or of a row; a forward pass has no slopes.
template <class V, bool Slopes>
struct Constants {
    using Reg = typename V::Reg;
    Reg mean, scale, shift, slope, bias;

    Constants() = default;

    Constants(const fc_normalise* a, int64_t c, int n)
        : mean(load_some<V>(a->mean, c, n)), scale(load_some<V>(a->scale, c, n)), shift(load_some<V>(a->shift, c, n)),
          slope(Slopes ? load_some<V>(a->slope, c, n) : V::zero()),
          bias(Slopes && a->bias ? load_some<V>(a->bias, c, n) : V::zero()) {}

    Constants(const fc_normalise* a, int64_t r)
        : mean(of(a->mean, r)), scale(of(a->scale, r)), shift(of(a->shift, r)), slope(of(a->slope, r)),
          bias(of(a->bias, r)) {}

  private:
    static Reg of(const void* values, int64_t r) {
        return values ? V::set1(static_cast<const typename V::T*>(values)[r]) : V::zero();
    }
};

// How a walk reads and writes. Second: there is a dy; Slopes: constants are a gradient's; Stream: past the caches.
template <bool Second_, bool Slopes_, bool Stream_>
struct Way {
    static constexpr bool Second = Second_, Slopes = Slopes_, Stream = Stream_;
};

// Where row r lies.
template <class V>
struct RowOf {
    using T = typename V::T;
    const T *x, *dy, *residual;
    T* y;

    RowOf(const fc_normalise* a, int64_t r)
        : x(static_cast<const T*>(a->x) + r * a->ldx), dy(a->dy ? static_cast<const T*>(a->dy) + r * a->lddy : nullptr),
          residual(a->residual ? static_cast<const T*>(a->residual) + r * a->ldr : nullptr),
          y(static_cast<T*>(a->y) + r * a->ldy) {}
};

// y = f(x, dy, constants) + residual for n columns from c on.
template <class V, class W, class F>
static FC_INLINE void normalise_vector(const RowOf<V>& row, int64_t c, int n, const Constants<V, W::Slopes>& constants,
                                       F f) {
    const typename V::Reg second = W::Second ? load_some<V>(row.dy, c, n) : V::zero();
    typename V::Reg value = f(load_some<V>(row.x, c, n), second, constants);
    if (W::Slopes && row.residual) value = V::add(value, load_some<V>(row.residual, c, n));
    if (W::Stream) {
        V::stream(row.y + c, value);
    } else {
        store_some<V>(row.y, c, value, n);
    }
}

// G rows from r on, one or two, whose constants are loaded once, and columns [c, end).
template <class V, class W, int G, class F>
static inline void normalise_group(const fc_normalise* a, int64_t r, int64_t c, int64_t end, F f) {
    const RowOf<V> first(a, r), last(a, r + G - 1);
    const auto step = [&](int64_t at, int n) FC_INLINE_LAMBDA {
        const Constants<V, W::Slopes> constants(a, at, n);
        normalise_vector<V, W>(first, at, n, constants, f);
        if (G > 1) normalise_vector<V, W>(last, at, n, constants, f);
    };
    for (; c + V::width <= end; c += V::width) step(c, V::width);
    if (c < end) step(c, static_cast<int>(end - c));
}

template <class V, class W, int G, class F>
static inline void normalise_wide(const fc_normalise* a, F f) {
    for (int64_t c = 0; c < a->columns; c += kConstants) {
        const int64_t end = a->columns - c < kConstants ? a->columns : c + kConstants;
        int64_t r = 0;
        for (; r + G <= a->rows; r += G) normalise_group<V, W, G>(a, r, c, end, f);
        if (r < a->rows) normalise_group<V, W, 1>(a, r, c, end, f);
    }
}

// Rows of `count` vectors, whose constants stay in registers.
template <class V, class W, int count, class F>
static inline void normalise_narrow(const fc_normalise* a, F f) {
    constexpr int64_t whole = (count - 1) * V::width;
    const int rest = static_cast<int>(a->columns - whole);
    Constants<V, W::Slopes> constants[count];
    FC_UNROLL
    for (int v = 0; v < count; ++v) {
        constants[v] = Constants<V, W::Slopes>(a, v * V::width, v + 1 < count ? V::width : rest);
    }
    for (int64_t r = 0; r < a->rows; ++r) {
        const RowOf<V> row(a, r);
        FC_UNROLL
        for (int v = 0; v + 1 < count; ++v) normalise_vector<V, W>(row, v * V::width, V::width, constants[v], f);
        normalise_vector<V, W>(row, whole, rest, constants[count - 1], f);
    }
}

// A row after the other, each with constants of its own.
template <class V, class W, class F>
static inline void normalise_lines(const fc_normalise* a, F f) {
    for (int64_t r = 0; r < a->rows; ++r) {
        const RowOf<V> row(a, r);
        const Constants<V, W::Slopes> constants(a, r);
        int64_t c = 0;
        for (; c + V::width <= a->columns; c += V::width) normalise_vector<V, W>(row, c, V::width, constants, f);
        if (c < a->columns) normalise_vector<V, W>(row, c, static_cast<int>(a->columns - c), constants, f);
    }
}

// What comes from memory is read in its order, as prefetchers expect.
template <class V, class W, class F>
static inline void normalise_blocks(const fc_normalise* a, F f) {
    if (a->by_row) return normalise_lines<V, W>(a, f);
    if (a->columns <= V::width) return normalise_narrow<V, W, 1>(a, f);
    if (a->columns <= 2 * V::width) return normalise_narrow<V, W, 2>(a, f);
    if (a->columns > 3 * V::width && a->columns <= 4 * V::width) return normalise_narrow<V, W, 4>(a, f);
    if (W::Stream || a->stream) return normalise_wide<V, W, 1>(a, f);
    normalise_wide<V, W, 2>(a, f);
}

// Streams where every vector of y is whole and starts at a vector's boundary.
template <class V, bool Second, bool Slopes, class F>
static inline void normalise(const fc_normalise* a, F f) {
    constexpr uintptr_t bytes = V::width * sizeof(typename V::T);
    const bool whole = a->columns % V::width == 0 && a->ldy % V::width == 0;
    if (a->stream == 1 && whole && reinterpret_cast<uintptr_t>(a->y) % bytes == 0) {
        normalise_blocks<V, Way<Second, Slopes, true>>(a, f);
        V::fence();
    } else {
        normalise_blocks<V, Way<Second, Slopes, false>>(a, f);
    }
}

template <class V>
void normalise_rows(const fc_normalise* a) {
    using Reg = typename V::Reg;
    using T = typename V::T;
    const Reg least = a->relu ? V::zero() : V::set1(-std::numeric_limits<T>::infinity());  // NaN stays NaN
    if (a->dy) {
        normalise<V, true, false>(a, [least](Reg x, Reg residual, const Constants<V, false>& k) {
            return V::max(least, V::add(normalised<V>(x, k.mean, k.scale, k.shift), residual));
        });
    } else {
        normalise<V, false, false>(a, [least](Reg x, Reg, const Constants<V, false>& k) {
            return V::max(least, normalised<V>(x, k.mean, k.scale, k.shift));
        });
    }
}

template <class V>
void normalise_gradient_rows(const fc_normalise* a) {
    using Reg = typename V::Reg;
    const bool masks = a->bias;
    normalise<V, true, true>(a, [masks](Reg x, Reg dy, const Constants<V, true>& k) {
        if (masks) dy = masked<V>(dy, normalised<V>(x, k.mean, k.scale, k.bias));
        return V::sub(V::mul(dy, k.scale), V::fma(V::sub(x, k.mean), k.slope, k.shift));
    });
}

}  // namespace fastconv
