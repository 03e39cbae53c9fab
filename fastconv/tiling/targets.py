"""Targets: where an answer goes, a window at a time. A file appears when it is complete, and not before."""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import product
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..data.files import replacing
from ..data.nifti_write import NiftiWriter
from ..data.volume import Grid
from ..errors import ArgumentError, DataError, ShapeError, mismatch
from .layout import Window


class Target:
    """An answer that is written by windows, within a ``with`` block."""

    def write(self, window: Window, values: np.ndarray) -> None:
        """Write ``(channels, *window)``, or ``(*window)`` of an answer without channels."""
        raise NotImplementedError

    def result(self) -> Any:
        """What the caller gets when all is written."""
        return None

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class ArrayTarget(Target):
    """An array in memory."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype

    def __enter__(self) -> ArrayTarget:
        self._array = np.empty(self._shape, self._dtype)
        return self

    def write(self, window: Window, values: np.ndarray) -> None:
        self._array[(..., *(slice(*part) for part in window))] = values

    def result(self) -> np.ndarray:
        return self._array


class NpyTarget(Target):
    """An .npy file, in C order."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._path, self._shape, self._dtype = path, shape, dtype

    def __enter__(self) -> NpyTarget:
        with ExitStack() as stack:
            self._file = stack.enter_context(replacing(self._path))
            header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": self._shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._start = self._file.tell()
            self._file.truncate(self._start + prod(self._shape) * self._dtype.itemsize)
            self._stack = stack.pop_all()
        return self

    def write(self, window: Window, values: np.ndarray) -> None:
        lead = len(self._shape) - len(window)
        parts = [range(size) for size in self._shape[:lead]] + [range(*part) for part in window]
        outer, run = self._shape, 1  # a run: the last axes that are written whole, and a part of the one before
        while len(parts) > 1 and len(parts[-1]) == outer[-1]:
            run, parts, outer = run * outer[-1], parts[:-1], outer[:-1]
        *before, last = parts
        rows = np.ascontiguousarray(values, self._dtype).reshape(-1, len(last) * run)
        for row, index in zip(rows, product(*before), strict=True):
            at = int(np.ravel_multi_index((*index, last.start), outer)) * run
            self._file.seek(self._start + at * self._dtype.itemsize)
            self._file.write(row.data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class NiftiTarget(Target):
    """A NIfTI file with the source's affine and header; channels are its fourth axis."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, like: Grid | None) -> None:
        self._writer = NiftiWriter(path, shape, dtype, like=like)

    def __enter__(self) -> NiftiTarget:
        self._writer.__enter__()
        return self

    def write(self, window: Window, values: np.ndarray) -> None:
        self._writer.write([slice(*part) for part in window], values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def open_target(op: str, target: Any, shape: tuple[int, ...], dtype: np.dtype, rank: int, like: Grid | None) -> Target:
    """Return a target for an answer of this shape.

    Raises:
        ArgumentError, ShapeError, DataError: it is none, or cannot hold the answer.
    """
    if target is None:
        return ArrayTarget(shape, dtype)
    if not isinstance(target, (str, os.PathLike)):
        raise ArgumentError(mismatch(op, "target to be a path or None", type(target).__name__))
    path = Path(target)
    if not path.parent.is_dir():
        raise DataError(mismatch(op, f"target {path} in a folder that is there", f"no folder {path.parent}"))
    if path.name.endswith(".npy"):
        return NpyTarget(path, shape, dtype)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ArgumentError(mismatch(op, "target that ends in .npy, .nii or .nii.gz", str(path)))
    if rank != 3:
        raise ShapeError(mismatch(op, "a volume of three axes for a target in NIfTI", f"{rank} axes"))
    if like is not None and like.shape[-3:] != shape[-3:]:
        expected = f"an answer of the source's size {like.shape[-3:]} for a target in NIfTI"
        raise ShapeError(mismatch(op, expected, shape[-3:]))
    return NiftiTarget(path, shape, dtype, like)
