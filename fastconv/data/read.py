"""``read_volume``: which reader a file needs, and volumes in NumPy's own files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DataError, mismatch
from .dicom import read_dicom_series
from .dicom_slices import is_dicom
from .nifti import read_nifti
from .npz import read_npy, read_npz
from .volume import Volume, affine_fault, check_frame, without_nan


def read_volume(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *,
    frame: int | str | None = None, series: str | None = None, nan: str = "refuse",
) -> Volume:  # fmt: skip
    """Return the volume in a NIfTI file, a DICOM series, or an .npy or .npz file. Content decides, not the name.

    Args:
        source: a file; or a folder or files of one DICOM series.
        frame: which one of several, from 0, or "all" for all as channels; see ``read_nifti``.
        series: which SeriesInstanceUID of a folder that holds several; see ``read_dicom_series``.
        nan: what to do with voxels that are NaN or infinite: "refuse" the file, "zero" or "keep" them.

    .npy and .npz files hold (I, J, K), or (C, I, J, K) which is read as it is, or one frame of it; an archive may name
    it ``data``, and hold an ``affine``. Without one it is the identity.

    Raises:
        ArgumentError: ``frame``, ``series`` or ``nan`` is something else, or not of this kind of file.
        DataError: no such file, a damaged one, or no volume; the message names the file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/a.npy", np.ones((2, 3, 4)))
    ...     read_volume(folder + "/a.npy").data.shape
    (2, 3, 4)
    """
    if not isinstance(source, (str, os.PathLike)) or Path(source).is_dir() or is_dicom(Path(source)):
        if frame is not None:
            raise ArgumentError(mismatch("read_volume", "no frame of a DICOM series", repr(frame)))
        return read_dicom_series(source, series)
    if series is not None:
        raise ArgumentError(mismatch("read_volume", f"no series of {source}, which is not DICOM", repr(series)))
    path = Path(source)
    try:
        with open(path, "rb") as file:
            start = file.read(6)
    except FileNotFoundError:
        raise DataError(mismatch("read_volume", f"a file {path}", "none there")) from None
    except OSError as error:
        raise DataError(mismatch("read_volume", f"{path} to be readable", error.strerror or error)) from None
    if start == b"\x93NUMPY" or start[:2] == b"PK":
        return _read_numpy(path, start[:2] == b"PK", frame, nan)
    return read_nifti(path, frame=frame, nan=nan)


def _read_numpy(path: Path, archive: bool, frame: int | str | None, nan: str) -> Volume:
    arrays = read_npz(path) if archive else {"data": read_npy(path)}
    affine = arrays.pop("affine", np.eye(4))
    if "data" not in arrays and len(arrays) != 1:
        found = ", ".join(arrays) or "none"
        raise DataError(mismatch("read_volume", f"{path} to hold one array, or one named data", found))
    data = arrays.get("data", next(iter(arrays.values())))
    if data.ndim not in (3, 4) or not data.size or data.dtype.kind not in "buif":
        expected = f"{path} to hold real numbers (I, J, K) or (C, I, J, K)"
        raise DataError(mismatch("read_volume", expected, f"{data.dtype} {data.shape}"))
    if affine.shape != (4, 4) or affine.dtype.kind not in "buif" or affine_fault(affine):
        raise DataError(mismatch("read_volume", f"the affine in {path} to be one (4, 4)", affine.tolist()))
    if frame is not None:
        frames = data if data.ndim == 4 else data[None]
        data = frames if frame == "all" else frames[check_frame("read_volume", path, len(frames), frame)]
    return Volume(without_nan(data, nan, path), affine, path=path)
