"""How well scores rank: the ROC curve, the area under it with its uncertainty, MedMNIST's two figures; and Dice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError, ShapeError, mismatch


class Interval(NamedTuple):
    """An estimate, and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def roc_curve(true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the false and the true positive rates, and the thresholds at which ``score >= threshold`` gives them.

    Args:
        true: (N,) of 0 and 1, both among them.
        score: (N,), higher for 1.

    Raises:
        ShapeError: not two vectors of one length.
        ArgumentError: other values than 0 and 1, one of them alone, or a score that is NaN.

    >>> roc_curve(np.array([0, 1, 1]), np.array([0.1, 0.1, 0.9]))[:2]
    (array([0., 0., 1.]), array([0. , 0.5, 1. ]))
    """
    true, score = _pair("roc_curve", true, score)
    order = np.argsort(-score, kind="stable")
    true, score = true[order], score[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # of each run of equal scores
    hits = np.cumsum(true)[last]
    alarms = last + 1 - hits
    rates = [np.append(0.0, counts / counts[-1]) for counts in (alarms, hits)]
    return rates[0], rates[1], np.append(np.inf, score[last])


def roc_auc(true: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve: the chance that a 1 scores above a 0, ties counting half.

    Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747. Arguments and errors as ``roc_curve``.

    >>> roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    false_positive, true_positive, _ = roc_curve(true, score)
    return float((np.diff(false_positive) * (true_positive[1:] + true_positive[:-1])).sum() / 2)


def roc_auc_interval(
    true: np.ndarray, score: np.ndarray, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return ``roc_auc`` with a percentile bootstrap interval, resampled within each class (Efron 1979).

    >>> roc_auc_interval(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))[:2]
    (0.75, 0.0)
    """
    true, score = _pair("roc_auc_interval", true, score)
    if not 0 < confidence < 1:
        raise ArgumentError(mismatch("roc_auc_interval", "confidence between 0 and 1", confidence))
    if resamples < 1:
        raise ArgumentError(mismatch("roc_auc_interval", "resamples >= 1", resamples))
    draw = np.random.default_rng(seed)
    classes = [np.flatnonzero(true == value) for value in (0, 1)]
    areas = np.empty(resamples)
    for i in range(resamples):
        chosen = np.concatenate([draw.choice(members, len(members)) for members in classes])
        areas[i] = roc_auc(true[chosen], score[chosen])
    low, high = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(roc_auc(true, score), float(low), float(high))


def medmnist_scores(true: np.ndarray, score: np.ndarray, task: str) -> tuple[float, float]:
    """Return AUC and accuracy as the MedMNIST benchmark defines them (Yang et al. 2023).

    Args:
        true: labels (N,), or (N, L) for several binary labels a sample.
        score: (N, classes) of probabilities, (N,) or (N, 2) for a binary task, (N, L) for several labels.
        task: 'binary-class', 'multi-class', 'ordinal-regression' or 'multi-label, binary-class'.

    >>> medmnist_scores(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), "binary-class")
    (1.0, 0.6666666666666666)
    """
    true, score = np.asarray(true), np.asarray(score)
    if task == "binary-class":
        score = score[:, -1] if score.ndim == 2 else score
        return roc_auc(true, score), float(((score > 0.5) == true).mean())
    if score.ndim != 2 or len(score) != len(true):
        raise ShapeError(mismatch("medmnist_scores", f"score ({len(true)}, classes)", score.shape))
    if task == "multi-label, binary-class":
        areas = [roc_auc(true[:, i], score[:, i]) for i in range(score.shape[1])]
        return float(np.mean(areas)), float(((score > 0.5) == true).mean())
    if task not in ("multi-class", "ordinal-regression"):
        raise ArgumentError(mismatch("medmnist_scores", "a task of MedMNIST", repr(task)))
    areas = [roc_auc(true == i, score[:, i]) for i in range(score.shape[1])]
    return float(np.mean(areas)), float((score.argmax(axis=1) == true).mean())


def dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """Return 2 |A and B| / (|A| + |B|) of two masks, 1 where both are empty (Dice 1945).

    >>> dice(np.array([1, 1, 0]), np.array([1, 0, 0]))
    0.6666666666666666
    """
    true, predicted = np.asarray(true, bool), np.asarray(predicted, bool)
    if true.shape != predicted.shape:
        raise ShapeError(mismatch("dice", f"predicted {true.shape}", predicted.shape))
    total = int(true.sum()) + int(predicted.sum())
    return 2 * int((true & predicted).sum()) / total if total else 1.0


def _pair(op: str, true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, score = np.asarray(true), np.asarray(score, np.float64)
    if true.ndim != 1 or true.shape != score.shape:
        raise ShapeError(mismatch(op, f"true and score of one shape (N,), true {true.shape}", score.shape))
    if not np.isin(true, (0, 1)).all() or len(np.unique(true)) != 2:
        raise ArgumentError(mismatch(op, "true of 0 and 1, both among them", np.unique(true)[:5].tolist()))
    if np.isnan(score).any():
        raise ArgumentError(mismatch(op, "scores that are numbers", "NaN"))
    return true.astype(np.int64), score
