"""The same values in other memory orders, and the random arrays that tests share."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

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


LAYOUTS = {
    "channels_last": _channels_last,
    "reversed": _reversed,
    "every_other": _every_other,
    "inner": _inner,
    "fortran": np.asfortranarray,
    "read_only": _read_only,
}


def stretched(a: np.ndarray, axis: int) -> np.ndarray:
    """Return the first slice along ``axis``, repeated with a zero stride."""
    return np.broadcast_to(a[(slice(None),) * axis + (slice(0, 1),)], a.shape)
