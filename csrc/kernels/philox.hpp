// Philox4x64-10 (Salmon et al. 2011): random words as a function of a key and a counter, in NumPy's order. No Vec: the
// 64-bit products have no vector form before AVX-512 IFMA.
#pragma once
#include <cstdint>
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

#include "fastconv/elementwise.h"
#include "simd/unroll.hpp"

namespace fastconv {

static inline uint64_t multiply_wide(uint64_t a, uint64_t b, uint64_t* high) {
#if defined(__SIZEOF_INT128__)
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    *high = static_cast<uint64_t>(product >> 64);
    return static_cast<uint64_t>(product);
#else
    *high = __umulh(a, b);
    return a * b;
#endif
}

constexpr int kPhiloxCounters = 3;  // at a time: a round's products wait for each other, those of other counters do not

// The four words of each of the counters from `counter` on.
static FC_INLINE void philox(uint64_t counter, uint64_t key0, uint64_t key1, uint64_t (&word)[kPhiloxCounters][4]) {
    FC_UNROLL
    for (int k = 0; k < kPhiloxCounters; ++k) {
        word[k][0] = counter + static_cast<uint64_t>(k), word[k][1] = word[k][2] = word[k][3] = 0;
    }
    for (int round = 0; round < 10; ++round) {
        FC_UNROLL
        for (int k = 0; k < kPhiloxCounters; ++k) {
            uint64_t high0, high1;
            const uint64_t low0 = multiply_wide(0xD2E7470EE14C6C93u, word[k][0], &high0);
            const uint64_t low1 = multiply_wide(0xCA5A826395121157u, word[k][2], &high1);
            word[k][0] = high1 ^ word[k][1] ^ key0, word[k][1] = low1;
            word[k][2] = high0 ^ word[k][3] ^ key1, word[k][3] = low0;
        }
        key0 += 0x9E3779B97F4A7C15u, key1 += 0xBB67AE8584CAA73Bu;
    }
}

template <class V>
void random_mask(const fc_random_mask* a) {
    constexpr int64_t words = 4 * kPhiloxCounters;
    for (int64_t i = 0; i < a->count; i += words) {
        uint64_t word[kPhiloxCounters][4];
        philox(static_cast<uint64_t>((a->first + i) / 4 + 1), a->key[0], a->key[1], word);  // NumPy counts from 1
        const int64_t some = a->count - i < words ? a->count - i : words;
        for (int64_t k = 0; k < some; ++k) a->mask[i + k] = word[k / 4][k % 4] >= a->threshold;
    }
}

}  // namespace fastconv
