"""A unit (convolution, activation, max-pool) from the verbs that it is made of."""

from __future__ import annotations

from collections.abc import Sequence

from ...geometry import ConvGeometry, PoolGeometry
from . import pool
from .activation import relu_forward
from .array import DeviceArray
from .norm import bias_backward
from .plan import conv_backward_input, conv_backward_weight, conv_forward, conv_relu_forward
from .shape import add

NO_GRADIENT = 255


def conv_act_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, activation: str | None,
    residual: DeviceArray | None = None, frozen: bool | dict = False, out: DeviceArray | None = None,
) -> DeviceArray:  # fmt: skip
    if activation == "relu" and residual is None:
        y = conv_relu_forward(x, w, b, geometry)
    else:
        y = conv_forward(x, w, b, geometry, frozen)
        y = y if residual is None else add(y, residual)
        y = relu_forward(y) if activation == "relu" else y
    if out is None:
        return y
    out[...] = y
    return out


def conv_act_pool_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, activation: str | None,
    pool_geometry: PoolGeometry, frozen: bool | dict = False,
) -> tuple[DeviceArray, DeviceArray]:  # fmt: skip
    z = conv_act_forward(x, w, b, geometry, activation, None, frozen)
    y, where = pool.max_pool_forward(z, pool_geometry)
    return y, pool.to_places(y, where, pool_geometry, activation == "relu", NO_GRADIENT)


def conv_act_pool_backward(
    dy: DeviceArray, index: DeviceArray, x: DeviceArray, w: DeviceArray, geometry: ConvGeometry,
    pool_geometry: PoolGeometry, needs: Sequence[bool],
) -> tuple[DeviceArray | None, DeviceArray | None, DeviceArray | None]:  # fmt: skip
    where, live = pool.from_places(dy, index, pool_geometry)
    dz = pool.max_pool_backward(live, where, pool_geometry)
    dx = conv_backward_input(dz, w, None, geometry) if needs[0] else None
    dw = conv_backward_weight(dz, x, geometry) if needs[1] else None
    return dx, dw, bias_backward(dz) if needs[2] else None
