"""Reading NIfTI-1 and NIfTI-2, plain or gzip, whole or window by window. nibabel decodes the header, once what it
claims has been held against the file's size; voxels are read here, so that memory grows with what is there.

Format: https://nifti.nimh.nih.gov/nifti-1, https://nifti.nimh.nih.gov/nifti-2.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from ..errors import DataError, ShapeError, mismatch
from .files import MAX_RATIO, HonestFile, copy_pieces, is_bomb, read_pieces
from .volume import Volume, affine_fault, check_frame, without_nan

KINDS = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip  # the format's codes for real numbers
_MASK = 256 << 20  # bytes of a mask that may be as good as empty
_HEADER = 16 << 20  # more bytes than an honest header takes, extensions and all


def read_nifti(path: str | os.PathLike[str], frame: int | str | None = None, nan: str = "refuse") -> Volume:
    """Return the volume in a .nii or .nii.gz file.

    Values are scaled by the header's slope and intercept as nibabel does, in float64, and rounded to float32; a file
    without scaling keeps its dtype. gzip is recognised by its content. The affine is nibabel's: the sform, else the
    qform, else that of the spacing alone.

    Args:
        frame: of a file with a fourth axis: the index of one frame, or "all" for (C, I, J, K).
        nan: what to do with voxels that are NaN or infinite: "refuse" the file, "zero" or "keep" them.

    Raises:
        ArgumentError: ``frame`` is not one of the file's, or ``nan`` is something else.
        DataError: nibabel or the file is missing; the file is no NIfTI, damaged, cut off, of another rank or of other
            than real numbers; it claims more than its size can hold; its affine gives no place to voxels. The message
            names the file.

    >>> import tempfile
    >>> from fastconv.data import write_nifti
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(folder + "/a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    ...     volume = read_nifti(folder + "/a.nii.gz")
    >>> volume.shape, int(volume.data[1, 2, 3]), volume.orientation
    ((2, 3, 4), 23, 'RAS')
    """
    with _opened(Path(path)) as (file, header):
        nifti = NiftiFile(Path(path), file, header, frame, nan)
        data = nifti.read()
        file.read(1)  # at the end of the file, makes gzip compare its checksum
        return Volume(data, nifti.affine, nifti.header, nifti.path)


def open_nifti(path: str | os.PathLike[str], frame: int | str | None = None, nan: str = "refuse") -> NiftiFile:
    """Return a NIfTI file to read window by window. Arguments and errors as ``read_nifti``.

    Only the header is read. A gzip file is unpacked first, with bounded memory, into a nameless temporary file in
    ``tempfile.gettempdir()`` that goes when it is closed.
    """
    path = Path(path)
    with _opened(path) as (file, header):
        nifti = NiftiFile(path, file, header, frame, nan)
        nifti._file = _unpacked(path, file, nifti.end) if isinstance(file, gzip.GzipFile) else HonestFile(path)
        return nifti


def _unpacked(path: Path, file: BinaryIO, size: int) -> BinaryIO:
    target = tempfile.TemporaryFile()  # noqa: SIM115  # NiftiFile closes it
    try:
        file.seek(0)
        if (found := copy_pieces(file, target, size)) < size:
            raise _cut_off(path, size, found)
        file.read(1)  # makes gzip compare its checksum
    except BaseException as error:
        target.close()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            room = f"room for {size:,} bytes in {tempfile.gettempdir()}, to unpack {path}"
            raise DataError(mismatch("read_nifti", room, error.strerror)) from None
        raise
    return target  # type: ignore[return-value]


class NiftiFile:
    """A NIfTI file, open; a context manager. ``read`` gives any window of it, to one thread at a time.

    Attributes:
        path, header, affine: as those of a ``Volume``.
        shape: what a full ``read`` returns: (I, J, K), or (C, I, J, K) where all frames were asked for.
        dtype: of what ``read`` returns.

    >>> import tempfile
    >>> from fastconv.data import write_nifti
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(folder + "/a.nii", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    ...     with open_nifti(folder + "/a.nii") as file:
    ...         print(file.shape, file.read((slice(0, 1), slice(1, 3), slice(2, 4))).tolist())
    (2, 3, 4) [[[6, 7], [10, 11]]]
    """

    def __init__(self, path: Path, file: BinaryIO, header: Any, frame: int | str | None, nan: str) -> None:
        self.path, self.header, self._file, self._nan = path, header, file, nan
        without_nan(np.zeros(0), nan, path)  # a check of the word alone
        sizes = [int(size) for size in header["dim"][1 : header["dim"][0] + 1]]
        self._sizes = (*sizes[:4], 1, 1, 1)[:4]
        self._frames = _frames(path, sizes, frame)
        self._lead = 1 if frame == "all" else 0
        self._stored = header.get_data_dtype()
        self._offset = header.get_data_offset()
        self._slope, self._intercept = _decoded(path, header.get_slope_inter)
        scaled = self._slope is not None and (self._slope, self._intercept) != (1, 0)
        self.dtype = np.dtype(np.float32) if scaled else self._stored.newbyteorder("=")
        self._scaled = scaled
        self.affine = _affine(path, header)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._frames),) * self._lead + self._sizes[:3]

    @property
    def end(self) -> int:
        """The number of bytes that the header claims, itself included."""
        return self._offset + prod(self._sizes) * self._stored.itemsize

    def read(self, window: Sequence[slice] | None = None) -> np.ndarray:
        """Return the voxels of three slices along i, j and k (None: all), of step 1; of all frames asked for.

        Raises:
            ShapeError: not three slices, or of another step.
            DataError: the file is damaged or cut off, or holds NaN or infinite voxels that ``nan`` refuses.
        """
        i, j, k = spans(window, self.shape[-3:])
        rows, row = len(j), self._sizes[0]
        out = bytearray()
        for frame in self._frames:
            for plane in k:
                first = (frame * self._sizes[2] + plane) * self._sizes[1] * row + j.start * row
                self._file.seek(self._offset + first * self._stored.itemsize)
                values = self._exactly(rows * row * self._stored.itemsize).reshape(rows, row)
                out += self._values(values[:, i.start : i.stop], (i.start, j.start, plane)).tobytes()
        stacked = np.frombuffer(out, self.dtype).reshape(len(self._frames), len(k), rows, len(i))
        voxels = stacked.transpose(0, 3, 2, 1)  # (C, I, J, K)
        return voxels if self._lead else voxels[0]

    def _exactly(self, count: int) -> np.ndarray:
        try:
            data = read_pieces(self._file, count)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(self.path, error) from None
        if len(data) < count:
            raise _cut_off(self.path, count, len(data))
        return np.frombuffer(data, self._stored)

    def _values(self, stored: np.ndarray, start: tuple[int, int, int]) -> np.ndarray:
        """Rows (J, I) of a plane as the numbers that they mean."""
        if self._scaled:
            with np.errstate(over="ignore", invalid="ignore"):
                stored = stored * np.float64(self._slope) + np.float64(self._intercept)
                values = stored.astype(self.dtype)
        else:
            values = stored.astype(self.dtype)
        return without_nan(values.T[..., None], self._nan, self.path, start)[..., 0].T

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> NiftiFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def spans(window: Sequence[slice] | None, shape: Sequence[int]) -> tuple[range, range, range]:
    """Return the indices of three slices of step 1 of (I, J, K)."""
    window = (slice(None),) * 3 if window is None else tuple(window)
    if len(window) != 3 or any(not isinstance(part, slice) or part.step not in (None, 1) for part in window):
        raise ShapeError(mismatch("window", "three slices of step 1", window))
    i, j, k = (range(*part.indices(size)) for part, size in zip(window, shape, strict=True))
    return i, j, k


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Any]]:
    """The file, unpacked where it is gzip, and its header; what goes wrong while it is open names it."""
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield unpacked, _header(path, unpacked, size, packed=True)  # type: ignore[misc]
            else:
                yield file, _header(path, file, size, packed=False)
    except FileNotFoundError:
        raise DataError(mismatch("read_nifti", f"a file {path}", "none there")) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        raise DataError(mismatch("read_nifti", f"{path} to be readable", error.strerror or error)) from None
    except MemoryError:
        raise DataError(mismatch("read_nifti", f"{path} to fit into memory", "more than there is")) from None


def _header(path: Path, file: BinaryIO, size: int, packed: bool) -> Any:
    """Decode the header, after the claims that cost memory: dimensions, numbers, where voxels begin."""
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ModuleNotFoundError:
        wanted = f"nibabel to read {path} (pip install 'fastconv[medical]')"
        raise DataError(mismatch("read_nifti", wanted, "no nibabel")) from None
    start = bytes(read_pieces(file, 540))
    kind = {b"n+1\0": Nifti1Header}.get(start[344:348]) or {b"n+2\0": Nifti2Header}.get(start[4:8])
    if kind is None or len(start) < kind.template_dtype.itemsize:
        found = "a pair's header, whose voxels lie in another file" if start[344:348] == b"ni1\0" else "other bytes"
        raise DataError(mismatch("read_nifti", f"{path} to begin with a header of NIfTI (n+1 or n+2)", found))
    raw = _decoded(path, kind, start[: kind.template_dtype.itemsize], None, False)
    rank, offset = int(raw["dim"][0]), float(raw["vox_offset"])
    sizes = [int(axis) for axis in raw["dim"][1 : max(rank, 0) + 1]]
    if not 1 <= rank <= 7 or min(sizes) < 1:
        raise DataError(mismatch("read_nifti", f"{path} to have 1 to 7 axes of voxels", raw["dim"].tolist()))
    code = int(raw["datatype"])
    if code not in KINDS:
        raise DataError(mismatch("read_nifti", f"{path} to hold real numbers of up to 64 bits", f"datatype {code}"))
    if raw["sform_code"] <= 0:  # nibabel takes 1 for 0
        spacing = raw["pixdim"][1 : 1 + min(rank, 3)]
        if not (np.isfinite(spacing).all() and spacing.all()):
            raise DataError(mismatch("read_nifti", f"{path} to have a spacing", spacing.tolist()))
    if not kind.single_vox_offset <= offset <= _HEADER:
        expected = f"voxels in {path} to begin at byte {kind.single_vox_offset} to {_HEADER:,}"
        raise DataError(mismatch("read_nifti", expected, f"vox_offset {offset:g}"))
    need = int(offset) + prod(sizes) * np.dtype(KINDS[code]).itemsize
    shape = " x ".join(map(str, sizes))
    if need > (size * MAX_RATIO if packed else size):
        holds = f"{size:,} bytes{' of gzip' if packed else ''}"
        raise DataError(mismatch("read_nifti", f"{path} to hold {shape} voxels, {need:,} bytes in all", holds))
    if packed and is_bomb(need, size, _MASK):
        claimed = (
            f"{shape} voxels, {need:,} bytes, packed into {size:,} (gunzip it first, if that is what it should be)"
        )
        raise DataError(mismatch("read_nifti", f"{path} to hold data", claimed))
    start += read_pieces(file, int(offset) - len(start))
    return _decoded(path, kind.from_fileobj, io.BytesIO(start))


def _decoded(path: Path, decode: Any, *arguments: object) -> Any:
    """What nibabel makes of a header; it raises many things where there is nonsense in it."""
    try:
        return decode(*arguments)
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(mismatch("read_nifti", f"{path} to have a sound header", error)) from None


def _affine(path: Path, header: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        affine = np.asarray(_decoded(path, header.get_best_affine), np.float64)
        wrong = affine_fault(affine)
    if wrong:
        raise DataError(mismatch("read_nifti", f"the affine of {path} to give each voxel its place", wrong))
    return affine


def _frames(path: Path, sizes: list[int], frame: int | str | None) -> range:
    """The frames to read. Axes of one voxel behind the third count for nothing."""
    count = sizes[3] if len(sizes) > 3 else 1
    if prod(sizes[4:]) > 1:
        raise DataError(mismatch("read_nifti", f"{path} to have three axes, or four", " x ".join(map(str, sizes))))
    if frame == "all":
        return range(count)
    if frame is None:
        if count > 1:
            found = f'four, {" x ".join(map(str, sizes[:4]))}: choose a frame (frame=0), or frame="all" as channels'
            raise DataError(mismatch("read_nifti", f"{path} to have three axes", found))
        return range(1)
    first = check_frame("read_nifti", path, count, frame)
    return range(first, first + 1)


def _cut_off(path: Path, count: int, found: int) -> DataError:
    return DataError(mismatch("read_nifti", f"{path} to hold {count:,} bytes", f"{found:,} (cut off)"))


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(mismatch("read_nifti", f"{path} to be intact", f"damaged gzip data ({error})"))
