// Depthwise convolution micro-kernels: vectors along channels, a register tile of pixels (or of taps, for the weight
// gradient). Contracts in include/fastconv/conv.h. Each element is summed in one order, whatever the tile.
#pragma once
#include <cstdint>

#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// Whole vectors and the last, partial one run through the same arithmetic.
template <class V, bool Whole>
struct DepthwiseLanes {
    using T = typename V::T;
    static typename V::Reg load(const T* p, int n) { return Whole ? V::load(p) : V::load_n(p, n); }
    static void store(T* p, typename V::Reg a, int n) { Whole ? V::store(p, a) : V::store_n(p, a, n); }
};

template <class V, bool Whole, int M>
static void depthwise_block(const fc_depthwise_tile& a, int64_t p, int64_t c, int n) {
    using T = typename V::T;
    using L = DepthwiseLanes<V, Whole>;
    const T* bias = static_cast<const T*>(a.bias);
    const T* w = static_cast<const T*>(a.w) + c;
    const T* x[M];
    typename V::Reg acc[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        x[m] = static_cast<const T*>(a.x) + a.pixel[p + m] + c;
        acc[m] = bias ? L::load(bias + c, n) : V::zero();
    }
    for (int64_t t = 0; t < a.taps; ++t) {
        const typename V::Reg weight = L::load(w + t * a.ld, n);
        const int64_t tap = a.tap[t];
        FC_UNROLL
        for (int m = 0; m < M; ++m) acc[m] = V::fma(L::load(x[m] + tap, n), weight, acc[m]);
    }
    T* y = static_cast<T*>(a.y) + c;
    FC_UNROLL
    for (int m = 0; m < M; ++m) L::store(y + a.ypixel[p + m], acc[m], n);
}

template <class V, bool Whole>
static void depthwise_pixels(const fc_depthwise_tile& a, int64_t c, int n) {
    int64_t p = 0;
    for (; p + 8 <= a.pixels; p += 8) depthwise_block<V, Whole, 8>(a, p, c, n);
    for (; p < a.pixels; ++p) depthwise_block<V, Whole, 1>(a, p, c, n);
}

template <class V>
void depthwise_tile(const fc_depthwise_tile* a) {
    FC_CHECK(a->pixels >= 0 && a->taps >= 0 && a->channels > 0 && a->ld >= a->channels && a->y);
    int64_t c = 0;
    for (; c + V::width <= a->channels; c += V::width) depthwise_pixels<V, true>(*a, c, V::width);
    if (c < a->channels) depthwise_pixels<V, false>(*a, c, static_cast<int>(a->channels - c));
}

template <class V, bool Whole, int M>
static void depthwise_outer_block(const fc_depthwise_outer& a, int64_t t, int64_t c, int n) {
    using T = typename V::T;
    using L = DepthwiseLanes<V, Whole>;
    T* dw = static_cast<T*>(a.dw) + t * a.ld + c;
    typename V::Reg acc[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) acc[m] = V::zero();
    for (int64_t p = 0; p < a.pixels; ++p) {
        const T* x = static_cast<const T*>(a.x) + a.xpixel[p] + c;
        const typename V::Reg gradient = L::load(static_cast<const T*>(a.dy) + a.ypixel[p] + c, n);
        FC_UNROLL
        for (int m = 0; m < M; ++m) acc[m] = V::fma(L::load(x + a.tap[t + m], n), gradient, acc[m]);
    }
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        L::store(dw + m * a.ld, a.accumulate ? V::add(L::load(dw + m * a.ld, n), acc[m]) : acc[m], n);
    }
}

template <class V, bool Whole>
static void depthwise_outer_taps(const fc_depthwise_outer& a, int64_t c, int n) {
    int64_t t = 0;
    for (; t + 9 <= a.taps; t += 9) depthwise_outer_block<V, Whole, 9>(a, t, c, n);
    for (; t + 3 <= a.taps; t += 3) depthwise_outer_block<V, Whole, 3>(a, t, c, n);
    for (; t < a.taps; ++t) depthwise_outer_block<V, Whole, 1>(a, t, c, n);
}

template <class V>
void depthwise_outer(const fc_depthwise_outer* a) {
    FC_CHECK(a->pixels >= 0 && a->taps >= 0 && a->channels > 0 && a->ld >= a->channels && a->dw);
    int64_t c = 0;
    for (; c + V::width <= a->channels; c += V::width) depthwise_outer_taps<V, true>(*a, c, V::width);
    if (c < a->channels) depthwise_outer_taps<V, false>(*a, c, static_cast<int>(a->channels - c));
}

}  // namespace fastconv
