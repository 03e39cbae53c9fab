"""Percentile bootstrap intervals of many figures at once (Efron 1979, https://doi.org/10.1214/aos/1176344552).

A resample is how often each sample is in it, so a figure is a function of weights and nothing is sorted anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np

from .roc import Interval

CONFIDENCE, RESAMPLES = 0.95, 1000


def intervals(
    figures: Callable[[np.ndarray], np.ndarray], strata: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> list[Interval]:
    """Return each of the ``figures`` (M,) with its interval of 95 %.

    Args:
        figures: of weights (N,): how often each sample counts. A figure may be NaN where it has no meaning.
        strata: (N,) of whole numbers: each is resampled within itself, so that none gets lost.
        groups: (N,) of whole numbers: samples of one group (a patient) depend on each other; groups are resampled
            then, and strata are not looked at.

    >>> x = np.array([1.0, 2.0, 3.0, 4.0])
    >>> intervals(lambda w: np.array([(w * x).sum() / w.sum()]), np.zeros(4, int))[0].value
    2.5
    """
    values = figures(np.ones(len(strata)))
    found = np.stack([figures(weights) for weights in _draws(strata, groups, seed)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a figure that is never known: its interval is NaN
        low, high = np.nanquantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return [Interval(*map(float, each)) for each in zip(values, low, high, strict=True)]


def _draws(strata: np.ndarray, groups: np.ndarray | None, seed: int) -> Iterator[np.ndarray]:
    draw = np.random.default_rng(seed)
    if groups is not None:
        count = int(groups.max()) + 1
        for _ in range(RESAMPLES):
            yield np.bincount(draw.integers(0, count, count), minlength=count)[groups].astype(np.float64)
        return
    members = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(RESAMPLES):
        weights = np.empty(len(strata))
        for indices in members:
            size = len(indices)
            weights[indices] = np.bincount(draw.integers(0, size, size), minlength=size)
        yield weights
