// Weight gradient: a register tile of MR rows x NV vectors of columns, to which each pixel adds an outer product. Contracts
// in include/fastconv/conv.h. Every element is summed in the same order in every instance.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// Columns that register tiles of 2 nv vectors take: these have `wide` rows or one less, if rows are made up of such.
template <class V>
static int64_t wide_columns(const fc_outer_tile& a) {
    constexpr int64_t columns = 2 * Blocks<V>::nv * V::width, wide = Blocks<V>::wide;
    if constexpr (wide > 0) {
        if (a.rows >= (a.rows + wide - 1) / wide * (wide - 1)) return a.columns / columns * columns;
    }
    return 0;
}

// Brings what is ahead near, cache line by cache line, an equal share in every register tile, some lines at a time: memory
// arrives while there is arithmetic to do, and never so much at once that a core waits for it.
template <class V>
class OuterAhead {
  public:
    explicit OuterAhead(const fc_outer_tile& a)
        : side_{{static_cast<const char*>(a.ahead[0].data), a.ahead[0].run, bytes(a.ahead[0].length)},
                {static_cast<const char*>(a.ahead[1].data), a.ahead[1].run, bytes(a.ahead[1].length)}},
          strip_(a.pixels),
          first_(a.ahead[0].runs),
          second_(a.ahead[1].runs) {
        FC_CHECK(first_ == 0 || (first_ > 0 && side_[0].data && side_[0].run));
        FC_CHECK(second_ == 0 || (second_ > 0 && side_[1].data && side_[1].run));
        constexpr int64_t mr = Blocks<V>::mr, nr = Blocks<V>::nv * V::width, wide = Blocks<V>::wide;
        const int64_t lines = first_ * ((side_[0].bytes + line - 1) / line) + second_ * ((side_[1].bytes + line - 1) / line);
        if (lines == 0 || a.pixels == 0) return;
        const int64_t columns = wide_columns<V>(a);
        int64_t tiles = ((a.rows + mr - 1) / mr) * ((a.columns - columns + nr - 1) / nr);
        if constexpr (wide > 0) tiles += ((a.rows + wide - 1) / wide) * (columns / (2 * nr));
        const int64_t share = (lines + tiles - 1) / tiles, strips = (share + at_once - 1) / at_once;
        share_ = (share + strips - 1) / strips;
        strip_ = (a.pixels + strips - 1) / strips;
    }

    // How many pixels are summed from one `bring` to the next.
    int64_t strip() const { return strip_; }

    FC_INLINE void bring() {
        for (int64_t due = share_; due > 0;) {
            if (lines_ == 0 && !next_run()) return;
            const int64_t now = due < lines_ ? due : lines_;
            due -= now;
            lines_ -= now;
            for (const char* end = at_ + now * line; at_ < end; at_ += line) FC_PREFETCH_OUTER(at_);
        }
    }

  private:
    struct Side {
        const char* data;
        const int64_t* run;  // the next one
        int64_t bytes;       // of each
    };

    bool next_run() {
        if (first_ + second_ == 0) return false;
        Side& side = side_[first_ == 0];
        --(first_ > 0 ? first_ : second_);
        at_ = side.data + bytes(*side.run++);
        lines_ = (side.bytes + line - 1) / line;
        return true;
    }

    static constexpr int64_t line = 64, at_once = 8;
    static int64_t bytes(int64_t elements) { return elements * static_cast<int64_t>(sizeof(typename V::T)); }

    Side side_[2];
    int64_t strip_, first_, second_;  // runs that are left
    const char* at_ = nullptr;
    int64_t share_ = 0, lines_ = 0;  // that are left of this run
};

// How pixels and rows are found. Listed: by lists. Near: rows lie side by side, which takes one pointer for all of them in
// place of one each. Even: pixels as well lie at equal distances, and no list is read.
enum class Outer { Listed, Near, Even };

template <class V, int M, int NV, bool Whole, Outer Way>
static void outer_block(const fc_outer_tile& a, OuterAhead<V>& ahead, int64_t r, int64_t c) {
    using T = typename V::T;
    T* dw = static_cast<T*>(a.dw) + r * a.ld + c;
    const int64_t ld = a.ld;
    const int last = static_cast<int>(a.columns - c - (NV - 1) * V::width);  // valid lanes of the last vector
    auto load = [last](const T* p, int j) { return Whole || j < NV - 1 ? V::load(p) : V::load_n(p, last); };

    typename V::Reg acc[M][NV];
    const T* x[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        x[m] = static_cast<const T*>(a.x) + (Way == Outer::Listed ? a.row[r + m] : r + m);
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            acc[m][j] = V::zero();
            FC_PREFETCH(dw + m * ld + j * V::width);
        }
    }
    auto add = [&](const T* from, int64_t at) FC_INLINE_LAMBDA {
        typename V::Reg columns[NV];
        FC_UNROLL
        for (int j = 0; j < NV; ++j) columns[j] = load(from + j * V::width, j);
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            const typename V::Reg value = V::set1(Way == Outer::Listed ? x[m][at] : x[0][at + m]);
            FC_UNROLL
            for (int j = 0; j < NV; ++j) acc[m][j] = V::fma(value, columns[j], acc[m][j]);
        }
    };
    const T* dy = static_cast<const T*>(a.dy) + c;
    for (int64_t p = 0; p < a.pixels;) {
        const int64_t end = p + ahead.strip() < a.pixels ? p + ahead.strip() : a.pixels;
        ahead.bring();
        for (; p < end; ++p) {
            if constexpr (Way == Outer::Even) {
                add(dy, 0);
                x[0] += a.xstep;
                dy += a.ystep;
            } else {
                add(dy + a.ypixel[p], a.xpixel[p]);
            }
        }
    }
    if (a.accumulate) {
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            FC_UNROLL
            for (int j = 0; j < NV; ++j) acc[m][j] = V::add(load(dw + m * ld + j * V::width, j), acc[m][j]);
        }
    }
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            T* to = dw + m * ld + j * V::width;
            Whole || j < NV - 1 ? V::store(to, acc[m][j]) : V::store_n(to, acc[m][j], last);
        }
    }
}

// Rows [r, rows) in blocks of M and M - 1, of which `larger` have M: no block is small where one could be as long as others.
template <class V, int M, int NV, bool Whole, Outer Way>
static void outer_rows(const fc_outer_tile& a, OuterAhead<V>& ahead, int64_t c, int64_t larger) {
    int64_t r = 0;
    for (; larger > 0; --larger, r += M) outer_block<V, M, NV, Whole, Way>(a, ahead, r, c);
    if constexpr (M > 1) {
        for (; r < a.rows; r += M - 1) outer_block<V, M - 1, NV, Whole, Way>(a, ahead, r, c);
    }
}

template <class V, int M, int NV, bool Whole, Outer Way>
static void outer_even(const fc_outer_tile& a, OuterAhead<V>& ahead, int64_t c) {
    constexpr int mr = Blocks<V>::mr;
    const int64_t blocks = (a.rows + mr - 1) / mr, most = (a.rows + blocks - 1) / blocks;
    if constexpr (M > 1) {
        if (most < M) return outer_even<V, M - 1, NV, Whole, Way>(a, ahead, c);
    }
    outer_rows<V, M, NV, Whole, Way>(a, ahead, c, a.rows - blocks * (M - 1));
}

template <class V, int NV, Outer Way>
static void outer_columns(const fc_outer_tile& a, OuterAhead<V>& ahead, int64_t c) {
    if constexpr (NV > 0) {
        constexpr int mr = Blocks<V>::mr;
        const int64_t columns = a.columns - c;
        if (columns <= (NV - 1) * V::width) return outer_columns<V, NV - 1, Way>(a, ahead, c);
        fills<V>(columns - (NV - 1) * V::width) ? outer_even<V, mr, NV, true, Way>(a, ahead, c)
                                                : outer_even<V, mr, NV, false, Way>(a, ahead, c);
    }
}

template <class V, Outer Way>
static void outer_by(const fc_outer_tile& a) {
    constexpr int nv = Blocks<V>::nv, wide = Blocks<V>::wide;
    OuterAhead<V> ahead(a);
    int64_t c = 0;
    if constexpr (wide > 0) {
        const int64_t blocks = (a.rows + wide - 1) / wide;
        for (; c < wide_columns<V>(a); c += 2 * nv * V::width) {
            outer_rows<V, wide, 2 * nv, true, Way>(a, ahead, c, a.rows - blocks * (wide - 1));
        }
    }
    for (; c < a.columns; c += nv * V::width) outer_columns<V, nv, Way>(a, ahead, c);
}

static inline void check_outer(const fc_outer_tile& a) {
    FC_CHECK(a.pixels >= 0 && a.rows >= 0 && a.columns >= 0 && (a.rows <= 1 || a.ld >= a.columns));
    FC_CHECK(a.rows == 0 || a.dw);
    FC_CHECK(a.pixels == 0 || (a.x && a.dy));
    FC_CHECK((a.xpixel == nullptr) == (a.ypixel == nullptr) && (a.xpixel || !a.row));
}

template <class V>
void outer_tile(const fc_outer_tile* a) {
    check_outer(*a);
    if (!a->xpixel) return outer_by<V, Outer::Even>(*a);
    a->row ? outer_by<V, Outer::Listed>(*a) : outer_by<V, Outer::Near>(*a);
}

}  // namespace fastconv
