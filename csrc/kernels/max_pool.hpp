// Max pooling and its gradients. Contracts in include/fastconv/pool.h, the walk in pool.hpp.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

#include "fastconv/pool.h"
#include "kernels/partial.hpp"
#include "kernels/pool.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class V>
static inline void store_places(const fc_pool_box* a, int64_t at, int64_t first, typename V::Reg place, int n) {
    if (a->index_bytes == 1) {
        uint8_t* bytes = static_cast<uint8_t*>(a->index) + at;
        uint8_t lanes[V::width];
        if (n == V::width) {
            V::store_bytes(bytes, place);
        } else {
            V::store_bytes(lanes, place);
            std::memcpy(bytes, lanes, static_cast<size_t>(n));
        }
    } else if (a->index_bytes == 8) {
        int64_t* index = static_cast<int64_t*>(a->index) + at;
        typename V::T lanes[V::width];
        V::store(lanes, place);
        for (int i = 0; i < n; ++i) index[i] = first + static_cast<int64_t>(lanes[i]);
    }
}

// The winners of `count` vectors. A place is kept as a T, relative to the window's first element. A lane takes x
// where x > best. NaN is not seen by that: it shows in the sum, and a window with one is done again, with care.
template <class V, int count>
struct Winners {
    using T = typename V::T;
    using Reg = typename V::Reg;
    Reg best[count], place[count], sum[count];

    FC_INLINE void start() {
        FC_UNROLL
        for (int v = 0; v < count; ++v) {
            best[v] = V::set1(-std::numeric_limits<T>::infinity());
            place[v] = sum[v] = V::zero();
        }
    }

    // One row of the window: `taps` elements from `at` on, whose places start at `from`; `ahead` leads to what comes
    // next.
    template <bool careful>
    FC_INLINE void see_row(const fc_pool_box* a, const T* at, int64_t from, int64_t taps, int n, int64_t ahead) {
        const int64_t step = a->axis[2].step * a->source_step[2], next = a->axis[2].step * a->axis[2].place;
        for (int64_t k = 0; k < taps; ++k, at += step, from += next) {
            const Reg here = V::set1(static_cast<T>(from));
            FC_UNROLL
            for (int v = 0; v < count; ++v) {
                FC_PREFETCH_OUTER(at + ahead + v * V::width);
                const Reg x = load_some<V>(at, v * V::width, n);
                if (careful) {  // or where x is the first NaN
                    const typename V::Mask better = V::both(V::not_less_equal(x, best[v]), V::ordered(best[v]));
                    best[v] = V::select(better, x, best[v]);
                    place[v] = V::select(better, here, place[v]);
                } else {
                    place[v] = V::select(V::greater(x, best[v]), here, place[v]);
                    best[v] = V::max(x, best[v]);
                    sum[v] = V::add(sum[v], x);
                }
            }
        }
    }

    FC_INLINE bool saw_nan() const {
        Reg all = sum[0];
        FC_UNROLL
        for (int v = 1; v < count; ++v) all = V::add(all, sum[v]);
        return V::any(V::not_less_equal(all, all));
    }
};

// Row (i, j) of the window whose first element is *source: where it starts, and its place.
template <class V>
static FC_INLINE const typename V::T* window_row(const fc_pool_box* a, const typename V::T* source, int64_t i,
                                                 int64_t j) {
    return source + i * a->source_step[0] + j * a->axis[1].step * a->source_step[1];
}

static FC_INLINE int64_t place_of_row(const fc_pool_axis* axis, int64_t i, int64_t j) {
    return i * axis[0].step * axis[0].place + j * axis[1].step * axis[1].place;
}

// The winners of the window whose first element is *source.
template <class V, int count, bool careful>
static FC_INLINE void see_window(const fc_pool_box* a, int64_t h, int64_t taps, const typename V::T* source, int n,
                                 Winners<V, count>& winners) {
    winners.start();
    for (int64_t i = 0; i < a->axis[0].count[a->d]; ++i) {
        for (int64_t j = 0; j < a->axis[1].count[h]; ++j) {
            const int64_t from = place_of_row(a->axis, i, j);
            winners.template see_row<careful>(a, window_row<V>(a, source, i, j), from, taps, n, rows_ahead(a, h));
        }
    }
}

// Up to kWaiting channels of a window of many taps.
template <class V>
static inline void find_winners_by_rows(const fc_pool_box* a, int64_t h, int64_t taps, const typename V::T* source,
                                        int64_t channels, typename V::T* best, typename V::T* place) {
    using T = typename V::T;
    T sum[kWaiting];
    for (int64_t c = 0; c < channels; ++c) {
        best[c] = -std::numeric_limits<T>::infinity();
        place[c] = sum[c] = 0;
    }
    for (int64_t i = 0; i < a->axis[0].count[a->d]; ++i) {
        for (int64_t j = 0; j < a->axis[1].count[h]; ++j) {
            const T* row = window_row<V>(a, source, i, j);
            const int64_t from = place_of_row(a->axis, i, j), ahead = a->axis[1].step * a->source_step[1];
            each_block<V>(channels, [&](auto vectors, auto n, int64_t c) {
                Winners<V, decltype(vectors)::value> winners;
                load_block<V>(best + c, winners.best);
                load_block<V>(place + c, winners.place);
                load_block<V>(sum + c, winners.sum);
                winners.template see_row<false>(a, row + c, from, taps, n, ahead);
                store_block<V>(best + c, winners.best);
                store_block<V>(place + c, winners.place);
                store_block<V>(sum + c, winners.sum);
            });
        }
    }
    each_block<V>(channels, [&](auto vectors, auto n, int64_t c) {
        Winners<V, decltype(vectors)::value> winners;
        load_block<V>(sum + c, winners.sum);
        if (!winners.saw_nan()) return;
        see_window<V, decltype(vectors)::value, true>(a, h, taps, source + c, n, winners);
        store_block<V>(best + c, winners.best);
        store_block<V>(place + c, winners.place);
    });
}

template <class V>
void max_pool(const fc_pool_box* a) {
    using T = typename V::T;
    const fc_pool_axis* axis = a->axis;
    each_run<V>(a, [a, axis](int64_t h, int64_t w, int64_t, T* target, const T* source) {
        const int64_t taps = axis[2].count[w], index = h * a->index_step[1] + w * a->index_step[2];
        const int64_t first = axis[0].first[a->d] * axis[0].place + axis[1].first[h] * axis[1].place +
                              axis[2].first[w] * axis[2].place;
        if (!reads_rows<V>(a, h, w)) {
            each_block<V>(a->channels, [=](auto vectors, auto n, int64_t c) {
                constexpr int count = decltype(vectors)::value;
                Winners<V, count> winners;
                see_window<V, count, false>(a, h, taps, source + c, n, winners);
                if (winners.saw_nan()) see_window<V, count, true>(a, h, taps, source + c, n, winners);
                FC_UNROLL
                for (int v = 0; v < count; ++v) {
                    put<V>(a, target + c + v * V::width, winners.best[v], n);
                    store_places<V>(a, index + c + v * V::width, first, winners.place[v], n);
                }
            });
            return;
        }
        T best[kWaiting], place[kWaiting];
        for (int64_t at = 0; at < a->channels; at += kWaiting) {
            const int64_t channels = a->channels - at < kWaiting ? a->channels - at : kWaiting;
            find_winners_by_rows<V>(a, h, taps, source + at, channels, best, place);
            for (int64_t c = 0; c < channels; c += V::width) {
                put<V>(a, target + at + c, V::load(best + c), V::width);
                store_places<V>(a, index + at + c, first, V::load(place + c), V::width);
            }
        }
    });
    if (a->stream) V::fence();
}

template <class V>
void max_pool_backward(const fc_pool_box* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const fc_pool_axis* axis = a->axis;
    each_run<V>(a, [a, axis](int64_t h, int64_t w, int64_t end, T* target, const T* source) {
        const int64_t d = a->d, od = axis[0].first[d], oh = axis[1].first[h], ow = axis[2].first[w];
        const int64_t planes = axis[0].count[d], rows = axis[1].count[h], columns = axis[2].count[w];
        const int64_t h_step = axis[1].step, w_step = axis[2].step;
        const uint8_t* index = static_cast<const uint8_t*>(a->index) + oh * a->index_step[1] + ow * a->index_step[2];
        each_block<V>(a->channels, [=](auto vectors, auto n, int64_t c) {
            constexpr int count = decltype(vectors)::value;
            T* out = target + c;
            if (planes * rows * columns == 1) {  // windows that do not overlap: one source, tried at each of its places
                Reg dy[count];
                FC_UNROLL
                for (int v = 0; v < count; ++v) dy[v] = V::add(V::zero(), load_some<V>(source + c, v * V::width, n));
                int64_t place = (d - axis[0].start[od]) * axis[0].place + (h - axis[1].start[oh]) * axis[1].place +
                                (w - axis[2].start[ow]) * axis[2].place;
                for (int64_t t = w; t < end; ++t, out += a->target_step[1], place += axis[2].place) {
                    FC_UNROLL
                    for (int v = 0; v < count; ++v) {
                        const auto won = some_bytes_equal<V>(index + c + v * V::width, static_cast<uint8_t>(place), n);
                        put<V>(a, out + v * V::width, V::select(won, dy[v], V::zero()), n);
                    }
                }
                return;
            }
            for (int64_t t = w; t < end; ++t, out += a->target_step[1]) {
                Reg sum[count];
                FC_UNROLL
                for (int v = 0; v < count; ++v) sum[v] = V::zero();
                for (int64_t i = 0; i < planes; ++i) {
                    const int64_t plane = (d - axis[0].start[od + i * axis[0].step]) * axis[0].place;
                    for (int64_t j = 0; j < rows; ++j) {
                        const int64_t row = plane + (h - axis[1].start[oh + j * h_step]) * axis[1].place;
                        const T* dy = source + c + i * a->source_step[0] + j * h_step * a->source_step[1];
                        const uint8_t* places = index + c + i * a->index_step[0] + j * h_step * a->index_step[1];
                        for (int64_t k = 0; k < columns; ++k) {
                            const int64_t place = row + (t - axis[2].start[ow + k * w_step]) * axis[2].place;
                            FC_UNROLL
                            for (int v = 0; v < count; ++v) {
                                const Reg more = V::add(sum[v], load_some<V>(dy, v * V::width, n));
                                const uint8_t* at = places + v * V::width;
                                const auto won = some_bytes_equal<V>(at, static_cast<uint8_t>(place), n);
                                sum[v] = V::select(won, more, sum[v]);
                            }
                            dy += w_step * a->source_step[2];
                            places += w_step * a->index_step[2];
                        }
                    }
                }
                FC_UNROLL
                for (int v = 0; v < count; ++v) put<V>(a, out + v * V::width, sum[v], n);
            }
        });
    });
    if (a->stream) V::fence();
}

template <class V, bool Dense>
static inline void expand(const fc_pool_expand* a) {
    using T = typename V::T;
    constexpr int64_t line = 64 / sizeof(T);
    const uint8_t* places = a->places;
    const int64_t dx_inner = Dense ? 1 : a->dx_inner, dy_inner = Dense ? 1 : a->dy_inner;
    for (int64_t o = 0; o < a->outputs; ++o) {
        for (int64_t q = 0; q < a->outer; ++q, places += a->inner) {
            const T* dy = static_cast<const T*>(a->dy) + o * a->dy_pixel + q * a->dy_outer;
            T* dx = static_cast<T*>(a->dx) + a->start[o] + q * a->dx_outer;
            if (!Dense && q == 0 && o * a->dy_pixel % line < a->dy_pixel) {  // the next images
                for (int64_t i = 0; i < a->inner; ++i) FC_PREFETCH_OUTER(dy + (a->inner + i) * dy_inner);
            }
            for (int64_t i = 0; i < a->inner; ++i) dx[i * dx_inner + a->place[places[i]]] += dy[i * dy_inner];
        }
    }
}

template <class V>
void max_pool_expand(const fc_pool_expand* a) {
    if (a->dx_inner == 1 && a->dy_inner == 1) {
        expand<V, true>(a);
    } else {
        expand<V, false>(a);
    }
}

template <class V>
void max_pool_scatter(const fc_scatter_row* a) {
    using T = typename V::T;
    T* dx = static_cast<T*>(a->dx);
    const uint64_t plane = static_cast<uint64_t>(a->plane);
    for (int64_t o = 0; o < a->pixels; ++o) {
        const T* dy = static_cast<const T*>(a->dy) + o * a->dy_pixel;
        const int64_t* index = a->index + o * a->index_pixel;
        for (int64_t c = 0; c < a->channels; ++c) {
            const int64_t place = index[c * a->index_channel];
            if (static_cast<uint64_t>(place) < plane) {
                dx[place * a->pixel + c] += dy[c * a->dy_channel];
            } else {
                *a->outside = 1;
            }
        }
    }
}

}  // namespace fastconv
