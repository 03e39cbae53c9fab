"""Intensities changed by a curve: brightness and contrast, gamma, clipping, normalisation. Each channel for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, sqrt
from typing import Any

import numpy as np

from ...arguments import flag
from ...errors import ArgumentError, mismatch
from .boxes import boxes
from .draws import Draws
from .ranges import around, finite, interval
from .transform import Sample, Transform

_LIMIT = 1e300


def moments(values: np.ndarray, nonzero: bool = False) -> tuple[float, float]:
    """Return mean and standard deviation of an array's elements, or of those that are not zero, in float64; (0, 0) of
    none.

    >>> moments(np.array([0.0, 1.0, 3.0]), nonzero=True)
    (2.0, 1.0)
    """
    flat = values.reshape(-1)

    def parts() -> Iterator[np.ndarray]:
        for box in boxes(flat.shape):
            part = flat[box].astype(np.float64)
            yield part[part != 0] if nonzero else part

    some = next((part[0] for part in parts() if part.size), None)
    if some is None:
        return 0.0, 0.0
    count = np.count_nonzero(flat) if nonzero else flat.size
    mean = float(some + sum((part - some).sum() for part in parts()) / count)  # a constant's sum is exactly 0
    return mean, sqrt(sum(np.square(part - mean).sum() for part in parts()) / count)


class BrightnessContrast(Transform):
    """Scale the distance to the channel's mean by a contrast, and add a brightness: x -> (x - m) c + m + b s.

    Args:
        brightness: in standard deviations s of the channel, so that it means the same in any unit; a number a for
            (-a, a), or a pair.
        contrast: the factor c; a pair, or one number.

    >>> from fastconv.data import augment
    >>> augment.Compose([BrightnessContrast(0.0, 2.0)])(np.array([[[1.0, 3.0]]]))[0].tolist()
    [[[0.0, 4.0]]]
    """

    def __init__(
        self, brightness: float | Sequence[float] = 0.2, contrast: float | Sequence[float] = (0.8, 1.25), *,
        probability: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(probability=probability)
        self.brightness = interval("BrightnessContrast", "brightness", brightness, -100, 100, around)
        self.contrast = interval("BrightnessContrast", "contrast", contrast, 0, 100)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        return {"brightness": draws.uniform(*self.brightness), "contrast": draws.uniform(*self.contrast)}

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, brightness: float, contrast: float) -> Sample:
        if brightness == 0 and contrast == 1:
            return image, label
        changed = np.multiply(image, contrast)
        for source, target in zip(image, changed, strict=True):
            mean, deviation = moments(source)
            target += mean * (1 - contrast) + brightness * deviation
        return changed, label


class Gamma(Transform):
    """Raise intensities, scaled to 0..1 by the channel's minimum and maximum, to a power, and scale back.

    Args:
        gamma: the exponent; a pair, or one number. Below 1 dark parts become brighter.

    A constant channel, or one with values that are not finite, stays as it is.

    >>> from fastconv.data import augment
    >>> augment.Compose([Gamma(2.0)])(np.array([[[0.0, 1.0, 2.0]]]))[0].tolist()
    [[[0.0, 0.5, 2.0]]]
    """

    def __init__(self, gamma: float | Sequence[float] = (0.7, 1.5), *, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.gamma = interval("Gamma", "gamma", gamma, 0.01, 100)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        return {"gamma": draws.uniform(*self.gamma)}

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, gamma: float) -> Sample:
        if gamma == 1:
            return image, label
        changed = image.copy()
        for channel in changed:
            low, high = float(channel.min()), float(channel.max())
            if low < high and isfinite(high - low):
                channel -= low
                channel /= high - low
                np.power(channel, gamma, out=channel)
                channel *= high - low
                channel += low
        return changed, label


class _Fixed(Transform):
    """A transform without random parameters: what it is given is what it records."""

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "probability"}


class Clip(_Fixed):
    """Limit intensities to [low, high] (a window of Hounsfield units, say).

    >>> from fastconv.data import augment
    >>> augment.Compose([Clip(0, 2)])(np.array([[[-1.0, 1.0, 3.0]]]))[0].tolist()
    [[[0.0, 1.0, 2.0]]]
    """

    def __init__(self, low: float, high: float, *, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.low, self.high = interval("Clip", "low, high", (low, high), -_LIMIT, _LIMIT)

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, low: float, high: float) -> Sample:
        return np.clip(image, image.dtype.type(low), image.dtype.type(high)), label


class ZScore(_Fixed):
    """Bring each channel to mean 0 and standard deviation 1; a constant one becomes 0.

    Args:
        nonzero: mean and deviation of the voxels that are not zero (skull-stripped MR); all are scaled.

    >>> from fastconv.data import augment
    >>> augment.Compose([ZScore()])(np.array([[[1.0, 3.0]]]))[0].tolist()
    [[[-1.0, 1.0]]]
    """

    def __init__(self, *, nonzero: bool = False, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.nonzero = flag("ZScore", "nonzero", nonzero)

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, nonzero: bool) -> Sample:
        changed = np.empty_like(image)
        for source, target in zip(image, changed, strict=True):
            mean, deviation = moments(source, nonzero)
            np.subtract(source, mean, out=target)
            target /= deviation or 1.0
        return changed, label


class PercentileWindow(_Fixed):
    """Map the channel's percentiles ``low`` and ``high`` to 0 and 1, and clip to them; a constant channel becomes 0.

    Percentiles are those of ``np.percentile``.

    >>> from fastconv.data import augment
    >>> augment.Compose([PercentileWindow(0, 50)])(np.array([[[0.0, 2.0, 4.0]]]))[0].tolist()
    [[[0.0, 1.0, 1.0]]]
    """

    def __init__(self, low: float = 0.5, high: float = 99.5, *, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.low = finite("PercentileWindow", "low", low, 0, 100)
        self.high = finite("PercentileWindow", "high", high, 0, 100)
        if not self.low < self.high:
            raise ArgumentError(mismatch("PercentileWindow", "low < high", f"{low} and {high}"))

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, low: float, high: float) -> Sample:
        changed = image.copy()
        for source, target in zip(image, changed, strict=True):
            first, last = map(float, np.percentile(target, (low, high), overwrite_input=True))  # no second copy
            np.subtract(source, first, out=target)
            target /= (last - first) or 1.0
            np.clip(target, 0, 1 if last > first else 0, out=target)
        return changed, label
