// How far two processors are from each other: the time that a cache line takes from one to the other and back. Where a
// machine's processors share a last-level cache that is some 50 ns, where they do not several hundred; a virtual machine's
// may be moved, and then it changes while a program runs.
#pragma once
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>

namespace fastconv {

// Nanoseconds, the least mean of several runs; NaN where threads cannot be held on the first two processors of the process.
inline double round_trip() {
#if defined(__linux__)
    constexpr int runs = 20, trips = 50;
    cpu_set_t allowed;
    int processor[2], found = 0;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return std::numeric_limits<double>::quiet_NaN();
    for (int i = 0; i < CPU_SETSIZE && found < 2; ++i) {
        if (CPU_ISSET(i, &allowed)) processor[found++] = i;
    }
    if (found < 2) return std::numeric_limits<double>::quiet_NaN();
    struct alignas(64) Line {
        std::atomic<int> value{0};
    } line;
    auto stay = [](int where) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(where, &one);
        sched_setaffinity(0, sizeof(one), &one);
    };
    double least = std::numeric_limits<double>::infinity();
    std::thread far([&] {
        stay(processor[1]);
        for (int i = 0; i < runs * trips; ++i) {
            while (line.value.load(std::memory_order_acquire) != 2 * i + 1) {
            }
            line.value.store(2 * i + 2, std::memory_order_release);
        }
    });
    std::thread near([&] {
        stay(processor[0]);
        for (int i = 0; i < runs * trips;) {
            const auto began = std::chrono::steady_clock::now();
            for (const int last = i + trips; i < last; ++i) {
                line.value.store(2 * i + 1, std::memory_order_release);
                while (line.value.load(std::memory_order_acquire) != 2 * i + 2) {
                }
            }
            const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - began;
            least = std::min(least, taken.count() / trips);
        }
    });
    near.join();
    far.join();
    return least;
#else
    return std::numeric_limits<double>::quiet_NaN();
#endif
}

}  // namespace fastconv
