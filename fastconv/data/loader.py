"""Mini-batches: shuffled, normalised, optionally shifted, in an order that seed and epoch alone decide.

An epoch needs no earlier one, and a sample's shift depends on its index and not on its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arguments import flag, integer, number
from ..errors import ArgumentError, DTypeError, mismatch
from .dataset import Split
from .philox import ORDER, SHIFT, words


class Batches:
    """Mini-batches of ``count`` samples in an order that seed and epoch decide; what a batch is, subclasses say.

    ``shuffle=False`` keeps the order. The last batch may be smaller.

    Raises:
        ArgumentError: a batch size below 1, a seed outside [0, 2**64).
    """

    def __init__(self, count: int, batch_size: int, *, shuffle: bool = True, seed: int = 0) -> None:
        op = type(self).__name__
        batch_size, seed = integer(op, "batch_size", batch_size, 1), integer(op, "seed", seed, 0, 2**64 - 1)
        shuffle = flag(op, "shuffle", shuffle)
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return -(-self.count // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield the batches of ``epoch``, from batch ``start`` on."""
        op = f"{type(self).__name__}.epoch"
        epoch, start = integer(op, "epoch", epoch, 0, 2**64 - 1), integer(op, "start", start, 0)
        order = self._order(epoch)
        for first in range(start * self.batch_size, self.count, self.batch_size):
            yield self.batch(order[first : first + self.batch_size], epoch)

    def batch(self, index: np.ndarray, epoch: int) -> tuple[Any, np.ndarray]:
        """Return the input, an array (N, ...) or a tuple of them, and the target of the samples ``index``."""
        raise NotImplementedError

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.count)
        return np.argsort(words(self.seed, ORDER, 0, epoch).random_raw(self.count), kind="stable")


class Loader(Batches):
    """Batches of a split: ``x`` (N, 1, H, W) of ``dtype``, ``(pixel / 255 - mean) / std``, and labels int64 (N,).

    ``shift`` moves every image by up to so many pixels each way, anew in each epoch.

    Raises:
        ArgumentError: as ``Batches``; a negative shift, a std that is not positive. DTypeError: another dtype.

    >>> split = Split(np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2), np.arange(5))
    >>> [t.tolist() for x, t in Loader(split, 2, shuffle=False).epoch(0)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, split: Split, batch_size: int = 64, *, mean: float = 0.0, std: float = 1.0, shuffle: bool = True,
        shift: int = 0, seed: int = 0, dtype: str = "float32",
    ) -> None:  # fmt: skip
        super().__init__(len(split), batch_size, shuffle=shuffle, seed=seed)
        shift, mean = integer("Loader", "shift", shift, 0), number("Loader", "mean", mean)
        if not number("Loader", "std", std, 0) > 0:
            raise ArgumentError(mismatch("Loader", "std > 0", std))
        self.split, self.shift = split, shift
        if dtype not in ("float32", "float64", np.float32, np.float64):
            raise DTypeError(mismatch("Loader", "dtype float32 or float64", repr(dtype)))
        self.dtype = np.dtype(dtype)
        self._offset = self.dtype.type(mean * 255)
        self._factor = self.dtype.type(1 / (std * 255))
        height, width = split.images.shape[1:]
        padded = split.images
        if shift:
            padded = np.zeros((len(split), height + 2 * shift, width + 2 * shift), np.uint8)
            padded[:, shift:-shift, shift:-shift] = split.images
        # (N, 2 * shift + 1, 2 * shift + 1, H, W), a view: [n, dy, dx] is sample n, shifted
        self._windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))

        self._drawn: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None

    def batch(self, index: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self._shifts(epoch)
        dy, dx = self._drawn[1]
        x = np.subtract(self._windows[index, dy[index], dx[index]], self._offset, dtype=self.dtype)  # (N, H, W)
        x *= self._factor
        return x[:, None], self.split.labels[index]

    def _shifts(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Window positions (dy, dx) of every sample, each uniform over 0 .. 2 * shift."""
        if not self.shift:
            return (np.zeros(len(self.split), np.int64),) * 2
        word = words(self.seed, SHIFT, 0, epoch).random_raw(len(self.split))
        choices, half, low = np.uint64(2 * self.shift + 1), np.uint64(32), np.uint64(0xFFFFFFFF)
        return ((word >> half) * choices >> half).astype(np.int64), ((word & low) * choices >> half).astype(np.int64)
