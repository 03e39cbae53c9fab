// Convolution micro-kernels: a register tile of MR pixels x NV vectors of columns, fed by broadcasts of x. Contracts in
// include/fastconv/conv.h. Every element is summed in the same order in every instance, so tiling never changes a bit.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "kernels/finish.hpp"
#include "simd/prefetch.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

constexpr int64_t kShortSum = 64;   // products, while which nothing arrives from memory
constexpr int64_t kSoonEnough = 32;  // products between one pixel that is brought near and the next

// Pixels from number p on; NV vectors of columns, of one panel or two. Meanwhile the M pixels that `next` lists are brought
// near, and, one pixel after the other, what the sums end with: all at once they would hold up the weights. Short sums bring
// what those of the next tile end with, if there is one `more`.
template <class V, int M, int NV>
static void conv_block(const fc_conv_tile& a, int64_t p, const int64_t* next, bool more) {
    using T = typename V::T;
    constexpr int nv = Blocks<V>::nv, nr = nv * V::width;  // a packed row
    const T* x = static_cast<const T*>(a.x);
    const T* bias = static_cast<const T*>(a.bias);
    const T* residual = static_cast<const T*>(a.residual);
    const T* gate = static_cast<const T*>(a.gate);
    T* y = static_cast<T*>(a.y);
    const T* from = a.source ? static_cast<const T*>(a.source) : x;  // where what comes next lies
    const int64_t *pixel = a.pixel + p, *ypixel = a.ypixel + p, *rpixel = residual ? a.rpixel + p : nullptr;
    const int64_t* gpixel = gate ? a.gpixel + p : nullptr;
    const int last = static_cast<int>(a.columns) - (NV - 1) * V::width;  // valid lanes of the last vector

    const bool part = last < V::width;
    auto load = [&](const T* from, int j) FC_INLINE_LAMBDA {
        return part && j == NV - 1 ? V::load_n(from + j * V::width, last) : V::load(from + j * V::width);
    };

    // What may be there or not is asked for once, not for each vector: a short sum takes little longer than the questions.
    typename V::Reg acc[M][NV];
    auto each = [&](auto step) FC_INLINE_LAMBDA {
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            FC_UNROLL
            for (int j = 0; j < NV; ++j) step(m, j);
        }
    };
    if (a.accumulate) {
        each([&](int m, int j) FC_INLINE_LAMBDA { acc[m][j] = load(y + ypixel[m], j); });
    } else if (bias) {
        each([&](int m, int j) FC_INLINE_LAMBDA { acc[m][j] = V::load(bias + j * V::width); });
    } else {
        each([&](int m, int j) FC_INLINE_LAMBDA { acc[m][j] = V::zero(); });
    }
    constexpr int64_t line = 64 / sizeof(T);
    constexpr bool whole = M == block_pixels<V>(NV);
    const bool near = a.warm || a.accumulate, asks = whole && (!near || residual || gate);
    auto bring_end = [&](int64_t m) FC_INLINE_LAMBDA {
        auto lines = [](const T* from) FC_INLINE_LAMBDA {
            FC_UNROLL
            for (int j = 0; j < NV * V::width; j += line) prefetch(from + j);
        };
        if (!near) lines(y + ypixel[m]);
        if (residual) lines(residual + rpixel[m]);
        if (gate) lines(gate + gpixel[m]);
    };
    const bool hurried = a.taps * a.depth < kShortSum;
    for (int64_t m = 0; hurried && asks && more && m < M; ++m) bring_end(M + m);
    for (int64_t t = 0; t < a.taps; ++t) {
        const T* w = static_cast<const T*>(a.w) + a.wtap[t];
        const T* second = NV > nv ? w + a.panel : w;
        const T* row[M];
        FC_UNROLL
        for (int m = 0; m < M; ++m) row[m] = x + pixel[m] + a.tap[t];
        auto add = [&](int64_t k) FC_INLINE_LAMBDA {
            typename V::Reg columns[NV];
            FC_UNROLL
            for (int j = 0; j < NV; ++j) columns[j] = V::load(j < nv ? w + j * V::width : second + (j - nv) * V::width);
            FC_UNROLL
            for (int m = 0; m < M; ++m) {
                const typename V::Reg value = V::set1(row[m][k]);
                FC_UNROLL
                for (int j = 0; j < NV; ++j) acc[m][j] = V::fma(value, columns[j], acc[m][j]);
            }
            w += nr;
            second += nr;
        };
        int64_t k = 0;
        const bool ends = asks && !hurried && t + 1 == a.taps;
        if (whole && next && t == 0) {  // of each cache line, one next pixel's after the other's
            const int64_t share = a.depth < M * line ? 2 : 1;  // no sum is so short that more were needed
            int64_t ending = ends ? 0 : M;
            while (k + line <= a.depth) {
                const T* run = from + k;
                const int64_t end = k + line;
                if (a.depth - k <= (M + 2) * line) {
                    for (int64_t i = 0; i < share && ending < M; ++i) bring_end(ending++);
                }
                for (int m = 0; m < M; ++m) {
                    FC_PREFETCH_OUTER(run + next[m]);
                    FC_UNROLL
                    for (int i = 0; i < line / M; ++i) add(k++);
                }
                for (; k < end; ++k) add(k);
            }
            if (k < a.depth) {
                for (int m = 0; m < M; ++m) FC_PREFETCH_OUTER(from + next[m] + k);
            }
        } else if (ends) {
            const int64_t share = a.depth / M < kSoonEnough ? a.depth / M : kSoonEnough;
            for (; k < a.depth - M * share; ++k) add(k);
            for (int m = 0; m < M; ++m) {
                bring_end(m);
                for (const int64_t end = k + share; k < end; ++k) add(k);
            }
        }
        for (; k < a.depth; ++k) add(k);
    }
    if (residual && !a.later) {
        each([&](int m, int j) FC_INLINE_LAMBDA { acc[m][j] = V::add(acc[m][j], load(residual + rpixel[m], j)); });
    }
    if (a.relu) {
        each([&](int m, int j) FC_INLINE_LAMBDA { acc[m][j] = activated<V>(acc[m][j], true); });
    }
    if (gate && !a.later) {
        each([&](int m, int j) FC_INLINE_LAMBDA { acc[m][j] = masked<V>(acc[m][j], load(gate + gpixel[m], j)); });
    }
    if (whole && a.warm == FC_PAST) {
        each([&](int m, int j) FC_INLINE_LAMBDA { V::stream(y + ypixel[m] + j * V::width, acc[m][j]); });
    } else if (part) {
        each([&](int m, int j) FC_INLINE_LAMBDA {
            T* to = y + ypixel[m] + j * V::width;
            j == NV - 1 ? V::store_n(to, acc[m][j], last) : V::store(to, acc[m][j]);
        });
    } else {
        each([&](int m, int j) FC_INLINE_LAMBDA { V::store(y + ypixel[m] + j * V::width, acc[m][j]); });
    }
}

template <class V, int M, int NV>
static void conv_rest(const fc_conv_tile& a, int64_t p) {
    if constexpr (M > 0) {
        if (a.pixels - p == M) return conv_block<V, M, NV>(a, p, nullptr, false);
        conv_rest<V, M - 1, NV>(a, p);
    }
}

// What is left of two panels, fewer pixels than a register tile has: panel by panel.
template <class V, int NV>
static void conv_panels(fc_conv_tile a, int64_t p) {
    using T = typename V::T;
    constexpr int nr = Blocks<V>::nv * V::width;
    const int64_t columns = a.columns;
    a.columns = nr;
    a.listed = 0;
    conv_rest<V, Blocks<V>::mr - 1, Blocks<V>::nv>(a, p);
    a.columns = columns - nr;
    a.w = static_cast<const T*>(a.w) + a.panel;
    a.y = static_cast<T*>(a.y) + nr;
    if (a.bias) a.bias = static_cast<const T*>(a.bias) + nr;
    if (a.residual) a.residual = static_cast<const T*>(a.residual) + nr;
    if (a.gate) a.gate = static_cast<const T*>(a.gate) + nr;
    conv_rest<V, Blocks<V>::mr - 1, NV - Blocks<V>::nv>(a, p);
}

template <class V, int NV>
static void conv_columns(const fc_conv_tile& a) {
    if constexpr (NV > 0) {
        if (a.columns <= (NV - 1) * V::width) return conv_columns<V, NV - 1>(a);
        constexpr int mr = block_pixels<V>(NV);
        static_assert(mr <= Blocks<V>::mr || NV <= Blocks<V>::nv, "what is left of two panels is at most a tile of one");
        int64_t p = 0;
        for (; p + mr <= a.pixels; p += mr) {
            const int64_t* next = p + 2 * mr <= a.listed ? a.pixel + p + mr : nullptr;
            if (a.source) next = p + mr <= a.listed ? a.spixel + p : nullptr;
            conv_block<V, mr, NV>(a, p, next, p + 2 * mr <= a.pixels);
        }
        if constexpr (NV <= Blocks<V>::nv) {
            conv_rest<V, mr - 1, NV>(a, p);
        } else if (p < a.pixels) {
            conv_panels<V, NV>(a, p);
        }
    }
}

template <class V>
void conv_tile(const fc_conv_tile* a) {
    if (a->warm == FC_PAST && a->pixels == 0) return V::fence();
    FC_CHECK(a->pixels >= 0 && a->taps >= 0 && (a->taps == 0 || a->depth >= 0));
    FC_CHECK(a->columns > 0 && a->columns <= most_vectors<V> * V::width);
    FC_CHECK(a->y && a->pixel && a->ypixel && (a->taps == 0 || (a->x && a->w && a->tap && a->wtap)));
    FC_CHECK((!a->residual || a->rpixel) && (!a->gate || a->gpixel));
    FC_CHECK(a->warm != FC_PAST || (!a->accumulate && a->columns % V::width == 0));
    conv_columns<V, most_vectors<V>>(*a);
}

}  // namespace fastconv
