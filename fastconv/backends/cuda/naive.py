"""Convolution, a thread an output and a loop over its terms: the last candidate of each direction, for any geometry."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from ...geometry import ConvGeometry
from . import launch
from .array import DeviceArray, empty

cuda: Any = None
math: Any = None


class Sizes(NamedTuple):
    """The geometry as kernels take it; ``icg`` and ``ocg`` are channels a group."""

    n: int
    icg: int
    ocg: int
    groups: int
    id: int
    ih: int
    iw: int
    kd: int
    kh: int
    kw: int
    sd: int
    sh: int
    sw: int
    pd: int
    ph: int
    pw: int
    dd: int
    dh: int
    dw: int
    od: int
    oh: int
    ow: int


def _sizes(g: ConvGeometry) -> Sizes:
    axes = g.input, g.kernel, g.stride, g.padding, g.dilation, g.output
    return Sizes(g.n, g.ic // g.groups, g.oc // g.groups, g.groups, *(size for axis in axes for size in axis))


@launch.factory
def forward(number: type, biased: bool) -> Callable:
    def kernel(y, x, w, b, count, g):
        plane, taps = g.id * g.ih * g.iw, g.kd * g.kh * g.kw
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            ow, oh, od = i % g.ow, i // g.ow % g.oh, i // (g.ow * g.oh) % g.od
            nc = i // (g.ow * g.oh * g.od)
            oc = nc % (g.groups * g.ocg)
            first = (nc // (g.groups * g.ocg) * g.groups + oc // g.ocg) * g.icg * plane
            total = number(0)
            for ic in range(g.icg):
                for k in range(taps):
                    d = od * g.sd - g.pd + k // (g.kw * g.kh) * g.dd
                    h = oh * g.sh - g.ph + k // g.kw % g.kh * g.dh
                    v = ow * g.sw - g.pw + k % g.kw * g.dw
                    if 0 <= d < g.id and 0 <= h < g.ih and 0 <= v < g.iw:
                        at = first + ic * plane + (d * g.ih + h) * g.iw + v
                        total += x[at] * w[(oc * g.icg + ic) * taps + k]
            y[i] = total + b[oc] if biased else total

    return kernel


@launch.factory
def backward_input(number: type, biased: bool) -> Callable:
    def kernel(dx, dy, w, b, count, g):
        plane, taps = g.od * g.oh * g.ow, g.kd * g.kh * g.kw
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            iw, ih, id = i % g.iw, i // g.iw % g.ih, i // (g.iw * g.ih) % g.id
            nc = i // (g.iw * g.ih * g.id)
            ic = nc % (g.groups * g.icg)
            group = ic // g.icg
            first = (nc // (g.groups * g.icg) * g.groups + group) * g.ocg * plane
            total = number(0)
            for k in range(taps):
                d = id + g.pd - k // (g.kw * g.kh) * g.dd
                h = ih + g.ph - k // g.kw % g.kh * g.dh
                v = iw + g.pw - k % g.kw * g.dw
                if d % g.sd == 0 and h % g.sh == 0 and v % g.sw == 0:
                    d, h, v = d // g.sd, h // g.sh, v // g.sw
                    if 0 <= d < g.od and 0 <= h < g.oh and 0 <= v < g.ow:
                        at = first + (d * g.oh + h) * g.ow + v
                        for oc in range(g.ocg):
                            of = ((group * g.ocg + oc) * g.icg + ic - group * g.icg) * taps + k
                            total += dy[at + oc * plane] * w[of]
            dx[i] = total + b[ic] if biased else total

    return kernel


@launch.factory
def backward_weight(number: type) -> Callable:
    def kernel(dw, dy, x, count, g):
        plane, outputs, taps = g.id * g.ih * g.iw, g.od * g.oh * g.ow, g.kd * g.kh * g.kw
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            k, ic, oc = i % taps, i // taps % g.icg, i // (taps * g.icg)
            total = number(0)
            for n in range(g.n):
                of_x = ((n * g.groups + oc // g.ocg) * g.icg + ic) * plane
                of_y = (n * g.groups * g.ocg + oc) * outputs
                for o in range(outputs):
                    d = o // (g.ow * g.oh) * g.sd - g.pd + k // (g.kw * g.kh) * g.dd
                    h = o // g.ow % g.oh * g.sh - g.ph + k // g.kw % g.kh * g.dh
                    v = o % g.ow * g.sw - g.pw + k % g.kw * g.dw
                    if 0 <= d < g.id and 0 <= h < g.ih and 0 <= v < g.iw:
                        total += dy[of_y + o] * x[of_x + (d * g.ih + h) * g.iw + v]
            dw[i] = total

    return kernel


def conv_forward(
    x: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry, frozen: bool | dict = False
) -> DeviceArray:
    y, key = empty(geometry.output_shape, x.dtype), (x.dtype.type, b is not None)
    arguments = y, x, w, x if b is None else b, y.size, _sizes(geometry)
    launch.elements("conv_forward", forward, key, y.size, *arguments)
    return y


def conv_backward_input(dy: DeviceArray, w: DeviceArray, b: DeviceArray | None, geometry: ConvGeometry) -> DeviceArray:
    dx, key = empty(geometry.input_shape, dy.dtype), (dy.dtype.type, b is not None)
    arguments = dx, dy, w, dy if b is None else b, dx.size, _sizes(geometry)
    launch.elements("conv_backward_input", backward_input, key, dx.size, *arguments)
    return dx


def conv_backward_weight(dy: DeviceArray, x: DeviceArray, geometry: ConvGeometry) -> DeviceArray:
    dw = empty(geometry.weight_shape, dy.dtype)
    arguments = dw, dy, x, prod(dw.shape), _sizes(geometry)
    launch.elements("conv_backward_weight", backward_weight, (dy.dtype.type,), dw.size, *arguments)
    return dw
