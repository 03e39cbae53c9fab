"""Metrics of a classifier, all from one table of counts: the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ShapeError, mismatch


@dataclass(frozen=True, slots=True)
class Metrics:
    """Accuracy, and per class sensitivity (recall), precision and F1. A ratio of nothing to nothing is 0."""

    confusion: np.ndarray  # int64 (true class, predicted class)
    accuracy: float
    sensitivity: np.ndarray
    precision: np.ndarray
    f1: np.ndarray

    @property
    def specificity(self) -> np.ndarray:
        """Of the samples of other classes, the share that was not taken for this one.

        >>> measure(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2).specificity.tolist()
        [1.0, 0.5]
        """
        others = self.confusion.sum() - self.support
        alarms = self.confusion.sum(axis=0) - self.confusion.diagonal()
        return (others - alarms) / np.maximum(others, 1)

    @property
    def support(self) -> np.ndarray:
        """The number of samples of each class."""
        return self.confusion.sum(axis=1)


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each true class (row) was predicted as each class (column).

    Raises:
        ShapeError: ``true`` and ``predicted`` are not two vectors of one length, or hold a class out of range.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ShapeError(mismatch("confusion_matrix", f"predicted {true.shape}", predicted.shape))
    for name, values in (("true", true), ("predicted", predicted)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ShapeError(
                mismatch("confusion_matrix", f"{name} in 0 .. {classes - 1}", f"{values.min()} .. {values.max()}")
            )
    flat = np.bincount(true.astype(np.int64) * classes + predicted.astype(np.int64), minlength=classes * classes)
    return flat.reshape(classes, classes)


def measure(true: np.ndarray, predicted: np.ndarray, classes: int) -> Metrics:
    """Return the metrics of predicted against true classes.

    >>> measure(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2).sensitivity.tolist()
    [0.5, 1.0]
    """
    confusion = confusion_matrix(true, predicted, classes)
    hits = confusion.diagonal().astype(np.float64)
    actual, guessed = confusion.sum(axis=1), confusion.sum(axis=0)
    return Metrics(
        confusion=confusion,
        accuracy=float(hits.sum() / max(confusion.sum(), 1)),
        sensitivity=hits / np.maximum(actual, 1),
        precision=hits / np.maximum(guessed, 1),
        f1=2 * hits / np.maximum(actual + guessed, 1),
    )
