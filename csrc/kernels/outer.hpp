// Weight gradient: a register tile of MR rows x NV vectors of columns, to which each pixel adds an outer product. Contracts
// in include/fastconv/conv.h. Every element is summed in the same order in every instance.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// What the next call reads, cache line by cache line. The register tiles of this call bring an equal share of it near every
// `stride` pixels: memory arrives while there is arithmetic to do, and never so much at once that a core waits for it.
template <class V>
class OuterNext {
  public:
    static constexpr int64_t stride = 8;

    explicit OuterNext(const fc_outer_tile& a)
        : side_{{static_cast<const char*>(a.x), a.xnext, bytes(a.rows)},
                {static_cast<const char*>(a.dy), a.ynext, bytes(a.columns)}} {
        if (a.next == 0 || a.pixels == 0) return;
        constexpr int64_t mr = Blocks<V>::mr, nr = Blocks<V>::nv * V::width;
        const int64_t tiles = ((a.rows + mr - 1) / mr) * ((a.columns + nr - 1) / nr);
        const int64_t shares = tiles * ((a.pixels + stride - 1) / stride);
        const int64_t lines = a.next * ((side_[0].bytes + line - 1) / line + (side_[1].bytes + line - 1) / line);
        share_ = (lines + shares - 1) / shares;
        left_ = 2 * a.next;
        next_ = a.next;
    }

    FC_INLINE void bring() {
        for (int64_t i = 0; i < share_ && left_ > 0; ++i) {
            const Side& side = side_[left_ <= next_];
            FC_PREFETCH(side.data + bytes(side.pixel[pixel_]) + at_);
            at_ += line;
            if (at_ < side.bytes) continue;
            at_ = 0;
            --left_;
            pixel_ = left_ == next_ ? 0 : pixel_ + 1;
        }
    }

  private:
    struct Side {
        const char* data;
        const int64_t* pixel;
        int64_t bytes;  // a pixel
    };

    static constexpr int64_t line = 64;
    static int64_t bytes(int64_t elements) { return elements * static_cast<int64_t>(sizeof(typename V::T)); }

    Side side_[2];
    int64_t share_ = 0, next_ = 0, left_ = 0, pixel_ = 0, at_ = 0;  // left_: pixels of both sides
};

// With `Near` the rows lie side by side in x, which takes one pointer for all of them, and the next call's memory is brought
// near; else each row has a pointer of its own, and no register is left for that.
template <class V, int M, int NV, bool Whole, bool Near>
static void outer_block(const fc_outer_tile& a, OuterNext<V>& next, int64_t r, int64_t c) {
    using T = typename V::T;
    T* dw = static_cast<T*>(a.dw) + r * a.ld + c;
    const int64_t ld = a.ld;
    const bool accumulate = a.accumulate != 0;
    const int last = static_cast<int>(a.columns - c - (NV - 1) * V::width);  // valid lanes of the last vector
    auto load = [last](const T* p, int j) { return Whole || j < NV - 1 ? V::load(p) : V::load_n(p, last); };

    typename V::Reg acc[M][NV];
    const T* x[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        x[m] = static_cast<const T*>(a.x) + (Near ? a.row[r] + m : a.row[r + m]);
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            acc[m][j] = V::zero();
            FC_PREFETCH(dw + m * ld + j * V::width);
        }
    }
    const T* dy = static_cast<const T*>(a.dy) + c;
    const int64_t *xpixel = a.xpixel, *ypixel = a.ypixel, *end = a.xpixel + a.pixels;
    while (xpixel < end) {
        const int64_t* stop = end;
        if constexpr (Near) {
            if (end - xpixel > OuterNext<V>::stride) stop = xpixel + OuterNext<V>::stride;
            next.bring();
        }
        for (; xpixel < stop; ++xpixel, ++ypixel) {
            const int64_t at = *xpixel;
            const T* from = dy + *ypixel;
            typename V::Reg columns[NV];
            FC_UNROLL
            for (int j = 0; j < NV; ++j) columns[j] = load(from + j * V::width, j);
            FC_UNROLL
            for (int m = 0; m < M; ++m) {
                const typename V::Reg value = V::set1(Near ? x[0][at + m] : x[m][at]);
                FC_UNROLL
                for (int j = 0; j < NV; ++j) acc[m][j] = V::fma(value, columns[j], acc[m][j]);
            }
        }
    }
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            T* to = dw + m * ld + j * V::width;
            const typename V::Reg sum = accumulate ? V::add(load(to, j), acc[m][j]) : acc[m][j];
            if (Whole || j < NV - 1) {
                V::store(to, sum);
            } else {
                V::store_n(to, sum, last);
            }
        }
    }
}

// Rows [r, rows) in blocks of M and M - 1, of which `larger` have M: no block is small where one could be as long as others.
template <class V, int M, int NV, bool Whole, bool Near>
static void outer_rows(const fc_outer_tile& a, OuterNext<V>& next, int64_t c, int64_t larger) {
    int64_t r = 0;
    for (; larger > 0; --larger, r += M) outer_block<V, M, NV, Whole, Near>(a, next, r, c);
    if constexpr (M > 1) {
        for (; r < a.rows; r += M - 1) outer_block<V, M - 1, NV, Whole, Near>(a, next, r, c);
    }
}

template <class V, int M, int NV, bool Whole, bool Near>
static void outer_even(const fc_outer_tile& a, OuterNext<V>& next, int64_t c) {
    constexpr int mr = Blocks<V>::mr;
    const int64_t blocks = (a.rows + mr - 1) / mr, most = (a.rows + blocks - 1) / blocks;
    if constexpr (M > 1) {
        if (most < M) return outer_even<V, M - 1, NV, Whole, Near>(a, next, c);
    }
    outer_rows<V, M, NV, Whole, Near>(a, next, c, a.rows - blocks * (M - 1));
}

template <class V, int NV, bool Near>
static void outer_columns(const fc_outer_tile& a, OuterNext<V>& next, int64_t c) {
    if constexpr (NV > 0) {
        constexpr int mr = Blocks<V>::mr;
        const int64_t columns = a.columns - c;
        if (columns <= (NV - 1) * V::width) return outer_columns<V, NV - 1, Near>(a, next, c);
        columns >= NV * V::width ? outer_even<V, mr, NV, true, Near>(a, next, c)
                                : outer_even<V, mr, NV, false, Near>(a, next, c);
    }
}

template <class V>
void outer_tile(const fc_outer_tile* a) {
    constexpr int nr = Blocks<V>::nv * V::width;
    FC_CHECK(a->pixels >= 0 && a->rows >= 0 && a->columns >= 0 && (a->rows <= 1 || a->ld >= a->columns));
    FC_CHECK(a->rows == 0 || (a->dw && a->row));
    FC_CHECK(a->pixels == 0 || (a->x && a->xpixel && a->dy && a->ypixel));
    FC_CHECK(a->next >= 0 && (a->next == 0 || (a->xnext && a->ynext)));
    OuterNext<V> next(*a);
    bool near = true;
    for (int64_t r = 1; r < a->rows; ++r) near = near && a->row[r] == a->row[0] + r;
    for (int64_t c = 0; c < a->columns; c += nr) {
        near ? outer_columns<V, Blocks<V>::nv, true>(*a, next, c) : outer_columns<V, Blocks<V>::nv, false>(*a, next, c);
    }
}

}  // namespace fastconv
