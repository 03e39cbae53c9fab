"""What a network is trained for: the loss, and the score that is watched, of classes of images or of their pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import functional as F
from ..errors import ArgumentError, mismatch
from ..tensor import Tensor, converted

_UNKNOWN = -100  # what cross-entropy leaves out
Loss = Callable[[Tensor, np.ndarray], Tensor]


class Classify:
    """Outputs (N, classes), targets (N,) of classes; the score is the accuracy."""

    score = "accuracy"
    losses: dict[str, Callable[[int], Loss]]

    def __init__(self, loss: str, classes: int) -> None:
        if loss not in self.losses:
            wanted = f"loss {' or '.join(self.losses)} to {type(self).__name__.lower()}"
            raise ArgumentError(mismatch("train", wanted, repr(loss)))
        self.loss = self.losses[loss](classes)
        self._name, self._classes = loss, classes
        self.is_mean = loss != "half-sse"  # over the samples of a batch; else a sum

    def tally(self, output: np.ndarray, target: np.ndarray) -> float:
        """Return the sum over the samples of the score of each."""
        return int(np.count_nonzero(output.argmax(axis=1) == target))

    def taken(self, target: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
        """Return the array that the loss of outputs of a dtype takes to a device; None if it takes several, or if a
        target is no class."""
        known = (target >= 0) & (target < self._classes) | (target == _UNKNOWN)
        if self._name == "cross-entropy" and known.all():
            return target.astype(np.int64).reshape(len(target), -1)
        if self._name == "half-sse" and known.all() and (target >= 0).all():
            return np.eye(self._classes, dtype=dtype)[target]
        return None

    def kept(self, output: np.ndarray) -> np.ndarray:
        """Return what is kept of the outputs on data that are not trained on."""
        return output


class Segment(Classify):
    """Outputs (N, classes, *size), targets (N, *size) of classes, below 0 where nothing is known.

    The score of a sample is the mean Dice of the classes but the first, the background; see ``overlaps``.
    """

    score = "dice"

    def tally(self, output: np.ndarray, target: np.ndarray) -> float:
        found = output.argmax(axis=1)
        classes = output.shape[1]
        return sum(score(overlaps(t, f, classes)) for t, f in zip(target, found, strict=True))

    def kept(self, output: np.ndarray) -> np.ndarray:
        return output.argmax(axis=1).astype(np.uint8)


def overlaps(true: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Return the Dice coefficient (classes,) of each class in two masks; NaN where neither has the class.

    Pixels whose true class is below 0 do not count.

    >>> overlaps(np.array([0, 1, 1, -100]), np.array([0, 1, 0, 1]), 3).tolist()
    [0.6666666666666666, 0.6666666666666666, nan]
    """
    known = true >= 0
    true, found = true[known].astype(np.int64), found[known].astype(np.int64)
    both = np.bincount(true[true == found], minlength=classes)
    total = np.bincount(true, minlength=classes) + np.bincount(found, minlength=classes)
    return np.where(total > 0, 2 * both / np.maximum(total, 1), np.nan)


def score(overlap: np.ndarray) -> float:
    """Return the mean of ``overlaps`` over the classes but the first; 1 where none of them is in either mask."""
    known = overlap[1:][~np.isnan(overlap[1:])]
    return float(known.mean()) if known.size else 1.0


def _half_sse(classes: int) -> Loss:
    def half_sse(output: Tensor, labels: np.ndarray) -> Tensor:
        target = converted(np.eye(classes, dtype=output.dtype)[labels], output.device)
        return F.mse_loss(output, target, reduction="sum") * 0.5

    return half_sse


def _dice(classes: int) -> Loss:
    """Soft Dice over the whole batch (Milletari, Navab and Ahmadi 2016, https://arxiv.org/abs/1606.04797, with sums in
    place of sums of squares), its mean over the classes, beside the cross-entropy: one sees regions, one pixels."""

    def dice(output: Tensor, masks: np.ndarray) -> Tensor:
        axes = (0, *range(2, output.ndim))
        known = (masks >= 0)[:, None]
        hot = ((masks[:, None] == np.arange(classes).reshape(-1, *[1] * (masks.ndim - 1))) & known).astype(output.dtype)
        share = F.softmax(output, 1) * converted(known.astype(output.dtype), output.device)
        both = F.sum(share * converted(hot, output.device), axes)
        total = F.sum(share, axes) + converted(hot.sum(axis=axes) + 1e-6, output.device)  # of a class in neither: 1e-6
        return F.cross_entropy(output, masks) + 1.0 - F.mean(both * 2.0 / total)

    return dice


Classify.losses = {"cross-entropy": lambda classes: F.cross_entropy, "half-sse": _half_sse}
Segment.losses = {"cross-entropy": lambda classes: F.cross_entropy, "dice": _dice}
