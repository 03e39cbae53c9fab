"""How the user's training images are changed from epoch to epoch: the one place that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..data import augment
from ..data.cases.frame import IGNORED

Augment = Callable[..., tuple[np.ndarray, np.ndarray | None]]


def pipeline(seed: int) -> Augment:
    """Return a function of a normalised image (C, *size), a mask of classes or None, ``epoch=``, ``index=`` and
    ``spacing=`` (millimetres, or None) that gives image and mask anew, and depends on these and the seed alone.

    A rotation by up to 10 degrees, a scaling by up to a tenth, brightness and contrast. No flips: left and right are
    not the same in a body. What a rotation brings in from outside is the mean, and counts nothing in a mask.

    >>> change = pipeline(0)
    >>> x, _ = change(np.eye(8, dtype=np.float32)[None], None, epoch=3, index=7, spacing=None)
    >>> x.shape, np.array_equal(x, change(np.eye(8, dtype=np.float32)[None], None, epoch=3, index=7, spacing=None)[0])
    ((1, 8, 8), True)
    """
    chain = augment.Compose(
        [
            augment.Affine(rotation=10, scale=(0.9, 1.1), label_value=IGNORED),
            augment.BrightnessContrast(brightness=0.1, contrast=(0.8, 1.25)),
        ],
        seed=seed,
    )

    def change(
        image: np.ndarray, mask: np.ndarray | None, *, epoch: int, index: int, spacing: Sequence[float] | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        image, mask, _ = chain(image, mask, epoch=epoch, index=index, spacing=spacing)
        return image, mask

    return change
