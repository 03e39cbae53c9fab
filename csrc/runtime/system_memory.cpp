// Three kinds of block, by size alone: lines of the heap; from 64 KB pages of the heap; from 2 MB a mapping of its own.
//
// Blocks of the last two kinds start some cache lines after a page boundary, each at another distance: arrays that all
// started on page boundaries would share the low 12 bits of their addresses, and a load that follows a store to
// "the same" 12 bits waits for it (4K aliasing). Rounding down to the page finds the start again.

#include "system_memory.hpp"

#include <atomic>
#include <cstdint>
#include <new>

#if !defined(_WIN32)
#include <sys/mman.h>
#endif

namespace fastconv {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kPage = 4096;  // what aliases, whatever the system's page size
constexpr std::size_t kPaged = 64 << 10;
constexpr std::size_t kHugePage = 2 << 20;

// 9 and 64 have no common divisor: 64 blocks in a row start at 64 different distances.
std::size_t next_stagger() {
    static std::atomic<unsigned> blocks{0};
    return blocks.fetch_add(1, std::memory_order_relaxed) * 9 % (kPage / kLine) * kLine;
}

void* heap_alloc(std::size_t bytes, std::size_t alignment) {
    return ::operator new(bytes, std::align_val_t(alignment), std::nothrow);
}

void heap_free(void* block, std::size_t alignment) { ::operator delete(block, std::align_val_t(alignment)); }

#if !defined(_WIN32)

// A mapping that starts on a huge page's boundary: map one huge page more, cut off both ends.
void* map(std::size_t bytes) {
    const std::size_t length = bytes + kHugePage;
    void* mapping = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    char* first = static_cast<char*>(mapping);
    const std::size_t head = (kHugePage - reinterpret_cast<std::uintptr_t>(first) % kHugePage) % kHugePage;
    if (head) munmap(first, head);
    munmap(first + head + bytes, kHugePage - head);
#if defined(MADV_HUGEPAGE)
    madvise(first + head, bytes, MADV_HUGEPAGE);  // a wish; where it is not granted, small pages do
#endif
    return first + head;
}

#endif

// The system's page may be larger than ours (16 KB on Apple silicon): mappings are cut at 64 KB, a multiple of all.
std::size_t mapped_bytes(std::size_t bytes) { return (bytes + kPage + kPaged - 1) / kPaged * kPaged; }

}  // namespace

void* system_alloc(std::size_t bytes) noexcept {
    if (bytes > PTRDIFF_MAX / 2) return nullptr;
    if (bytes < kPaged) return heap_alloc(bytes, kLine);
#if !defined(_WIN32)
    void* start = bytes < kHugePage ? heap_alloc(bytes + kPage, kPage) : map(mapped_bytes(bytes));
#else
    void* start = heap_alloc(bytes + kPage, kPage);
#endif
    return start ? static_cast<char*>(start) + next_stagger() : nullptr;
}

void system_free(void* block, std::size_t bytes) noexcept {
    if (!block) return;
    if (bytes < kPaged) return heap_free(block, kLine);
    void* start = static_cast<char*>(block) - reinterpret_cast<std::uintptr_t>(block) % kPage;
#if !defined(_WIN32)
    if (bytes >= kHugePage) {
        munmap(start, mapped_bytes(bytes));
        return;
    }
#endif
    heap_free(start, kPage);
}

}  // namespace fastconv
