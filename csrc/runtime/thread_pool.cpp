// The thread pool: fc_parallel_for. What memory tasks use is in workspace.cpp and buffer_pool.cpp.
//
// A parallel region is a job in one of 64 slots. Whoever is free joins a job that still has a seat and draws
// indices until none is left, first from a share of its own, then from the others': neighbouring indices are
// neighbouring memory, which one thread then finds in its caches from one region to the next. The caller is the
// job's first participant, and leaves when every *task* has finished, not when every participant has reported: a
// thread that the system has suspended delays the caller only while it holds a task.
//
// Why a late worker cannot touch a job that is over.  A slot's `door` holds the seats left (upper half) and the
// threads inside (lower half) in one atomic word.
//  1. A worker enters by one compare-and-swap that takes a seat and counts it inside; no seat, no entry. It reads
//     task, context and count only between entering and leaving, and enters one slot at a time.
//  2. A caller claims a slot by a compare-and-swap from 0 (no seat, nobody inside) to 1 (itself inside). So a slot
//     is filled only when nobody is inside, and whoever is inside sees one job all the time.
//  3. `context` points into the caller's frame. It is used only to run an index that was drawn, and the caller
//     stays until all indices have finished. Then every share's counter is past its end: a late worker draws
//     nothing, touches the slot alone, and slots are never freed.
// A worker that is suspended inside keeps its slot from being claimed, which costs nothing but the slot; with no
// slot left a caller runs its job alone. Entering through a stale glance at `open_` is harmless: rule 1 decides.
//
// Nested regions need no rule: a caller waits only for drawn indices, those wait only for regions that they opened
// themselves, and the innermost runs freely. So no cycle of waiting can form.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "at_fork.hpp"
#include "fastconv/runtime.h"
#include "float_state.hpp"
#include "patience.hpp"

namespace fastconv {
namespace {

constexpr int kSlots = 64;   // one bit each in `open_`
constexpr int kShares = 8;   // shares that a job's indices are cut into, at most
constexpr int kMoment = 32;  // pauses, each some 10 to 40 ns: about a microsecond
constexpr std::uint64_t kSeat = std::uint64_t{1} << 32;
constexpr std::int64_t kOwnerSleeps = std::int64_t{1} << 62;

// Counters that different threads write stand on cache lines of their own.
struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t first = 0, end = 0;
};

struct alignas(64) Slot {
    std::atomic<std::uint64_t> door{0};
    fc_task task = nullptr;
    void* context = nullptr;
    int shares = 0;
    Share share[kShares];
    alignas(64) std::atomic<std::int64_t> unfinished{0};  // plus kOwnerSleeps where the caller waits on `finished`
    std::mutex mutex;
    std::condition_variable finished;
};

// Threads are born with every signal blocked: signals are for the threads of the application.
class SignalsBlocked {
public:
#if !defined(_WIN32)
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

private:
    sigset_t saved_;
#endif
};

std::atomic<int> num_threads{1};

// Linux likes to wake a thread on the processor of the one that wakes it. There the caller is at work: the worker would
// wait until the balancer moves it, milliseconds later. So a worker that sleeps is kept off the caller's processor while
// it is woken. Awake it may run wherever the caller may: a mask that stayed would hold both on one processor, should
// the caller be moved there. Every call but `roam` holds the pool's mutex, so that whoever is named here lives.
class Elsewhere {
public:
#if defined(__linux__)
    using Mask = cpu_set_t;
    void enter(int number) { ids_[number] = static_cast<int>(syscall(SYS_gettid)); }
    void leave(int number) { ids_[number] = 0; }
    void falls_asleep(int number, bool asleep) { asleep_[number] = asleep; }

    void avoid_callers_processor(int workers) {
        const int here = sched_getcpu();
        if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof(allowed_), &allowed_) != 0) return;
        cpu_set_t others = allowed_;
        if (CPU_COUNT(&others) > 1) CPU_CLR(here, &others);
        for (int i = 1; i <= workers; ++i) {
            if (ids_[i] && asleep_[i]) sched_setaffinity(ids_[i], sizeof(others), &others);
        }
    }

    Mask allowed() const { return allowed_; }  // to the last caller that woke anyone
    static void roam(const Mask& mask) {
        if (CPU_COUNT(&mask) > 0) sched_setaffinity(0, sizeof(mask), &mask);
    }

private:
    int ids_[FC_MAX_THREADS + 1] = {};
    bool asleep_[FC_MAX_THREADS + 1] = {};
    cpu_set_t allowed_ = {};
#else
    struct Mask {};
    void enter(int) {}
    void leave(int) {}
    void falls_asleep(int, bool) {}
    void avoid_callers_processor(int) {}
    Mask allowed() const { return {}; }
    static void roam(const Mask&) {}
#endif
};

class Pool {
public:
    // Adopt the present number of threads.
    void resize() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            wanted_ = num_threads - 1;
        }
        work_or_retire_.notify_all();
    }

    // Returns false, having done nothing, if every slot is taken.
    bool run(std::int64_t count, fc_task task, void* context, int threads) {
        const int index = claim();
        if (index < 0) return false;
        Slot& slot = slots_[index];
        const int seats = static_cast<int>(std::min<std::int64_t>(count, threads) - 1);
        slot.task = task;
        slot.context = context;
        slot.shares = static_cast<int>(std::min<std::int64_t>(kShares, seats + 1));
        for (int i = 0; i < slot.shares; ++i) {
            slot.share[i].first = count / slot.shares * i + std::min<std::int64_t>(i, count % slot.shares);
            slot.share[i].next.store(slot.share[i].first, std::memory_order_relaxed);
            slot.share[i].end = count / slot.shares * (i + 1) + std::min<std::int64_t>(i + 1, count % slot.shares);
        }
        slot.unfinished.store(count, std::memory_order_relaxed);
        // The bit before the seats: so whoever takes the last seat finds the bit set, and clears it for good.
        open_.fetch_or(std::uint64_t{1} << index, std::memory_order_seq_cst);
        slot.door.fetch_add(static_cast<std::uint64_t>(seats) * kSeat, std::memory_order_release);
        call_workers(seats);
        take_part(index, 0);
        wait(slot);
        slot.door.fetch_sub(1, std::memory_order_release);
        return true;
    }

private:
    int claim() {
        for (int i = 0; i < kSlots; ++i) {
            std::uint64_t empty = 0;
            if (slots_[i].door.load(std::memory_order_relaxed) == 0 &&
                slots_[i].door.compare_exchange_strong(empty, 1, std::memory_order_acquire, std::memory_order_relaxed))
                return i;
        }
        return -1;
    }

    // Whose share it is may be about to begin, with its data in that core's caches: wait for it a moment.
    static void leave_to_owner(const Share& share) {
        for (int i = 0; i < kMoment && share.next.load(std::memory_order_relaxed) == share.first; ++i)
            pause_briefly();
    }

    // Draw and run indices until none is left, then take the job off the list. The thread is inside the slot.
    void take_part(int index, int number) {
        Slot& slot = slots_[index];
        for (int k = 0; k < slot.shares; ++k) {
            Share& share = slot.share[(number + k) % slot.shares];
            if (k > 0) leave_to_owner(share);
            for (;;) {
                const std::int64_t i = share.next.fetch_add(1, std::memory_order_relaxed);
                if (i >= share.end) break;
                slot.task(slot.context, i);
                if (slot.unfinished.fetch_sub(1, std::memory_order_acq_rel) == kOwnerSleeps + 1) {
                    { std::lock_guard<std::mutex> lock(slot.mutex); }  // the caller is now in wait(), or past it
                    slot.finished.notify_one();
                }
            }
        }
        const std::uint64_t bit = std::uint64_t{1} << index;
        if (open_.load(std::memory_order_relaxed) & bit) {
            slot.door.fetch_and(kSeat - 1, std::memory_order_relaxed);
            open_.fetch_and(~bit, std::memory_order_relaxed);
        }
    }

    // Return when every task has finished; their writes are then visible.
    void wait(Slot& slot) {
        Patience patience;
        do {
            if (slot.unfinished.load(std::memory_order_acquire) == 0) return;
        } while (patience.lasts());
        if (slot.unfinished.fetch_add(kOwnerSleeps, std::memory_order_acq_rel) == 0) return;
        std::unique_lock<std::mutex> lock(slot.mutex);
        slot.finished.wait(lock, [&] { return slot.unfinished.load(std::memory_order_acquire) == kOwnerSleeps; });
    }

    // Start workers that are missing and wake those that sleep, as many as there are seats.
    void call_workers(int seats) {
        if (running_.load(std::memory_order_relaxed) < std::min(seats, wanted_.load(std::memory_order_relaxed)))
            start_workers(seats);
        // A worker counts itself among the sleepers, then looks at `open_`; here `open_` was set, then the sleepers
        // are counted. Both are sequentially consistent, so one of the two sees the other.
        const int sleepers = sleepers_.load(std::memory_order_seq_cst);
        if (sleepers == 0) return;
        {
            std::lock_guard<std::mutex> lock(mutex_);  // those counted are now waiting, not about to wait
            ++calls_;
            elsewhere_.avoid_callers_processor(running_.load(std::memory_order_relaxed));
        }
        if (seats >= sleepers)
            work_or_retire_.notify_all();
        else
            for (int i = 0; i < seats; ++i) work_or_retire_.notify_one();
    }

    void start_workers(int seats) {
        std::lock_guard<std::mutex> lock(mutex_);
        SignalsBlocked scope;
        while (running_ < std::min(seats, wanted_.load())) {
            try {
                std::thread([this, number = running_ + 1] { worker(number); }).detach();
            } catch (...) {  // no more threads to be had: go on with those there are, do not ask at every region
                wanted_ = running_.load();
                return;
            }
            ++running_;
        }
    }

    // `number` says whose share comes first: the caller's is 0.
    void worker(int number) {
        write_float_state(kKernelFloatState);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            elsewhere_.enter(number);
        }
        Patience patience;
        for (;;) {
            if (is_superfluous(number) && retire(number)) return;
            if (const std::uint64_t open = open_.load(std::memory_order_acquire); open && enter_one_of(open, number)) {
                patience.renew();
            } else if (!patience.lasts()) {
                sleep(number);
                patience.renew();
            }
        }
    }

    // Take a seat in one of the jobs of the set, work there, leave. False if there was no seat.
    bool enter_one_of(std::uint64_t open, int number) {
        for (int index = 0; open; ++index, open >>= 1) {
            if (!(open & 1)) continue;
            Slot& slot = slots_[index];
            std::uint64_t door = slot.door.load(std::memory_order_relaxed);
            while (door >= kSeat && !slot.door.compare_exchange_weak(door, door - kSeat + 1, std::memory_order_acquire,
                                                                     std::memory_order_relaxed)) {
            }
            if (door < kSeat) continue;
            if (door < 2 * kSeat) open_.fetch_and(~(std::uint64_t{1} << index), std::memory_order_relaxed);
            take_part(index, number);
            slot.door.fetch_sub(1, std::memory_order_release);
            return true;
        }
        return false;
    }

    // Until there is work, or there was some that is done by now: more may follow soon.
    void sleep(int number) {
        std::unique_lock<std::mutex> lock(mutex_);
        const std::uint64_t calls = calls_;
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        elsewhere_.falls_asleep(number, true);
        work_or_retire_.wait(lock, [&] {
            return open_.load(std::memory_order_seq_cst) != 0 || calls_ != calls || is_superfluous(number);
        });
        elsewhere_.falls_asleep(number, false);
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
        const Elsewhere::Mask mask = elsewhere_.allowed();
        lock.unlock();
        Elsewhere::roam(mask);
    }

    // Workers retire from the highest number down, so that those that run are always 1 to running_.
    bool is_superfluous(int number) const {
        return number > wanted_.load(std::memory_order_relaxed) && number == running_.load(std::memory_order_relaxed);
    }

    bool retire(int number) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            if (!is_superfluous(number)) return false;
            elsewhere_.leave(number);
            --running_;
        }
        work_or_retire_.notify_all();  // it may be the next one's turn
        return true;
    }

    Slot slots_[kSlots];
    alignas(64) std::atomic<std::uint64_t> open_{0};  // bit i: slot i may have a seat
    alignas(64) std::mutex mutex_;                    // guards changes of running_, wanted_, and going to sleep
    std::uint64_t calls_ = 0;                         // how often sleepers were woken
    std::condition_variable work_or_retire_;
    Elsewhere elsewhere_;
    std::atomic<int> sleepers_{0};
    std::atomic<int> running_{0};
    std::atomic<int> wanted_{0};
};

// Never deleted: workers sleep in it until the process ends. A child of fork() has none of the workers, and locks may
// have been held; it leaves the old pool where it is (a few KB) and begins a new one at its first region.
std::atomic<Pool*> pool{nullptr};
const AtFork abandon_pool_in_child(nullptr, nullptr, [] { pool.store(nullptr, std::memory_order_relaxed); });

Pool* the_pool() {
    Pool* current = pool.load(std::memory_order_acquire);
    if (current) return current;
    Pool* fresh = new (std::nothrow) Pool;
    if (fresh && !pool.compare_exchange_strong(current, fresh)) {
        delete fresh;  // another thread was first
        return current;
    }
    if (fresh) fresh->resize();  // after it is visible: a change of the number from now on reaches it
    return fresh;
}

}  // namespace
}  // namespace fastconv

extern "C" {

void fc_parallel_for(int64_t count, fc_task task, void* context) {
    using namespace fastconv;
    const FloatStateScope scope;
    const int threads = num_threads.load(std::memory_order_relaxed);
    if (count > 1 && threads > 1) {
        Pool* shared = the_pool();
        if (shared && shared->run(count, task, context, threads)) return;
    }
    for (int64_t i = 0; i < count; ++i) task(context, i);
}

void fc_set_num_threads(int threads) {
    using namespace fastconv;
    num_threads = std::min(std::max(threads, 1), static_cast<int>(FC_MAX_THREADS));
    if (Pool* current = pool.load()) current->resize();
}

int fc_get_num_threads(void) { return fastconv::num_threads.load(std::memory_order_relaxed); }

uint64_t fc_float_state(void) { return fastconv::read_float_state(); }

void fc_set_float_state(uint64_t state) { fastconv::write_float_state(state); }

}  // extern "C"
