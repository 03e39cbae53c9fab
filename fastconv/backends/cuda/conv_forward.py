"""Convolution: y[oc, pixel] = sum over taps of w[oc, tap] x[window(pixel), tap], a correlation for each group."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ...geometry import ConvGeometry
from . import windows
from .array import DeviceArray, empty
from .correlate import Correlation, Way, by_tiles


def conv_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, way: Way = by_tiles,
    activation: str | None = None,
) -> DeviceArray:  # fmt: skip
    y = empty(geometry.output_shape, x.dtype)
    most = windows.images_at_once(geometry)
    for first in range(0, geometry.n, most):
        some = replace(geometry, n=min(most, geometry.n - first))
        what = _correlation(some)
        way(what, w, images(x, first, some.n), b, images(y, first, some.n), activation)
    return y


def images(array: DeviceArray, first: int, count: int) -> DeviceArray:
    """Return some images of a batch."""
    return array.part(first * prod(array.shape[1:]), (count, *array.shape[1:]))


def _correlation(geometry: ConvGeometry) -> Correlation:
    groups, pixels, taken = geometry.groups, prod(geometry.output), prod(geometry.input)
    ic, oc = geometry.ic // groups, geometry.oc // groups
    depth = ic * prod(geometry.kernel)
    numbers = {
        "rows": oc, "columns": geometry.n * pixels, "depth": depth, "a_group": oc * depth,
        "b_stride": pixels, "b_image": geometry.ic * taken, "b_group": ic * taken,
        "c_stride": pixels, "c_image": geometry.oc * pixels, "c_group": oc * pixels,
    }  # fmt: skip
    return Correlation("conv_forward", windows.forward_axes(geometry), groups, ic, numbers, turned=False, dense=True)
