// What a kernel brings near for the call after it. Lines asked for in the order of memory set the processor's own
// prefetchers going, which the kernel's order of reading does not.
#pragma once
#include <cstdint>

#include "simd/unroll.hpp"

namespace fastconv {

class Ahead {
public:
    Ahead(const void* first, int64_t bytes)
        : at(static_cast<const char*>(first)), lines(bytes > 0 ? (bytes + 63) / 64 : 0) {}

    // What each of so many steps has to ask for, that they ask for all.
    int64_t share(int64_t steps) const { return steps > 0 ? (lines + steps - 1) / steps : 0; }

    // Ask for the next `count` lines, or what is left of them.
    FC_INLINE void step(int64_t count) {
        if (lines < count) count = lines;
        lines -= count;
        for (; count > 0; --count, at += 64) FC_PREFETCH_OUTER(at);
    }

private:
    const char* at;
    int64_t lines;
};

// The source and the gradient of a weight gradient's next call: an equal share of both for each of so many steps.
class AheadPair {
public:
    template <class Call>
    AheadPair(const Call& a, int64_t steps) : x(a.next_x, a.next_x_bytes), dy(a.next_dy, a.next_dy_bytes) {
        x_share = x.share(steps);
        dy_share = dy.share(steps);
    }
    FC_INLINE void step() { x.step(x_share), dy.step(dy_share); }

private:
    Ahead x, dy;
    int64_t x_share, dy_share;
};

}  // namespace fastconv
