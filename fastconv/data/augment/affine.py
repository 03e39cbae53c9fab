"""Rotation, scaling, shear and shift as one affine map, in millimetres: one resampling whatever is combined."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import cos, radians, sin
from typing import Any

import numpy as np

from .draws import Draws
from .ranges import around, each, intervals
from .sampling import options, resample
from .transform import Sample, Transform

Range = float | Sequence[float] | Sequence[Sequence[float]]
_PLANES = {2: ((0, 1),), 3: ((1, 2), (0, 2), (0, 1))}  # of rotation, by the axis of the volume that stays


class Affine(Transform):
    """Scale, shear, rotate, then shift the sample about its centre, by one resampling.

    Lengths are millimetres of the ``spacing`` that ``Compose`` is given, so a rotation is one in the body, whatever
    the voxels' shape; without it a voxel is a millimetre. The sample keeps its size.

    Args:
        rotation: degrees; a number a for (-a, a), a pair, or in 3-D one of them for each axis that is rotated about
            (D, H, W; first about W). Positive turns the first axis of the plane towards the second, as ``np.rot90``.
        scale: factors above 1 enlarge; a pair for all axes in common, or a pair for each axis.
        shift: millimetres; a number, a pair, or a range for each axis.
        shear: millimetres a millimetre; a number, a pair, or a range for each pair of axes, (H, W) or
            (D, H), (D, W), (H, W): the first moves in proportion to the second.
        interpolation: 'linear', 'cubic' or 'nearest'; of the image. Labels take the nearest voxel.
        padding: what lies outside: 'constant', 'edge' or 'reflect'.
        value, label_value: the constants; ``value='minimum'`` is the image's smallest.

    Raises:
        ArgumentError: a range that is none, or beyond 0.01 to 100 for scale, 10 for shear, a kilometre for shift.
        ShapeError: numbers of ranges that do not fit the image, when it comes.

    >>> from fastconv.data import augment
    >>> image = np.arange(9.0).reshape(1, 3, 3)
    >>> x, _, record = augment.Compose([Affine(shift=((1, 1), (0, 0)))])(image)
    >>> x.tolist()
    [[[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]
    """

    def __init__(
        self, *, rotation: Range = 0.0, scale: Range = 1.0, shift: Range = 0.0, shear: Range = 0.0,
        interpolation: str = "linear", padding: str = "constant", value: float | str = 0.0, label_value: float = 0,
        probability: float = 1.0,
    ) -> None:  # fmt: skip
        op = "Affine"
        super().__init__(probability=probability)
        self.rotation = intervals(op, "rotation", rotation, -360, 360, around)
        self.scale = intervals(op, "scale", scale, 0.01, 100)
        self.shift = intervals(op, "shift", shift, -1e6, 1e6, around)
        self.shear = intervals(op, "shear", shear, -10, 10, around)
        self.options = options(op, interpolation, padding, value, label_value)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        rank = len(spatial)

        def drawn(name: str, count: int) -> list[float]:
            return [draws.uniform(*pair) for pair in each("Affine", name, getattr(self, name), count)]

        common = len(self.scale) == 1
        return {
            "rotation": drawn("rotation", len(_PLANES[rank])),
            "scale": drawn("scale", 1) * rank if common else drawn("scale", rank),
            "shear": drawn("shear", rank * (rank - 1) // 2),
            "shift": drawn("shift", rank),
            "spacing": list(spacing),
            **self.options,
        }

    @staticmethod
    def apply(
        image: np.ndarray, label: np.ndarray | None, *, rotation: list[float], scale: list[float], shear: list[float],
        shift: list[float], spacing: list[float], interpolation: str, padding: str, value: float | str,
        label_value: float,
    ) -> Sample:  # fmt: skip
        back = np.linalg.inv(forward(rotation, scale, shear))
        return _resampled(image, label, back, -back @ np.array(shift), spacing, interpolation=interpolation,
                          padding=padding, value=value, label_value=label_value)  # fmt: skip

    @staticmethod
    def undo(
        image: np.ndarray, label: np.ndarray | None, *, rotation: list[float], scale: list[float], shear: list[float],
        shift: list[float], spacing: list[float], **how: Any,
    ) -> Sample:  # fmt: skip
        return _resampled(image, label, forward(rotation, scale, shear), np.array(shift), spacing, **how)


def forward(rotation: Sequence[float], scale: Sequence[float], shear: Sequence[float]) -> np.ndarray:
    """Return the matrix (r, r) that takes millimetres of the sample to those of the result.

    >>> forward([90.0], [2.0, 2.0], [0.0]).round(9).tolist()
    [[0.0, -2.0], [2.0, 0.0]]
    """
    rank = len(scale)
    matrix = np.diag(np.array(scale, np.float64))
    sheared = np.eye(rank)
    for pair, factor in zip(combinations(range(rank), 2), shear, strict=True):
        sheared[pair] = factor
    matrix = sheared @ matrix
    for (one, two), degrees in reversed(list(zip(_PLANES[rank], rotation, strict=True))):
        c, s = cos(radians(degrees)), sin(radians(degrees))
        turn = np.eye(rank)
        turn[one, one], turn[one, two], turn[two, one], turn[two, two] = c, -s, s, c
        matrix = turn @ matrix
    return matrix


def _resampled(
    image: np.ndarray, label: np.ndarray | None, matrix: np.ndarray, shift: np.ndarray, spacing: Sequence[float],
    **how: Any,
) -> Sample:  # fmt: skip
    """Read at ``centre + matrix @ (o - centre) + shift``, millimetres, for each position o of the result."""
    size = np.array(spacing)
    step = matrix * (size[None, :] / size[:, None])  # voxels of the sample a voxel of the result
    centre = (np.array(image.shape[1:]) - 1) / 2
    first = centre - step @ centre + shift / size
    rank = len(size)
    if np.array_equal(step, np.eye(rank)) and not first.any():
        return image, label

    def positions(box: tuple[slice, ...]) -> list[np.ndarray]:
        grid = np.ogrid[box]
        found = []
        for row, start in zip(step, first, strict=True):
            position = np.full((1,) * rank, start)
            for factor, o in zip(row, grid, strict=True):
                if factor:
                    position = position + factor * o
            found.append(position)
        return found

    return resample(image, label, positions, **how)
