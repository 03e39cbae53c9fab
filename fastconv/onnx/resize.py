"""Resize and Upsample: ONNX's rules for coordinates, as the tables that fastconv/resampling.py describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor
from typing import Any

import numpy as np

from .. import functional as F
from ..errors import ShapeError, mismatch
from ..resampling import AxisTaps, cubic, interpolating_taps, nearest_taps, triangle
from .registry import Node, Run, operator
from .values import integers, numbers

_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)  # fmt: skip
_ROUNDING = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """How an output finds its inputs, along every axis."""

    mode: str  # nearest, linear, cubic
    coordinates: str
    rounding: str = "floor"  # for nearest
    a: float = -0.75  # for cubic
    exclude_outside: bool = False
    antialias: bool = False


@lru_cache(maxsize=256)
def _table(rule: Rule, size: int, output: int, scale: float, start: float, end: float) -> tuple[AxisTaps, np.ndarray]:
    """Return an axis' table, and which of its outputs lie outside the input.

    ``scale``: outputs an input, as given, not as rounded. ``start``, ``end``: the part that tf_crop_and_resize takes,
    with the axis from 0 to 1.
    """
    o, length = np.arange(output, dtype=np.float64), scale * size
    outside = np.zeros(output, bool)
    if rule.coordinates == "align_corners":
        x = o * ((size - 1) / (length - 1)) if length != 1 else np.zeros(output)
    elif rule.coordinates == "asymmetric":
        x = o / scale
    elif rule.coordinates == "tf_half_pixel_for_nn":
        x = (o + 0.5) / scale
    elif rule.coordinates == "tf_crop_and_resize":
        steps = o * ((end - start) * (size - 1) / (length - 1)) if length != 1 else (end - start) * (size - 1) / 2
        x = start * (size - 1) + steps + np.zeros(output)
        outside = (x < 0) | (x > size - 1)
    elif rule.coordinates == "pytorch_half_pixel" and length == 1:
        x = np.full(output, -0.5)
    else:
        x = (o + 0.5) / scale - 0.5
        if rule.coordinates == "half_pixel_symmetric":
            x += size / 2 * (1 - output / length)
    if rule.mode == "nearest":
        return nearest_taps(_ROUNDING[rule.rounding](x).clip(0, size - 1)), outside
    stretch = max(1.0, 1 / scale) if rule.antialias else 1.0
    kernel, support = (cubic(rule.a), 2) if rule.mode == "cubic" else (triangle, 1)
    return interpolating_taps(x, size, kernel, support, stretch, rule.exclude_outside), outside


def _resized(
    x: Any, rule: Rule, outputs: Sequence[int], scales: Sequence[float], parts: Sequence[tuple[float, float]],
    beyond: float,
) -> Any:  # fmt: skip
    """Return ``x`` with sizes ``outputs``; values whose coordinates lie outside are ``beyond``."""
    tables: list[AxisTaps | None] = []
    outside: Any = False
    for axis, (size, output, scale, part) in enumerate(zip(x.shape, outputs, scales, parts, strict=True)):
        if size == output and scale == 1 and part == (0.0, 1.0):
            tables.append(None)
            continue
        if size == 0 or scale <= 0:
            raise ShapeError(mismatch("Resize", "sizes and scales above 0", f"size {size}, scale {scale}"))
        taps, off = _table(rule, size, output, scale, *part)
        tables.append(taps)
        if off.any():
            outside = outside | off.reshape(-1, *(1,) * (len(x.shape) - 1 - axis))
    y = F.resample(x, tables)
    return y if outside is False else F.where(np.broadcast_to(~outside, y.shape), y, beyond)


@operator("Resize", last=19, options=(1, 2, 3))
def resize(node: Node) -> Run:
    mode = node.choice("mode", "nearest", "nearest", "linear", "cubic")
    old = node.since < 11
    coordinates = node.choice("coordinate_transformation_mode", "asymmetric" if old else "half_pixel", *_COORDINATES)
    rule = Rule(
        mode,
        coordinates,
        node.choice("nearest_mode", "floor" if old else "round_prefer_floor", *_ROUNDING),
        node.get("cubic_coeff_a", -0.75),
        bool(node.get("exclude_outside", 0)),
        bool(node.get("antialias", 0)),
    )
    policy = node.choice("keep_aspect_ratio_policy", "stretch", "stretch", "not_larger", "not_smaller")
    axes, beyond = node.get("axes"), node.get("extrapolation_value", 0.0)

    def run(x: Any, *options: Any) -> Any:
        roi, scales, sizes = (None, *options, None) if old else (*options, *(None,) * (3 - len(options)))
        ndim = len(x.shape)
        chosen = [a % ndim for a in (axes or range(ndim))]
        shape = [x.shape[a] for a in chosen]
        if sizes is not None and sizes.size:
            outputs = list(integers(sizes))
            factors = [o / i for o, i in zip(outputs, shape, strict=True)]
            if policy != "stretch":
                factor = (min if policy == "not_larger" else max)(factors)
                factors = [factor] * len(shape)
                outputs = [floor(factor * i + 0.5) for i in shape]
        else:
            factors = list(numbers(scales))
            outputs = _scaled(shape, factors)
        parts = [(0.0, 1.0)] * len(shape)
        if coordinates == "tf_crop_and_resize":
            corners = numbers(roi)
            parts = list(zip(corners[: len(shape)], corners[len(shape) :], strict=True))
        return _resized(
            x, rule, _spread(ndim, chosen, outputs, x.shape), _spread(ndim, chosen, factors, [1.0] * ndim),
            _spread(ndim, chosen, parts, [(0.0, 1.0)] * ndim), beyond,
        )  # fmt: skip

    return run


def _scaled(sizes: Sequence[int], scales: Sequence[float]) -> list[int]:
    """Return sizes times scales, rounded down: in float32, as ONNX infers shapes, where 10 times 2.3 is 23, though
    its 2.3 is a little less."""
    return [floor(np.float32(size) * np.float32(scale)) for size, scale in zip(sizes, scales, strict=True)]


def _spread(ndim: int, axes: Sequence[int], values: Sequence[Any], default: Sequence[Any]) -> list[Any]:
    """Return a value for every axis: those of ``axes``, the default for the others."""
    of = dict(zip(axes, values, strict=True))
    return [of.get(i, default[i]) for i in range(ndim)]


@operator("Upsample", first=7, last=10, options=(1,))
def upsample(node: Node) -> Run:
    rule, fixed = Rule(node.choice("mode", "nearest", "nearest", "linear"), "asymmetric"), node.get("scales")

    def run(x: Any, scales: Any = None) -> Any:
        factors = numbers(scales) if scales is not None else tuple(fixed)
        return _resized(x, rule, _scaled(x.shape, factors), factors, [(0.0, 1.0)] * len(factors), 0.0)

    return run
