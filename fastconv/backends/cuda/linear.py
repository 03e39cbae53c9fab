"""The fully connected layer, as a convolution of one pixel."""

from __future__ import annotations

from functools import lru_cache

from ...geometry import ConvGeometry, conv_geometry
from . import plan
from .array import DeviceArray


@lru_cache(maxsize=1024)
def _geometry(n: int, i: int, o: int, compute: str) -> ConvGeometry:
    return conv_geometry("linear", 1, (n, i, 1), (o, i, 1), compute=compute)


def linear_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, frozen: bool = False, compute: str = "float32"
) -> DeviceArray:
    g = _geometry(*x.shape, w.shape[0], compute)
    return plan.conv_forward(x.reshape(g.input_shape), w.reshape(g.weight_shape), b, g).reshape((g.n, g.oc))


def linear_backward_input(dy: DeviceArray, w: DeviceArray, compute: str = "float32") -> DeviceArray:
    g = _geometry(dy.shape[0], w.shape[1], w.shape[0], compute)
    dx = plan.conv_backward_input(dy.reshape(g.output_shape), w.reshape(g.weight_shape), None, g)
    return dx.reshape((g.n, g.ic))


def linear_backward_weight(dy: DeviceArray, x: DeviceArray, compute: str = "float32") -> DeviceArray:
    g = _geometry(*x.shape, dy.shape[1], compute)
    dw = plan.conv_backward_weight(dy.reshape(g.output_shape), x.reshape(g.input_shape), g)
    return dw.reshape((g.oc, g.ic))
