"""Device memory: a pool of pieces that are used again, and the pinned buffers that copies go through.

A piece that is given back may be taken again at once: all its users, old and new, are on one stream, and a stream works
in order. The pool therefore keeps the pieces of each stream apart.
"""

from __future__ import annotations

from collections import defaultdict
from threading import Lock
from typing import Any

import numpy as np

from . import driver, launch

_SMALLEST = 512  # bytes; also what pieces begin at a multiple of, as the driver's do
_VIEWS = 64  # remembered of one piece: a training step asks for the same few


def size_class(nbytes: int) -> int:
    """Return the size of the piece that serves ``nbytes``: a power of two, or a quarter of it more, up to the next.

    >>> [size_class(n) for n in (1, 513, 1100, 5000, 2**31 + 1)]
    [512, 1024, 1536, 5120, 2684354560]
    """
    if nbytes <= _SMALLEST:
        return _SMALLEST
    quarter = max(_SMALLEST, (1 << ((nbytes - 1).bit_length() - 1)) // 4)
    return -(-nbytes // quarter) * quarter


class Piece:
    """Memory of one size class, and the arrays that kernels saw in it before."""

    __slots__ = ("_address", "memory", "nbytes", "views")

    def __init__(self, memory: Any, nbytes: int) -> None:
        self.memory, self.nbytes = memory, nbytes
        self.views: dict[tuple, Any] = {}
        self._address: int | None = None

    @property
    def address(self) -> int:
        if self._address is None:
            self._address = launch.machine().address(self.memory)
        return self._address

    def flat(self, dtype: np.dtype, offset: int, count: int) -> Any:
        """Return ``count`` elements from byte ``offset`` on, as kernels take them."""
        key = dtype.char, offset, count
        view = self.views.get(key)
        if view is None:
            if len(self.views) >= _VIEWS:
                self.views.clear()
            view = self.memory[offset : offset + count * dtype.itemsize].view(dtype)
            self.views[key] = view
        return view


class Lease:
    """A piece in use. It goes back to the pool with the last array that holds the lease."""

    __slots__ = ("home", "piece")

    def __init__(self, piece: Piece, home: list[Piece] | None) -> None:
        self.piece, self.home = piece, home

    def __del__(self) -> None:
        if self.home is not None:
            self.home.append(self.piece)  # one operation, so that no lock is needed wherever garbage is collected


class Pool:
    """Pieces by stream and size class."""

    def __init__(self) -> None:
        self._free: defaultdict[tuple, list[Piece]] = defaultdict(list)

    def take(self, nbytes: int) -> Lease:
        """Return memory of at least ``nbytes`` with undefined content.

        Raises:
            DeviceError: the device has too little.
        """
        size = size_class(nbytes)
        home = self._free[id(launch.machine()), id(launch.stream()), size]
        try:
            return Lease(home.pop(), home)
        except IndexError:
            return Lease(Piece(self.allocate(size), size), home)

    def allocate(self, nbytes: int) -> Any:
        """Return memory that is none of the pool's.

        Raises:
            DeviceError: the device has too little.
        """
        here = launch.machine()
        try:
            return here.allocate(nbytes)
        except Exception as error:
            if not driver.is_out_of_memory(error):
                raise
        launch.synchronize()
        self.empty()
        try:
            return here.allocate(nbytes)
        except Exception as error:
            if driver.is_out_of_memory(error):
                raise driver.out_of_memory(nbytes, here.free_memory()) from error
            raise

    def empty(self) -> None:
        """Give what is not in use back to the driver."""
        for pieces in list(self._free.values()):
            pieces.clear()

    @property
    def held(self) -> int:
        """Bytes that wait to be used again."""
        return sum(piece.nbytes for pieces in list(self._free.values()) for piece in pieces)


pool = Pool()


def empty_cache() -> None:
    """Give the memory that no array uses back to the driver."""
    pool.empty()


# ------------------------------------------------------------------------------------------------- copies

STAGE = 8 << 20  # bytes a copy at a time


class Staging:
    """Two pinned buffers in turn: while one is on its way, the other is filled or emptied."""

    def __init__(self) -> None:
        here = launch.machine()
        self._lock = Lock()
        self._slots = [(here.pinned(STAGE), here.event()) for _ in range(2)]

    def upload(self, target: Any, source: np.ndarray) -> None:
        """Copy bytes to device memory. Returns when they have left ``source``, not when they have arrived."""
        stream = launch.stream()
        with self._lock:
            for i, start in enumerate(range(0, len(source), STAGE)):
                buffer, done = self._slots[i % 2]
                done.synchronize()
                count = min(STAGE, len(source) - start)
                buffer[:count] = source[start : start + count]
                target[start : start + count].copy_to_device(buffer[:count], stream=stream)
                done.record(stream)

    def download(self, target: np.ndarray, source: Any) -> None:
        """Copy bytes of device memory to the host; returns when they are there."""
        stream = launch.stream()
        with self._lock:
            pending: tuple | None = None
            for i, start in enumerate(range(0, len(target), STAGE)):
                buffer, done = self._slots[i % 2]
                count = min(STAGE, len(target) - start)
                source[start : start + count].copy_to_host(buffer[:count], stream=stream)
                done.record(stream)
                self._arrive(target, pending)
                pending = buffer, done, start, count
            self._arrive(target, pending)

    @staticmethod
    def _arrive(target: np.ndarray, pending: tuple | None) -> None:
        if pending is not None:
            buffer, done, start, count = pending
            done.synchronize()
            target[start : start + count] = buffer[:count]


_staging: dict[int, Staging] = {}


def staging() -> Staging:
    """Return the machine's pinned buffers, made at the first copy."""
    here = launch.machine()
    found = _staging.get(id(here))
    if found is None:
        found = _staging.setdefault(id(here), Staging())
    return found
