"""The best place to split each feature at, by sums over a histogram of its bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import launch
from .array import DeviceArray, empty, from_numpy

cuda: Any = None
math: Any = None

BINS = 256


@launch.factory
def histogram(number: type) -> Callable:
    """sums[feature, class, bin]: a thread a bin, which looks at every sample of the class, in order."""

    def kernel(sums, bins, weight, start, count, samples, classes):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            row = i // BINS
            feature, wanted = row // classes, i % BINS
            total = number(0)
            for at in range(start[row % classes], start[row % classes + 1]):
                if bins[feature * samples + at] == wanted:
                    total += weight[at]
            sums[i] = total

    return kernel


@launch.factory
def splits(number: type, gini: bool) -> Callable:
    """A thread a feature: ``left`` and ``right`` are its sums of each class on both sides as the bins go by."""
    zero = number(0)

    def kernel(score, place, sums, left, right, features, classes):
        for feature in range(cuda.grid(1), features, cuda.gridsize(1)):
            base, here = feature * classes * BINS, feature * classes
            for k in range(classes):
                left[here + k], right[here + k] = zero, zero
                for b in range(BINS - 1, -1, -1):
                    right[here + k] += sums[base + k * BINS + b]
            best, chosen = zero, -1
            for b in range(BINS):
                filled, on_left, on_right, worth_left, worth_right = False, zero, zero, zero, zero
                for k in range(classes):
                    own = sums[base + k * BINS + b]
                    filled = filled or own != zero
                    left[here + k] += own
                    right[here + k] -= own
                    a, z = left[here + k], right[here + k]
                    on_left += a
                    on_right += z
                    if gini:
                        worth_left += a * a
                        worth_right += z * z
                    else:
                        worth_left = a if a > worth_left else worth_left
                        worth_right = z if z > worth_right else worth_right
                if filled and on_right > zero:
                    if gini:
                        worth_left /= on_left
                        worth_right /= on_right
                    worth = worth_left + worth_right
                    if chosen < 0 or worth > best:
                        best, chosen = worth, b
            score[feature] = best
            place[feature] = chosen

    return kernel


def best_splits(
    bins: DeviceArray, weight: DeviceArray, start: Sequence[int], criterion: str
) -> tuple[DeviceArray, DeviceArray]:
    features, samples = bins.shape
    bounds = start if isinstance(start, DeviceArray) else from_numpy(np.array(start, np.int64))
    classes = bounds.size - 1
    sums, key = empty((features, classes, BINS), np.float64), (np.float64,)
    launch.elements("best_splits", histogram, key, sums.size, sums, bins, weight, bounds, sums.size, samples, classes)
    score, place = empty((features,), np.float64), empty((features,), np.int64)
    left, right = empty((features, classes), np.float64), empty((features, classes), np.float64)
    arguments = score, place, sums, left, right, features, classes
    launch.elements("best_splits", splits, (*key, criterion == "gini"), features, *arguments)
    return score, place
