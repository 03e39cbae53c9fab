"""Medical volumes: voxels with the affine that says where they lie in the patient, and checks that two lie alike.

Convention: that of NIfTI and nibabel. ``affine`` takes a voxel's index (i, j, k) to millimetres to the patient's right,
anterior and superior (RAS+). Files are read elsewhere, by ``read_volume``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ArgumentError, DataError, ShapeError, mismatch

TOLERANCE = 0.1  # of a voxel: qforms of 32 bits are that far off at the corners of large volumes, other scans further
_ENDS = ("LR", "PA", "IS")  # of the axes x, y, z


class Grid(Protocol):
    """What has voxels somewhere in space: a ``Volume``, or a ``NiftiFile`` whose voxels still lie in the file."""

    affine: np.ndarray
    path: Path | None

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A volume in memory.

    Args:
        data: voxels (I, J, K), or (C, I, J, K) with modalities or frames as channels; of any strides.
        affine: (4, 4), voxel index (i, j, k, 1) to millimetres RAS+.
        header: what the reader found beside that; opaque, and kept for writing.
        path: the file or folder that it came from, for messages.

    Raises:
        ShapeError: ``data`` has another rank, or ``affine`` another shape.
        ArgumentError: ``affine`` is not finite, or takes two voxels to one place.

    >>> volume = Volume(np.zeros((4, 5, 6), np.float32), np.diag([-2.0, 2.0, 3.0, 1.0]))
    >>> volume.spacing, volume.orientation
    ((2.0, 2.0, 3.0), 'LAS')
    """

    data: np.ndarray
    affine: np.ndarray
    header: Any = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.data.ndim not in (3, 4):
            raise ShapeError(mismatch("Volume", "data (I, J, K) or (C, I, J, K)", self.data.shape))
        affine = np.array(self.affine, np.float64)
        if affine.shape != (4, 4):
            raise ShapeError(mismatch("Volume", "affine (4, 4)", affine.shape))
        if wrong := affine_fault(affine):
            raise ArgumentError(mismatch("Volume", "an affine that gives each voxel its place", wrong))
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of ``data``."""
        return self.data.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres from one voxel to the next along i, j and k."""
        return spacing(self.affine)

    @property
    def orientation(self) -> str:
        """Where i, j and k lead, nearest: 'RAS' is to the right, anterior, superior (nibabel's ``aff2axcodes``)."""
        return orientation(self.affine)


def spacing(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the lengths of the steps that an affine takes along i, j and k."""
    with np.errstate(over="ignore", under="ignore"):
        i, j, k = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0)).tolist()
    return i, j, k


def orientation(affine: np.ndarray) -> str:
    """Return the letter of the direction, of RL, AP and SI, that each of i, j and k is nearest to.

    >>> orientation(np.diag([-1.0, -1.0, 1.0, 1.0]))
    'LPS'
    """
    return "".join(_ENDS[axis][int(sign > 0)] for axis, sign in _axes(affine))


def _axes(affine: np.ndarray) -> list[tuple[int, float]]:
    """For i, j and k: the axis of space that it is nearest to, no axis twice, and whether it runs along or against it.

    Nearest in the rotation that is nearest to the steps (the polar decomposition); the clearest case chooses first. Of
    cases that are equally clear, at 45 degrees, it is the one that leads further along the first axes of space, so
    neither rounding nor the order and direction of a file's axes decide how a patient lies.
    """
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.array(spacing(affine)))
    rotation = np.round(u @ vt, 9)

    def rank(column: int) -> tuple[float, ...]:
        steps = rotation[:, column].tolist()
        sign = -1 if next((step for step in steps if step), 1.0) < 0 else 1
        return max(map(abs, steps)), *(sign * step for step in steps)

    found: dict[int, int] = {}
    for column in sorted(range(3), key=rank, reverse=True):
        free = [axis for axis in range(3) if axis not in found.values()]
        found[column] = max(free, key=lambda axis: abs(rotation[axis, column]))
    return [(found[column], float(rotation[found[column], column])) for column in range(3)]


def affine_fault(affine: np.ndarray) -> str | None:
    """Return what is wrong with an affine (4, 4), or None."""
    if not np.isfinite(affine).all():
        return "a number that is not finite"
    if not np.array_equal(affine[3], (0, 0, 0, 1)):
        return f"a last row of {affine[3].tolist()}"
    steps = np.array(spacing(affine))
    if not steps.all() or not np.isfinite(steps).all():
        return "a spacing of " + " x ".join(f"{step:g}" for step in steps)
    if abs(np.linalg.det(affine[:3, :3] / steps)) < 1e-6:
        return "axes that lie in one plane"
    return None


def same_geometry(a: Grid, b: Grid, tolerance: float = TOLERANCE) -> None:
    """Require that two volumes have the same voxels: one spatial shape, and corners at the same places.

    Args:
        tolerance: how far apart corners may lie, in voxels (of the smallest spacing).

    Raises:
        DataError: they differ; the message names both files, and what differs.

    >>> a = Volume(np.zeros((4, 5, 6)), np.eye(4), path=Path("a.nii"))
    >>> same_geometry(a, Volume(np.zeros((4, 5, 7)), np.eye(4), path=Path("b.nii")))
    Traceback (most recent call last):
    fastconv.errors.DataError: volumes: expected b.nii to have the voxels of a.nii, got 4 x 5 x 7 instead of 4 x 5 x 6
    """
    if a.shape[-3:] != b.shape[-3:]:
        sizes = f"{_times(b.shape[-3:])} instead of {_times(a.shape[-3:])}"
        raise DataError(mismatch("volumes", f"{name(b)} to have the voxels of {name(a)}", sizes))
    corners = np.stack(np.meshgrid(*([0, size - 1] for size in a.shape[-3:]), [1], indexing="ij")).reshape(4, -1)
    apart = np.sqrt((((a.affine - b.affine) @ corners) ** 2).sum(axis=0)).max()
    if not apart <= tolerance * min(*spacing(a.affine), *spacing(b.affine)):
        raise DataError(mismatch("volumes", f"{name(b)} to lie where {name(a)} lies", _difference(a, b, apart)))


def _difference(a: Grid, b: Grid, apart: float) -> str:
    for what, of, show in (("orientation", orientation, str), ("spacing", spacing, _times)):
        first, second = of(a.affine), of(b.affine)
        if show(first) != show(second):
            return f"{what} {show(second)} instead of {show(first)}"
    return f"corners that lie {apart:.3g} mm apart"


def stack(volumes: Sequence[Volume], tolerance: float = TOLERANCE) -> Volume:
    """Return several modalities of one patient as the channels of one volume (C, I, J, K), in the order given.

    The affine, header and path are the first one's; the dtype is the one that holds all.

    Raises:
        ShapeError: no volume at all.
        DataError: they do not have the same voxels; see ``same_geometry``.

    >>> t1, t2 = (Volume(np.full((4, 5, 6), value, np.float32), np.eye(4)) for value in (1, 2))
    >>> stack([t1, t2]).data.shape
    (2, 4, 5, 6)
    """
    if not volumes:
        raise ShapeError(mismatch("stack", "one volume or more", "none"))
    for other in volumes[1:]:
        same_geometry(volumes[0], other, tolerance)
    channels = [volume.data if volume.data.ndim == 4 else volume.data[None] for volume in volumes]
    return replace(volumes[0], data=np.concatenate(channels))


def check_pair(image: Grid, label: Volume, tolerance: float = TOLERANCE) -> None:
    """Require that ``label`` (I, J, K) marks the voxels of ``image``: the same geometry, and whole numbers from 0.

    Raises:
        DataError: it does not; the message names both files.
    """
    where = f"{name(label)}, the label of {name(image)},"
    if len(label.shape) != 3:
        raise DataError(mismatch("volumes", f"{where} to be (I, J, K)", label.shape))
    same_geometry(image, label, tolerance)
    values = label.data
    if values.dtype.kind not in "bui" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise DataError(mismatch("volumes", f"{where} to hold whole numbers", "others"))
    if values.size and values.min() < 0:
        raise DataError(mismatch("volumes", f"{where} to hold classes from 0", values.min()))


def reorient(volume: Volume, axes: str = "RAS") -> Volume:
    """Return the volume with i, j and k leading as the letters say, by turning and exchanging axes alone.

    No voxel is computed or copied: the data is a view, and each voxel stays at its place in the patient.

    Args:
        axes: one of R and L, one of A and P, one of S and I, in any order.

    Raises:
        ArgumentError: ``axes`` is something else.

    >>> volume = reorient(Volume(np.arange(24).reshape(2, 3, 4), np.diag([-1.0, -1.0, 1.0, 1.0])))
    >>> volume.orientation, int(volume.data[0, 0, 0]), volume.affine[:3, 3]
    ('RAS', 20, array([-1., -2.,  0.]))
    """
    wanted = [next((axis for axis, ends in enumerate(_ENDS) if letter in ends), -1) for letter in axes]
    if sorted(wanted) != [0, 1, 2]:
        raise ArgumentError(mismatch("reorient", "axes of one letter each of RL, AP and SI", repr(axes)))
    have = _axes(volume.affine)
    order = [[axis for axis, _ in have].index(axis) for axis in wanted]
    turned = [(have[source][1] > 0) != (axes[k] == _ENDS[wanted[k]][1]) for k, source in enumerate(order)]
    moved = np.zeros((4, 4))
    moved[3, 3] = 1
    for k, source in enumerate(order):
        moved[source, k] = -1 if turned[k] else 1
        moved[source, 3] = volume.shape[-3:][source] - 1 if turned[k] else 0
    lead = volume.data.ndim - 3
    data = volume.data.transpose(*range(lead), *(lead + source for source in order))
    data = data[(..., *(slice(None, None, -1 if turn else 1) for turn in turned))]
    return replace(volume, data=data, affine=volume.affine @ moved)


def without_nan(values: np.ndarray, nan: str, path: Path | None, start: Sequence[int] = (0, 0, 0)) -> np.ndarray:
    """Return (..., I, J, K) with its NaN and infinite values refused, set to zero or kept, as ``nan`` says.

    Args:
        start: the index in the file of the first voxel, for the message.
    """
    if nan not in ("refuse", "zero", "keep"):
        raise ArgumentError(mismatch("read_volume", 'nan "refuse", "zero" or "keep"', repr(nan)))
    if nan == "keep" or values.dtype.kind != "f":
        return values
    finite = np.isfinite(values)
    if finite.all():
        return values
    if nan == "zero":
        return np.where(finite, values, values.dtype.type(0))
    first = np.unravel_index(np.argmin(finite), finite.shape)
    place = tuple(int(index) + first_one for index, first_one in zip(first[-3:], start, strict=True))
    found = f'{values[first]} at voxel {place}; nan="zero" or nan="keep" let it through'
    raise DataError(mismatch("read_volume", f"{name_of(path)} to hold finite numbers", found))


def check_frame(op: str, path: Path, count: int, frame: object) -> int:
    """Return ``frame``, which must be one of ``count``."""
    if isinstance(frame, bool) or not isinstance(frame, int) or not 0 <= frame < count:
        raise ArgumentError(mismatch(op, f'frame 0 to {count - 1} of {path}, or "all"', repr(frame)))
    return frame


def name(volume: Grid) -> str:
    """Return how messages name a volume."""
    return name_of(volume.path)


def name_of(path: Path | None) -> str:
    """Return how messages name the volume of a path."""
    return "a volume" if path is None else str(path)


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
