"""What a device needs, its memory and its launches: each failure says what to do about it."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from layouts import normal

from fastconv import backends, config, tensor
from fastconv.backends.cuda import driver, launch, memory, shape
from fastconv.backends.cuda.driver import Facts
from fastconv.errors import DeviceError

GOOD = Facts(numba=True, driver=13010, toolkit=13, status=0, devices=1, capability=(9, 0))


@pytest.mark.parametrize(
    "facts, wanted",
    [
        (GOOD._replace(numba=False), "numba-cuda .*fastconv.cuda13.*no such package"),
        (GOOD._replace(driver=None), "NVIDIA driver .*none"),
        (GOOD._replace(driver=12040), "driver for CUDA 13 .*cuda12.*one for CUDA 12.4"),
        (GOOD._replace(devices=0), "GPU that this process may use.*none"),
        (GOOD._replace(status=100, devices=0), "GPU that this process may use.*none"),
        (GOOD._replace(status=803), "driver that starts.*error 803"),
        (GOOD._replace(capability=(6, 1)), "compute capability 7.5 or newer.*6.1"),
    ],
)
def test_what_is_missing(monkeypatch, facts, wanted):
    monkeypatch.setattr(driver, "facts", lambda: facts)
    with pytest.raises(DeviceError, match=f"cuda: expected .*{wanted}"):
        driver.require()


def test_nothing_is_missing(monkeypatch):
    for facts in (GOOD, GOOD._replace(toolkit=12), GOOD._replace(capability=(12, 0))):
        monkeypatch.setattr(driver, "facts", lambda facts=facts: facts)
        driver.require()


def test_a_device_that_is_not_there_is_an_error_at_the_call(request, monkeypatch):
    if config.cuda_simulated() or request.config.getoption("--gpu"):
        pytest.skip("there is a device")
    if driver.problem(driver.facts()) is None:
        pytest.skip("there is a GPU")
    monkeypatch.delitem(backends._instances, "cuda", raising=False)  # made while a recorder stood in for a device
    with pytest.raises(DeviceError, match="cuda: expected"):
        backends.get("cuda")
    with pytest.raises(DeviceError, match="cuda: expected"):
        tensor([1.0]).to("cuda")


@pytest.mark.parametrize("nbytes", [0, 1, 512, 513, 5000, 2**20 + 1, 2**33 + 5])
def test_size_classes(nbytes):
    size = memory.size_class(nbytes)
    assert nbytes <= size <= max(512, 1.25 * nbytes + 512)
    assert size % 512 == 0
    assert memory.size_class(size) == size


def test_memory_is_used_again(cuda):
    cuda.empty_cache()
    a = cuda.from_numpy(np.zeros(1000, "f4"))
    where = a.address
    view = a.reshape(10, 100)
    del a
    gc.collect()
    other = cuda.from_numpy(np.zeros(1000, "f4"))
    assert other.address != where  # the view holds it
    del view
    gc.collect()
    assert memory.pool.held >= 4000
    assert cuda.from_numpy(np.zeros(990, "f4")).address == where
    gc.collect()
    cuda.empty_cache()
    assert memory.pool.held == 0


def test_a_full_device_empties_the_pool_then_says_so(cuda, monkeypatch):
    del_me = cuda.from_numpy(np.zeros(4096, "f4"))
    del del_me
    gc.collect()
    here, asked = launch.machine(), []

    def full(nbytes):
        asked.append((nbytes, memory.pool.held))
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(here, "allocate", full)
    with pytest.raises(DeviceError, match="expected 1048576 bytes of device memory"):
        cuda.from_numpy(np.zeros(2**18, "f4"))
    assert len(asked) == 2
    assert asked[0][1] > 0 == asked[1][1]

    def broken(nbytes):
        raise RuntimeError("something else")

    monkeypatch.setattr(here, "allocate", broken)
    with pytest.raises(RuntimeError, match="something else"):
        cuda.from_numpy(np.zeros(2**18, "f4"))


@launch.factory
def _faulty(number):
    def kernel(y):
        y[10**9] = number(1)

    return kernel


def test_a_fault_names_its_operation(simulated, monkeypatch):
    monkeypatch.setenv("FASTCONV_SYNC", "1")
    with pytest.raises(DeviceError, match="my_op: expected kernels that run to their end, got IndexError"):
        launch.blocks("my_op", _faulty, (np.float32,), 1, 1, simulated.from_numpy(np.zeros(3, "f4")))
    a = simulated.from_numpy(np.ones(3))
    np.testing.assert_array_equal(simulated.add(a, a).numpy(), [2, 2, 2])  # the simulator is as before


def test_several_python_threads(cuda):
    values = [normal(i, (50,), "float32") for i in range(4)]
    results: dict[int, np.ndarray] = {}

    def work(i):
        a = cuda.from_numpy(values[i])
        for _ in range(5):
            a = cuda.add(a, a)
        results[i] = a.numpy()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, value in enumerate(values):
        np.testing.assert_array_equal(results[i], 32 * value)


def test_kernels_are_made_once(cuda, monkeypatch):
    a = cuda.from_numpy(np.ones(3))
    cuda.add(a, a)

    def again(kernel):
        raise AssertionError("compiled again")

    monkeypatch.setattr(launch.machine(), "compile", again)
    shape.add(a, a)
