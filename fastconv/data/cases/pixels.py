"""Mean and deviation of the training pixels by channel, image by image."""

from __future__ import annotations

import numpy as np

_GRAIN = 64  # units in the last place that resampling takes the pixels of a constant image apart


class Pixels:
    """What images added so far have on average.

    >>> pixels = Pixels(2)
    >>> pixels.add(np.array([[1.0, 3.0], [0.1, 0.1]]))
    >>> pixels.fitted()
    {'mean': (2.0, 0.1), 'std': (1.0, 1.0)}
    """

    def __init__(self, channels: int) -> None:
        self._sums = np.zeros((3, channels))  # count, sum, sum of squares
        self._shift: np.ndarray | None = None  # of the first image: squares of what is left lose no digits
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._grain = 0.0  # relative

    def add(self, image: np.ndarray, resampled: bool = False) -> None:
        """Count the pixels of an image (C, *size), or (1, *size), which stands for all channels."""
        pixels = np.broadcast_to(image, (self._sums.shape[1], *image.shape[1:]))
        pixels = pixels.reshape(len(pixels), -1).astype(np.float64)
        self._low, self._high = np.minimum(self._low, pixels.min(axis=1)), np.maximum(self._high, pixels.max(axis=1))
        if resampled:
            self._grain = max(self._grain, _GRAIN * float(np.finfo(image.dtype).eps))
        if self._shift is None:
            self._shift = pixels.mean(axis=1)
        pixels -= self._shift[:, None]
        self._sums += (np.full(len(pixels), pixels.shape[1]), pixels.sum(axis=1), (pixels**2).sum(axis=1))

    def fitted(self) -> dict[str, tuple[float, ...]]:
        """Return ``mean`` and ``std`` for a frame; the latter is 1 where pixels differ by rounding alone."""
        count, total, squares = self._sums
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        least = self._grain * np.maximum(np.abs(self._low), np.abs(self._high))
        varied = (self._high - self._low > least) & (std > np.finfo(np.float32).tiny)
        return {
            "mean": tuple(np.where(varied, mean + self._shift, self._low).tolist()),
            "std": tuple(np.where(varied, std, 1.0).tolist()),
        }
