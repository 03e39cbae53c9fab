"""Where resampled values come from: for each output of an axis, the inputs that it weighs, and their weights.

Every mode of interpolation, with any rule for coordinates, is such a table, so kernels know one thing: weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import numpy as np

from .arguments import flag, integer
from .errors import ArgumentError, ShapeError, mismatch

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic")
_RANKS = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}


@dataclass(frozen=True, eq=False, slots=True)
class AxisTaps:
    """Output o is ``sum_t weight[o, t] * input[index[o, t]]``; both arrays (outputs, taps), read-only."""

    index: np.ndarray  # int64
    weight: np.ndarray  # float64

    def __post_init__(self) -> None:
        self.index.flags.writeable = self.weight.flags.writeable = False


def triangle(distance: np.ndarray) -> np.ndarray:
    """Linear interpolation: 1 - |d| within 1."""
    return np.maximum(0.0, 1 - np.abs(distance))


def cubic(a: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys' cubic convolution with slope ``a`` at 1 (Keys 1981, https://doi.org/10.1109/TASSP.1981.1163711)."""

    def kernel(distance: np.ndarray) -> np.ndarray:
        d = np.abs(distance)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return kernel


def nearest_taps(positions: np.ndarray) -> AxisTaps:
    """One tap each: ``positions`` are whole numbers within the axis."""
    return AxisTaps(positions.astype(np.int64)[:, None], np.ones((len(positions), 1)))


def interpolating_taps(
    coordinates: np.ndarray, size: int, kernel: Callable[[np.ndarray], np.ndarray], support: int, stretch: float = 1.0,
    exclude_outside: bool = False,
) -> AxisTaps:  # fmt: skip
    """Weigh the inputs around each coordinate by ``kernel`` (0 beyond ``support``) of their distance over ``stretch``.

    An input outside the axis counts as the nearest edge; with ``exclude_outside`` it does not count, and the weights
    are scaled to a sum of 1.
    """
    reach = support * stretch
    first = np.floor(coordinates - reach).astype(np.int64) + 1
    index = first[:, None] + np.arange(2 * ceil(reach))
    weight = kernel((index - coordinates[:, None]) / stretch)
    if exclude_outside:
        weight = np.where((index >= 0) & (index < size), weight, 0.0)
    if exclude_outside or stretch != 1.0:
        weight = weight / weight.sum(axis=1, keepdims=True)
    return AxisTaps(index.clip(0, size - 1), weight)


def padding_sources(size: int, before: int, after: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which element each position of a padded axis copies, and whether it copies any.

    Negative widths crop what was padded; a circular axis is cropped before it is wrapped, as in PyTorch.
    """
    first, last = (max(-before, 0), size - max(-after, 0)) if mode == "circular" else (0, size)
    position = np.arange(-before, size + after)
    copies = np.ones(len(position), dtype=bool)
    if mode == "constant":
        copies = (position >= 0) & (position < size)
        position = np.where(copies, position, 0)
    elif mode == "reflect":
        position = size - 1 - np.abs(size - 1 - np.abs(position))
    elif mode == "replicate":
        position = np.clip(position, 0, size - 1)
    else:
        position = first + (position - first) % max(last - first, 1)
    return position, copies


def _axis(size: int, output: int, scale: float, mode: str, align_corners: bool, antialias: bool) -> AxisTaps:
    """torch's coordinates; ``scale`` is input pixels an output pixel."""
    o = np.arange(output, dtype=np.float64)
    if mode == "nearest":
        return nearest_taps(np.minimum(np.floor(o * scale), size - 1))
    if mode == "nearest-exact":
        return nearest_taps(np.minimum(np.floor((o + 0.5) * scale), size - 1))
    if align_corners:
        scale = (size - 1) / (output - 1) if output > 1 else 0.0
        coordinates = o * scale
    else:
        coordinates = (o + 0.5) * scale - 0.5
    stretch = max(1.0, scale) if antialias else 1.0
    if mode == "bicubic":
        return interpolating_taps(coordinates, size, cubic(-0.5 if antialias else -0.75), 2, stretch, antialias)
    return interpolating_taps(coordinates, size, triangle, 1, stretch, antialias)


def interpolation(
    op: str, shape: Sequence[int], size: Any, scale_factor: Any, mode: Any, align_corners: Any,
    recompute_scale_factor: Any, antialias: Any,
) -> tuple[tuple[int, ...], list[AxisTaps | None]]:  # fmt: skip
    """Return the output's spatial sizes and the taps of (D, H, W) for an input (N, C, spatial) as ``interpolate``
    takes its arguments; None where an axis stays as it is."""
    rank = len(shape) - 2
    if not 1 <= rank <= 3:
        raise ShapeError(mismatch(op, "input (N, C, spatial) of 3 to 5 axes", f"shape {tuple(shape)}"))
    if mode not in MODES:
        raise ArgumentError(mismatch(op, f"mode to be one of {', '.join(MODES)}, area", repr(mode)))
    if _RANKS.get(mode, rank) != rank:
        raise ArgumentError(
            mismatch(op, f"input of {_RANKS[mode] + 2} axes for mode {mode!r}", f"shape {tuple(shape)}")
        )
    if align_corners is not None and mode.startswith("nearest"):
        raise ArgumentError(mismatch(op, f"no align_corners for mode {mode!r}", align_corners))
    if flag(op, "antialias", antialias) and mode not in ("bilinear", "bicubic"):
        raise ArgumentError(mismatch(op, "antialias with mode 'bilinear' or 'bicubic'", repr(mode)))
    if (size is None) == (scale_factor is None):
        raise ArgumentError(mismatch(op, "one of size and scale_factor", "both" if size is not None else "neither"))
    inputs = tuple(shape[2:])
    if 0 in inputs:
        raise ShapeError(mismatch(op, "spatial sizes of at least 1", f"shape {tuple(shape)}"))
    if size is not None:
        outputs = tuple(integer(op, "size", s, 1) for s in _each(op, "size", size, rank))
        scales = [i / o for i, o in zip(inputs, outputs, strict=True)]
    else:
        factors = [float(f) for f in _each(op, "scale_factor", scale_factor, rank)]
        if not all(isfinite(f) and f > 0 for f in factors):
            raise ArgumentError(mismatch(op, "scale_factor above 0", repr(scale_factor)))
        outputs = tuple(int(i * f) for i, f in zip(inputs, factors, strict=True))
        if 0 in outputs:
            raise ShapeError(mismatch(op, "scale_factor that leaves at least one pixel", repr(scale_factor)))
        again = recompute_scale_factor is not None and flag(op, "recompute_scale_factor", recompute_scale_factor)
        scales = [i / o if again else 1 / f for i, o, f in zip(inputs, outputs, factors, strict=True)]
    taps = [
        None if i == o and scale == 1 else _axis(i, o, scale, mode, bool(align_corners), antialias)
        for i, o, scale in zip(inputs, outputs, scales, strict=True)
    ]
    return outputs, [None] * (3 - rank) + taps


def _each(op: str, name: str, value: Any, rank: int) -> tuple:
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * rank
    if len(values) != rank or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise ArgumentError(mismatch(op, f"{name} to be a number or {rank} of them", repr(value)))
    return values
