"""Export of convolutions, units, linear layers and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Node, Value
from ..resampling import AxisTaps, interpolation
from .export_builder import Builder, Stored, geometry_of, lowered, put_lowered, writes
from .export_elements import follow
from .export_pool import along, max_pool

# ------------------------------------------------------------------------------------------------- convolution


def _conv(b: Builder, node: Node, op: str, x: Value, y: Value, **more: Any) -> tuple[str, int]:
    """Write Conv or ConvTranspose; return its result's name and rank."""
    g, w = geometry_of(node), node["w"]
    weight = b.stored(w)
    own_rank = len(weight.sizes) - 2  # a weight lies in the file as the user has it
    fits = 1 <= own_rank <= 3 and weight.sizes == (*w.sizes[:2], *w.sizes[5 - own_rank :])
    name, rank = lowered(b, x, own_rank if fits else 1)
    spare = slice(0, 3 - rank)
    if any(k != 1 for k in (*g.kernel[spare], *y.sizes[2:][spare])):  # the axes left out are more than views
        name, rank = b.exact(x), 3
    last = slice(3 - rank, 3)
    inputs = [name, b.reshaped(weight, (*w.sizes[:2], *w.sizes[5 - rank :]))]
    if node["b"] is not None:
        inputs.append(b.exact(node["b"]))
    made = b.emit(
        op, inputs, kernel_shape=g.kernel[last], strides=g.stride[last], dilations=g.dilation[last], group=g.groups,
        pads=[*g.padding[last], *g.padding_end[last]], **{key: value[last] for key, value in more.items()},
    )  # fmt: skip
    return made, rank


@writes("conv_forward")
def _conv_forward(b: Builder, node: Node) -> None:
    put_lowered(b, node.result, *_conv(b, node, "Conv", node["x"], node.result))


@writes("conv_backward_input")
def _conv_transpose(b: Builder, node: Node) -> None:
    """The adjoint: in the geometry ``input`` is the size of the result."""
    g = geometry_of(node)
    sizes = zip(g.input, g.output, g.stride, g.padding, g.padding_end, g.dilation, g.kernel, strict=True)
    extra = [i - ((o - 1) * s - p - e + d * (k - 1) + 1) for i, o, s, p, e, d, k in sizes]
    more = {"output_padding": extra} if any(extra) else {}
    put_lowered(b, node.result, *_conv(b, node, "ConvTranspose", node["dy"], node.result, **more))


@writes("conv_act_forward", "conv_act_pool_forward")
def _unit(b: Builder, node: Node) -> None:
    """A convolution, what follows its sum, and perhaps a max-pool."""
    y, pooling = node.result, None
    if "pool_geometry" in node.arguments:
        pooling, sizes = geometry_of(node, "pool_geometry"), geometry_of(node).output_shape[1:]
        y = Value("result", "", (y.shape[0], *sizes), y.dtype)
        y.sizes = (node.result.sizes[0], *sizes)
    put_lowered(b, y, *_conv(b, node, "Conv", node["x"], y))
    follow(b, y, node)
    if pooling is not None:
        max_pool(b, node, y, pooling, node.result, None)


# ------------------------------------------------------------------------------------------------------ linear


@writes("linear_forward")
def _linear(b: Builder, node: Node) -> None:
    w = node["w"]
    turned = b.producers.get(w)
    if turned is not None and turned.verb == "permute" and tuple(turned["axes"]) == (1, 0) and b.known(w) is None:
        weight, transposed = b.exact(turned["a"]), 0
    else:
        weight, transposed = b.exact(w), 1
    inputs = [b.exact(node["x"]), weight, "" if node["b"] is None else b.exact(node["b"])]
    b.put(node.result, b.emit("Gemm", inputs, transB=transposed))


@writes("matmul")
def _matmul(b: Builder, node: Node) -> None:
    b.put(node.result, b.emit("MatMul", [b.exact(node["a"]), b.exact(node["b"])]))


# -------------------------------------------------------------------------------------------------- resampling


@writes("resample_forward")
def _resample(b: Builder, node: Node) -> None:
    """Resize where it is one whose numbers all readers compute alike; else what the tables say, axis by axis."""
    x, y, axes = node["x"], node.result, node["axes"]
    name, rank = lowered(b, x)
    axes = axes[3 - rank :]
    resize = _resize(x.sizes[5 - rank :], y.sizes[5 - rank :], axes, rank)
    if resize is not None:
        put_lowered(b, y, _write_resize(b, name, x, y, rank, resize), rank)
        return
    sizes = (*x.sizes[:2], *x.sizes[5 - rank :])
    for i, taps in enumerate(axes):
        if taps is not None:
            name = _resampled(b, Stored(name, sizes), 2 + i, taps, x.dtype)
            sizes = (*sizes[: 2 + i], len(taps.index), *sizes[3 + i :])
    put_lowered(b, y, name, rank)


def _resampled(b: Builder, x: Stored, axis: int, taps: AxisTaps, dtype: np.dtype) -> str:
    if taps.index.shape[1] == 1 and (taps.weight == 1).all():
        index = b.constant(np.ascontiguousarray(taps.index[:, 0]), "index")
        return b.emit("Gather", [x.name, index], axis=axis)
    matrix = np.zeros((len(taps.index), x.sizes[axis]))
    np.add.at(matrix, (np.arange(len(taps.index))[:, None], taps.index), taps.weight)
    return along(b, x, axis, matrix.astype(dtype))


# Resize's attributes -> the options of ``interpolation`` that mean the same.
_RESIZES = (
    ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, ("nearest", None)),
    ({"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, ("linear", False)),
    ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, ("linear", True)),
    ({"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75}, ("bicubic", False)),
    ({"mode": "cubic", "coordinate_transformation_mode": "align_corners", "cubic_coeff_a": -0.75}, ("bicubic", True)),
)


def _resize(inputs: Sequence[int], outputs: Sequence[int], axes: Sequence[AxisTaps | None], rank: int) -> dict | None:
    """Return the attributes of Resize that mean these tables, if there are any."""
    for attributes, (mode, align_corners) in _RESIZES:
        if mode == "nearest" and any(o % i for i, o in zip(inputs, outputs, strict=True)):
            continue  # where a position falls between two pixels hangs on the reader's rounding
        if (mode, rank) in (("bicubic", 1), ("bicubic", 3), ("linear", 1)):
            continue
        tables = [_table(i, o, mode, align_corners) for i, o in zip(inputs, outputs, strict=True)]
        if all(_same(taps, table) for taps, table in zip(axes, tables, strict=True)):
            return attributes
    return None


def _table(size: int, output: int, mode: str, align_corners: bool | None) -> AxisTaps | None:
    shape, wanted = ((1, 1, size, 2), (output, 2)) if mode == "bicubic" else ((1, 1, size), (output,))
    return interpolation("export", shape, wanted, None, mode, align_corners, None, False)[1][4 - len(shape) + 1]


def _same(a: AxisTaps | None, b: AxisTaps | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a.index, b.index) and np.array_equal(a.weight, b.weight)


def _write_resize(b: Builder, name: str, x: Value, y: Value, rank: int, attributes: dict) -> str:
    spatial = y.sizes[5 - rank :]
    if b.opset >= 18:
        axes = list(range(2, 2 + rank))
        return b.emit("Resize", [name, "", "", b.integers(spatial)], axes=axes, **attributes)
    return b.emit("Resize", [name, "", "", b.shape((*y.sizes[:2], *spatial))], **attributes)
