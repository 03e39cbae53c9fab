// Sums over rows and normalisation, a constant a column; lanes are columns. Contracts in include/fastconv/norm.h.
#pragma once
#include <cstdint>

#include "fastconv/norm.h"
#include "kernels/finish.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

constexpr int64_t kRowBlock = 256;     // rows summed apart before `first` takes them: bounds the rounding error
constexpr int64_t kColumnBlock = 512;  // columns whose sums stay in the first-level cache
constexpr int64_t kConstants = 1024;   // columns whose constants do
constexpr int64_t kFirstRows = 16;     // rows whose mean the first sums are taken around
constexpr int kRowGroup = 4;           // rows that one load of a column's sums or constants serves;
constexpr int64_t kShortRow = 1024;    // longer rows, in bytes, are normalised in pairs, as prefetchers expect,
constexpr int64_t kStreamedRow = 256;  // and longer than this one after the other, where they come from memory

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

// sums += f over G rows from x and dy on: f(x, dy, mean, first, second) adds one row. `begins`: the sums are not yet set.
template <class V, int G, bool Gradient, class F>
static inline void sum_group(const typename V::T* x, int64_t ldx, const typename V::T* dy, int64_t lddy,
                             const SumConstants<typename V::T>& constants, int64_t columns, bool begins,
                             BlockSums<V>* sums, F f) {
    using Reg = typename V::Reg;
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

// The constants of a vector of columns, or of a row.
template <class V>
struct Constants {
    using Reg = typename V::Reg;
    Reg mean, scale, shift, slope, bias;

    Constants(const fc_normalise* a, int64_t c, int n)
        : mean(load_some<V>(a->mean, c, n)), scale(load_some<V>(a->scale, c, n)), shift(load_some<V>(a->shift, c, n)),
          slope(a->slope ? load_some<V>(a->slope, c, n) : V::zero()),
          bias(a->bias ? load_some<V>(a->bias, c, n) : V::zero()) {}

    Constants(const fc_normalise* a, int64_t r)
        : mean(of(a->mean, r)), scale(of(a->scale, r)), shift(of(a->shift, r)), slope(of(a->slope, r)),
          bias(of(a->bias, r)) {}

  private:
    static Reg of(const void* values, int64_t r) {
        return values ? V::set1(static_cast<const typename V::T*>(values)[r]) : V::zero();
    }
};

// y = f(x, dy, constants) + residual for G rows and columns [c0, c1)
template <class V, int G, bool Gradient, bool Stream, class F>
static inline void normalise_group(const fc_normalise* a, int64_t r, int64_t c0, int64_t c1, F f) {
    using T = typename V::T;
    const T* x = static_cast<const T*>(a->x) + r * a->ldx;
    const T* dy = Gradient ? static_cast<const T*>(a->dy) + r * a->lddy : nullptr;
    const T* residual = Gradient && a->residual ? static_cast<const T*>(a->residual) + r * a->ldr : nullptr;
    T* y = static_cast<T*>(a->y) + r * a->ldy;
    for (int64_t c = c0; c < c1; c += V::width) {
        const int n = c1 - c < V::width ? static_cast<int>(c1 - c) : V::width;
        const Constants<V> constants(a, c, n);
        FC_UNROLL
        for (int k = 0; k < G; ++k) {
            const typename V::Reg slope = Gradient ? load_some<V>(dy, k * a->lddy + c, n) : V::zero();
            typename V::Reg value = f(load_some<V>(x, k * a->ldx + c, n), slope, constants);
            if (residual) value = V::add(value, load_some<V>(residual, k * a->ldr + c, n));
            if (Stream) {
                V::stream(y + k * a->ldy + c, value);
            } else {
                store_some<V>(y, k * a->ldy + c, value, n);
            }
        }
    }
}

template <class V, int G, bool Gradient, bool Stream, class F>
static inline void normalise_block(const fc_normalise* a, int64_t c0, int64_t c1, F f) {
    int64_t r = 0;
    for (; r + G <= a->rows; r += G) normalise_group<V, G, Gradient, Stream>(a, r, c0, c1, f);
    for (; r < a->rows; ++r) normalise_group<V, 1, Gradient, Stream>(a, r, c0, c1, f);
}

// A row after the other, each with constants of its own.
template <class V, bool Gradient, bool Stream, class F>
static inline void normalise_lines(const fc_normalise* a, F f) {
    using T = typename V::T;
    for (int64_t r = 0; r < a->rows; ++r) {
        const T* x = static_cast<const T*>(a->x) + r * a->ldx;
        const T* dy = Gradient ? static_cast<const T*>(a->dy) + r * a->lddy : nullptr;
        T* y = static_cast<T*>(a->y) + r * a->ldy;
        const T* residual = Gradient && a->residual ? static_cast<const T*>(a->residual) + r * a->ldr : nullptr;
        const Constants<V> constants(a, r);
        const auto value = [&](int64_t c, int n) {
            const auto slope = Gradient ? load_some<V>(dy, c, n) : V::zero();
            const auto result = f(load_some<V>(x, c, n), slope, constants);
            return residual ? V::add(result, load_some<V>(residual, c, n)) : result;
        };
        int64_t c = 0;
        for (; c + V::width <= a->columns; c += V::width) {
            if (Stream) {
                V::stream(y + c, value(c, V::width));
            } else {
                V::store(y + c, value(c, V::width));
            }
        }
        const int n = static_cast<int>(a->columns - c);
        if (n) V::store_n(y + c, value(c, n), n);
    }
}

template <class V, bool Gradient, bool Stream, class F>
static inline void normalise_blocks(const fc_normalise* a, F f) {
    if (a->by_row) return normalise_lines<V, Gradient, Stream>(a, f);
    if (a->columns * static_cast<int64_t>(sizeof(typename V::T)) <= (Stream ? kStreamedRow : kShortRow)) {
        normalise_block<V, kRowGroup, Gradient, Stream>(a, 0, a->columns, f);
        return;
    }
    for (int64_t c = 0; c < a->columns; c += kConstants) {
        const int64_t end = a->columns - c < kConstants ? a->columns : c + kConstants;
        normalise_block<V, Stream ? 1 : 2, Gradient, Stream>(a, c, end, f);
    }
}

// Streams where every vector of y is whole and starts at a vector's boundary.
template <class V, bool Gradient, class F>
static inline void normalise(const fc_normalise* a, F f) {
    constexpr uintptr_t bytes = V::width * sizeof(typename V::T);
    const bool whole = a->columns % V::width == 0 && a->ldy % V::width == 0;
    if (a->stream && whole && reinterpret_cast<uintptr_t>(a->y) % bytes == 0) {
        normalise_blocks<V, Gradient, true>(a, f);
        V::fence();
    } else {
        normalise_blocks<V, Gradient, false>(a, f);
    }
}

template <class V>
void normalise_rows(const fc_normalise* a) {
    using Reg = typename V::Reg;
    const bool relu = a->relu;
    if (a->dy) {
        normalise<V, true>(a, [relu](Reg x, Reg residual, const Constants<V>& k) {
            return activated<V>(V::add(normalised<V>(x, k.mean, k.scale, k.shift), residual), relu);
        });
    } else {
        normalise<V, false>(a, [relu](Reg x, Reg, const Constants<V>& k) {
            return activated<V>(normalised<V>(x, k.mean, k.scale, k.shift), relu);
        });
    }
}

template <class V>
void normalise_gradient_rows(const fc_normalise* a) {
    using Reg = typename V::Reg;
    const bool masks = a->bias;
    normalise<V, true>(a, [masks](Reg x, Reg dy, const Constants<V>& k) {
        if (masks) dy = masked<V>(dy, normalised<V>(x, k.mean, k.scale, k.bias));
        return V::sub(V::mul(dy, k.scale), V::fma(V::sub(x, k.mean), k.slope, k.shift));
    });
}

}  // namespace fastconv
