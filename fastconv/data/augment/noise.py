"""Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .boxes import boxes
from .draws import Draws, Stream
from .intensity import moments
from .ranges import interval, upto
from .transform import Sample, Transform


class GaussianNoise(Transform):
    """Add independent normal noise to every voxel.

    Args:
        std: in standard deviations of the channel, so that it means the same in any unit; a number a for (0, a), or a
            pair. The record holds the number of the noise's stream, not the noise.

    >>> from fastconv.data import augment
    >>> x, _, record = augment.Compose([GaussianNoise((0.1, 0.1))])(np.eye(8)[None])
    >>> bool(0.02 < (x - np.eye(8)).std() < 0.05), sorted(record["steps"][0])
    (True, ['std', 'stream', 'transform'])
    """

    def __init__(self, std: float | Sequence[float] = 0.1, *, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.std = interval("GaussianNoise", "std", std, 0, 100, upto)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        return {"std": draws.uniform(*self.std), "stream": draws.stream()}

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, std: float, stream: int) -> Sample:
        if std == 0:
            return image, label
        changed, normals = np.array(image, order="C"), Stream(stream)
        for channel in changed:
            deviation = std * moments(channel)[1]
            flat = channel.reshape(-1)
            for box in boxes(flat.shape):
                part = flat[box]
                part += (normals.normal(part.size) * deviation).astype(part.dtype)
        return changed, label
