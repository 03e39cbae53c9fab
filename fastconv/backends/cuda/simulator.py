"""numba's simulator as a machine, for tests without a GPU: kernels run as Python, their threads one at a time.

Two things replace numba's own, which are slow: how a block's threads take turns, and how kernels see arrays.
"""

from __future__ import annotations

import ctypes
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from threading import Lock, RLock, Thread
from typing import Any

import numpy as np

from . import launch


class Simulator(launch.Machine):
    """numba's simulator: threads of Python in place of a device, for tests. Its launches are one at a time."""

    simulated = True
    processors = 1
    capability = (9, 0)
    _one_at_a_time = RLock()

    def __init__(self) -> None:
        from numba import cuda
        from numba.cuda.simulator import kernel

        kernel.BlockManager = Block
        self.numba, self.cuda, self.math = cuda, _ThreadView(), _SimulatedMath()
        self.stream = cuda.stream()

    def compile(self, kernel: Callable, identity: str) -> Any:
        return self.numba.jit(kernel)

    def inline(self, function: Callable) -> Callable:
        return function

    def by_address(self, number: type) -> tuple[Callable, Callable]:
        dtype = np.dtype(number)
        cell = {"f": ctypes.c_float, "d": ctypes.c_double}[dtype.char]

        def load(address: Any, i: Any) -> Any:
            return number(cell.from_address(int(address + i * dtype.itemsize)).value)

        def store(address: Any, i: Any, value: Any) -> None:
            cell.from_address(int(address + i * dtype.itemsize)).value = value

        return load, store

    def allocate(self, nbytes: int) -> Any:
        memory = self.numba.device_array(nbytes, np.uint8)
        memory[:] = 0xFF  # NaN, or an index that is not there: what is read before it is written shows
        return memory

    def free_memory(self) -> int | None:
        return None

    def pinned(self, nbytes: int) -> np.ndarray:
        return self.numba.pinned_array(nbytes, np.uint8)

    def event(self) -> Any:
        return self.numba.event()

    def start(self, compiled: Any, grid: Any, block: Any, arguments: Sequence[Any]) -> None:
        if self._kept is not None:
            self._kept.append((compiled, grid, block, arguments))
            return
        with self._one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # infinities and NaN are results
            compiled[grid, block](*map(_seen, arguments))

    _kept: list[tuple] | None = None  # launches of a capture under way

    def begin(self) -> None:
        self._kept = []

    def end(self) -> Callable[[], None]:
        kept, self._kept = self._kept, None

        def replay() -> None:
            for each in kept:
                self.start(*each)

        return replay

    def abandon(self) -> None:
        self._kept = None

    def copy_at_once(self, memory: Any, values: np.ndarray) -> None:
        memory[: len(values)].copy_to_device(values)

    def synchronize(self) -> None:
        pass

    def wait_for(self, stream_number: int) -> None:
        pass

    def address(self, memory: Any) -> int:
        return memory.__array_interface__["data"][0]

    def adopt(self, interface: Any) -> Any:
        """Stand-in memory is the host's: what is adopted has an ``__array_interface__``."""
        return self.numba.cudadrv.devicearray.FakeCUDAArray(np.asarray(interface))

    def stream_number(self) -> int | None:
        return None


class Worker(Thread):
    """Runs simulated threads, one after the other; it goes on only while it is resumed."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._go, self._back = Lock(), Lock()
        self._go.acquire()
        self._back.acquire()
        self.done, self.error, self.aborted = True, None, False
        self.start()

    def take(self, task: Callable[[], None], block: Any, thread: Any, number: int) -> None:
        self.task, self.blockIdx, self.threadIdx, self.thread_id = task, block, thread, number
        self.done, self.error, self.aborted = False, None, False

    def run(self) -> None:
        while True:
            self._go.acquire()
            try:
                self.task()
            except Exception as error:
                self.error = error
            self.done = True
            self._back.release()

    def resume(self) -> None:
        """Let the task run to its next barrier or to its end."""
        self._go.release()
        self._back.acquire()

    def syncthreads(self) -> None:
        self._back.release()
        self._go.acquire()
        if self.aborted:
            raise RuntimeError("another thread of the block failed")


class Block:
    """What numba calls a block manager: the threads of a block between barriers, there and back in turn, so that
    what depends on their order shows."""

    _workers: list[Worker] = []  # noqa: RUF012

    def __init__(self, kernel: Callable, grid: Sequence[int], block: Sequence[int], debug: bool) -> None:
        self._kernel, self._shape = kernel, block

    def run(self, grid_point: Sequence[int], *arguments: Any) -> None:
        from numba.cuda.simulator.kernelapi import Dim3

        points = [
            (x, y, z) for z in range(self._shape[2]) for y in range(self._shape[1]) for x in range(self._shape[0])
        ]
        while len(self._workers) < len(points):
            self._workers.append(Worker())
        live = self._workers[: len(points)]
        for number, (worker, point) in enumerate(zip(live, points, strict=True)):
            worker.take(lambda: self._kernel(*arguments), Dim3(*grid_point), Dim3(*point), number)
        while live:
            for worker in live:
                worker.resume()
                if worker.error is not None:
                    self._abort(live)
                    raise worker.error
            live = [worker for worker in reversed(live) if not worker.done]

    @staticmethod
    def _abort(workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.aborted = True
            while not worker.done:
                worker.resume()


class _Memory:
    """A kernel's array in the simulator. Numba's own wrapper is slower, and takes negative indices."""

    __slots__ = ("_values",)

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __getitem__(self, i: int) -> Any:
        if i < 0:
            raise IndexError(f"index {i} of an array in a kernel")
        return self._values[i]

    def __setitem__(self, i: int, value: Any) -> None:
        if i < 0:
            raise IndexError(f"index {i} of an array in a kernel")
        self._values[i] = value


def _seen(argument: Any) -> Any:
    values = getattr(argument, "_ary", None)
    return argument if values is None else _Memory(values)


class _ThreadView:
    """``cuda`` inside a simulated kernel, for the thread that asks."""

    def __getattr__(self, name: str) -> Any:
        from numba.cuda.simulator.kernel import _get_kernel_context

        return getattr(_get_kernel_context(), name)


class _SimulatedMath:
    """``math`` inside a simulated kernel: results have the dtype of the argument, and infinities are no errors."""

    inf, nan = math.inf, math.nan
    exp, expm1, log, log1p, sqrt = (staticmethod(f) for f in (np.exp, np.expm1, np.log, np.log1p, np.sqrt))
    sin, cos, tanh = (staticmethod(f) for f in (np.sin, np.cos, np.tanh))
    fabs, floor, isnan = (staticmethod(f) for f in (np.fabs, np.floor, np.isnan))
    pow = staticmethod(operator.pow)

    @staticmethod
    def erf(x: Any) -> Any:
        return type(x)(math.erf(x))

    @staticmethod
    def erfc(x: Any) -> Any:
        return type(x)(math.erfc(x))
