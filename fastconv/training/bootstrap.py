"""Percentile bootstrap intervals of many figures at once (Efron 1979, https://doi.org/10.1214/aos/1176344552).

A resample is how often each sample is in it, so a figure is a function of weights and nothing is sorted anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from .roc import Interval

CONFIDENCE, RESAMPLES = 0.95, 1000


def intervals(
    figures: Callable[[np.ndarray], np.ndarray], count: int, groups: np.ndarray | None = None, seed: int = 0
) -> list[Interval]:
    """Return each of the ``figures`` (M,) with its interval of 95 %.

    Args:
        figures: of weights (count,): how often each sample counts. A figure may be NaN where it has no meaning;
            resamples in which it has none are left out for it.
        groups: (count,) of 0, 1, ...: samples of one group (a patient) depend on each other, so it is groups that are
            resampled; None: each sample is its own. One group says nothing of others: the ends are NaN.

    >>> x = np.array([1.0, 2.0, 3.0, 4.0])
    >>> intervals(lambda w: np.array([(w * x).sum() / w.sum()]), 4)[0].value
    2.5
    """
    groups = np.arange(count) if groups is None else groups
    many = int(groups.max()) + 1
    draw = np.random.default_rng(seed)
    values = figures(np.ones(count))
    if many < 2:
        return [Interval(float(value), np.nan, np.nan) for value in values]
    found = np.empty((RESAMPLES, len(values)))
    for row in found:
        row[:] = figures(np.bincount(draw.integers(0, many, many), minlength=many)[groups].astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a figure that is never known: its interval is NaN
        low, high = np.nanquantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return [Interval(*map(float, each)) for each in zip(values, low, high, strict=True)]
