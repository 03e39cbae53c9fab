"""Results of a network on cases, each with its confidence interval, as plain values: what metrics.json holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .bootstrap import CONFIDENCE, RESAMPLES, intervals
from .metrics import confusion_matrix
from .roc import Interval
from .task import score

FIGURES = ("sensitivity", "specificity", "precision", "f1", "auc")  # of a class against all others


def classification(
    true: np.ndarray, probability: np.ndarray, classes: Sequence[str], groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Return accuracy, and the ``FIGURES`` of each class and their means, each with its bootstrap interval.

    Args:
        true: (N,) of classes.
        probability: (N, classes).
        groups: (N,), a number for each patient; patients are resampled then, else samples.

    A figure that has no meaning (the sensitivity for a class without samples) is None.

    >>> result = classification(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]), ["no", "yes"])
    >>> result["classes"]["yes"]["sensitivity"]["value"], result["mean"]["auc"]["value"]
    (0.5, 1.0)
    """
    count = len(classes)
    predicted = probability.argmax(axis=1)
    flat = true * count + predicted
    areas = [_area(true == k, probability[:, k]) for k in range(count)]

    def figures(weights: np.ndarray) -> np.ndarray:
        confusion = np.bincount(flat, weights, count * count).reshape(count, count)
        rates = np.stack([*_rates(confusion), [area(weights) for area in areas]])  # (FIGURES, classes)
        known = ~np.isnan(rates)
        means = np.where(known, rates, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
        return np.concatenate([[confusion.trace() / confusion.sum()], means, rates.T.ravel()])

    accuracy, *rest = intervals(figures, len(true), groups)
    rows = [dict(zip(FIGURES, map(_plain, rest[i : i + 5]), strict=True)) for i in range(0, len(rest), 5)]
    support = np.bincount(true, minlength=count)
    return {
        **_head(len(true), groups),
        "accuracy": _plain(accuracy),
        "mean": rows[0],
        "classes": {
            name: {"samples": int(n), **row} for name, n, row in zip(classes, support, rows[1:], strict=True)
        },
        "confusion": confusion_matrix(true, predicted, count).tolist(),
    }  # fmt: skip


def segmentation(dice: np.ndarray, classes: Sequence[str], groups: np.ndarray | None = None) -> dict[str, Any]:
    """Return the mean Dice over the cases, of each class and of the classes but the first, with bootstrap intervals.

    Args:
        dice: (N, classes), NaN where a case has the class neither in its mask nor in the prediction.

    >>> segmentation(np.array([[0.9, 0.5], [0.9, 0.7]]), ["background", "lesion"])["mean"]["dice"]["value"]
    0.6
    """
    known = ~np.isnan(dice)
    filled = np.where(known, dice, 0)
    scores = np.array([score(row) for row in dice])

    def figures(weights: np.ndarray) -> np.ndarray:
        total = weights @ known
        each = np.where(total > 0, weights @ filled / np.where(total > 0, total, 1), np.nan)
        return np.concatenate([[weights @ scores / weights.sum()], each])

    mean, *rest = intervals(figures, len(dice), groups)
    return {
        **_head(len(dice), groups),
        "mean": {"dice": _plain(mean)},
        "classes": {
            name: {"cases": int(n), "dice": _plain(value)}
            for name, n, value in zip(classes, known.sum(axis=0), rest, strict=True)
        },
    }  # fmt: skip


def _head(count: int, groups: np.ndarray | None) -> dict[str, Any]:
    resampled = "cases" if groups is None else f"{int(groups.max()) + 1} groups of cases"
    return {"samples": count, "confidence": CONFIDENCE, "resamples": RESAMPLES, "resampled": resampled}


def _rates(confusion: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sensitivity, specificity, precision and F1 of each class. What is there and nobody was taken for has precision 0;
    of what is not there either nothing is known."""
    hits, actual, guessed, total = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    others = total - actual
    sensitivity = np.where(actual > 0, hits / np.where(actual > 0, actual, 1), np.nan)
    specificity = np.where(others > 0, (others - guessed + hits) / np.where(others > 0, others, 1), np.nan)
    both = actual + guessed
    precision = np.where(both > 0, hits / np.where(guessed > 0, guessed, 1), np.nan)
    f1 = np.where(both > 0, 2 * hits / np.where(both > 0, both, 1), np.nan)
    return sensitivity, specificity, precision, f1


def _area(positive: np.ndarray, value: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return the area under the ROC curve as a function of weights: of all pairs of a positive and a negative, the
    share in which the positive has the higher value, ties counting half."""
    order = np.argsort(value, kind="stable")
    positive, value = positive[order], value[order]
    starts = np.flatnonzero(np.append(True, value[1:] != value[:-1]))  # of runs of equal values

    def area(weights: np.ndarray) -> float:
        weights = weights[order]
        yes, no = (np.add.reduceat(np.where(mask, weights, 0), starts) for mask in (positive, ~positive))
        pairs = yes.sum() * no.sum()
        return float(yes @ (no.cumsum() - no / 2) / pairs) if pairs else math.nan

    return area


def _plain(interval: Interval) -> dict[str, float | None]:
    return {name: None if math.isnan(v) else v for name, v in zip(Interval._fields, interval, strict=True)}
