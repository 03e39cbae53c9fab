"""A unit (convolution, activation, max-pool) from the verbs that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ...geometry import ConvGeometry, PoolGeometry
from .activation import relu_backward, relu_forward
from .conv import bias_backward, conv_backward_input, conv_backward_weight, conv_forward
from .norm import batch_norm_statistics
from .pool import max_pool_backward, max_pool_forward
from .wide import written

NO_GRADIENT = 255


def _steps(geometry: PoolGeometry) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the windows' edges, and the flat position in the (D, H, W) plane of each window's first element."""
    edges = tuple(axis.count[0] for axis in geometry.windows)
    d, h, w = np.meshgrid(*(np.array(axis.start) for axis in geometry.windows), indexing="ij")
    return edges, (d * geometry.input[1] + h) * geometry.input[2] + w


def conv_act_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, geometry: ConvGeometry, activation: str | None,
    residual: np.ndarray | None = None, frozen: bool | dict = False, out: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    z = conv_forward(x, w, b, geometry)
    z = z if residual is None else z + residual
    return written(relu_forward(z) if activation == "relu" else z, out)


def conv_moments_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, geometry: ConvGeometry, frozen: bool | dict = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = conv_forward(x, w, b, geometry)
    return y, *batch_norm_statistics(y.reshape(*y.shape[:2], prod(y.shape[2:])))


def conv_act_pool_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, geometry: ConvGeometry, activation: str | None,
    pool_geometry: PoolGeometry, frozen: bool | dict = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    y, position = max_pool_forward(conv_act_forward(x, w, b, geometry, activation), pool_geometry)
    (_, height, width), first = _steps(pool_geometry)
    rows, column = np.divmod(position - first, pool_geometry.input[2])
    plane, row = np.divmod(rows, pool_geometry.input[1])
    index = (plane * height + row) * width + column
    if activation == "relu":
        index = np.where(relu_backward(np.ones_like(y), y) == 0, NO_GRADIENT, index)
    return y, index.astype(np.uint8)


def conv_act_pool_backward(
    dy: np.ndarray, index: np.ndarray, x: np.ndarray, w: np.ndarray, geometry: ConvGeometry,
    pool_geometry: PoolGeometry, needs: Sequence[bool],
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:  # fmt: skip
    edges, first = _steps(pool_geometry)
    live = index < prod(edges)
    plane, row, column = np.unravel_index(np.where(live, index, 0), edges)
    position = first + (plane * pool_geometry.input[1] + row) * pool_geometry.input[2] + column
    dz = max_pool_backward(np.where(live, dy, dy.dtype.type(0)), position, pool_geometry)
    dx = conv_backward_input(dz, w, None, geometry) if needs[0] else None
    dw = conv_backward_weight(dz, x, geometry) if needs[1] else None
    return dx, dw, bias_backward(dz) if needs[2] else None
