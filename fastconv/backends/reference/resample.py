"""Resampling: along each spatial axis an output is a weighted sum of a few inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...resampling import AxisTaps
from .wide import narrow, widen


def resample_forward(x: np.ndarray, axes: Sequence[AxisTaps | None]) -> np.ndarray:
    wide = widen(x)
    for axis, taps in enumerate(axes, start=2):
        if taps is not None:
            moved = np.moveaxis(wide, axis, -1)
            wide = np.moveaxis((moved[..., taps.index] * taps.weight).sum(axis=-1), -1, axis)
    return narrow(np.ascontiguousarray(wide), x)


def resample_backward(dy: np.ndarray, axes: Sequence[AxisTaps | None], shape: Sequence[int]) -> np.ndarray:
    wide = widen(dy)
    for axis, taps in enumerate(axes, start=2):
        if taps is not None:
            moved = np.moveaxis(wide, axis, 0)
            dx = np.zeros((shape[axis], *moved.shape[1:]))
            for t in range(taps.index.shape[1]):
                np.add.at(dx, taps.index[:, t], taps.weight[:, t].reshape(-1, 1, 1, 1, 1) * moved)
            wide = np.moveaxis(dx, 0, axis)
    return narrow(np.ascontiguousarray(wide), dy)
