"""Random networks as ONNX: whatever layers follow each other, onnxruntime computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from exported import check, settled

from fastconv import functional as F
from fastconv import init, nn
from fastconv.errors import ShapeError

pytest.importorskip("hypothesis", reason="hypothesis is missing: pip install fastconv[test]")
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def layers(draw, rank: int, channels: int):
    """A layer that takes ``channels`` maps of at least 4 pixels an axis, and how many maps leave it."""
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    each = lambda low, high: tuple(number(low, high) for _ in range(rank))  # noqa: E731
    kind = draw(
        st.sampled_from(["conv", "up", "max", "avg", "batch", "group", "instance", "act", "zoom", "pad", "lrn"])
    )
    if kind == "conv":
        groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
        out = groups * number(1, 3)
        options = {"stride": each(1, 2), "padding": each(0, 2), "dilation": each(1, 2), "groups": groups}
        layer = getattr(nn, f"Conv{rank}d")
        return layer(channels, out, each(1, 2), **options, bias=draw(st.booleans())), out
    if kind == "up":
        out = number(1, 4)
        options = {"stride": 2, "padding": each(0, 1), "output_padding": each(0, 1)}
        return getattr(nn, f"ConvTranspose{rank}d")(channels, out, each(2, 3), **options), out
    if kind == "max":
        return getattr(nn, f"MaxPool{rank}d")(
            each(2, 3), 2, each(0, 1), each(1, 2), ceil_mode=draw(st.booleans())
        ), channels
    if kind == "avg":
        options = {"ceil_mode": draw(st.booleans()), "count_include_pad": draw(st.booleans())}
        return getattr(nn, f"AvgPool{rank}d")(each(2, 3), each(1, 2), each(0, 1), **options), channels
    if kind == "batch":
        return getattr(nn, f"BatchNorm{rank}d")(channels), channels
    if kind == "group":
        return nn.GroupNorm(
            draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0])), channels
        ), channels
    if kind == "instance":
        return getattr(nn, f"InstanceNorm{rank}d")(channels, affine=draw(st.booleans())), channels
    if kind == "act":
        return draw(
            st.sampled_from([nn.ReLU(), nn.GELU(), nn.Hardswish(), nn.ELU(0.5), nn.Softmax(1), nn.LeakyReLU()])
        ), channels
    if kind == "zoom":
        return nn.Upsample(scale_factor=draw(st.sampled_from([2, 1.5])), mode="nearest"), channels
    if kind == "pad":
        mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
        return Padded(each(0, 3) + each(0, 3), mode), channels
    return nn.LocalResponseNorm(number(2, 3), 0.1), channels


class Padded(nn.Module):
    def __init__(self, widths, mode):
        self.widths, self.mode = widths, mode

    def forward(self, x):
        return F.pad(x, self.widths, self.mode)


class Skipping(nn.Module):
    """Layers one after the other; where sizes allow it, each input is also added to or put beside the output."""

    def __init__(self, parts, beside):
        self.parts, self.beside = nn.ModuleList(parts), beside

    def forward(self, x):
        for part in self.parts:
            y = part(x)
            if y.shape == x.shape:
                y = F.cat([y, x], 1)[:, : x.shape[1]] if self.beside else F.relu(y + x)
            x = y
        return F.flatten(x, 1)


@st.composite
def networks(draw):
    rank, channels = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    shape = (2, channels, *(draw(st.integers(7, 10)) for _ in range(rank)))
    parts = []
    x = np.zeros(shape, np.float32)
    for _ in range(draw(st.integers(1, 5))):
        with init.skip():
            part, out = draw(layers(rank, channels))
        try:
            x = part.eval()(x)
        except ShapeError:  # a window larger than the maps
            break
        channels = out
        parts.append(part)
        if min(x.shape[2:]) < 4 or x.size > 40_000:
            break
    return Skipping(parts, draw(st.booleans())), shape


@given(networks(), st.sampled_from([13, 17, 18, 21]))
def test_random_networks(network, opset):
    net, shape = network
    check(settled(net), [shape], opset=opset, batches=(3,))
