"""Sources: where a volume comes from, a window at a time. ``(channels, spatial...)`` whatever it is kept in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..data.nifti import NiftiFile, open_nifti
from ..data.read import read_volume
from ..data.volume import Grid, Volume, same_geometry
from ..errors import ArgumentError, DataError, DTypeError, ShapeError, mismatch
from ..tensor import Tensor
from .layout import Window

_PIECE = 1 << 20  # bytes read at a time, or a row
_HEADER = 1 << 14  # more bytes than an honest .npy header takes


class Source:
    """A volume that is read by windows.

    Attributes:
        shape: (channels, spatial...).
        dtype: of what ``read`` returns.
        like: what a NIfTI file is written like, and other modalities are compared with; or None.
        held: bytes of voxels that opening it took.
    """

    like: Grid | None = None
    held: int = 0

    def __init__(self, shape: Sequence[int], dtype: Any) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    def read(self, window: Window) -> np.ndarray:
        """Return ``(channels, *window)``; the array may be a view of the source."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of files."""


class ArraySource(Source):
    """An array in memory."""

    def __init__(self, array: np.ndarray, like: Grid | None = None) -> None:
        super().__init__(array.shape, array.dtype)
        self._array, self.like = array, like

    def read(self, window: Window) -> np.ndarray:
        return self._array[(slice(None), *(slice(*part) for part in window))]


class NpySource(Source):
    """An .npy file. It is read, not mapped: a map of a large file takes address space for all of it."""

    def __init__(self, op: str, path: Path, modality: bool = False) -> None:
        """``modality``: the file has spatial axes alone."""
        self._path, self._op, self._modality = path, op, modality
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
        super().__init__((1, *shape) if modality else shape, dtype.newbyteorder("="))

    def read(self, window: Window) -> np.ndarray:
        shape, wanted = self.shape, ((0, self.shape[0]), *window)
        if self._turned:  # what is in Fortran's order is the transposed array in C's
            return self._read(shape[::-1], wanted[::-1]).T
        return self._read(shape, wanted)

    def _read(self, shape: Sequence[int], window: Window) -> np.ndarray:
        """A window of an array in C order: runs of whole rows, of which the window's part is kept."""
        out = np.empty([stop - start for start, stop in window], self.dtype)
        *outer, rows, row = [range(*part) for part in ((0, 1), *window)]  # at least three axes
        out3, shape = out.reshape(*map(len, outer), len(rows), len(row)), (1, *shape)
        long = shape[-1] * self._kept.itemsize > _PIECE  # rows that are read in part, one by one
        skipped, length = (row.start, len(row)) if long else (0, shape[-1])
        step = max(1, _PIECE // (shape[-1] * self._kept.itemsize))
        for index in product(*outer):
            place = tuple(i - part.start for i, part in zip(index, outer, strict=True))
            for first in range(rows.start, rows.stop, step):
                count = min(step, rows.stop - first)
                at = np.ravel_multi_index((*index, first, skipped), shape)
                self._file.seek(self._start + int(at) * self._kept.itemsize)
                run = np.fromfile(self._file, self._kept, count * length)
                if run.size < count * length:
                    raise DataError(mismatch(self._op, f"source {self._path} to stay as it was", "a shorter file"))
                part = run.reshape(count, length)[:, row.start - skipped : row.stop - skipped]
                out3[(*place, slice(first - rows.start, first - rows.start + count))] = part
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


class NiftiSource(Source):
    """A NIfTI file. Its axes (I, J, K) are the volume's, in this order."""

    def __init__(self, file: NiftiFile, owned: bool) -> None:
        shape = file.shape
        super().__init__(shape if len(shape) == 4 else (1, *shape), file.dtype)
        self._file, self._owned, self.like = file, owned, file

    def read(self, window: Window) -> np.ndarray:
        voxels = self._file.read([slice(*part) for part in window])
        return voxels.reshape(len(voxels) if voxels.ndim == 4 else 1, *voxels.shape[-3:])

    def close(self) -> None:
        if self._owned:
            self._file.close()


class StackedSource(Source):
    """Several sources, one after the other as channels."""

    def __init__(self, op: str, sources: Sequence[Source]) -> None:
        first, like = sources[0], next((source.like for source in sources if source.like is not None), None)
        for i, other in enumerate(sources):
            if other.shape[1:] != first.shape[1:]:
                expected = f"source[{i}] of the size of source[0] {first.shape[1:]}"
                raise ShapeError(mismatch(op, expected, other.shape[1:]))
            if other.like is not None:
                same_geometry(like, other.like)
        channels = sum(source.shape[0] for source in sources)
        super().__init__((channels, *first.shape[1:]), np.result_type(*(s.dtype for s in sources)))
        self._sources, self.like, self.held = sources, like, sum(source.held for source in sources)

    def read(self, window: Window) -> np.ndarray:
        out = np.empty((self.shape[0], *(stop - start for start, stop in window)), self.dtype)
        channel = 0
        for source in self._sources:
            out[channel : channel + source.shape[0]] = source.read(window)
            channel += source.shape[0]
        return out

    def close(self) -> None:
        for source in self._sources:
            source.close()


def open_source(op: str, source: Any) -> Source:
    """Return a source for what ``predict_volume`` takes.

    Raises:
        ArgumentError, ShapeError, DataError: it is none.
    """
    found = _several(op, source) if isinstance(source, (list, tuple)) else _one(op, source, modality=False)
    if len(found.shape) not in (2, 3, 4) or min(found.shape) < 1:
        found.close()
        expected = "source (channels, then 1 to 3 axes, none of them empty), or a list of arrays without channels"
        raise ShapeError(mismatch(op, expected, f"shape {found.shape}"))
    return found


def _one(op: str, source: Any, modality: bool) -> Source:
    """``modality``: arrays have spatial axes alone."""
    if isinstance(source, Tensor):
        source = source.numpy()
    if isinstance(source, np.ndarray):
        if source.dtype.kind not in "biuf":
            raise DTypeError(mismatch(op, "source of real numbers", f"dtype {source.dtype}"))
        return ArraySource(source[None] if modality else source)
    if isinstance(source, Volume):
        return ArraySource(source.data if source.data.ndim == 4 else source.data[None], source)
    if isinstance(source, NiftiFile):
        return NiftiSource(source, owned=False)
    if not isinstance(source, (str, os.PathLike)):
        raise ArgumentError(mismatch(op, "source to be an array, a path, a Volume or a list of them", _kind(source)))
    path = Path(source)
    if path.name.endswith(".npy"):
        return NpySource(op, path, modality)
    if path.name.endswith((".nii", ".nii.gz")):
        return NiftiSource(open_nifti(path), owned=True)
    volume = read_volume(path)
    found = _one(op, volume, modality)
    found.held = volume.data.nbytes
    return found


def _several(op: str, sources: Sequence[Any]) -> Source:
    if not sources:
        raise ArgumentError(mismatch(op, "source with at least one modality", "an empty list"))
    opened: list[Source] = []
    try:
        opened.extend(_one(op, one, modality=True) for one in sources)
        return StackedSource(op, opened)
    except BaseException:
        for source in opened:
            source.close()
        raise


def _kind(source: object) -> str:
    return type(source).__name__
