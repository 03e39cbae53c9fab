"""How a unit (convolution, activation, max-pool) runs: its candidates, fastest first, each declines for itself.

A unit's forward pass and each of its two gradients choose apart: what passes between them (x, the index, the pooled
gradient) is the same. `composed` serves everything: the convolution's own plan, and one more pass over its output. The
choice depends on the geometry and on the numbers' size alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np

from ...geometry import ConvGeometry, PoolGeometry
from ..base import Array
from . import plan, winograd_rule
from .dispatch import isa
from .reduce import bias_backward
from .unit_backward import live_backward_input, live_backward_weight
from .unit_forward import conv_act_pool_forward as fused_forward
from .unit_pool import act_pool_forward, unpool_backward
from .winograd_unit import winograd_unit_forward
from .winograd_unit_gradients import winograd_unit_backward

PRODUCTS = 2304  # of one chunk in conv_tiles.pyx: a sum that is cut there has other bits
SOURCE = 1024 * 1024  # bytes that a window may read: tiles.pyx cuts the channels of what is well above
RUN = 16  # neighbouring taps and channels of a row that are worth a list
FEW = 4  # input channels whose weight gradient is rather masked than listed
FEW_TILES = 4  # of a batch, whose live products cost less than Winograd's transforms of a weight gradient
IMAGE = 256 * 1024  # elements of an input image that may lie in the workspace


class Candidate(NamedTuple):
    """A way to run a unit's verb. ``declines`` returns why it cannot serve the geometries, or nothing."""

    name: str
    declines: Callable[[ConvGeometry, PoolGeometry, int], str | None]


def _declines(verb: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """Why the convolution is not for a kernel that sums as tiles do."""
    if geometry.groups != 1:
        return f"{geometry.groups} groups"
    name = plan.chosen(verb, geometry, itemsize).name
    if name == "bf16" and verb != "conv_forward":  # fewer products in float32 are the better half
        return None
    if name == "winograd" and verb == "conv_backward_weight" and _few_tiles(geometry):
        return None
    return None if name == "tiles" else f"{name} runs the convolution"


def _few_tiles(geometry: ConvGeometry) -> bool:
    """Whether a weight gradient has so few products that they cost less than Winograd's transforms.

    The batch counts here, as it does in the sum.
    """
    m = winograd_rule.form_of(geometry).m
    return 0 < geometry.n * -(-geometry.output[1] // m) * -(-geometry.output[2] // m) <= FEW_TILES


def _windows_decline(pool: PoolGeometry) -> str | None:
    return None if [axis.count[0] for axis in pool.windows] == [1, 2, 2] else "windows other than 2 x 2"


def _lines_decline(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    """Why the windows cannot be pooled on the way from Winograd's filtering along rows."""
    name = plan.chosen("conv_forward", geometry, itemsize).name
    return _windows_decline(pool) or (None if name == "lines" else f"{name} runs the convolution")


def _winograd_declines(verbs: Sequence[str], geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    """Why the unit cannot stay in Winograd's tiles; both gradients share a transform, so both run there, but for
    the weight gradient of few tiles."""
    if reason := _windows_decline(pool):
        return reason
    if geometry.groups != 1 or geometry.input[0] != 1 or geometry.kernel[0] != 1 or geometry.padding[0] != 0:
        return "groups or a third axis"
    others = [name for verb in verbs if (name := plan.chosen(verb, geometry, itemsize).name) != "winograd"]
    if others:
        return f"{others[0]} runs the convolution"
    m, (_, rows, columns) = winograd_rule.form_of(geometry).m, geometry.output
    if winograd_rule.form_of(geometry).stride > 1:
        return "a convolution with stride"
    if "conv_forward" in verbs and (rows % m or columns % m):
        return f"{rows}x{columns} outputs, no whole number of {m}x{m} tiles"
    if "conv_backward_input" in verbs and not winograd_rule.adjoint(geometry):
        return "the input gradient is no adjoint"
    return None


def _spread(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    """Why a window's source, all channels of it, is too large to be copied in one piece."""
    size = geometry.ic * itemsize
    axes = zip(pool.windows, geometry.stride, geometry.kernel, geometry.dilation, strict=True)
    for window, stride, kernel, dilation in axes:
        size *= (window.count[0] - 1) * stride + (kernel - 1) * dilation + 1
    return f"a window reads {size} bytes, more than {SOURCE}" if size > SOURCE else None


def _fused_declines(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    channels = PRODUCTS // prod(geometry.kernel)
    channels -= channels % 16 if channels > 16 else 0
    if geometry.ic > max(1, channels):
        return f"{geometry.ic} channels, more than the {channels} that are summed at once"
    return _spread(geometry, pool, itemsize) or _declines("conv_forward", geometry, itemsize)


def _live_declines(verb: str, geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    if prod(axis.count[0] for axis in pool.windows) == 1:
        return "windows of one output"
    return _declines(verb, geometry, itemsize)


def _live_weight_declines(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    if geometry.ic * geometry.kernel[2] < RUN:
        return f"rows of {geometry.ic * geometry.kernel[2]} products, fewer than {RUN}"
    return _spread(geometry, pool, itemsize) or _live_declines("conv_backward_weight", geometry, pool, itemsize)


def _masked_declines(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    if geometry.ic > FEW:
        return f"{geometry.ic} input channels, more than {FEW}"
    return _spread(geometry, pool, itemsize) or _live_declines("conv_backward_weight", geometry, pool, itemsize)


def _live_input_declines(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    padded = zip(geometry.padding, geometry.input, geometry.padding_end, strict=True)
    size = geometry.ic * prod(before + inside + after for before, inside, after in padded)
    if size > IMAGE:
        return f"an image of {size} elements, more than {IMAGE}"
    if geometry.ic * geometry.kernel[2] < RUN:
        return f"rows of {geometry.ic * geometry.kernel[2]} products, fewer than {RUN}"
    return _live_declines("conv_backward_input", geometry, pool, itemsize)


def _never(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    return None


def _winograd_weight_declines(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str | None:
    reason = _backward_declines(geometry, pool, itemsize)
    if reason is None and _few_tiles(geometry) and _live_weight_declines(geometry, pool, itemsize) is None:
        return f"at most {FEW_TILES} tiles"
    return reason


COMPOSED = Candidate("composed", _never)
FORWARD = Candidate("winograd", partial(_winograd_declines, ("conv_forward",)))
_backward_declines = partial(_winograd_declines, ("conv_backward_input", "conv_backward_weight"))
BACKWARD = Candidate("winograd", _backward_declines)
BACKWARD_WEIGHT = Candidate("winograd", _winograd_weight_declines)
CANDIDATES = {
    "conv_act_pool_forward": (
        FORWARD,
        Candidate("lines", _lines_decline),
        Candidate("fused", _fused_declines),
        COMPOSED,
    ),
    "conv_act_pool_backward, input": (BACKWARD, Candidate("live", _live_input_declines), COMPOSED),
    "conv_act_pool_backward, weight": (
        BACKWARD_WEIGHT,
        Candidate("live", _live_weight_declines),
        Candidate("masked", _masked_declines),
        COMPOSED,
    ),
}


@lru_cache(maxsize=4096)
def choose(verb: str, geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> str:
    """Return the name of the first candidate that does not decline."""
    return next(c.name for c in CANDIDATES[verb] if c.declines(geometry, pool, itemsize) is None)


@lru_cache(maxsize=4096)
def _backward_ways(geometry: ConvGeometry, pool: PoolGeometry, itemsize: int) -> tuple[str, str]:
    """Return what runs for the input's and for the weight's gradient."""
    verbs = "conv_act_pool_backward, input", "conv_act_pool_backward, weight"
    return choose(verbs[0], geometry, pool, itemsize), choose(verbs[1], geometry, pool, itemsize)


def explain(geometry: ConvGeometry, pool_geometry: PoolGeometry, dtype: str) -> str:
    """Return a line for the forward pass and for each gradient: what runs, and why not what comes before it."""
    lines, itemsize = [], np.dtype(dtype).itemsize
    for verb, candidates in CANDIDATES.items():
        name = choose(verb, geometry, pool_geometry, itemsize)
        passed = [f"not {c.name}: {why}" for c in candidates if (why := c.declines(geometry, pool_geometry, itemsize))]
        lines.append(f"{verb}: {name} ({isa()}, {dtype}): {'; '.join(passed) or 'first choice'}")
    return "\n".join(lines)


def conv_act_pool_forward(
    x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None, pool_geometry: PoolGeometry,
    frozen: bool | dict = False,
) -> tuple[Array, Array]:  # fmt: skip
    way = choose("conv_act_pool_forward", geometry, pool_geometry, x.itemsize)
    if way in ("winograd", "lines"):
        form = winograd_rule.form_of(geometry).code if way == "winograd" else winograd_rule.ALONG_ROWS
        return winograd_unit_forward(x, w, b, geometry, activation, pool_geometry, form, frozen)
    if way == "fused":
        return fused_forward(x, w, b, geometry, activation, pool_geometry)
    z = plan.choose("conv_forward", geometry, x.itemsize)(x, w, b, geometry, frozen=frozen)
    return act_pool_forward(z, activation, pool_geometry)


def conv_act_pool_backward(
    dy: Array, index: Array, x: Array, w: Array, geometry: ConvGeometry, pool_geometry: PoolGeometry,
    needs: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    dx = dw = db = dz = None
    way, weight = _backward_ways(geometry, pool_geometry, dy.itemsize)
    if way == "winograd":
        form = winograd_rule.form_of(geometry).code
        if weight == "winograd":
            dx, dw, db = winograd_unit_backward(dy, index, x, w, geometry, needs, form)
            return dx, dw if needs[1] else None, db if needs[2] else None
        if needs[0]:
            dx, _, _ = winograd_unit_backward(dy, index, x, w, geometry, (True, False, False), form)
    elif needs[0]:
        if way == "live":
            dx = live_backward_input(dy, index, w, geometry, pool_geometry)
        else:
            dz = unpool_backward(dy, index, geometry, pool_geometry)
            dx = plan.choose("conv_backward_input", geometry, dz.itemsize)(dz, w, None, geometry)
    if needs[1] or needs[2]:
        if weight != "composed":
            dw, db = live_backward_weight(dy, index, x, geometry, pool_geometry, weight == "masked")
        else:
            dz = unpool_backward(dy, index, geometry, pool_geometry) if dz is None else dz
            dw = plan.choose("conv_backward_weight", geometry, dz.itemsize)(dz, x, geometry) if needs[1] else None
            db = bias_backward(dz) if needs[2] else None
    return dx, dw if needs[1] else None, db if needs[2] else None
