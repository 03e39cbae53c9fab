// Scratch memory of a thread: one block that grows. Memory that outlives a kernel is in buffer_pool.cpp.

#include <atomic>
#include <cstddef>

#if defined(FC_DEBUG) && !defined(_WIN32)
#include <sys/mman.h>
#define FC_WALLED
#endif

#include "at_fork.hpp"
#include "fastconv/runtime.h"
#include "system_memory.hpp"

namespace fastconv {
namespace {

constexpr std::size_t kStep = 64 << 10;  // sizes are rounded up to this, so that small growth is rare

std::atomic<std::size_t> total{0};

#if defined(FC_WALLED)

// Builds with checks end each workspace, as asked for, where nothing may be touched: what runs over its end stops there.
void* block_alloc(std::size_t bytes) {
    void* block = mmap(nullptr, bytes + kStep, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return nullptr;
    mprotect(static_cast<char*>(block) + bytes, kStep, PROT_NONE);
    return block;
}

void block_free(void* block, std::size_t bytes) {
    if (block) munmap(block, bytes + kStep);
}

#else

void* block_alloc(std::size_t bytes) { return system_alloc(bytes); }
void block_free(void* block, std::size_t bytes) { system_free(block, bytes); }

#endif

struct Workspace {
    void* block = nullptr;
    std::size_t bytes = 0;

    ~Workspace() { resize(0); }

    // The content is not kept, so the old block goes first: never two of them at once.
    void resize(std::size_t wanted) {
        block_free(block, bytes);
        total.fetch_sub(bytes, std::memory_order_relaxed);
        block = wanted ? block_alloc(wanted) : nullptr;
        bytes = block ? wanted : 0;
        total.fetch_add(bytes, std::memory_order_relaxed);
    }
};

thread_local Workspace mine;

// Of the threads that a child of fork() remembers it has only the one that forked.
const AtFork count_anew_in_child(nullptr, nullptr, [] { total.store(mine.bytes, std::memory_order_relaxed); });

}  // namespace
}  // namespace fastconv

extern "C" {

void* fc_workspace(size_t bytes) {
    using namespace fastconv;
    Workspace& workspace = mine;
    if (bytes > PTRDIFF_MAX / 2) return nullptr;
    if (bytes > workspace.bytes || !workspace.block) workspace.resize((bytes / kStep + 1) * kStep);
#if defined(FC_WALLED)
    if (workspace.block) return static_cast<char*>(workspace.block) + (workspace.bytes - bytes) / 64 * 64;
#endif
    return workspace.block;
}

size_t fc_workspace_bytes(void) { return fastconv::total.load(std::memory_order_relaxed); }

}  // extern "C"
