"""Padding: a threaded copy of what lies inside, then the borders, axis by axis, from what is there already. The
gradient of a border that copies is that of a resampling whose weights are 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ...resampling import AxisTaps, nearest_taps, padding_sources
from .copies import copy_into, empty_like_order
from .resample import resample_backward


def pad_forward(x: np.ndarray, widths: Sequence[tuple[int, int]], mode: str, value: float) -> np.ndarray | None:
    """See ``Backend.pad_forward``; None where a border copies what is cropped."""
    kept, inside, borders = [], [], []
    for size, (before, after) in zip(x.shape, widths, strict=True):
        first = max(-before, 0)
        kept.append(slice(first, max(size - max(-after, 0), first)))
        start = max(before, 0)
        inside.append(slice(start, start + kept[-1].stop - first))
        borders.append(_border(size, before, after, mode, inside[-1]))
        if borders[-1] is None:
            return None
    shape = [max(size + before + after, 0) for size, (before, after) in zip(x.shape, widths, strict=True)]
    y = empty_like_order(x, tuple(shape))
    copy_into(y[tuple(inside)], x[tuple(kept)])
    place = list(inside)
    for axis, border in enumerate(borders):
        before, after = (*place[:axis],), (*place[axis + 1 :],)
        if mode == "constant":
            y[(*before, slice(0, inside[axis].start), *after)] = value
            y[(*before, slice(inside[axis].stop, None), *after)] = value
        for position, source in border:
            y[(*before, position, *after)] = y[(*before, source, *after)]
        place[axis] = slice(None)
    return y


def _border(size: int, before: int, after: int, mode: str, inside: slice) -> list[tuple[int, int]] | None:
    """Return which position of y copies which, for those outside ``inside``; None where that one is not inside."""
    if mode == "constant" or (before <= 0 and after <= 0):
        return []
    source = padding_sources(size, before, after, mode)[0] + before
    border = [(p, int(s)) for p, s in enumerate(source) if not inside.start <= p < inside.stop]
    return border if all(inside.start <= s < inside.stop for _, s in border) else None


def pad_backward(
    dy: np.ndarray, shape: Sequence[int], widths: Sequence[tuple[int, int]], mode: str
) -> np.ndarray | None:
    """See ``Backend.pad_backward``; None for other than three to five axes, or where one of the first two is padded."""
    if mode == "constant":
        return pad_forward(dy, [(-before, -after) for before, after in widths], mode, 0.0)
    if not 3 <= len(shape) <= 5 or any(before or after for before, after in widths[:2]):
        return None
    ones = (1,) * (5 - len(shape))
    axes: list[AxisTaps | None] = [None] * len(ones)
    for size, (before, after) in zip(shape[2:], widths[2:], strict=True):
        axes.append(_taps(size, before, after, mode) if before or after else None)
    lifted = dy.reshape(*dy.shape[:2], *ones, *dy.shape[2:])
    return resample_backward(lifted, axes, (*shape[:2], *ones, *shape[2:])).reshape(shape)


@lru_cache(maxsize=256)
def _taps(size: int, before: int, after: int, mode: str) -> AxisTaps:
    return nearest_taps(padding_sources(size, before, after, mode)[0])
