"""The thread pool's promises: indices, callers, fork, floating-point state, scratch memory.

Arrays on pooled memory are in test_runtime_arrays.py; for races there is tests/csrc/stress_pool.cpp.
"""

import doctest
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastconv.errors import ArgumentError

runtime = pytest.importorskip("fastconv.backends.cpu.runtime", reason="the compiled CPU backend is not built")

MB = 1 << 20
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
# Python 3.12 warns of any fork in a process with threads; that this one works is what the tests show.
forks = [needs_fork, pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")]


@pytest.fixture(autouse=True)
def _threads():
    before = runtime.get_num_threads()
    runtime.set_num_threads(4)
    yield
    runtime.set_num_threads(before)


def visited_once(count, inner=0):
    seen = runtime._probe(count, inner)
    return seen["visits"].shape[0] == count and (seen["visits"] == 1).all()


def threads_seen(enough):
    """Compute until ``enough`` threads took part in a region, at most 1000 times; return the most that did in one."""
    most = 0
    for _ in range(1000):
        most = max(most, np.unique(runtime._probe(2000, 8)["thread"]).size)
        if most >= enough:
            break
    return most


def in_threads(function, number=8):
    """Call ``function(i)`` in ``number`` threads at once; return the results, or raise what one of them raised."""
    results, failures, start = [None] * number, [], threading.Barrier(number)

    def body(i):
        try:
            start.wait()
            results[i] = function(i)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=body, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    for failure in failures:
        raise failure
    return results


def child_succeeds(function):
    """Fork; in the child call ``function``, which an alarm ends if it hangs; tell whether it returned True."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        code = 1
        try:
            code = 0 if function() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ----------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("threads", [1, 2, 4, 7])
def test_each_index_runs_exactly_once(threads):
    runtime.set_num_threads(threads)
    assert runtime.get_num_threads() == threads
    for count in [*range(18), 63, 64, 65, 1000, 20011]:
        assert visited_once(count), count
    assert runtime._probe(-3)["visits"].size == 0


@pytest.mark.parametrize("threads", [1, 2, 4, 7])
def test_a_region_uses_no_more_threads_than_asked_for(threads):
    for target in (7, threads):  # also when more of them exist already
        runtime.set_num_threads(target)
        assert threads_seen(enough=min(target, 2)) >= min(target, 2)
        for _ in range(50):
            assert threads_seen(enough=1) <= target


def test_one_thread_means_the_calling_thread():
    runtime.set_num_threads(1)
    assert set(runtime._probe(100)["thread"]) == {threading.get_ident()}
    runtime.set_num_threads(4)
    assert set(runtime._probe(1)["thread"]) == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_nested_regions(threads):
    runtime.set_num_threads(threads)
    for count, inner in [(1, 100), (2, 1), (3, 50), (40, 40), (100, 3)]:
        assert visited_once(count, inner), (count, inner)


def test_many_callers_at_once():
    def hammer(i):
        return all(visited_once(1 + (37 * i + k) % 90, k % 4) for k in range(200))

    assert in_threads(hammer) == [True] * 8


def test_more_callers_than_the_pool_has_places():
    assert in_threads(lambda i: all(visited_once(50, 2) for _ in range(5)), number=80) == [True] * 80


def test_the_number_of_threads_may_change_while_others_compute():
    def work(i):
        if i:
            return all(visited_once(64, 2) for _ in range(200))
        for k in range(400):
            runtime.set_num_threads(1 + k % 9)
        return True

    assert in_threads(work) == [True] * 8


@pytest.mark.parametrize("bad", [0, -1, 4097, 10**30, 2.0, "2", None])
def test_a_number_of_threads_that_is_none(bad):
    with pytest.raises(ArgumentError, match=r"set_num_threads: expected n .*, got "):
        runtime.set_num_threads(bad)
    assert runtime.get_num_threads() == 4


MASKS = """
import os, time
from pathlib import Path
from fastconv.backends.cpu import runtime

def masks():  # of the workers, by thread id
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    return {task: os.sched_getaffinity(task) for task in tasks if task != os.getpid()}

def after_regions(check):  # sleepers are told when they are woken
    for _ in range(200):
        time.sleep(2e-3)
        runtime._empty_regions(64, 1)
        if check(masks()):
            return
    raise SystemExit(f"{check.__name__}: {masks()}")

def narrow(found):
    return len(found) == workers and all(mask <= allowed for mask in found.values())

everywhere = os.sched_getaffinity(0)
first = {min(everywhere)}
for workers in (3, 1, 4):
    runtime.set_num_threads(workers + 1)
    for allowed in (everywhere, first, everywhere):
        os.sched_setaffinity(0, allowed)
        after_regions(narrow)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_workers_keep_to_the_processors_of_their_caller():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", MASKS], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_workers_that_retire_come_back_under_numbers_of_their_own():
    """Each of them has a share of its own: all take part again, whoever went before."""
    for threads in (6, 2, 5, 3, 6, 1, 4):
        runtime.set_num_threads(threads)
        assert visited_once(500)
        assert threads_seen(2) >= min(threads, 2)


def test_the_environment_sets_the_number_of_threads():
    code = "from fastconv.backends.cpu import runtime; print(runtime.get_num_threads())"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"FASTCONV_NUM_THREADS": "3"}, capture_output=True, text=True
    )
    assert (run.stdout.strip(), run.returncode) == ("3", 0), run.stderr


# -------------------------------------------------------------------------------------------------- fork


class TestFork:
    pytestmark = forks

    def test_child_and_parent_compute_after_use(self):
        assert visited_once(1000)
        for _ in range(5):
            assert child_succeeds(lambda: visited_once(1000, 2) and threads_seen(enough=2) >= 2)
            assert visited_once(1000)
            assert threads_seen(enough=2) >= 2

    def test_a_child_of_a_child(self):
        assert visited_once(1000)
        assert child_succeeds(
            lambda: visited_once(99) and child_succeeds(lambda: visited_once(99)) and visited_once(99)
        )

    def test_while_other_threads_compute_and_allocate(self):
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                runtime._probe(300, 3)
                runtime.empty((MB,), "uint8")

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                assert child_succeeds(lambda: visited_once(500, 2) and runtime.empty((MB,), "uint8").nbytes == MB)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert visited_once(1000)

    def test_multiprocessing(self):
        assert visited_once(1000)
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            assert pool.map_async(visited_once, [10, 1000, 77]).get(60) == [True] * 3

    def test_the_child_counts_its_own_workspaces(self):
        def own_only():
            ours = runtime._probe_workspace(1)[1]
            return 0 < ours < 3 * MB

        release = threading.Event()
        holding = threading.Barrier(2)

        def hold():
            runtime._probe_workspace(3 * MB)
            holding.wait()
            release.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait()
        try:
            assert runtime._probe_workspace(1)[1] > 3 * MB
            assert child_succeeds(own_only)
        finally:
            release.set()
            thread.join()


def test_the_process_ends_with_threads_asleep_and_at_work():
    code = """
import threading, time
from fastconv.backends.cpu import runtime
runtime.set_num_threads(6)
kept = runtime.empty((1 << 22,), "uint8")
def forever():
    while True: runtime._probe(300, 3)
threading.Thread(target=forever, daemon=True).start()
for _ in range(20): runtime._probe(300, 3)
time.sleep(0.05)
"""
    run = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system has no /proc/self/task")
def test_signals_are_left_to_the_application():
    code = """
import os, re, signal, time
from pathlib import Path
from fastconv.backends.cpu import runtime
runtime.set_num_threads(4)
tasks = "/proc/self/task"
others = set(os.listdir(tasks))
runtime._probe(1000)
time.sleep(0.1)  # a thread is born with all signals blocked, for a moment
workers = set(os.listdir(tasks)) - others
blocked = [int(re.search(r"SigBlk:\\s*(\\w+)", Path(f"{tasks}/{w}/status").read_text())[1], 16) for w in workers]
assert len(blocked) == 3, blocked
assert all(mask >> (number - 1) & 1 for mask in blocked for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM))
assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
"""
    run = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


# ---------------------------------------------------------------------------------- floating-point state

# Machine: a caller's state (rounding upwards, all sticky flags set), the control bits, and those that tasks see.
X86 = (0x1F80 | 0x4000 | 0x3F, 0xFFC0, 0x8000 | 0x0040 | 0x1F80)
ARM = (1 << 22 | 0x1F << 32, 0xFFFFFFFF, 1 << 24)
STATES = {"x86_64": X86, "AMD64": X86, "aarch64": ARM, "arm64": ARM, "ARM64": ARM}


@pytest.mark.skipif(platform.machine() not in STATES, reason="no floating-point control known for this processor")
@pytest.mark.parametrize("threads, count", [(1, 5), (4, 1), (4, 0), (4, 3000)])
def test_floating_point_state(threads, count):
    callers, control, kernels = STATES[platform.machine()]
    runtime.set_num_threads(threads)
    for state in (callers, None):
        seen = runtime._probe(count, count % 7, state=state)
        assert seen["before"] == seen["after"] == (callers if state else seen["before"])
        assert set((seen["state"] & np.uint64(control)).tolist()) <= {kernels}
        with np.errstate(all="ignore"):
            assert (seen["products"].view(np.int64) == 0).all()  # a subnormal operand, and a subnormal result
    assert np.float64(5e-324) * 2 > 0, "the caller still computes with subnormal numbers"


# -------------------------------------------------------------------------------------- scratch memory


def test_workspace_grows_and_stays():
    address, total = runtime._probe_workspace(100)
    assert address % 64 == 0
    for size in (1, 0):  # builds with checks give a block's end, others its beginning
        again, kept = runtime._probe_workspace(size)
        assert kept == total
        assert again in (address, address + 64, address + 128)
    large, grown = runtime._probe_workspace(5 * MB)
    assert large % 64 == 0
    assert grown >= 5 * MB
    smaller, kept = runtime._probe_workspace(2 * MB)
    assert kept == grown
    assert smaller in (large, large + 3 * MB)


def test_each_thread_has_its_workspace_and_leaves_none():
    before = runtime._probe_workspace(1)[1]
    together = threading.Barrier(8)

    def use(i):
        address = runtime._probe_workspace(MB)[0]
        together.wait()
        return address

    assert len(set(in_threads(use))) == 8
    until = time.monotonic() + 30  # a thread is joined a moment before the system has ended it
    while runtime._probe_workspace(1)[1] != before and time.monotonic() < until:
        time.sleep(0.001)
    assert runtime._probe_workspace(1)[1] == before


def test_workspace_without_memory():
    assert runtime._probe_workspace(2**47 + 12345)[0] == 0
    assert runtime._probe_workspace(sys.maxsize * 2 + 1)[0] == 0
    assert runtime._probe_workspace(1000)[0] != 0


def test_the_examples_in_the_docstrings():
    failed, attempted = doctest.testmod(runtime)
    assert attempted >= 7
    assert failed == 0
