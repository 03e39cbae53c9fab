// Brings listed pixels close together, channels side by side. Contract in include/fastconv/conv.h.
#pragma once
#include <cstdint>

#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "kernels/copy.hpp"

namespace fastconv {

template <class V>
void gather(const fc_gather* a) {
    using T = typename V::T;
    FC_CHECK(a->pixels >= 0 && a->channels > 0 && a->ld >= a->channels && a->dst && a->src && a->pixel);
    const T* src = static_cast<const T*>(a->src);
    T* dst = static_cast<T*>(a->dst);
    if (a->channel == 1 || a->channels == 1) {
        const int64_t whole = a->channels - a->channels % V::width;
        const int rest = static_cast<int>(a->channels - whole);
        for (int64_t p = 0; p < a->pixels; ++p, dst += a->ld) {
            const T* from = src + a->pixel[p];
            for (int64_t c = 0; c < whole; c += V::width) V::store(dst + c, V::load(from + c));
            if (rest) V::store_n(dst + whole, V::load_n(from + whole, rest), rest);
        }
        return;
    }
    for (int64_t p = 0, end; p < a->pixels; p = end) {  // runs of pixels at equal distances
        const int64_t step = p + 1 < a->pixels ? a->pixel[p + 1] - a->pixel[p] : 1;
        for (end = p + 1; end < a->pixels && a->pixel[end] - a->pixel[end - 1] == step; ++end) {}
        const fc_copy2d run = {dst + p * a->ld, src + a->pixel[p], end - p, a->channels, a->channels,
                               a->ld,           1,                 step,    a->channel};
        copy2d<V>(&run);
    }
}

}  // namespace fastconv
