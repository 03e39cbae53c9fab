"""The voxels of a case and of its mask, from whatever file they lie in. Sizes are as they are; see frame.py."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError, mismatch
from ..images import read_indices, read_picture
from ..npz import read_npy
from ..read import read_volume
from ..volume import Volume, reorient, same_geometry
from .case import PICTURES, Case, suffix

_TURNED = "RAS"


class Picture(NamedTuple):
    """``data`` (C, H, W) or (C, D, H, W) of any numbers; where it comes from a volume, that volume as its file has it
    (``source``), and turned (``volume``): axes to the right, anterior, superior, so that all patients lie alike."""

    data: np.ndarray
    volume: Volume | None = None
    source: Volume | None = None


def read_image(case: Case) -> Picture:
    """Return a case's image, channels first; those of a grey one and of a volume are one.

    An ``.npy`` is (H, W), (H, W, 3), (D, H, W) or (C, D, H, W).

    Raises:
        DataError: the file is missing, damaged, no image, of numbers that are not finite; the message names it.
    """
    if isinstance(case.image, np.ndarray):
        return Picture(case.image)
    if suffix(case.image) in PICTURES:
        pixels = read_picture(case.image)
        return Picture(np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None])
    if suffix(case.image) == ".npy":
        array = _read_npy(case.image)
        colour = array.ndim == 3 and array.shape[-1] == 3
        lifted = np.moveaxis(array, -1, 0) if colour else array if array.ndim == 4 else array[None]
        return Picture(_finite(lifted, case.image))
    source = read_volume(case.image)
    volume = reorient(source, _TURNED)
    return Picture(volume.data if volume.data.ndim == 4 else volume.data[None], volume, source)


def read_mask(case: Case, picture: Picture) -> np.ndarray:
    """Return the values of a case's mask, integers of the picture's sizes.

    Raises:
        DataError: as ``read_image``; values that are no whole numbers; other sizes than the image's, or, of a volume,
            another place in space. The message names both files.

    An ``.npy`` lies as the image's file does, so it is turned as that is.
    """
    path = Path(case.target)
    if suffix(path) in PICTURES:
        values = read_indices(path)
    elif suffix(path) == ".npy":
        values = _read_npy(path)
        if picture.source is not None:
            _require_sizes(path, values, case, picture.source.shape[-3:])
            values = reorient(Volume(values, picture.source.affine), _TURNED).data
    else:
        volume = read_volume(path)
        values = volume.data
        if picture.volume is not None:
            volume = reorient(volume, _TURNED)
            values = volume.data
            if values.shape == picture.data.shape[1:]:
                same_geometry(picture.volume, volume)
    _require_sizes(path, values, case, picture.data.shape[1:])
    if values.dtype.kind == "f":
        _finite(values[None], path)
        if (values != np.rint(values)).any():
            raise DataError(mismatch("data", f"{path} to hold whole numbers, a class each", "fractions"))
    return values.astype(np.int64)


def _read_npy(path: Path) -> np.ndarray:
    array = read_npy(path)
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3, 4) or not array.size:
        wanted = f"{path} to hold numbers (H, W), (H, W, 3), (D, H, W) or (C, D, H, W)"
        raise DataError(mismatch("data", wanted, f"{array.dtype} {array.shape}"))
    kept = array.dtype if array.dtype.kind == "f" and array.dtype.itemsize >= 4 else np.dtype(np.float32)
    return array if array.dtype.kind in "iu" and array.itemsize <= 2 else array.astype(kept.newbyteorder("="))


def _require_sizes(path: Path, values: np.ndarray, case: Case, sizes: tuple[int, ...]) -> None:
    if values.shape != sizes:
        wanted = f"{path} to have the sizes {_times(sizes)} of {case.image}"
        raise DataError(mismatch("data", wanted, _times(values.shape)))


def _finite(array: np.ndarray, path: Path) -> np.ndarray:
    """Return an array (C, *size), or name the first place in ``size`` that holds no finite number."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)[1:]
        found = f"{array[~np.isfinite(array)][0]} at {tuple(map(int, place))}"
        raise DataError(mismatch("data", f"{path} to hold finite numbers", found))
    return array


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
