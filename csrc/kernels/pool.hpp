// Pooling of a box of target pixels; lanes are channels. Contracts in include/fastconv/pool.h.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "fastconv/pool.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <int count>
using Constant = std::integral_constant<int, count>;

// f(vectors, n, c): blocks of `vectors` vectors of channels from c on, n lanes of each; constants where they can be. The
// last vector may do channels again that the one before it has done.
template <class V, class F>
static inline void each_block(int64_t channels, F f) {
    constexpr int64_t width = V::width;
    constexpr Constant<V::width> whole;
    int64_t c = 0;
    for (; c + 8 * width <= channels; c += 8 * width) f(Constant<8>{}, whole, c);
    if (c + 4 * width <= channels) f(Constant<4>{}, whole, c), c += 4 * width;
    if (c + 2 * width <= channels) f(Constant<2>{}, whole, c), c += 2 * width;
    if (c + width <= channels) f(Constant<1>{}, whole, c), c += width;
    if (c == channels) return;
    if (channels >= width) {
        f(Constant<1>{}, whole, channels - width);
    } else {
        f(Constant<1>{}, static_cast<int>(channels), c);
    }
}

// Where the targets end that see the same columns of the source as target w does. With a divisor each, none does.
static inline int64_t run_end(const fc_pool_axis& axis, int64_t w, int64_t end) {
    int64_t last = w + 1;
    if (axis.divisor) return last;
    while (last < end && axis.first[last] == axis.first[w] && axis.count[last] == axis.count[w]) ++last;
    return last;
}

// f(h, w, end, target, source) for each run [w, end) of targets that see the same columns; `target` is the first of them,
// `source` the first source pixel that they see.
template <class V, class F>
static inline void each_run(const fc_pool_box* a, F f) {
    using T = typename V::T;
    for (int64_t h = a->h_first; h < a->h_last; ++h) {
        const T* row = static_cast<const T*>(a->source) + a->axis[1].first[h] * a->source_step[1];
        T* out = static_cast<T*>(a->target) + h * a->target_step[0];
        for (int64_t w = 0, end; w < a->columns; w = end) {
            end = run_end(a->axis[2], w, a->columns);
            f(h, w, end, out + w * a->target_step[1], row + a->axis[2].first[w] * a->source_step[2]);
        }
    }
}

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

// Many taps of many channels are read row by row of the window, channels inside, so that memory is read in long runs;
// what is between rows waits in arrays of so many elements.
constexpr int64_t kWaiting = 1024;

template <class V>
static inline bool reads_rows(const fc_pool_box* a, int64_t h, int64_t w) {
    const fc_pool_axis* axis = a->axis;
    return axis[0].count[a->d] * axis[1].count[h] * axis[2].count[w] > 16 && a->channels > 8 * V::width &&
           a->channels % V::width == 0;  // no channel is done twice
}

// The winner's place is kept as a T, relative to the window's first element. One mask then serves value and place. A
// lane takes x where x > best, or where x is the first NaN. Here: the winners of one row of a window.
template <class V, int count>
static inline void max_of_row(const fc_pool_box* a, const typename V::T* at, int64_t from, int64_t taps, int n,
                              typename V::Reg (&best)[count], typename V::Reg (&place)[count]) {
    const int64_t step = a->axis[2].step * a->source_step[2], next = a->axis[2].step * a->axis[2].place;
    for (int64_t k = 0; k < taps; ++k, at += step, from += next) {
        const typename V::Reg here = V::set1(static_cast<typename V::T>(from));
        FC_UNROLL
        for (int v = 0; v < count; ++v) {
            const typename V::Reg x = load_some<V>(at, v * V::width, n);
            const typename V::Mask better = V::both(V::not_less_equal(x, best[v]), V::ordered(best[v]));
            best[v] = V::select(better, x, best[v]);
            place[v] = V::select(better, here, place[v]);
        }
    }
}

// f(row, from) for each row (d, h) of a window: where it starts in the source, and its place.
template <class V, class F>
static inline void each_window_row(const fc_pool_box* a, int64_t h, const typename V::T* source, F f) {
    const fc_pool_axis* axis = a->axis;
    for (int64_t i = 0; i < axis[0].count[a->d]; ++i) {
        for (int64_t j = 0; j < axis[1].count[h]; ++j) {
            f(source + i * a->source_step[0] + j * axis[1].step * a->source_step[1],
              i * axis[0].step * axis[0].place + j * axis[1].step * axis[1].place);
        }
    }
}

template <class V>
void max_pool(const fc_pool_box* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const fc_pool_axis* axis = a->axis;
    const Reg lowest = V::set1(-std::numeric_limits<T>::infinity());
    each_run<V>(a, [a, axis, lowest](int64_t h, int64_t w, int64_t, T* target, const T* source) {
        const int64_t taps = axis[2].count[w], index = h * a->index_step[1] + w * a->index_step[2];
        const int64_t first = axis[0].first[a->d] * axis[0].place + axis[1].first[h] * axis[1].place +
                              axis[2].first[w] * axis[2].place;
        if (!reads_rows<V>(a, h, w)) {
            each_block<V>(a->channels, [=](auto vectors, auto n, int64_t c) {
                constexpr int count = decltype(vectors)::value;
                Reg best[count], place[count];
                FC_UNROLL
                for (int v = 0; v < count; ++v) best[v] = lowest, place[v] = V::zero();
                each_window_row<V>(a, h, source + c, [&](const T* row, int64_t from) {
                    max_of_row<V, count>(a, row, from, taps, n, best, place);
                });
                FC_UNROLL
                for (int v = 0; v < count; ++v) {
                    store_some<V>(target, c + v * V::width, best[v], n);
                    store_places<V>(a, index + c + v * V::width, first, place[v], n);
                }
            });
            return;
        }
        T best[kWaiting], place[kWaiting];
        for (int64_t at = 0; at < a->channels; at += kWaiting) {
            const int64_t channels = a->channels - at < kWaiting ? a->channels - at : kWaiting;
            for (int64_t c = 0; c < channels; ++c) best[c] = -std::numeric_limits<T>::infinity(), place[c] = 0;
            each_window_row<V>(a, h, source + at, [&](const T* row, int64_t from) {
                each_block<V>(channels, [&](auto vectors, auto n, int64_t c) {
                    constexpr int count = decltype(vectors)::value;
                    Reg b[count], p[count];
                    FC_UNROLL
                    for (int v = 0; v < count; ++v) {
                        b[v] = load_some<V>(best, c + v * V::width, n);
                        p[v] = load_some<V>(place, c + v * V::width, n);
                    }
                    max_of_row<V, count>(a, row + c, from, taps, n, b, p);
                    FC_UNROLL
                    for (int v = 0; v < count; ++v) {
                        store_some<V>(best, c + v * V::width, b[v], n);
                        store_some<V>(place, c + v * V::width, p[v], n);
                    }
                });
            });
            each_block<V>(channels, [&](auto vectors, auto n, int64_t c) {
                FC_UNROLL
                for (int v = 0; v < decltype(vectors)::value; ++v) {
                    const int64_t i = c + v * V::width;
                    store_some<V>(target, at + i, load_some<V>(best, i, n), n);
                    store_places<V>(a, index + at + i, first, load_some<V>(place, i, n), n);
                }
            });
        }
    });
}

template <class V>
static inline typename V::Mask places_equal(const uint8_t* places, int64_t place, int n) {
    if (n == V::width) return V::bytes_equal(places, static_cast<uint8_t>(place));
    uint8_t lanes[V::width] = {};
    std::memcpy(lanes, places, static_cast<size_t>(n));
    return V::bytes_equal(lanes, static_cast<uint8_t>(place));
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
                        const auto won = places_equal<V>(index + c + v * V::width, place, n);
                        store_some<V>(out, v * V::width, V::select(won, dy[v], V::zero()), n);
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
                                sum[v] = V::select(places_equal<V>(places + v * V::width, place, n), more, sum[v]);
                            }
                            dy += w_step * a->source_step[2];
                            places += w_step * a->index_step[2];
                        }
                    }
                }
                FC_UNROLL
                for (int v = 0; v < count; ++v) store_some<V>(out, v * V::width, sum[v], n);
            }
        });
    });
}

static inline int64_t divisor_at(const fc_pool_axis& axis, int64_t t) {
    return axis.divisor ? axis.divisor[t] : 1;
}

// A sum an axis, so that the rounding error grows with the window's edges and not with its volume.
template <class V, bool Weighted>
struct Average {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const fc_pool_box* a;
    int64_t h, w;

    Reg weight(int i, int64_t t, int64_t k) const {
        const fc_pool_axis& axis = a->axis[i];
        return Weighted ? V::set1(static_cast<T>(axis.weight[axis.first[t] + k * axis.step])) : V::zero();
    }
    static Reg plus(Reg sum, Reg x, Reg factor) { return Weighted ? V::fma(x, factor, sum) : V::add(sum, x); }

    // plane += weight * the sum over row j of the window's plane, which starts at `from`
    template <int count>
    void add_row(const T* from, int64_t j, int n, Reg (&plane)[count]) const {
        const int64_t step = a->axis[2].step * a->source_step[2];
        const T* at = from + j * a->axis[1].step * a->source_step[1];
        Reg row[count];
        FC_UNROLL
        for (int v = 0; v < count; ++v) row[v] = V::zero();
        for (int64_t k = 0; k < a->axis[2].count[w]; ++k, at += step) {
            const Reg factor = weight(2, w, k);
            FC_UNROLL
            for (int v = 0; v < count; ++v) row[v] = plus(row[v], load_some<V>(at, v * V::width, n), factor);
        }
        const Reg factor = weight(1, h, j);
        FC_UNROLL
        for (int v = 0; v < count; ++v) plane[v] = plus(plane[v], row[v], factor);
    }

    template <int count>
    void add_plane(const T* from, int64_t i, int n, Reg (&volume)[count]) const {
        Reg plane[count];
        FC_UNROLL
        for (int v = 0; v < count; ++v) plane[v] = V::zero();
        for (int64_t j = 0; j < a->axis[1].count[h]; ++j) add_row(from, j, n, plane);
        const Reg factor = weight(0, a->d, i);
        FC_UNROLL
        for (int v = 0; v < count; ++v) volume[v] = plus(volume[v], plane[v], factor);
    }

    // The same, row by row of all channels.
    void add_long_plane(const T* from, int64_t i, int64_t channels, T* volume) const {
        T waiting[kWaiting] = {};
        for (int64_t j = 0; j < a->axis[1].count[h]; ++j) {
            each_block<V>(channels, [&](auto vectors, auto n, int64_t c) {
                Reg plane[decltype(vectors)::value];
                load_block(waiting + c, plane);
                add_row(from + c, j, n, plane);
                store_block(waiting + c, plane);
            });
        }
        const Reg factor = weight(0, a->d, i);
        for (int64_t c = 0; c < channels; c += V::width) {
            V::store(volume + c, plus(V::load(volume + c), V::load(waiting + c), factor));
        }
    }

    template <int count>
    static void load_block(const T* from, Reg (&block)[count]) {
        FC_UNROLL
        for (int v = 0; v < count; ++v) block[v] = V::load(from + v * V::width);
    }

    template <int count>
    static void store_block(T* to, const Reg (&block)[count]) {
        FC_UNROLL
        for (int v = 0; v < count; ++v) V::store(to + v * V::width, block[v]);
    }
};

template <class V, bool Weighted>
static inline void average(const fc_pool_box* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    each_run<V>(a, [a](int64_t h, int64_t w, int64_t end, T* target, const T* source) {
        const Average<V, Weighted> sum{a, h, w};
        const int64_t planes = a->axis[0].count[a->d], step = a->target_step[1];
        const int64_t divisor = divisor_at(a->axis[0], a->d) * divisor_at(a->axis[1], h) * divisor_at(a->axis[2], w);
        const Reg by = V::set1(static_cast<T>(a->divisor * divisor));
        if (!reads_rows<V>(a, h, w)) {
            each_block<V>(a->channels, [=](auto vectors, auto n, int64_t c) {
                constexpr int count = decltype(vectors)::value;
                Reg volume[count];
                FC_UNROLL
                for (int v = 0; v < count; ++v) volume[v] = V::zero();
                for (int64_t i = 0; i < planes; ++i) sum.add_plane(source + c + i * a->source_step[0], i, n, volume);
                FC_UNROLL
                for (int v = 0; v < count; ++v) volume[v] = V::div(volume[v], by);
                for (int64_t t = w; t < end; ++t) {
                    FC_UNROLL
                    for (int v = 0; v < count; ++v) store_some<V>(target, (t - w) * step + c + v * V::width, volume[v], n);
                }
            });
            return;
        }
        for (int64_t at = 0; at < a->channels; at += kWaiting) {
            const int64_t channels = a->channels - at < kWaiting ? a->channels - at : kWaiting;
            T volume[kWaiting] = {};
            for (int64_t i = 0; i < planes; ++i) sum.add_long_plane(source + at + i * a->source_step[0], i, channels, volume);
            for (int64_t t = w; t < end; ++t) {
                T* out = target + (t - w) * step + at;
                for (int64_t c = 0; c < channels; c += V::width) V::store(out + c, V::div(V::load(volume + c), by));
            }
        }
    });
}

template <class V>
void avg_pool(const fc_pool_box* a) {
    if (a->axis[0].weight) {
        average<V, true>(a);
    } else {
        average<V, false>(a);
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
