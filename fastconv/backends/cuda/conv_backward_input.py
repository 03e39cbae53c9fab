"""The gradient of a convolution's input, and the transposed convolution: a correlation over dy for each phase.

With stride s, positions of dx of the same residue modulo s see the same kernel positions, so each phase is a dense
product; no zero is multiplied. The weights of a phase are brought into rows of input channels first, which lie side by
side then, by a copy as large as the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product as places_of
from math import prod
from typing import Any

import numpy as np

from ...geometry import ConvGeometry
from . import launch, windows
from .array import DeviceArray, empty
from .conv_forward import images
from .correlate import Correlation, Way, by_tiles
from .scalars import W

cuda: Any = None  # put here by launch


def conv_backward_input(
    dy: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, way: Way = by_tiles
) -> DeviceArray:
    dx = empty(geometry.input_shape, dy.dtype)
    if not dx.size:
        return dx
    turned = _turned(w, geometry)
    most = windows.images_at_once(geometry)
    for first in range(0, geometry.n, most):
        some = replace(geometry, n=min(most, geometry.n - first))
        for what, start in _phases(some):
            rows = turned.part(start, (turned.size - start,))
            way(what, rows, images(dy, first, some.n), b, images(dx, first, some.n), None)
    return dx


def _phases(geometry: ConvGeometry) -> Iterator[tuple[Correlation, int]]:
    """Yield the correlation of each phase, and where its weights begin."""
    groups, read, image = geometry.groups, prod(geometry.output), prod(geometry.input)
    ic, oc = geometry.ic // groups, geometry.oc // groups
    _, size_h, size_w = geometry.input
    step_d, step_h, step_w = geometry.stride
    start = 0
    for axes, (z, y, x) in windows.phase_axes(geometry):
        depth, pixels = oc * prod(len(axis.places) for axis in axes), prod(axis.output for axis in axes)
        numbers = {
            "rows": ic, "columns": geometry.n * pixels, "depth": depth,
            "a_group": oc * prod(geometry.kernel) * ic,
            "b_stride": pixels, "b_image": geometry.oc * read, "b_group": oc * read,
            "c_stride": image, "c_image": geometry.ic * image, "c_group": ic * image,
            "c_start": (z * size_h + y) * size_w + x,
            "c_plane": step_d * size_h * size_w, "c_row": step_h * size_w, "c_step": step_w,
        }  # fmt: skip
        yield Correlation("conv_backward_input", axes, groups, oc, numbers, turned=True, dense=pixels == image), start
        start += depth * ic


# --------------------------------------------------------------------------------------- weights, turned


@launch.factory
def turn(number: type) -> Callable:
    """Return the kernel that brings weights to rows of input channels, in the order of a list of places."""

    def kernel(out, w, places, rows, channels, taps, count):
        i, step = W(cuda.grid(1)), W(cuda.gridsize(1))
        while i < count:
            row = i // channels
            group = row // rows
            out[i] = w[group * (rows * channels) + W(places[row - group * rows]) + (i - row * channels) * taps]
            i += step

    return kernel


def _turned(w: DeviceArray, geometry: ConvGeometry) -> DeviceArray:
    """Return w (OC, IC/G, taps) as (G, phases with their taps and output channels, IC/G)."""
    taps = prod(geometry.kernel)
    if taps == 1:
        return w
    rows, channels = geometry.oc // geometry.groups * taps, geometry.ic // geometry.groups
    places = _places(replace(geometry, n=1), launch.machine())
    out = empty((w.size,), w.dtype)
    counts = (W(rows), W(channels), W(taps), W(w.size))
    launch.elements("conv_backward_input", turn, (w.dtype.type,), w.size, out, w, places, *counts)
    return out


@lru_cache(maxsize=512)
def _places(geometry: ConvGeometry, machine: launch.Machine) -> DeviceArray:
    """Return where the first input channel of each output channel and tap lies, phase by phase."""
    _, height, width = geometry.kernel
    oc, ic, taps = geometry.oc // geometry.groups, geometry.ic // geometry.groups, prod(geometry.kernel)
    found = []
    for axes, _ in windows.phase_axes(geometry):
        kernel = [(z * height + y) * width + x for z, y, x in places_of(*(axis.places for axis in axes))]
        found.append((np.arange(oc)[:, None] * (ic * taps) + np.array(kernel, np.int64)).reshape(-1))
    return windows.kept(np.concatenate(found).astype(np.int32))
