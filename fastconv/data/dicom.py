"""A DICOM series as one volume: its slices put in order by where they lie, their values rescaled, and nothing guessed:
what does not make one regular grid is refused, with the names of the files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, mismatch
from .dicom_slices import Slice, is_dicom, read_header, read_pixels, slices_of
from .volume import Volume, affine_fault, without_nan

_APART = 1e-3  # mm: slices nearer than that are at one place
_REGULAR = 0.1  # of a step: scanners round positions, so steps differ by a little
_SUFFIXES = (".dcm", ".dicom", ".ima")
_LPS = np.diag([-1.0, -1.0, 1.0])  # to RAS and back


def read_dicom_series(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], series: str | None = None
) -> Volume:
    """Return the volume (columns, rows, slices) of a DICOM series.

    Slices are sorted by their positions along the normal of their plane; names and instance numbers do not matter.
    Values are rescaled by the slope and intercept of each slice, in float64, and rounded to float32; where no slice is
    rescaled they stay integers. The affine comes from orientation, pixel spacing and positions, turned from DICOM's LPS
    to RAS; a gantry's tilt stays in it. Enhanced multi-frame files count as many slices. MONOCHROME1, where low values
    are shown light, is read as it is stored.

    Args:
        source: a folder, whose files of other formats and without pixels are passed over (subfolders too), or files.
        series: the SeriesInstanceUID to read, where there are several.

    Raises:
        DataError: pydicom is missing; no DICOM file at all; several series; slices of different sizes, orientations or
            spacings, at one position, or not at regular distances; colour; several frames without a place each; a
            transfer syntax that no installed decoder unpacks; a damaged file, or one that claims more than its size can
            hold. The message names the files.

    >>> read_dicom_series([])
    Traceback (most recent call last):
    fastconv.errors.DataError: read_dicom_series: expected DICOM files with pixels in the list, got none
    """
    slices = _chosen(source, series)
    with np.errstate(all="ignore"):  # of places beyond the stars
        slices = _ordered(slices)
        affine = _affine(slices)
        if wrong := affine_fault(affine):
            raise _refused(f"{slices[0]} and the slices after it to give each pixel its place", wrong)
    identity = all((one.slope, one.intercept) == (1, 0) for one in slices)
    dtype = np.result_type(*{one.dtype for one in slices}) if identity else np.dtype(np.float32)
    data = bytearray()  # grows with what is there, not with what was claimed
    for path, group in groupby(slices, key=lambda one: one.path):
        ours = list(group)
        for one, stored in zip(ours, read_pixels(path, [one.frame for one in ours]), strict=True):
            values = stored if identity else stored * np.float64(one.slope) + np.float64(one.intercept)
            with np.errstate(over="ignore"):
                values = values.astype(dtype)
            data += without_nan(values.T[..., None], "refuse", one.path).T.tobytes()
    voxels = np.frombuffer(data, dtype).reshape(len(slices), *slices[0].shape)  # (K, J, I)
    where = slices[0].path if len({one.path for one in slices}) == 1 else slices[0].path.parent
    return Volume(voxels.transpose(2, 1, 0), affine, path=where)


def _chosen(source: object, series: str | None) -> list[Slice]:
    """The slices of the one series that was meant."""
    if isinstance(source, (str, os.PathLike)):
        where, paths = str(source), _files(Path(source))
    else:
        where, paths = "the list", [Path(path) for path in source]  # type: ignore[attr-defined]
    files: dict[str, list[tuple[Path, Any]]] = {}
    for path in paths:
        if found := read_header(path):
            files.setdefault(found[0], []).append((path, found[1]))
    if not files:
        raise _refused(f"DICOM files with pixels in {where}", "none")
    if series is None and len(files) > 1:
        raise _refused(f"one series in {where} (series= chooses)", _listed(files))
    if series is not None and series not in files:
        raise _refused(f"a series {series} in {where}", _listed(files))
    chosen = files[series] if series is not None else next(iter(files.values()))
    return [one for path, data in chosen for one in slices_of(path, data)]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.is_file())
    return [one for one in found if one.suffix.lower() in _SUFFIXES or is_dicom(one)]


def _listed(files: dict[str, list[tuple[Path, Any]]]) -> str:
    names = [f"{series} ({found[0][0].name})" for series, found in sorted(files.items())]
    return f"{len(names)}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def _ordered(slices: list[Slice]) -> list[Slice]:
    """Sort slices along their normal, and require that they are alike and lie at regular distances."""
    first = slices[0]
    for one in slices[1:]:
        for what, a, b, close in (
            ("rows and columns", first.shape, one.shape, 0),
            ("PixelSpacing", first.steps, one.steps, 1e-4 * min(first.steps)),
            ("ImageOrientationPatient", [*first.along, *first.down], [*one.along, *one.down], 1e-3),
        ):
            if not np.allclose(a, b, rtol=0, atol=close):
                raise _refused(f"{one} to have the {what} of {first}, {_shown(a)}", _shown(b))
    normal = np.cross(first.along, first.down)
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    heights = np.array([one.position @ normal for one in slices])
    gaps = np.diff(heights)
    for k in np.flatnonzero(gaps < _APART)[:1]:
        found = f"{slices[k]} and {slices[k + 1]} at {_shown(slices[k].position)} mm"
        raise _refused("slices at different positions", found)
    if len(slices) > 1:
        usual = float(np.median(gaps))
        for k in np.flatnonzero(abs(gaps - usual) > _REGULAR * usual)[:1]:
            missing = round(gaps[k] / usual) - 1
            of = f"{gaps[k]:.4g} mm between {slices[k]} and {slices[k + 1]}"
            is_whole = missing > 0 and abs(gaps[k] / usual - missing - 1) <= _REGULAR
            raise _refused(f"slices every {usual:.4g} mm", f"{of}{f': {missing} missing' if is_whole else ''}")
        places = np.array([one.position for one in slices])
        line = np.linspace(places[0], places[-1], len(slices))
        off = np.sqrt(((places - line) ** 2).sum(axis=1))
        if off.max() > _REGULAR * usual:
            raise _refused("slices along one line", f"{slices[int(off.argmax())]} {off.max():.3g} mm beside it")
    return slices


def _affine(slices: list[Slice]) -> np.ndarray:
    """Columns, rows and slices to millimetres RAS (PS3.3 C.7.6.2.1.1, and the step from first to last slice)."""
    first = slices[0]
    if len(slices) > 1:
        step = (slices[-1].position - first.position) / (len(slices) - 1)
    elif first.thickness:
        step = np.cross(first.along, first.down) * first.thickness
    else:
        raise _refused(f"a SliceThickness in {first}, the only slice", "none")
    affine = np.eye(4)
    affine[:3] = _LPS @ np.stack(
        [first.along * first.steps[0], first.down * first.steps[1], step, first.position], axis=1
    )
    return affine


def _shown(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)


def _refused(expected: str, found: str) -> DataError:
    return DataError(mismatch("read_dicom_series", expected, found))
