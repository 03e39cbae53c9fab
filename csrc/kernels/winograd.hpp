// Winograd's minimal filtering (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308): the linear maps between pixels
// and planes, all separable, along one axis first, then along the other. Contracts in include/fastconv/winograd.h.
#pragma once
#include <cstdint>

#include "fastconv/winograd.h"
#include "kernels/check.hpp"
#include "kernels/finish.hpp"
#include "kernels/winograd_maps.hpp"
#include "kernels/winograd_strided.hpp"

namespace fastconv {
namespace {

template <class V, bool Whole>
inline typename V::Reg take(const typename V::T* p, int lanes) {
    return Whole ? V::load(p) : V::load_n(p, lanes);
}

template <class V, bool Whole>
inline void put(typename V::T* p, typename V::Reg a, int lanes) {
    if (Whole) {
        V::store(p, a);
    } else {
        V::store_n(p, a, lanes);
    }
}

// Runs over `count` channels: whole(c) by vectors, then rest(c, lanes). The rule leaves float64 to direct products: it
// serves the tests, which hold the maps to its precision, and has but one variant of each, for any number of lanes.
template <class V, class Whole, class Rest>
inline void by_vectors(int64_t count, Whole whole, Rest rest) {
    int64_t c = 0;
    if constexpr (sizeof(typename V::T) == 4) {
        for (; c + V::width <= count; c += V::width) whole(c);
    }
    if constexpr (sizeof(typename V::T) == 8 || V::width > 1) {
        for (; c < count; c += V::width) rest(c, static_cast<int>(count - c < V::width ? count - c : V::width));
    }
}

// Bytes of so many pixel rows as a tile has, at most, for those that follow to be brought near. They are those of the next
// row of tiles, or of the next image; of larger images they come too soon.
constexpr int64_t kNearRows = 16 * 1024;

// One vector of channels from pixels to planes. Inside: no pixel is left out.
template <class V, class Map, bool Whole, bool Inside>
static void pixels_to_planes(const fc_winograd& a, int64_t channel, int lanes) {
    using Reg = typename V::Reg;
    using T = typename V::T;
    const T* pixels = static_cast<const T*>(a.pixels) + channel;
    T* planes = static_cast<T*>(a.planes) + channel;
    Reg middle[Map::to][Map::from];
    const int64_t row = a.row, column = a.column, plane = a.plane;  // a store might change what `a` holds, for all GCC knows
    const int64_t ahead = Map::from * row;
    const bool near = Inside && ahead * static_cast<int64_t>(sizeof(T)) <= kNearRows;
    for (int j = 0; j < Map::from; ++j, pixels += column) {
        Reg in[Map::from], out[Map::to];
        const bool outside = !Inside && (j < a.first_column || j >= a.last_column);
        FC_UNROLL
        for (int i = 0; i < Map::from; ++i) {
            const T* at = pixels + i * row;
            in[i] = outside || (!Inside && (i < a.first_row || i >= a.last_row)) ? V::zero() : take<V, Whole>(at, lanes);
            if (near) FC_PREFETCH(at + ahead);
        }
        Map::apply(in, out);
        FC_UNROLL
        for (int i = 0; i < Map::to; ++i) middle[i][j] = out[i];
    }
    for (int i = 0; i < Map::to; ++i) {
        Reg out[Map::to];
        Map::apply(middle[i], out);
        FC_UNROLL
        for (int j = 0; j < Map::to; ++j, planes += plane) put<V, Whole>(planes, out[j], lanes);
    }
}

enum class Ends { plain, adds, finished };

// And back: stores pixels, adds to what they hold, or stores outputs with what follows the sum.
template <class V, class Map, Ends End, bool Whole>
static void planes_to_pixels(const fc_winograd& a, int64_t channel, int lanes) {
    using Reg = typename V::Reg;
    using T = typename V::T;
    const T* planes = static_cast<const T*>(a.planes) + channel;
    T* pixels = static_cast<T*>(a.pixels) + channel;
    const Reg bias = End != Ends::adds && a.bias ? take<V, Whole>(static_cast<const T*>(a.bias) + channel, lanes) : V::zero();
    const T* residual = End == Ends::finished && a.residual ? static_cast<const T*>(a.residual) + channel : nullptr;
    const int64_t plane = a.plane, row = a.row, column = a.column, first = a.first_column, last = a.last_column;
    const int64_t last_row = a.last_row, residual_row = a.residual_row, residual_column = a.residual_column;
    const bool relu = End == Ends::finished && a.relu;
    Reg middle[Map::to][Map::from];
    for (int j = 0; j < Map::from; ++j, planes += plane) {
        Reg in[Map::from], out[Map::to];
        FC_UNROLL
        for (int i = 0; i < Map::from; ++i) in[i] = take<V, Whole>(planes + i * Map::from * plane, lanes);
        Map::apply(in, out);
        FC_UNROLL
        for (int i = 0; i < Map::to; ++i) middle[i][j] = out[i];
    }
    for (int64_t i = a.first_row; i < last_row; ++i) {
        Reg out[Map::to];
        Map::apply(middle[i], out);
        FC_UNROLL
        for (int j = 0; j < Map::to; ++j) {
            if (j < first || j >= last) continue;
            T* to = pixels + i * row + j * column;
            Reg value = V::add(End == Ends::adds ? take<V, Whole>(to, lanes) : bias, out[j]);
            if (residual) value = V::add(value, take<V, Whole>(residual + i * residual_row + j * residual_column, lanes));
            put<V, Whole>(to, activated<V>(value, relu), lanes);
        }
    }
}

template <class V, class Map>
static void all_to_planes(const fc_winograd& a) {
    const bool inside = Map::taps || (a.first_row == 0 && a.first_column == 0 && a.last_row == Map::from &&
                                      a.last_column == Map::from);
    const auto whole = [&](int64_t c) {
        inside ? pixels_to_planes<V, Map, true, true>(a, c, 0) : pixels_to_planes<V, Map, true, false>(a, c, 0);
    };
    by_vectors<V>(a.count, whole, [&](int64_t c, int lanes) { pixels_to_planes<V, Map, false, false>(a, c, lanes); });
}

template <class V, class Map, Ends End = Ends::plain>
static void all_to_pixels(const fc_winograd& a) {
    by_vectors<V>(a.count, [&](int64_t c) { planes_to_pixels<V, Map, End, true>(a, c, 0); },
                  [&](int64_t c, int lanes) { planes_to_pixels<V, Map, End, false>(a, c, lanes); });
}

}  // namespace

template <class V>
void winograd_input(const fc_winograd* a) {
    switch (a->form) {
        case FC_WINOGRAD_4X3: return all_to_planes<V, InputMap<V, 6>>(*a);
        case FC_WINOGRAD_4X5: return all_to_planes<V, InputMap<V, 8>>(*a);
        case FC_WINOGRAD_STRIDED: return all_to_planes<V, StridedInput<V>>(*a);
        case FC_WINOGRAD_TRANSPOSED: return all_to_planes<V, TransposedInput<V>>(*a);
        default: FC_CHECK(false);
    }
}

template <class V>
void winograd_filter(const fc_winograd* a) {
    switch (a->form) {
        case FC_WINOGRAD_4X3: return all_to_planes<V, Evaluation<V, 6, 3, true>>(*a);
        case FC_WINOGRAD_4X5: return all_to_planes<V, Evaluation<V, 8, 5, true>>(*a);
        default: return all_to_planes<V, StridedFilter<V>>(*a);
    }
}

template <class V>
void winograd_expand(const fc_winograd* a) {
    switch (a->form) {
        case FC_WINOGRAD_4X3: return all_to_planes<V, Evaluation<V, 6, 4, false>>(*a);
        case FC_WINOGRAD_4X5: return all_to_planes<V, Evaluation<V, 8, 4, false>>(*a);
        case FC_WINOGRAD_STRIDED: return all_to_planes<V, StridedExpand<V>>(*a);
        default: FC_CHECK(false);
    }
}

template <class V>
void winograd_output(const fc_winograd* a) {
    switch (a->form) {
        case FC_WINOGRAD_4X3: return all_to_pixels<V, Transposed<V, 6, 4, false>, Ends::finished>(*a);
        case FC_WINOGRAD_4X5: return all_to_pixels<V, Transposed<V, 8, 4, false>, Ends::finished>(*a);
        case FC_WINOGRAD_STRIDED: return all_to_pixels<V, StridedOutput<V>, Ends::finished>(*a);
        case FC_WINOGRAD_TRANSPOSED: return all_to_pixels<V, TransposedOutput<V>, Ends::finished>(*a);
        default: FC_CHECK(false);
    }
}

template <class V>
void winograd_scatter(const fc_winograd* a) {
    FC_CHECK(a->form == FC_WINOGRAD_4X3 || a->form == FC_WINOGRAD_4X5);
    a->form == FC_WINOGRAD_4X3 ? all_to_pixels<V, InputAdjoint<V, 6>, Ends::adds>(*a)
                               : all_to_pixels<V, InputAdjoint<V, 8>, Ends::adds>(*a);
}

template <class V>
void winograd_filter_gradient(const fc_winograd* a) {
    switch (a->form) {
        case FC_WINOGRAD_4X3: return all_to_pixels<V, Transposed<V, 6, 3, true>>(*a);
        case FC_WINOGRAD_4X5: return all_to_pixels<V, Transposed<V, 8, 5, true>>(*a);
        default: return all_to_pixels<V, StridedFilterGradient<V>>(*a);
    }
}

}  // namespace fastconv
