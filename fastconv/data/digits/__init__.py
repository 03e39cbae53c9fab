"""The real handwritten digits in the package: 1,797 of the UCI optical digits (LICENSE.txt), brought to 28x28."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from ..dataset import Dataset, Split
from ..images import BOX, centre, resize

_TRAIN = 1437  # the last 360 come from writers that the first ones hardly have: an honest test
_PATH = Path(__file__).with_name("digits.npz")


@cache
def load() -> Dataset:
    """Return the embedded digits as 1,437 training and 360 test images.

    >>> load().train.images.shape
    (1437, 28, 28)
    """
    with np.load(_PATH, allow_pickle=False) as archive:
        small, labels = archive["images"], archive["labels"]  # uint8 0..16 (N, 8, 8), uint8 (N,)
    large = centre(np.clip(resize(small / 16, BOX, BOX), 0, 1))
    images = np.rint(large * 255).astype(np.uint8)
    train, test = Split(images[:_TRAIN], labels[:_TRAIN]), Split(images[_TRAIN:], labels[_TRAIN:])
    pixels = train.images / 255
    return Dataset(
        "digits", train, test, tuple("0123456789"), round(float(pixels.mean()), 4), round(float(pixels.std()), 4)
    )
