"""The same values in other memory orders, and the random arrays that tests share."""

from __future__ import annotations

import ctypes
import mmap
import os
import zlib
from collections.abc import Sequence
from functools import partial

import numpy as np

DTYPES = ("float32", "float64")


def generator(name: object) -> np.random.Generator:
    """Return random numbers that depend on a name alone."""
    return np.random.default_rng(zlib.crc32(str(name).encode()))


def normal(name: object, shape: Sequence[int], dtype: str = "float64") -> np.ndarray:
    """Return standard normal values that depend on a name alone."""
    return generator(name).standard_normal(shape).astype(dtype)


def distinct(name: object, shape: Sequence[int], dtype: str = "float64") -> np.ndarray:
    """Return values in (-2, 2), each at least 4 / size from every other and none near 0: no ties, no kinks."""
    size = int(np.prod(shape))
    values = (np.arange(size) + 0.4) / max(size, 1) * 4 - 2
    return generator(name).permutation(values).reshape(shape).astype(dtype)


def _channels_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if a.ndim > 1 else a


def _reversed(a: np.ndarray) -> np.ndarray:
    return np.flip(np.ascontiguousarray(np.flip(a)))


def _hole(a: np.ndarray) -> float:
    """A value that shows where memory outside the array is read."""
    return np.nan if a.dtype.kind == "f" else np.iinfo(a.dtype).max


def _every_other(a: np.ndarray) -> np.ndarray:
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), _hole(a), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def _inner(a: np.ndarray) -> np.ndarray:
    outer = np.full(tuple(s + 2 for s in a.shape), _hole(a), a.dtype)
    inside = outer[(slice(1, -1),) * a.ndim]
    inside[...] = a
    return inside


def _read_only(a: np.ndarray) -> np.ndarray:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def _walled(a: np.ndarray, behind: bool) -> np.ndarray:
    """In memory that ends where nothing may be read or written, or begins there: to touch it ends the process."""
    page, untouchable = mmap.PAGESIZE, 0
    memory = mmap.mmap(-1, a.nbytes // page * page + 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if os.name == "posix":
        for wall in (start, start + len(memory) - page):
            assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(wall), ctypes.c_size_t(page), untouchable) == 0
    at = len(memory) - page - a.nbytes if behind else page
    copy = np.frombuffer(memory, a.dtype, a.size, at).reshape(a.shape)
    copy[...] = a
    return copy


def _walled_last(a: np.ndarray, behind: bool) -> np.ndarray:
    return np.moveaxis(_walled(np.moveaxis(a, 1, -1), behind), -1, 1) if a.ndim > 1 else _walled(a, behind)


LAYOUTS = {
    "channels_last": _channels_last,
    "reversed": _reversed,
    "every_other": _every_other,
    "inner": _inner,
    "fortran": np.asfortranarray,
    "read_only": _read_only,
    "wall_behind": partial(_walled, behind=True),
    "wall_behind_last": partial(_walled_last, behind=True),
    "wall_before_last": partial(_walled_last, behind=False),
}


def stretched(a: np.ndarray, axis: int) -> np.ndarray:
    """Return the first slice along ``axis``, repeated with a zero stride."""
    return np.broadcast_to(a[(slice(None),) * axis + (slice(0, 1),)], a.shape)
