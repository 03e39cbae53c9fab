"""Sources: where a volume comes from, a window at a time. ``(channels, spatial...)`` whatever it is kept in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ArgumentError, DataError, mismatch
from ..tensor import Tensor
from .layout import Window

_HEADER = 1 << 14  # more bytes than an honest .npy header takes


class Source:
    """A volume that is read by windows.

    Attributes:
        shape: (channels, spatial...).
        dtype: of what ``read`` returns.
        like: what a NIfTI file is written like, or None.
    """

    like: Any = None

    def __init__(self, shape: Sequence[int], dtype: Any) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    def read(self, window: Window) -> np.ndarray:
        """Return ``(channels, *window)``; the array may be a view of the source."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of files."""


class ArraySource(Source):
    def __init__(self, array: np.ndarray, like: Any = None) -> None:
        super().__init__(array.shape, array.dtype)
        self._array, self.like = array, like

    def read(self, window: Window) -> np.ndarray:
        return self._array[(slice(None), *(slice(*part) for part in window))]


class NpySource(Source):
    """An .npy file. It is read, not mapped: a map of a large file takes address space for all of it."""

    def __init__(self, op: str, path: Path) -> None:
        self._path, self._op = path, op
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise DataError(mismatch(op, f"source {path} to be readable", error.strerror or error)) from None
        try:
            shape, self._turned, dtype = _header(op, path, self._file)
            self._start = self._file.tell()
            there = os.fstat(self._file.fileno()).st_size - self._start
            if there != prod(shape) * dtype.itemsize:
                raise DataError(mismatch(op, f"source {path} to hold {prod(shape) * dtype.itemsize:,} bytes", there))
        except BaseException:
            self._file.close()
            raise
        self._kept = dtype
        super().__init__(shape, dtype.newbyteorder("="))

    def read(self, window: Window) -> np.ndarray:
        wanted = ((0, self.shape[0]), *window)
        if self._turned:
            return self._read(self.shape[::-1], wanted[::-1]).T
        return self._read(self.shape, wanted)

    def _read(self, shape: Sequence[int], window: Window) -> np.ndarray:
        """A window of an array in C order: runs of whole rows, of which the window's part is kept."""
        out = np.empty([stop - start for start, stop in window], self.dtype)
        *outer, rows, row = [range(*part) for part in ((0, 1), *window)]  # at least three axes
        out3, shape = out.reshape(*map(len, outer), len(rows), len(row)), (1, *shape)
        for index in product(*outer):
            at = np.ravel_multi_index((*index, rows.start, 0), shape)
            self._file.seek(self._start + int(at) * self._kept.itemsize)
            run = np.fromfile(self._file, self._kept, len(rows) * shape[-1])
            if run.size < len(rows) * shape[-1]:
                raise DataError(mismatch(self._op, f"source {self._path} to stay as it was", "a shorter file"))
            place = tuple(i - part.start for i, part in zip(index, outer, strict=True))
            out3[place] = run.reshape(len(rows), shape[-1])[:, row.start : row.stop]
        return out

    def close(self) -> None:
        self._file.close()


def _header(op: str, path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, turned, dtype = readers[np.lib.format.read_magic(file)](file, max_header_size=_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError) as error:
        raise DataError(mismatch(op, f"source {path} to begin with an .npy header", error)) from None
    if dtype.hasobject or dtype.kind not in "biuf" or min(shape, default=1) < 0:
        raise DataError(mismatch(op, f"source {path} to hold numbers", f"{dtype} of shape {shape}"))
    return shape, turned, dtype


class StackedSource(Source):
    """Several sources, one after the other as channels."""

    def __init__(self, op: str, sources: Sequence[Source]) -> None:
        for i, other in enumerate(sources):
            if other.shape[1:] != sources[0].shape[1:]:
                expected = f"source[{i}] of the size of source[0] {sources[0].shape[1:]}"
                raise ArgumentError(mismatch(op, expected, other.shape[1:]))
        channels = sum(source.shape[0] for source in sources)
        super().__init__((channels, *sources[0].shape[1:]), np.result_type(*(s.dtype for s in sources)))
        self._sources, self.like = sources, sources[0].like

    def read(self, window: Window) -> np.ndarray:
        return np.concatenate([source.read(window) for source in self._sources])

    def close(self) -> None:
        for source in self._sources:
            source.close()


class _Lifted(Source):
    """A source without channels, as one channel."""

    def __init__(self, source: Source) -> None:
        super().__init__((1, *source.shape), source.dtype)
        self._source, self.like = source, source.like

    def read(self, window: Window) -> np.ndarray:
        first, *rest = window
        inner = self._source
        whole = inner.read(tuple(rest)) if isinstance(inner, ArraySource) else inner.read(tuple(rest))
        return whole[slice(*first)][None]

    def close(self) -> None:
        self._source.close()


def open_source(op: str, source: Any) -> Source:
    """Return a source for what ``predict_volume`` takes.

    Raises:
        ArgumentError, DataError: it is none.
    """
    found = _one(op, source)
    if len(found.shape) not in (2, 3, 4) or min(found.shape) < 1:
        expected = "source (channels, and 1 to 3 axes that are not empty; a list of arrays has its channels by itself)"
        raise ArgumentError(mismatch(op, expected, f"shape {found.shape}"))
    return found


def _one(op: str, source: Any) -> Source:
    if isinstance(source, (list, tuple)):
        return _several(op, source)
    if isinstance(source, Tensor):
        source = source.numpy()
    if isinstance(source, np.ndarray):
        if source.dtype.kind not in "biuf":
            raise ArgumentError(mismatch(op, "source of numbers", f"dtype {source.dtype}"))
        return ArraySource(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.name.endswith(".npy"):
            return NpySource(op, path)
        raise ArgumentError(mismatch(op, "source in a file .npy, .nii or .nii.gz", str(path)))
    raise ArgumentError(mismatch(op, "source to be an array, a path, a Volume or a list of them", type(source).__name__))


def _several(op: str, sources: Sequence[Any]) -> Source:
    if not sources:
        raise ArgumentError(mismatch(op, "source with at least one modality", "an empty list"))
    opened: list[Source] = []
    try:
        for one in sources:
            opened.append(_channel(op, one))
        return StackedSource(op, opened)
    except BaseException:
        for one in opened:
            one.close()
        raise


def _channel(op: str, source: Any) -> Source:
    """A modality: spatial axes alone."""
    if isinstance(source, np.ndarray):
        return _one(op, source[None])
    return _one(op, source)
