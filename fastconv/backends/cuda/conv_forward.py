"""Convolution: y[oc, pixel] = sum over taps of w[oc, tap] x[window(pixel), tap], a product for each group."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ...geometry import ConvGeometry
from . import tiles, windows
from .array import DeviceArray, empty
from .product import Form, run
from .problem import problem


def conv_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, activation: str | None = None
) -> DeviceArray:
    y = empty(geometry.output_shape, x.dtype)
    most = windows.images_at_once(geometry)
    for first in range(0, geometry.n, most):
        some = replace(geometry, n=min(most, geometry.n - first))
        _forward(images(x, first, some.n), w, b, images(y, first, some.n), some, activation)
    return y


def images(array: DeviceArray, first: int, count: int) -> DeviceArray:
    return array.part(first * prod(array.shape[1:]), (count, *array.shape[1:]))


def _forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, y: DeviceArray, geometry: ConvGeometry,
    activation: str | None,
) -> None:  # fmt: skip
    axes = windows.forward_axes(geometry)
    groups, pixels = geometry.groups, prod(geometry.output)
    ic, oc = geometry.ic // groups, geometry.oc // groups
    depth, columns = ic * prod(geometry.kernel), geometry.n * pixels
    tile = tiles.pick(oc, columns, groups, x.itemsize)
    wide = 16 // x.itemsize
    plain = windows.plain(axes)
    form = Form(
        dtype=x.dtype.name,
        tile=tile,
        a=("rows", wide if depth % wide == 0 and windows.aligned(w) else 1, False),
        b=("columns", wide if pixels % wide == 0 and windows.aligned(x) else 1, True)
        if plain
        else ("pixels", windows.checked(axes)),
        c="images",
        width=wide if pixels % wide == 0 and tile.thread_columns % wide == 0 and windows.aligned(y) else 1,
        bias=None if b is None else "rows",
        activation=activation,
    )
    p = problem(
        rows=oc, columns=columns, depth=depth, part=depth, row_tiles=-(-oc // tile.rows),
        a_stride=depth, a_group=oc * depth,
        b_stride=pixels, b_image=geometry.ic * prod(geometry.input), b_group=ic * prod(geometry.input),
        c_stride=pixels, c_image=geometry.oc * pixels, c_group=oc * pixels,
        **windows.numbers(axes),
    )  # fmt: skip
    run("conv_forward", form, p, groups, w, x, b, y, windows.no_table() if plain else windows.table(axes, ic))
