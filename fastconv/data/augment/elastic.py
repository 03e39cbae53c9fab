"""Elastic deformation: random displacements on a coarse grid, smoothed by cubic B-splines; one resampling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import ArgumentError, mismatch
from .boxes import expand
from .draws import Draws, Stream
from .ranges import each, finite, whole_numbers
from .sampling import options, resample
from .transform import Sample, Transform

_ONE_TO_ONE = 0.4  # of the control points' distance: the map folds nowhere (Choi and Lee 2000)


class Elastic(Transform):
    """Deform the sample freely: a field of cubic B-splines (Rueckert et al. 1999, https://doi.org/10.1109/42.796284).

    A displacement is never more than 0.4 of the distance between control points, along each axis: up to there the map
    is one to one (Choi and Lee 2000, https://doi.org/10.1006/gmod.1999.0521).

    Args:
        displacement: the most that a control point moves along an axis, millimetres.
        points: control points along an axis, 2 or more; one number, or one for each axis.
        interpolation, padding, value, label_value: as of ``Affine``.

    >>> from fastconv.data import augment
    >>> image = np.zeros((1, 16, 16), np.float32)
    >>> x, _, record = augment.Compose([Elastic(2.0, points=4)])(image)
    >>> record["steps"][0]["amplitude"]
    [2.0, 2.0]
    """

    def __init__(
        self, displacement: float = 4.0, points: int | Sequence[int] = 6, *, interpolation: str = "linear",
        padding: str = "constant", value: float | str = 0.0, label_value: float = 0, probability: float = 1.0,
    ) -> None:  # fmt: skip
        op = "Elastic"
        super().__init__(probability=probability)
        self.displacement = finite(op, "displacement", displacement, 0, 1e6)
        self.points = whole_numbers(op, "points", points, 2)
        if max(self.points) > 64:
            raise ArgumentError(mismatch(op, "points <= 64", max(self.points)))
        self.options = options(op, interpolation, padding, value, label_value)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        points = each("Elastic", "points", self.points, len(spatial))
        most = [_ONE_TO_ONE * (n - 1) / (count - 1) for n, count in zip(spatial, points, strict=True)]
        amplitude = [min(self.displacement / mm, limit) for mm, limit in zip(spacing, most, strict=True)]
        return {"stream": draws.stream(), "amplitude": amplitude, "points": list(points), **self.options}

    @staticmethod
    def apply(
        image: np.ndarray, label: np.ndarray | None, *, stream: int, amplitude: list[float], points: list[int],
        interpolation: str, padding: str, value: float | str, label_value: float,
    ) -> Sample:  # fmt: skip
        if not any(amplitude):
            return image, label
        spatial = image.shape[1:]
        tables = [_splines(n, count) for n, count in zip(spatial, points, strict=True)]
        coefficients = 2 * Stream(stream).uniform(len(spatial) * int(np.prod([c + 2 for c in points]))) - 1
        coefficients = coefficients.reshape(len(spatial), *(count + 2 for count in points))
        coefficients *= np.array(amplitude).reshape(-1, *(1,) * len(spatial))  # voxels

        def positions(box: tuple[slice, ...]) -> list[np.ndarray]:
            field = expand(coefficients, tables, box)
            return [o + moved for o, moved in zip(np.ogrid[box], field, strict=True)]

        return resample(image, label, positions, interpolation=interpolation, padding=padding, value=value,
                        label_value=label_value)  # fmt: skip

    @staticmethod
    def undo(image: np.ndarray, label: np.ndarray | None, **parameters: Any) -> Sample:
        raise ArgumentError(mismatch("inverse", "a record of steps that can be undone", "Elastic"))


@lru_cache(maxsize=64)
def _splines(size: int, points: int) -> np.ndarray:
    """Return the values (size, points + 2) of the B-splines at every voxel; one lies beyond either end."""
    u = np.arange(size) * ((points - 1) / max(size - 1, 1))
    first = np.minimum(np.floor(u).astype(np.int64), points - 2)
    t = u - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    table = np.zeros((size, points + 2))
    np.put_along_axis(table, first[:, None] + np.arange(4), weights, axis=1)
    table.flags.writeable = False
    return table
