// A stress of csrc/runtime, run by hand under the sanitizers; it prints "ok" and returns 0, or says what went wrong.
//
//   g++ -std=c++17 -g -fsanitize=thread -pthread -Icsrc/include {tests/csrc/stress_pool,csrc/runtime/*}.cpp && ./a.out
//
// and again with -fsanitize=address,undefined.
//
// ThreadSanitizer does not follow a child of fork() that starts threads, so forks are left out there.

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "fastconv/runtime.h"

#if !defined(_WIN32) && !defined(__SANITIZE_THREAD__)
#include <sys/wait.h>
#include <unistd.h>
#define WITH_FORK 1
#endif

namespace {

constexpr int kCallers = 6;
constexpr int kRounds = 3000;
constexpr std::uint32_t kAlive = 0xA11CE;

void check(bool fact, const char* what) {
    if (fact) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::abort();
}

// Lives in its caller's frame, and says so: a task that runs after its region has ended finds `alive` overwritten.
struct Region {
    volatile std::uint32_t alive = kAlive;
    std::vector<int> visits;  // not atomic: the sanitizer proves that no two tasks share an index
    int inner = 0;

    explicit Region(int count) : visits(count) {}
    ~Region() { alive = 0; }

    void run(int nested) {
        inner = nested;
        fc_parallel_for(static_cast<std::int64_t>(visits.size()), task, this);
        for (int visit : visits) check(visit == 1, "every index once, and seen by the caller");
    }

    static void task(void* context, std::int64_t index) {
        Region& region = *static_cast<Region*>(context);
        check(region.alive == kAlive, "the region is alive while its tasks run");
        const std::size_t bytes = 64 + index % 7 * 30000;
        auto* scratch = static_cast<unsigned char*>(fc_workspace(bytes));
        check(scratch && reinterpret_cast<std::uintptr_t>(scratch) % 64 == 0, "an aligned workspace");
        std::memset(scratch, static_cast<int>(index), bytes);
        region.visits[index] += scratch[bytes - 1] == static_cast<unsigned char>(index);
        if (region.inner) Region(region.inner).run(0);
    }
};

struct Block {
    unsigned char* memory;
    std::size_t bytes;
    unsigned char mark;
};

// Blocks that several threads take, mark, hand on and free.
std::atomic<Block*> handed_over{nullptr};

void buffers(std::mt19937& random) {
    const std::size_t bytes = random() % 10 ? random() % 70000 : random() % (5 << 20);
    auto* memory = static_cast<unsigned char*>(fc_alloc(bytes));
    check(memory && reinterpret_cast<std::uintptr_t>(memory) % 64 == 0, "an aligned buffer");
    const auto mark = static_cast<unsigned char>(random());
    for (int i = 0; i < 100; ++i) fc_free(fc_alloc(bytes % 512), bytes % 512);  // so that a fork finds the lock taken
    if (bytes) memory[0] = memory[bytes / 2] = memory[bytes - 1] = mark;
    const std::unique_ptr<Block> other(handed_over.exchange(new Block{memory, bytes, mark}));
    if (!other) return;
    if (other->bytes) check(other->memory[other->bytes - 1] == other->mark, "nobody else wrote to a lent buffer");
    fc_free(other->memory, other->bytes);
}

#if defined(WITH_FORK)
void fork_and_compute() {
    const pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        alarm(30);  // a deadlock ends the child by a signal
        for (int round = 0; round < 20; ++round) Region(64).run(round % 3);
        fc_free(fc_alloc(1 << 20), 1 << 20);
        _exit(0);
    }
    int status = 0;
    check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child computes");
}
#endif

void caller(int seed) {
    std::mt19937 random(seed);
    for (int round = 0; round < kRounds; ++round) {
        Region(1 + static_cast<int>(random() % 40)).run(random() % 8 ? 0 : static_cast<int>(random() % 5));
        buffers(random);
        if (seed == 0 && round % 16 == 0) fc_set_num_threads(1 + static_cast<int>(random() % 8));
        if (seed == 1 && round % 64 == 0) fc_empty_cache();
#if defined(WITH_FORK)
        if (seed == 2 && round % 30 == 0) fork_and_compute();
#endif
    }
}

}  // namespace

int main() {
    fc_set_num_threads(4);
    std::vector<std::thread> threads;
    for (int i = 0; i < kCallers; ++i) threads.emplace_back(caller, i);
    for (std::thread& thread : threads) thread.join();
    if (const std::unique_ptr<Block> last{handed_over.exchange(nullptr)}) fc_free(last->memory, last->bytes);
    fc_empty_cache();
    check(fc_allocated_bytes() == 0 && fc_cached_bytes() == 0, "all buffers came back");
    std::puts("ok");
    return 0;
}
