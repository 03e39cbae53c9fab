"""CUDA graphs: a training step is captured once, and replayed with other numbers.

What a step starts is the same each time; what changes is what the host gives it: the batch, its targets, keys of
dropout masks, rates of an optimiser. These lie in one piece of device memory, *held*, which kernels read, and which
each replay fills by one copy. Everything else a step takes from the host must be constant.

While a step is captured nothing runs. The memory that it takes from the pool may serve others between replays: all work
is in order on one stream, and a replay writes before it reads. What it must find as it left it (parameters, gradients,
results) is held by arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ... import config
from ...errors import DeviceError, mismatch
from . import launch, memory
from .array import DeviceArray

_ALIGNED = 16  # bytes: what a held array begins at a multiple of
_NUMBERS = 64 << 10  # bytes for keys and rates


class Uncapturable(Exception):
    """A step does something that a graph cannot repeat."""


def fresh(nbytes: int) -> memory.Lease:
    """Return memory that the pool never gave away, and never gets back: no kernel of a graph writes to it."""
    return memory.Lease(memory.Piece(memory.pool.allocate(nbytes), nbytes), None)


class Held:
    """Values that each replay brings anew: their places on the device, and on the host what goes there."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._ends = np.cumsum([0] + [-(-a.nbytes // _ALIGNED) * _ALIGNED for a in arrays])
        self._host = np.zeros(int(self._ends[-1]) + _NUMBERS, np.uint8)
        self._lease = fresh(len(self._host))
        self._kinds = [(a.shape, a.dtype) for a in arrays]
        self.fill(arrays)

    def fill(self, arrays: Sequence[np.ndarray]) -> None:
        if [(a.shape, a.dtype) for a in arrays] != self._kinds:
            raise DeviceError(mismatch("replay", f"arrays of {self._kinds}", [(a.shape, a.dtype) for a in arrays]))
        for start, array in zip(self._ends, arrays, strict=False):
            self.put(int(start), array)

    def put(self, start: int, values: np.ndarray) -> None:
        self._host[start : start + values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)

    def holds(self, number: int, values: np.ndarray) -> bool:
        """Whether these are the values of an array that is held."""
        start = int(self._ends[number])
        there = self._host[start : start + values.nbytes].tobytes()
        return (values.shape, values.dtype) == self._kinds[number] and there == values.tobytes()

    def array(self, number: int) -> DeviceArray:
        return DeviceArray(self._lease, *self._kinds[number], int(self._ends[number]))

    def numbers(self, offset: int, values: np.ndarray) -> DeviceArray:
        """Return the place of numbers, ``offset`` bytes behind the arrays."""
        start = int(self._ends[-1]) + offset
        self.put(start, values)
        return DeviceArray(self._lease, values.shape, values.dtype, start)

    def send(self) -> None:
        memory.staging().upload(self._lease.piece.memory[: len(self._host)], self._host)


class Capture:
    """Stands in the way of what a step gets from the host while it is captured."""

    def __init__(self, held: Held, count: int) -> None:
        self._held, self._left, self._next = held, list(range(count)), 0
        self.asked: list[tuple] = []  # for numbers: (tag, offset, bytes)
        self.kept: list[tuple] = []

    def upload(self, array: np.ndarray) -> DeviceArray:
        """Return the place of the next array that is held; a single number is a constant."""
        if self._left and self._held.holds(self._left[0], array):
            return self._held.array(self._left.pop(0))
        if array.ndim:
            raise Uncapturable(f"an array {array.shape} from the host that is none of the batch")
        return constant(array)

    def numbers(self, tag: Any, values: np.ndarray) -> DeviceArray:
        """Return the place of numbers that change from step to step; ``tag`` must be the same each time."""
        offset = self._next
        self._next += -(-values.nbytes // _ALIGNED) * _ALIGNED
        if self._next > _NUMBERS:
            raise Uncapturable("more keys and rates than are held")
        self.asked.append((tag, offset, values.dtype, values.shape))
        return self._held.numbers(offset, values)

    def keep(self, *what: Any) -> None:
        """Hold what the graph knows by its address alone."""
        self.kept.append(what)

    def download(self, what: Any) -> None:
        raise Uncapturable(f"the host waits for {what}")

    def finish(self) -> None:
        if self._left:
            raise Uncapturable("an array of the batch that is not used")


class Renewal:
    """Takes numbers as a capture does, for the next replay; nothing is started."""

    def __init__(self, held: Held, asked: Sequence[tuple]) -> None:
        self._held, self._asked = held, list(asked)

    def numbers(self, tag: Any, values: np.ndarray) -> None:
        expected, offset, dtype, shape = self._asked.pop(0) if self._asked else (None, 0, values.dtype, values.shape)
        if (expected, dtype, shape) != (tag, values.dtype, values.shape):
            raise DeviceError(mismatch("replay", f"numbers for {expected}", f"numbers for {tag}"))
        self._held.numbers(offset, values)

    def keep(self, *what: Any) -> None:
        raise DeviceError(mismatch("replay", "rates alone", "a kernel"))

    def finish(self) -> None:
        if self._asked:
            raise DeviceError(mismatch("replay", f"numbers for {self._asked[0][0]}", "none"))


class Graph:
    """A captured step. ``result`` is what it returned: arrays that each replay writes again."""

    def __init__(self, held: Held, capture: Capture, replay: Callable[[], None], result: Any) -> None:
        self._held, self._asked, self._replay, self.result = held, capture.asked, replay, result
        self._kept = capture.kept  # the driver's graph has addresses, which hold nothing

    def __call__(
        self, arrays: Sequence[np.ndarray], keys: Sequence[tuple[int, int]], update: Callable[[], None]
    ) -> Any:
        """Run the step on other arrays.

        Args:
            arrays: the batch and what belongs to it, of the shapes and dtypes of those that were captured.
            keys: of the dropout masks, in their order.
            update: the optimiser's step, which is asked for its rates alone.

        Raises:
            DeviceError: arrays, keys or parameters of another kind.
        """
        self._held.fill(arrays)
        renewal = Renewal(self._held, self._asked)
        for key in keys:
            renewal.numbers("dropout_mask", np.array(key, np.uint64))
        token = launch.capture.set(renewal)
        try:
            update()
        finally:
            launch.capture.reset(token)
        renewal.finish()
        self._held.send()
        with launch.named("replay"):
            self._replay()
        return self.result


def constant(array: np.ndarray) -> DeviceArray:
    """Return a copy of a NumPy array in memory of its own, there at once, also while a step is captured."""
    lease = fresh(max(array.nbytes, 1))
    launch.machine().copy_at_once(lease.piece.memory, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return DeviceArray(lease, array.shape, array.dtype)


def captured(step: Callable[[], Any], arrays: Sequence[Any]) -> Any:
    """Capture ``step()``, in which ``arrays`` come from the host in this order; then run it once.

    The step must have run before, so that its kernels are compiled and its tables made. Returns None where it cannot be
    captured; nothing was started on the device then, while what ``step`` changes on the host has changed.
    """
    here = launch.machine()
    if config.cuda_sync() or launch.capture.get() is not None:
        return None
    arrays = [np.ascontiguousarray(a).reshape(a.shape) for a in arrays]
    held = Held(arrays)
    capture = Capture(held, len(arrays))
    launch.synchronize()
    try:
        here.begin()
    except DeviceError:
        return None
    token = launch.capture.set(capture)
    try:
        result = step()
        capture.finish()
        replay = here.end()
    except BaseException as error:  # the stream must not go on capturing, also after Ctrl-C
        with suppress(DeviceError):
            here.abandon()
        if not isinstance(error, Exception):
            raise
        return None  # an error of the step itself comes again as it runs without a graph
    finally:
        launch.capture.reset(token)
    held.send()
    with launch.named("replay"):
        replay()
    return Graph(held, capture, replay, result)
