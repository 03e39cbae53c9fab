"""Images and masks of any rank at other sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..images import weights


def resized(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return ``image`` (C, *spatial) as float32 or float64 (C, *size): linear, widened to a mean where it shrinks.

    >>> resized(np.array([[0.0, 4.0]]), [4])
    array([[0., 1., 3., 4.]])
    """
    out = image.astype(np.float64 if image.dtype == np.float64 else np.float32, copy=False)
    for axis, new in enumerate(size, 1):
        if out.shape[axis] != new:
            table = weights(out.shape[axis], new).astype(out.dtype)
            out = np.moveaxis(np.tensordot(table, out, (1, axis)), 0, axis)
    return np.ascontiguousarray(out)


def nearest(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return ``mask`` (*spatial) at ``size``: the value at each new pixel's centre.

    >>> nearest(np.array([1, 2, 3, 4]), [2]).tolist()
    [2, 4]
    """
    for axis, new in enumerate(size):
        old = mask.shape[axis]
        if old != new:
            mask = mask.take(((2 * np.arange(new) + 1) * old) // (2 * new), axis)
    return mask
