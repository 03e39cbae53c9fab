"""The gradient of a convolution's input, and the transposed convolution: a correlation over dy for each phase.

With stride s, positions of dx of the same residue modulo s see the same kernel positions, so each phase is a dense
product; no zero is multiplied. The weights of a phase are brought into rows of input channels first, which lie side by
side then, by a copy as large as the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import product as places_of
from math import prod
from typing import Any

import numpy as np

from ...geometry import ConvGeometry
from . import launch, tiles, windows
from .array import DeviceArray, empty
from .conv_forward import images
from .problem import problem
from .product import Form, run
from .scalars import W

cuda: Any = None  # put here by launch


def conv_backward_input(
    dy: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry
) -> DeviceArray:
    dx = empty(geometry.input_shape, dy.dtype)
    if not dx.size:
        return dx
    turned = _turned(w, geometry)
    most = windows.images_at_once(geometry)
    for first in range(0, geometry.n, most):
        some = replace(geometry, n=min(most, geometry.n - first))
        _phases(images(dy, first, some.n), turned, b, images(dx, first, some.n), some)
    return dx


def _phases(
    dy: DeviceArray, w: DeviceArray, b: DeviceArray | None, dx: DeviceArray, geometry: ConvGeometry
) -> None:  # fmt: skip
    groups, wide = geometry.groups, 16 // dy.itemsize
    ic, oc = geometry.ic // groups, geometry.oc // groups
    size_d, size_h, size_w = geometry.input
    image, before = prod(geometry.input), 0  # rows of w of the phases before
    step_d, step_h, step_w = geometry.stride
    for axes, (z, y, x) in windows.phase_axes(geometry):
        depth, pixels = oc * prod(len(axis.places) for axis in axes), prod(axis.output for axis in axes)
        columns, plain = geometry.n * pixels, windows.plain(axes)
        tile = tiles.pick(ic, columns, groups, dy.itemsize)
        dense = pixels == image
        form = Form(
            dtype=dy.dtype.name,
            tile=tile,
            a=("columns", wide if ic % wide == 0 and windows.aligned(w) else 1, False),
            b=("columns", wide if pixels % wide == 0 and windows.aligned(dy) else 1, True)
            if plain
            else ("pixels", windows.checked(axes)),
            c="images" if dense else "pixels",
            width=wide if dense and pixels % wide == 0 and tile.thread_columns % wide == 0 and windows.aligned(dx) else 1,
            bias=None if b is None else "rows",
        )
        p = problem(
            rows=ic, columns=columns, depth=depth, part=depth, row_tiles=-(-ic // tile.rows),
            a_stride=ic, a_group=oc * prod(geometry.kernel) * ic,
            b_stride=pixels, b_image=geometry.oc * prod(geometry.output), b_group=oc * prod(geometry.output),
            c_stride=image, c_image=geometry.ic * image, c_group=ic * image, c_start=(z * size_h + y) * size_w + x,
            c_plane=step_d * size_h * size_w, c_row=step_h * size_w, c_step=step_w,
            **windows.numbers(axes),
        )  # fmt: skip
        rows = w.part(before * ic, (w.size - before * ic,))
        table = windows.no_table() if plain else windows.table(axes, oc)
        run("conv_backward_input", form, p, groups, rows, dy, b, dx, table)
        before += depth


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
    places = _places(replace(geometry, n=1), id(launch.machine()))
    out = empty((w.size,), w.dtype)
    counts = (W(rows), W(channels), W(taps), W(w.size))
    launch.elements("conv_backward_input", turn, (w.dtype.type,), w.size, out, w, places, *counts)
    return out


@lru_cache(maxsize=512)
def _places(geometry: ConvGeometry, machine: int) -> DeviceArray:
    """Return where the first input channel of each output channel and tap lies, phase by phase."""
    _, height, width = geometry.kernel
    oc, ic, taps = geometry.oc // geometry.groups, geometry.ic // geometry.groups, prod(geometry.kernel)
    found = []
    for axes, _ in windows.phase_axes(geometry):
        kernel = [(z * height + y) * width + x for z, y, x in places_of(*(axis.places for axis in axes))]
        found.append((np.arange(oc)[:, None] * (ic * taps) + np.array(kernel, np.int64)).reshape(-1))
    return windows.kept(np.concatenate(found).astype(np.int32))
