// Loads and stores of the first n lanes, 1 <= n <= width: one way through for whole vectors and tails.
#pragma once
#include <cstdint>

namespace fastconv {

// Whether n lanes, n >= 1, fill a vector. Said so, no kernel of one lane is compiled for tails as well.
template <class V>
static constexpr bool fills(int64_t n) {
    return V::width == 1 || n >= V::width;
}

template <class V>
static inline typename V::Reg load_some(const void* array, int64_t i, int n) {
    const typename V::T* p = static_cast<const typename V::T*>(array) + i;
    return fills<V>(n) ? V::load(p) : V::load_n(p, n);
}

template <class V>
static inline void store_some(void* array, int64_t i, typename V::Reg value, int n) {
    typename V::T* p = static_cast<typename V::T*>(array) + i;
    if (fills<V>(n)) {
        V::store(p, value);
    } else {
        V::store_n(p, value, n);
    }
}

// Of columns that lie ``stride`` elements apart: how many elements of each come before the first whole vector that lies
// within one line of the caches, or a vector's where they do not lie alike. A square of vectors that cross lines needs
// each line twice, and columns a power of two apart push each other out of the cache in between.
template <class V>
static inline int64_t lanes_to_alignment(const typename V::T* first, int64_t stride) {
    if (stride % V::width) return V::width;
    return V::width - static_cast<int64_t>(reinterpret_cast<std::uintptr_t>(first) / sizeof(typename V::T) % V::width);
}

// Where the first n bytes are b.
template <class V>
static inline typename V::Mask some_bytes_equal(const uint8_t* bytes, uint8_t b, int n) {
    if (fills<V>(n)) return V::bytes_equal(bytes, b);
    uint8_t lanes[V::width] = {};
    for (int i = 0; i < n; ++i) lanes[i] = bytes[i];
    return V::bytes_equal(lanes, b);
}

}  // namespace fastconv
