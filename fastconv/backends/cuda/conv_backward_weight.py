"""The gradient of a convolution's weights: dw[oc, tap] = sum over pixels of dy[oc, pixel] x[window(pixel), tap].

The sum over all images and pixels is cut into parts that the shape alone fixes. Each is written apart and a second
kernel adds them in order, so that no atomic operation decides who comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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


def conv_backward_weight(
    dy: DeviceArray, x: DeviceArray, geometry: ConvGeometry, way: Callable | None = None
) -> DeviceArray:
    """Return the gradient; ``way(dy, x, geometry)`` returns the parts of the sum, one after the other."""
    most = windows.images_at_once(geometry)
    sums = []
    for first in range(0, max(1, geometry.n), most):
        some = replace(geometry, n=min(most, geometry.n - first))
        sums.append((way or parts_by_tiles)(images(dy, first, some.n), images(x, first, some.n), some))
    return add_parts("conv_backward_weight", sums, geometry.weight_shape)


def weight_numbers(geometry: ConvGeometry) -> dict[str, int]:
    """Return sizes and strides: rows are output channels, columns taps, the depth is pixels."""
    groups, pixels = geometry.groups, prod(geometry.output)
    ic, oc = geometry.ic // groups, geometry.oc // groups
    columns = ic * prod(geometry.kernel)
    return {
        "rows": oc, "columns": columns, "depth": geometry.n * pixels,
        "a_stride": pixels, "a_image": geometry.oc * pixels, "a_group": oc * pixels,
        "b_stride": pixels, "b_image": geometry.ic * prod(geometry.input), "b_group": ic * prod(geometry.input),
        "c_stride": columns, "c_group": oc * columns, "c_part": geometry.oc * columns,
    }  # fmt: skip


def parts_by_tiles(dy: DeviceArray, x: DeviceArray, geometry: ConvGeometry, compute: str = "float32") -> DeviceArray:
    """Return the parts by a product in tiles."""
    axes, numbers, groups = windows.forward_axes(geometry), weight_numbers(geometry), geometry.groups
    rows, columns, depth, size = (numbers[name] for name in ("rows", "columns", "depth", "c_part"))
    tile, parts, part = tiles.pick_parts(rows, columns, depth, groups, x.itemsize, compute)
    sums, wide = empty((parts, size), x.dtype), 16 // x.itemsize
    plain, whole = windows.plain(axes), prod(geometry.output) % wide == 0
    form = Form(
        dtype=x.dtype.name,
        tile=tile,
        a=("rows", wide if whole and windows.aligned(dy) else 1, True),
        b=("rows", wide if whole and windows.aligned(x) else 1, True) if plain else ("taps", windows.checked(axes)),
        c="rows",
        width=tiles.width(tile, compute, columns, x.itemsize),
        compute=compute,
        cores=tiles.cores(compute),
    )
    p = problem(**numbers, **windows.numbers(axes), part=part, row_tiles=-(-rows // tile.rows))
    table = windows.no_table() if plain else windows.table(axes, geometry.ic // groups)
    run("conv_backward_weight", form, p, groups, dy, x, None, sums, table, parts)
    return sums


# ------------------------------------------------------------------------------------------ adding parts


@launch.factory
def sum_parts(number: type) -> Callable:
    """Return the kernel that adds parts in order, in float64."""

    def kernel(out, sums, parts, size):
        i, step = W(cuda.grid(1)), W(cuda.gridsize(1))
        while i < size:
            total = np.float64(0)
            at = i
            for _ in range(parts):
                total += sums[at]
                at += size
            out[i] = number(total)
            i += step

    return kernel


def add_parts(op: str, sums: list[DeviceArray], shape: tuple[int, ...]) -> DeviceArray:
    """Return the sum of arrays (parts, size) over arrays and parts."""
    while len(sums) > 1 or len(sums[0]) > 1:
        sums = [_added(op, some).reshape(1, -1) for some in sums]
        if len(sums) > 1:  # batches of more than 2**31 pixels alone come here
            together = empty((len(sums), sums[0].size), sums[0].dtype)
            for i, some in enumerate(sums):
                together[i : i + 1] = some
            sums = [together]
    return sums[0].reshape(shape)


def _added(op: str, sums: DeviceArray) -> DeviceArray:
    parts, size = sums.shape
    out = empty((size,), sums.dtype)
    launch.elements(op, sum_parts, (sums.dtype.type,), size, out, sums, np.int32(parts), W(size))
    return out
