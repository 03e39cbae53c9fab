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

// Asks for what is ahead, cache line by cache line, an equal share in every register tile: one or two lines for each of
// its first pixels, so that memory arrives while there is arithmetic to do, and never so much at once that a core waits.
template <class V>
class OuterAhead {
  public:
    explicit OuterAhead(const fc_outer_tile& a) : side_{side(a.ahead[0]), side(a.ahead[1])} {
        constexpr int64_t mr = Blocks<V>::mr, nr = Blocks<V>::nv * V::width, wide = Blocks<V>::wide;
        const int64_t lines = side_[0].runs * lines_of(side_[0]) + side_[1].runs * lines_of(side_[1]);
        if (lines == 0 || a.pixels == 0) return;
        const int64_t columns = wide_columns<V>(a);
        int64_t tiles = ((a.rows + mr - 1) / mr) * ((a.columns - columns + nr - 1) / nr);
        if constexpr (wide > 0) tiles += ((a.rows + wide - 1) / wide) * (columns / (2 * nr));
        share_ = (lines + tiles - 1) / tiles;
        each_ = share_ <= a.pixels ? 1 : 2;
    }

    // A register tile begins.
    FC_INLINE void begin() { due_ = share_; }

    // For how many pixels, at most `most`, lines are due that lie in sequence: `step()` bytes from `at` on for each.
    FC_INLINE int64_t next(int64_t most, const char*& at) {
        if (due_ <= 0 || (lines_ <= 0 && !next_run())) return 0;
        const int64_t lines = due_ < lines_ ? due_ : lines_, pixels = each_ == 1 ? lines : (lines + 1) / 2;
        const int64_t now = pixels < most ? pixels : most;
        due_ -= now * each_;
        lines_ -= now * each_;
        at = at_;
        at_ += now * step();
        return now;
    }

    int64_t step() const { return each_ * line; }

    // From the first to the last line of a pixel, which may be the same: to ask twice costs less than to branch.
    int64_t last() const { return step() - line; }

  private:
    struct Side {
        const char* data;
        const int64_t* run;   // the next one
        int64_t runs, bytes;  // that are left; of each
    };

    // Runs that lie in sequence are one.
    static Side side(const fc_ahead& ahead) {
        FC_CHECK(ahead.runs == 0 || (ahead.runs > 0 && ahead.data && ahead.run));
        int64_t same = 1;
        while (same < ahead.runs && ahead.run[same] - ahead.run[same - 1] == ahead.length) ++same;
        const bool one = same == ahead.runs;
        return {static_cast<const char*>(ahead.data), ahead.run, one ? 1 : ahead.runs,
                bytes(one ? ahead.runs * ahead.length : ahead.length)};
    }

    FC_INLINE bool next_run() {
        Side& side = side_[side_[0].runs == 0];
        if (side.runs == 0) return false;
        --side.runs;
        at_ = side.data + bytes(*side.run++);
        lines_ = lines_of(side);
        return true;
    }

    static constexpr int64_t line = 64;
    static int64_t bytes(int64_t elements) { return elements * static_cast<int64_t>(sizeof(typename V::T)); }
    static int64_t lines_of(const Side& side) { return (side.bytes + line - 1) / line; }

    Side side_[2];
    int64_t share_ = 0, each_ = 1;  // lines of a register tile, of a pixel
    int64_t due_ = 0, lines_ = 0;   // that are left of this tile, of this run
    const char* at_ = nullptr;
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
    auto next = [&](int64_t p) FC_INLINE_LAMBDA {
        if constexpr (Way == Outer::Even) {
            add(dy, 0);
            x[0] += a.xstep;
            dy += a.ystep;
        } else {
            add(dy + a.ypixel[p], a.xpixel[p]);
        }
    };
    const char* at = nullptr;
    const int64_t step = ahead.step(), further = ahead.last();
    int64_t p = 0;
    ahead.begin();
    while (const int64_t pixels = ahead.next(a.pixels - p, at)) {
        for (const int64_t end = p + pixels; p < end; ++p, at += step) {
            FC_PREFETCH_OUTER(at);
            FC_PREFETCH_OUTER(at + further);
            next(p);
        }
    }
    for (; p < a.pixels; ++p) next(p);
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
