"""Writing NIfTI, whole or window by window, with the affine and header of the volume that it was made from. The file
appears when it is complete, and not before."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import ArgumentError, DataError, DTypeError, ShapeError, mismatch
from .files import copy_pieces, replacing
from .nifti import KINDS, spans
from .volume import Grid, Volume

_MOST = 32767  # voxels along an axis of NIfTI-1
_SCANNER = 1  # the code of an affine that leads to the scanner's coordinates


def write_nifti(path: str | os.PathLike[str], volume: Volume | np.ndarray, like: Grid | None = None) -> None:
    """Write a volume (I, J, K) or (C, I, J, K) to a .nii or .nii.gz file; channels become its fourth axis.

    Args:
        volume: a ``Volume``, or an array alone; bool is written as uint8.
        like: the volume whose affine and header the file takes; ``volume`` itself where that is one, else the identity.

    Raises:
        ArgumentError, ShapeError, DTypeError, DataError: as ``NiftiWriter``.

    >>> import tempfile
    >>> from fastconv.data import read_nifti
    >>> scan = Volume(np.zeros((2, 3, 4), np.int16), np.diag([0.5, 0.5, 2.0, 1.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(folder + "/mask.nii.gz", scan.data > 0, like=scan)
    ...     mask = read_nifti(folder + "/mask.nii.gz")
    >>> mask.data.dtype, mask.spacing
    (dtype('uint8'), (0.5, 0.5, 2.0))
    """
    if isinstance(volume, Volume):
        like, volume = like or volume, volume.data
    if volume.dtype == bool:
        volume = volume.view(np.uint8)
    with NiftiWriter(path, volume.shape, volume.dtype, like=like) as writer:
        writer.write(None, volume)


class NiftiWriter:
    """Writes a .nii or .nii.gz file window by window; a context manager.

    What is written goes to a temporary file beside ``path``, which takes its place when the block ends: flushed to the
    disk, then renamed. Where the block raises, nothing is left of it and ``path`` is as it was. Voxels that no window
    held are zero. Memory: a plane of a window. .nii.gz is packed when the block ends.

    Args:
        path: its name ends in .nii or .nii.gz.
        shape: (I, J, K), or (C, I, J, K) for a file whose fourth axis is C.
        dtype: a real number of up to 64 bits, as values are stored: without scaling.
        like: a ``Volume`` or ``NiftiFile`` that gives the affine and, where it comes from NIfTI, the header: codes of
            qform and sform, units, description, extensions. Without it: the identity.

    Raises:
        ArgumentError: another name.
        ShapeError: another rank, an empty axis, or other voxels than ``like`` has.
        DTypeError: another dtype.
        DataError: nibabel is missing.
        OSError: from entering, writing or leaving, where the disk is full or the folder missing.

    >>> with NiftiWriter("scan.nii.gz", (2, 3, 4), np.complex64):
    ...     pass
    Traceback (most recent call last):
    fastconv.errors.DTypeError: NiftiWriter: expected dtype to be an integer, float32 or float64, got complex64
    """

    def __init__(
        self, path: str | os.PathLike[str], shape: Sequence[int], dtype: Any = np.float32, *, like: Grid | None = None
    ) -> None:
        self.path, self.shape, self.dtype = Path(path), tuple(shape), np.dtype(dtype).newbyteorder("=")
        if not self.path.name.endswith((".nii", ".nii.gz")):
            raise ArgumentError(mismatch("NiftiWriter", "a path that ends in .nii or .nii.gz", self.path))
        if len(self.shape) not in (3, 4) or min(self.shape) < 1:
            raise ShapeError(mismatch("NiftiWriter", "shape (I, J, K) or (C, I, J, K), none of them 0", self.shape))
        if self.dtype.str[1:] not in KINDS.values():
            raise DTypeError(mismatch("NiftiWriter", "dtype to be an integer, float32 or float64", self.dtype))
        if like is not None and like.shape[-3:] != self.shape[-3:]:
            raise ShapeError(mismatch("NiftiWriter", f"shape {like.shape[-3:]} as like has", self.shape[-3:]))
        self._head, self._stored = _head(self.path, self.shape, self.dtype, like)
        self._packed = self.path.name.endswith(".gz")

    def __enter__(self) -> NiftiWriter:
        with ExitStack() as stack:
            if self._packed:
                self._file = stack.enter_context(tempfile.TemporaryFile(dir=self.path.parent))
            else:
                self._file = stack.enter_context(replacing(self.path))
            self._file.write(self._head)
            self._file.truncate(len(self._head) + prod(self.shape) * self._stored.itemsize)
            self._stack = stack.pop_all()
        return self

    def write(self, window: Sequence[slice] | None, values: np.ndarray) -> None:
        """Write the voxels of three slices along i, j and k (None: all), of step 1.

        Args:
            values: (I, J, K) of the window, or (C, I, J, K), in the dtype of the file.

        Raises:
            ShapeError: not three slices, of another step, or other voxels than they span.
            DTypeError: another dtype.
        """
        i, j, k = spans(window, self.shape[-3:])
        expected = (*self.shape[:-3], len(i), len(j), len(k))
        if values.shape != expected:
            raise ShapeError(mismatch("NiftiWriter.write", f"values {expected}", values.shape))
        if values.dtype != self.dtype:
            raise DTypeError(mismatch("NiftiWriter.write", f"values of {self.dtype}", values.dtype))
        size_i, size_j, size_k = self.shape[-3:]
        for channel, block in enumerate(values.reshape(-1, *expected[-3:])):  # (I, J, K)
            for plane, index in enumerate(k):
                rows = np.ascontiguousarray(block[:, :, plane].T, self._stored)  # (J, I)
                start = ((channel * size_k + index) * size_j + j.start) * size_i + i.start
                for row in [rows] if len(i) == size_i else rows:
                    self._file.seek(len(self._head) + start * self._stored.itemsize)
                    self._file.write(row.data)
                    start += size_i

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._packed:
            with self._stack:
                self._pack()
        else:
            self._stack.__exit__(kind, error, trace)

    def _pack(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        with (
            replacing(self.path) as target,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=target, mtime=0) as packed,  # the same bytes every time
        ):
            copy_pieces(self._file, packed, size)  # type: ignore[arg-type]


def _head(path: Path, shape: tuple[int, ...], dtype: np.dtype, like: Grid | None) -> tuple[bytes, np.dtype]:
    """Return the header in bytes, up to the first voxel, and the dtype of the voxels in its byte order."""
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ModuleNotFoundError:
        wanted = f"nibabel to write {path} (pip install 'fastconv[medical]')"
        raise DataError(mismatch("NiftiWriter", wanted, "no nibabel")) from None
    header = getattr(like, "header", None)
    known = isinstance(header, Nifti1Header)
    header = header.copy() if known else Nifti1Header()
    if max(shape) > _MOST and not isinstance(header, Nifti2Header):
        extensions, header = header.extensions, Nifti2Header.from_header(header, check=False)
        header["sizeof_hdr"], header.extensions = Nifti2Header.sizeof_hdr, extensions
    header.set_data_shape((*shape[-3:], *shape[:-3]))
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_max"] = header["cal_min"] = header["vox_offset"] = 0
    affine = np.eye(4) if like is None else like.affine
    if not known:
        header.set_xyzt_units("mm")
    if not known or not np.allclose(header.get_best_affine(), affine, rtol=0, atol=1e-6):
        _set_affine(header, affine)
    file = io.BytesIO()
    header.write_to(file)
    return file.getvalue().ljust(header.get_data_offset(), b"\0"), header.get_data_dtype()


def _set_affine(header: Any, affine: np.ndarray) -> None:
    """Both forms, with the codes that they had; a qform cannot hold axes that are not at right angles."""
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not any(codes):
        codes = _SCANNER, _SCANNER
    header.set_sform(affine, codes[1] or codes[0])
    header.set_qform(affine, codes[0])
    if not np.allclose(header.get_qform(), affine, rtol=0, atol=1e-3):
        header.set_qform(None, 0)
