"""Gaussian blur, by the resampling kernel: a weighted sum of neighbours along one axis after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends import for_numpy
from ...resampling import AxisTaps
from .draws import Draws
from .ranges import interval, upto
from .transform import Sample, Transform

_TRUNCATE = 4.0  # standard deviations


class GaussianBlur(Transform):
    """Blur by a Gaussian, cut off at 4 standard deviations; beyond an edge the image is mirrored, edge voxel included.

    Args:
        sigma: standard deviation in millimetres, the same along all axes; a number a for (0, a), or a pair.

    >>> from fastconv.data import augment
    >>> image = np.zeros((1, 9, 9))
    >>> image[0, 4, 4] = 1
    >>> augment.Compose([GaussianBlur((1, 1))])(image)[0][0, 4, 3:].round(3).tolist()
    [0.097, 0.159, 0.097, 0.022, 0.002, 0.0]
    """

    def __init__(self, sigma: float | Sequence[float] = 1.0, *, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.sigma = interval("GaussianBlur", "sigma", sigma, 0, 1e6, upto)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        return {"sigma": draws.uniform(*self.sigma), "spacing": list(spacing)}

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, sigma: float, spacing: list[float]) -> Sample:
        backend = for_numpy()
        lead = 4 - image.ndim
        changed = np.ascontiguousarray(image).reshape(1, len(image), *(1,) * lead, *image.shape[1:])
        for axis, (size, voxel) in enumerate(zip(image.shape[1:], spacing, strict=True)):
            taps = _taps(size, sigma / voxel)
            if taps is not None:
                axes: list[AxisTaps | None] = [None, None, None]
                axes[lead + axis] = taps
                changed = backend.resample_forward(changed, axes)
        return changed.reshape(image.shape), label


def _taps(size: int, sigma: float) -> AxisTaps | None:
    radius = int(_TRUNCATE * sigma + 0.5)
    if radius == 0 or size == 1:
        return None
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-0.5 * (offset / sigma) ** 2)
    index = (np.arange(size)[:, None] + offset) % (2 * size)
    return AxisTaps(np.minimum(index, 2 * size - 1 - index), np.tile(weight / weight.sum(), (size, 1)))
