"""Which kernel runs: the candidates of each direction, fastest first; each declines for itself.

* ``narrow``: at most 8 rows a group (2 for weights), which are output channels, or input channels on the way back: a
  tile would be mostly empty.
* ``tiles``: a product in tiles of shared memory, the tile picked by ``tiles.py``. Kernels of one position without
  stride and padding are plain products of matrices, read where they lie.
* ``bf16``, ``tf32``: those tiles with operands rounded, on tensor cores; in the compute mode of that name. Where there
  are none, bfloat16 is rounded in software and TF32 is declined. ``tiles.cores`` says which instruction multiplies.
* ``naive``: a thread an output, in 64 bits: samples of 2**30 elements and more.

The choice depends on the geometry without its batch, and on the numbers' size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from ...geometry import ConvGeometry, PoolGeometry
from . import conv_backward_input as backward_input
from . import conv_backward_weight as backward_weight
from . import conv_forward as forward
from . import correlate, naive, narrow, tiles
from .activation import relu_backward, relu_forward
from .array import DeviceArray
from .launch import MAX_GRID
from .norm import batch_norm_statistics
from .scalars import LIMIT
from .shape import add, reshape

ROUNDED = ("bf16", "tf32")  # compute modes other than float32


class Candidate(NamedTuple):
    """A way to run a verb. ``declines`` returns why it cannot serve a geometry and the size of a number, or nothing."""

    name: str
    run: Callable
    declines: Callable[[ConvGeometry, int], str | None]


def _too_large(geometry: ConvGeometry) -> str | None:
    padded = prod(i + b + a for i, b, a in zip(geometry.input, geometry.padding, geometry.padding_end, strict=True))
    largest = max(geometry.ic * padded, geometry.oc * prod(geometry.output), prod(geometry.weight_shape))
    if largest >= LIMIT // 2:
        return "a sample, or the weights, of 2**30 elements or more"
    if geometry.groups > MAX_GRID:
        return f"{geometry.groups} groups, more than {MAX_GRID}"
    return None


def _narrow_declines(verb: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    rows = (geometry.ic if verb == "conv_backward_input" else geometry.oc) // geometry.groups
    if rows > narrow.MOST_ROWS[verb]:
        return f"{rows} rows a group, more than {narrow.MOST_ROWS[verb]}"
    return _too_large(geometry)


def _tiles_decline(geometry: ConvGeometry, itemsize: int) -> str | None:
    return _too_large(geometry)


def _rounded_declines(mode: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    if geometry.compute != mode:
        return f"compute mode {geometry.compute}"
    if itemsize != 4:
        return "float64 keeps its precision"
    if tiles.taken_up(mode, itemsize) != mode:
        return "no tensor cores, which compute capability 8.0 has"
    return _too_large(geometry)


def _never(geometry: ConvGeometry, itemsize: int) -> str | None:
    return None


def _candidates(run: Callable, by_pixels: Callable, by_tiles: Callable) -> tuple[Candidate, ...]:
    verb = run.__name__
    return (
        Candidate("narrow", partial(run, way=by_pixels), partial(_narrow_declines, verb)),
        *(
            Candidate(mode, partial(run, way=partial(by_tiles, compute=mode)), partial(_rounded_declines, mode))
            for mode in ROUNDED
        ),
        Candidate("tiles", partial(run, way=by_tiles), _tiles_decline),
        Candidate("naive", getattr(naive, verb), _never),
    )


CANDIDATES = {
    "conv_forward": _candidates(forward.conv_forward, narrow.by_pixels, correlate.by_tiles),
    "conv_backward_input": _candidates(backward_input.conv_backward_input, narrow.by_pixels, correlate.by_tiles),
    "conv_backward_weight": _candidates(
        backward_weight.conv_backward_weight, narrow.parts_by_pixels, backward_weight.parts_by_tiles
    ),
}


def chosen(verb: str, geometry: ConvGeometry, itemsize: int) -> Candidate:
    """Return the first candidate that does not decline; ``itemsize`` is that of the operands, bytes."""
    return next(c for c in CANDIDATES[verb] if c.declines(geometry, itemsize) is None)


def conv_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, frozen: bool | dict = False
) -> DeviceArray:
    return chosen("conv_forward", geometry, x.itemsize).run(x, w, b, geometry)


def conv_relu_forward(x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry) -> DeviceArray:
    """Return ``relu_forward(conv_forward(...))``, in one kernel where it can be."""
    candidate = chosen("conv_forward", geometry, x.itemsize)
    if candidate.name == "naive":
        return relu_forward(candidate.run(x, w, b, geometry))
    return candidate.run(x, w, b, geometry, activation="relu")


def conv_moments_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, frozen: bool | dict = False
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    y = conv_forward(x, w, b, geometry)
    return y, *batch_norm_statistics(reshape(y, (*y.shape[:2], prod(y.shape[2:]))))


def conv_backward_input(
    dy: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry,
    residual: DeviceArray | None = None, gate: DeviceArray | None = None, spare: bool = False,
) -> DeviceArray:  # fmt: skip
    dx = chosen("conv_backward_input", geometry, dy.itemsize).run(dy, w, b, geometry)
    dx = dx if residual is None else add(dx, residual)
    return dx if gate is None else relu_backward(dx, gate)


def conv_backward_weight(dy: DeviceArray, x: DeviceArray, geometry: ConvGeometry) -> DeviceArray:
    return chosen("conv_backward_weight", geometry, dy.itemsize).run(dy, x, geometry)


def explain(verb: str, geometry: ConvGeometry, dtype: str) -> str:
    """Return one line for ``verb``: the kernel that runs, and why those before it do not."""
    passed, itemsize = [], np.dtype(dtype).itemsize
    for candidate in CANDIDATES[verb]:
        reason = candidate.declines(geometry, itemsize)
        if reason is None:
            why = "; ".join(passed) or "first choice"
            instruction = tiles.cores(geometry.compute) if candidate.name in ROUNDED else ""
            name = f"{candidate.name} by {instruction}" if instruction else candidate.name
            return f"{verb}: {name} (cuda, {dtype}, {geometry.flops / 1e6:.4g} MFLOP): {why}"
        if (
            candidate.name not in ROUNDED or geometry.compute == candidate.name
        ):  # where it is not asked for it is not news
            passed.append(f"not {candidate.name}: {reason}")
    raise LookupError(verb)


def explain_unit(geometry: ConvGeometry, pool_geometry: PoolGeometry, dtype: str) -> str:
    return "conv_act_pool_forward, conv_act_pool_backward: the verbs that they are made of"
