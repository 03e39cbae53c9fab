"""Images with labels, in memory: a split (training or test) and a data set of two splits. No files, no batches here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError, mismatch


@dataclass(frozen=True, slots=True)
class Split:
    """``images`` uint8 (N, H, W) and ``labels`` int64 (N,), in the order of their file.

    Raises:
        DataError: no images, other shapes or dtypes, or numbers of images and labels that differ.

    >>> len(Split(np.zeros((3, 28, 28), np.uint8), np.array([1, 2, 3])))
    3
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
            raise DataError(mismatch("Split", "images uint8 (N, H, W), not empty", f"{images.dtype} {images.shape}"))
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise DataError(mismatch("Split", f"labels integer ({len(images)},)", f"{labels.dtype} {labels.shape}"))
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int | None) -> Split:
        """Return the first ``count`` samples (None or 0: all)."""
        return Split(self.images[:count], self.labels[:count]) if count else self


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named data set. ``mean`` and ``std`` are those of the training pixels scaled to 0..1.

    Raises:
        DataError: a label outside the classes.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: float
    std: float

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            labels = getattr(self, part).labels
            wrong = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
            if wrong.size:
                where = f"{labels[wrong[0]]} at position {wrong[0]}"
                raise DataError(mismatch(self.name, f"{part} labels from 0 to {len(self.classes) - 1}", where))
