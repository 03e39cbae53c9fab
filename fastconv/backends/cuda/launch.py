"""Starting kernels: the only place with ``[grid, block]``, and the only one that knows how numba-cuda is used.

A kernel is made by a *factory*: a function of dtype and tile sizes that returns a plain Python function. Its file names
``cuda`` and ``math`` as globals set to None; they are put there as its first kernel is made, since numba is imported no
sooner.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ... import config
from ...errors import DeviceError, mismatch
from . import driver, kernel_cache, shipped

MAX_GRID = 65535  # of blocks along y and z
_BLOCKS_A_PROCESSOR = 8  # of 256 threads: what a grid-stride loop is spread over

# ------------------------------------------------------------------------------------------------ machines


class Machine:
    """A GPU through numba-cuda."""

    simulated = False
    runs = True  # what is started

    def __init__(self) -> None:
        driver.require()
        from numba import cuda

        self.cuda, self.math = cuda, math
        self.stream = cuda.stream()
        self.processors = cuda.get_current_device().MULTIPROCESSOR_COUNT
        self.capability = cuda.get_current_device().compute_capability

    def compile(self, kernel: Callable, identity: str) -> Any:
        """Return what ``[grid, block, stream]`` can be asked of; ``kernel.options`` are jit's, ``identity`` says what
        the kernel is called on disk."""
        compiled = self.cuda.jit(**getattr(kernel, "options", {}))(kernel)
        compiled._cache = kernel_cache.KernelCache(identity, self.capability, shipped.warn_once)
        return compiled

    def note(self, make: Callable, key: tuple, compiled: Any) -> None:
        """Called before each launch with what is started."""

    def inline(self, function: Callable) -> Callable:
        return self.cuda.jit(device=True, inline="always")(function)

    def by_address(self, number: type) -> tuple[Callable, Callable]:
        """Return ``load(address, i)`` and ``store(address, i, value)``: an element of an array known by its address."""
        from numba import from_dtype
        from numba.cuda import types
        from numba.cuda.extending import intrinsic

        element = from_dtype(np.dtype(number))

        def place(context: Any, builder: Any, address: Any, i: Any) -> Any:
            of_global_memory = context.get_value_type(element).as_pointer(1)
            return builder.gep(builder.inttoptr(address, of_global_memory), [i])

        @intrinsic
        def load(typing: Any, address: Any, i: Any) -> Any:
            def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                return builder.load(place(context, builder, *arguments))

            return element(types.int64, types.int64), emit

        @intrinsic
        def store(typing: Any, address: Any, i: Any, value: Any) -> Any:
            def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                builder.store(arguments[2], place(context, builder, *arguments[:2]))
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, element), emit

        return load, store

    def allocate(self, nbytes: int) -> Any:
        return self.cuda.device_array(nbytes, np.uint8, stream=self.stream)

    def free_memory(self) -> int | None:
        return self.cuda.current_context().get_memory_info()[0]

    def pinned(self, nbytes: int) -> np.ndarray:
        return self.cuda.pinned_array(nbytes, np.uint8)

    def event(self) -> Any:
        return self.cuda.event(timing=False)

    def start(self, compiled: Any, grid: Any, block: Any, arguments: Sequence[Any]) -> None:
        self.configured(compiled, grid, block, stream())(*arguments)

    @lru_cache(maxsize=4096)  # noqa: B019
    def configured(self, compiled: Any, grid: Any, block: Any, where: Any) -> Any:
        from numba.cuda.core.errors import NumbaPerformanceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)  # small problems have small grids
            return compiled[grid, block, where]

    def synchronize(self) -> None:
        stream().synchronize()

    def address(self, memory: Any) -> int:
        """The address of a piece of device memory."""
        return memory.__cuda_array_interface__["data"][0]

    def adopt(self, interface: Any) -> Any:
        """Return foreign memory that has a ``__cuda_array_interface__`` as an array of numba's, without a copy."""
        return self.cuda.as_cuda_array(interface)

    def begin(self) -> None:
        """From now on keep what is started on the stream, and do not run it."""
        from cuda.bindings import driver as api

        _checked(api.cuStreamBeginCapture(int(stream()), api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))

    def end(self) -> Callable[[], None]:
        """Return what starts all that was kept since ``begin``, as one graph."""
        from cuda.bindings import driver as api

        handle = int(stream())
        (graph,) = _checked(api.cuStreamEndCapture(handle))
        try:
            (ready,) = _checked(api.cuGraphInstantiate(graph, 0))
        finally:
            api.cuGraphDestroy(graph)

        def replay() -> None:
            _checked(api.cuGraphLaunch(ready, handle))

        weakref.finalize(replay, api.cuGraphExecDestroy, ready).atexit = False
        return replay

    def abandon(self) -> None:
        """Forget what was kept since ``begin``; nothing happens where a capture has ended."""
        from cuda.bindings import driver as api

        handle = int(stream())
        (state,) = _checked(api.cuStreamIsCapturing(handle))
        if state != api.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE:
            _, graph = api.cuStreamEndCapture(handle)  # an error and no graph where the capture had failed
            if graph:
                api.cuGraphDestroy(graph)

    def copy_at_once(self, memory: Any, values: np.ndarray) -> None:
        """Copy bytes to device memory past the stream, and wait for them."""
        aside = self.cuda.stream()
        memory[: len(values)].copy_to_device(values, stream=aside)
        aside.synchronize()

    def wait_for(self, stream_number: int) -> None:
        """Wait until the work on a stream of another package is done."""
        known = {1: self.cuda.legacy_default_stream, 2: self.cuda.per_thread_default_stream}
        other = known[stream_number]() if stream_number in known else self.cuda.external_stream(stream_number)
        other.synchronize()

    def stream_number(self) -> int | None:
        """The stream as the CUDA array interface and DLPack count them: a handle, 1 for the default one."""
        return int(stream()) or 1


def _checked(answer: tuple) -> list[Any]:
    """Return what a function of the driver gave besides its status.

    Raises:
        DeviceError: the status says that it failed.
    """
    status, *values = answer
    if int(status):
        raise DeviceError(mismatch("cuda", "a graph that the driver takes", str(status)))
    return values


@cache
def _found() -> Machine:
    if config.cuda_simulated():
        from .simulator import Simulator

        return Simulator()
    return Machine()


_chosen: ContextVar[Any] = ContextVar("fastconv_cuda_machine", default=None)


def machine() -> Machine:
    """Return the device that kernels run on.

    Raises:
        DeviceError: there is none.
    """
    return _chosen.get() or _found()


@contextmanager
def use(other: Any) -> Iterator[Any]:
    """Let another machine (one that records launches, say) take the device's place within a ``with`` block."""
    token = _chosen.set(other)
    try:
        yield other
    finally:
        _chosen.reset(token)


# ------------------------------------------------------------------------------------------------- streams

_stream: ContextVar[Any] = ContextVar("fastconv_cuda_stream", default=None)


def stream() -> Any:
    """Return the stream that work goes to: one for the process, unless ``use_stream`` says otherwise."""
    return _stream.get() or machine().stream


@contextmanager
def use_stream(other: Any) -> Iterator[Any]:
    """Send work to another of numba's streams within a ``with`` block. What both use must be ordered by events."""
    token = _stream.set(other)
    try:
        yield other
    finally:
        _stream.reset(token)


def wait_for(stream_number: int) -> None:
    """Wait until the work on a stream of another package, given as its handle, is done."""
    machine().wait_for(stream_number)


def synchronize() -> None:
    """Wait for the stream.

    Raises:
        DeviceError: a kernel before this failed.
    """
    with named("cuda"):
        machine().synchronize()


# What stands between a step that is captured and the host, see graphs.py; None as a rule.
capture: ContextVar[Any] = ContextVar("fastconv_cuda_capture", default=None)

# ------------------------------------------------------------------------------------------------- kernels

factories: dict[str, Callable] = {}  # every factory, by module and name: what must compile


def factory(make: Callable) -> Callable:
    """Mark ``make(*key)``, which returns a kernel, as a factory."""
    factories[f"{make.__module__}.{make.__name__}"] = make
    make.compiled = {}  # (machine's kind, *key) -> kernel
    return make


def inline(function: Callable) -> Callable:
    """Return a plain function in the form in which kernels can call it; it stays callable on the host as it was."""
    here = machine()
    _equip(function, here)
    return _inlined(type(here), function)


@cache
def function(make: Callable, *key: Any) -> Callable:
    """Return ``make(*key)``, a plain function for kernels, with ``cuda`` and ``math`` in its file's reach."""
    _equip(make, machine())
    return make(*key)


@cache
def _inlined(kind: type, function: Callable) -> Callable:
    return machine().inline(function)


@cache
def _by_address(kind: type, number: type) -> tuple[Callable, Callable]:
    return machine().by_address(number)


def by_address(number: type) -> tuple[Callable, Callable]:
    """Return ``load(address, i)`` and ``store(address, i, value)`` for kernels that know arrays by their addresses."""
    return _by_address(type(machine()), number)


def _equip(function: Callable, here: Machine) -> None:
    function.__globals__.update(cuda=here.cuda, math=here.math)


def as_given(held: Any, i: Any, value: Any) -> Any:
    """Inside kernels: a number that is an argument."""
    return value


def from_memory(held: Any, i: Any, value: Any) -> Any:
    """Inside kernels: a number that a graph keeps in memory, and renews there."""
    return held[i]


def made(make: Callable, key: tuple) -> Any:
    """Return the compiled kernel of ``make(*key)``, made once."""
    here = machine()
    found = make.compiled.get((type(here), *key))
    if found is None:
        _equip(make, here)
        found = here.compile(make(*key), kernel_cache.identity(f"{make.__module__}.{make.__name__}", key))
        make.compiled[(type(here), *key)] = found
    here.note(make, key, found)
    return found


def tile(real: int, simulated: int) -> int:
    """Return a tile size: a small one in the simulator, where a thread is a thread of Python."""
    return simulated if machine().simulated else real


def threads() -> int:
    """Return the threads of a block in a loop over elements."""
    return tile(256, 2)


def elements(op: str, make: Callable, key: tuple, count: int, *arguments: Any) -> None:
    """Run a kernel that loops over ``count`` elements with the stride of its grid; nothing where there are none."""
    if count:
        block, most = threads(), machine().processors * tile(_BLOCKS_A_PROCESSOR, 2)
        blocks(op, make, key, min(-(-count // block), most), block, *arguments)


def blocks(op: str, make: Callable, key: tuple, grid: Any, block: Any, *arguments: Any) -> None:
    """Run a kernel on a grid of blocks. Arrays of this device among the arguments are passed as flat memory.

    Raises:
        DeviceError: the kernel failed, where FASTCONV_SYNC=1 or a simulation has it waited for.
    """
    flat = [value.kernel_argument if hasattr(value, "kernel_argument") else value for value in arguments]
    here, compiled = machine(), made(make, key)
    if (capturing := capture.get()) is not None:
        capturing.keep(flat)
    if not (here.simulated or config.cuda_sync()):
        here.start(compiled, grid, block, flat)
        return
    with named(op):
        here.start(compiled, grid, block, flat)
        here.synchronize()


@contextmanager
def named(op: str) -> Iterator[None]:
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:
        advice = "" if config.cuda_sync() else " (FASTCONV_SYNC=1 names the operation)"
        raise DeviceError(mismatch(op, f"kernels that run to their end{advice}", repr(error))) from error
