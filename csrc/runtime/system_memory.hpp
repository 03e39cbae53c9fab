// Memory from the system, placed well: cache-line aligned, large blocks on huge pages and staggered. Who keeps it, and
// for how long, is decided in buffer_pool.cpp and workspace.cpp.
#pragma once

#include <cstddef>

namespace fastconv {

// 64-byte aligned memory of undefined content, or nullptr.
void* system_alloc(std::size_t bytes) noexcept;

// Give back what system_alloc(bytes) returned.
void system_free(void* block, std::size_t bytes) noexcept;

}  // namespace fastconv
