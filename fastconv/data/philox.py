"""The random words of data: which ones belong to what. Raw Philox words (Salmon et al. 2011), which no NumPy version
changes, with key = (seed, purpose) and counter = (place, 0, index, epoch): nothing needs what was drawn before it.
"""

from __future__ import annotations

import numpy as np

ORDER, SHIFT, DRAWS, STREAM, PATCHES, SPLIT, LIMIT = range(1, 8)  # purposes: independent streams of one seed


def words(seed: int, purpose: int, index: int, epoch: int) -> np.random.Philox:
    """Return the source of the words of a seed (< 2**64), purpose, index and epoch: ``random_raw(count)`` yields them.

    >>> words(2**64 - 1, ORDER, 0, 0).random_raw() == words(2**64 - 2, ORDER, 0, 0).random_raw()
    False
    """
    # in arrays of their own: NumPy makes float64 of a tuple of large and small integers, and of many seeds one
    return np.random.Philox(key=np.array((seed, purpose), np.uint64), counter=np.array((0, 0, index, epoch), np.uint64))
