// The buffer pool: freed blocks are kept by size class and lent again, the last one first (it is the warmest), so that
// a training step finds the pages of the step before. Where blocks come from is in system_memory.cpp.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

#include "at_fork.hpp"
#include "fastconv/runtime.h"
#include "system_memory.hpp"

namespace fastconv {
namespace {

int floor_log2(std::uint64_t value) {
#if defined(_MSC_VER)
    unsigned long bit;
    _BitScanReverse64(&bit, value);
    return static_cast<int>(bit);
#else
    return 63 - __builtin_clzll(value);
#endif
}

struct SizeClass {
    int index;
    std::size_t bytes;
};

constexpr int kClasses = 8 + 8 * (64 - 9);

// Multiples of a cache line up to 512 bytes, then 8 classes from each power of two to the next.
SizeClass size_class(std::size_t bytes) {
    if (bytes <= 512) {
        const int lines = bytes ? static_cast<int>((bytes + 63) / 64) : 1;
        return {lines - 1, lines * std::size_t{64}};
    }
    const int power = floor_log2(bytes - 1);  // 2^power < bytes <= 2^(power + 1)
    const std::size_t step = std::size_t{1} << (power - 3);
    const std::size_t steps = (bytes + step - 1) / step;  // 9 to 16
    return {8 + 8 * (power - 9) + static_cast<int>(steps) - 9, steps * step};
}

// A kept block's first bytes link it to the next: keeping a block needs no memory, so it cannot fail.
struct Kept {
    Kept* next;
    std::size_t bytes;
};

void release(Kept* list) {
    while (list) {
        Kept* next = list->next;
        system_free(list, list->bytes);
        list = next;
    }
}

class BufferPool {
public:
    // A kept block, or nullptr; then `surplus` is what has to go before a fresh block may be made.
    Kept* lend_kept(SizeClass size, Kept** surplus) {
        std::lock_guard<std::mutex> lock(mutex);
        Shelf& shelf = shelves[size.index];
        shelf.last_used = ++clock;
        Kept* block = shelf.top;
        if (block) {
            shelf.top = block->next;
            kept -= size.bytes;
            count_lent(size);
        } else {
            *surplus = take_surplus(size);
        }
        return block;
    }

    void lend_fresh(SizeClass size) {
        std::lock_guard<std::mutex> lock(mutex);
        count_lent(size);
    }

    void take_back(void* memory, SizeClass size) {
        std::lock_guard<std::mutex> lock(mutex);
        Kept* block = static_cast<Kept*>(memory);
        Shelf& shelf = shelves[size.index];
        block->next = shelf.top;
        block->bytes = size.bytes;
        shelf.top = block;
        shelf.last_used = ++clock;
        kept += size.bytes;
        lent -= size.bytes;
    }

    Kept* take_all() {
        std::lock_guard<std::mutex> lock(mutex);
        Kept* all = nullptr;
        for (Shelf& shelf : shelves)
            while (shelf.top) move_top(shelf, &all);
        most_lent = lent;
        return all;
    }

    std::mutex mutex;
    std::size_t lent = 0;
    std::size_t kept = 0;

private:
    static constexpr std::size_t kAlwaysAllowed = std::size_t{256} << 20;

    struct Shelf {
        Kept* top = nullptr;
        std::uint64_t last_used = 0;
    };

    void count_lent(SizeClass size) {
        lent += size.bytes;
        most_lent = std::max(most_lent, lent);
    }

    void move_top(Shelf& shelf, Kept** list) {
        Kept* block = shelf.top;
        shelf.top = block->next;
        kept -= block->bytes;
        block->next = *list;
        *list = block;
    }

    // Blocks of the classes that were left alone longest, until a fresh block fits within bounds. Only fresh blocks
    // make the sum of lent and kept bytes grow, so here is the one place to look.
    Kept* take_surplus(SizeClass fresh) {
        const std::size_t needed = lent + fresh.bytes;
        const std::size_t most = std::max(most_lent, needed);
        const std::size_t bound = std::max(kAlwaysAllowed, most + most / 4);
        Kept* surplus = nullptr;
        while (kept && needed + kept > bound) {
            Shelf* oldest = nullptr;
            for (Shelf& shelf : shelves)
                if (shelf.top && (!oldest || shelf.last_used < oldest->last_used)) oldest = &shelf;
            while (oldest->top && needed + kept > bound) move_top(*oldest, &surplus);
        }
        return surplus;
    }

    Shelf shelves[kClasses];
    std::size_t most_lent = 0;
    std::uint64_t clock = 0;
};

// Never destroyed: arrays are freed as late as at the interpreter's end.
BufferPool& buffers() {
    static BufferPool& pool = *new BufferPool;
    return pool;
}

// The mutex is held over fork(), so that the child finds the shelves whole.
const AtFork lock_over_fork([] { buffers().mutex.lock(); }, [] { buffers().mutex.unlock(); },
                            [] { buffers().mutex.unlock(); });

}  // namespace
}  // namespace fastconv

extern "C" {

void* fc_alloc(size_t bytes) {
    using namespace fastconv;
    if (bytes > PTRDIFF_MAX / 2) return nullptr;
    const SizeClass size = size_class(bytes);
    Kept* surplus = nullptr;
    if (Kept* block = buffers().lend_kept(size, &surplus)) return block;
    release(surplus);
    void* block = system_alloc(size.bytes);
    if (!block) {
        fc_empty_cache();
        block = system_alloc(size.bytes);
    }
    if (block) buffers().lend_fresh(size);
    return block;
}

void fc_free(void* block, size_t bytes) {
    if (block) fastconv::buffers().take_back(block, fastconv::size_class(bytes));
}

void fc_empty_cache(void) { fastconv::release(fastconv::buffers().take_all()); }

size_t fc_cached_bytes(void) {
    std::lock_guard<std::mutex> lock(fastconv::buffers().mutex);
    return fastconv::buffers().kept;
}

size_t fc_allocated_bytes(void) {
    std::lock_guard<std::mutex> lock(fastconv::buffers().mutex);
    return fastconv::buffers().lent;
}

}  // extern "C"
