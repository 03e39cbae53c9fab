"""Random numbers of augmentation: what is drawn for a transform, and long streams that one drawn number stands for.

All are Philox words of (seed, epoch, index), so no sample needs another one's draws.
"""

from __future__ import annotations

from math import pi

import numpy as np

from ...errors import ArgumentError, mismatch
from ..philox import DRAWS, STREAM, words

WORDS = 32  # that each transform of a pipeline has
_UNIT = 2.0**-53


class Draws:
    """The random numbers of one transform and one sample: at most 32, and a ``stream`` where more are needed.

    >>> draws = Draws([0, 2**63, 2**64 - 1])
    >>> draws.uniform(1, 3), draws.uniform(1, 3), draws.integer(1, 6)
    (1.0, 2.0, 6)
    """

    def __init__(self, words: list[int]) -> None:
        self._words = words
        self._next = 0

    def _word(self) -> int:
        if self._next == len(self._words):
            raise ArgumentError(mismatch("Draws", f"at most {len(self._words)} draws of a transform", "one more"))
        self._next += 1
        return self._words[self._next - 1]

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * ((self._word() >> 11) * _UNIT)

    def integer(self, low: int, high: int) -> int:
        """Return a whole number in low .. high, both included."""
        return low + (self._word() * (high - low + 1) >> 64)

    def stream(self) -> int:
        """Return the number of a ``Stream``, below 2**53: exact in the JSON of every language."""
        return self._word() >> 11


def sample_draws(seed: int, epoch: int, index: int, count: int) -> list[Draws]:
    """Return the draws of ``count`` transforms for a sample."""
    drawn = words(seed, DRAWS, index, epoch).random_raw(count * WORDS).tolist()
    return [Draws(drawn[i * WORDS : (i + 1) * WORDS]) for i in range(count)]


class Stream:
    """As many numbers as are asked for, one after the other; a number below 2**64 says which they are.

    >>> Stream(5).uniform(3).tolist() == Stream(5).uniform(3).tolist()
    True
    """

    def __init__(self, number: int) -> None:
        self._bits = words(number, STREAM, 0, 0)

    def uniform(self, count: int) -> np.ndarray:
        """Return ``count`` float64 in [0, 1)."""
        return (self._bits.random_raw(count) >> np.uint64(11)) * _UNIT

    def normal(self, count: int) -> np.ndarray:
        """Return ``count`` float64 of mean 0 and variance 1 (Box and Muller 1958)."""
        pairs = -(-count // 2)
        radius = np.sqrt(-2 * np.log(1 - self.uniform(pairs)))
        angle = 2 * pi * self.uniform(pairs)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
