"""Fully convolutional networks (Long, Shelhamer and Darrell 2015, https://arxiv.org/abs/1411.4038)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..errors import ArgumentError, mismatch
from ..nn import functional as F
from .vgg import vgg_features


class FCN(nn.Module):
    """VGG-16 whose dense layers are convolutions, and transposed convolutions that bring the classes' maps back to the
    image's size: (N, 3, H, W) -> (N, num_classes, H, W) for any H and W.

    ``finest`` 32 reads the last pool alone, 16 adds the scores of the fourth, 8 those of the third as well.
    """

    def __init__(
        self, num_classes: int = 21, finest: int = 8, width: int = 4096, dropout: float = 0.5, dtype: Any = None
    ) -> None:
        if finest not in (8, 16, 32):
            raise ArgumentError(mismatch("fcn", "finest to be 8, 16 or 32", finest))
        self.finest = finest
        # ceil_mode: what comes back is at least as large as the image, and is cropped
        self.features = vgg_features(16, ceil_mode=True, dtype=dtype)
        self.head = nn.Sequential(
            nn.Conv2d(512, width, 7, padding=3, dtype=dtype), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv2d(width, width, 1, dtype=dtype), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv2d(width, num_classes, 1, dtype=dtype),
        )  # fmt: skip
        self.score4 = nn.Conv2d(512, num_classes, 1, dtype=dtype) if finest < 32 else None
        self.score3 = nn.Conv2d(256, num_classes, 1, dtype=dtype) if finest < 16 else None
        self.up5 = _bilinear(num_classes, 2, dtype) if finest < 32 else None
        self.up4 = _bilinear(num_classes, 2, dtype) if finest < 16 else None
        self.up = _bilinear(num_classes, finest, dtype)

    def forward(self, input: Any) -> Any:
        pooled, first = [input], 0
        for end in (17, 24, 31):
            pooled.append(self.features[first:end](pooled[-1]))
            first = end
        _, third, fourth, fifth = pooled
        scores = self.head(fifth)
        if self.score4 is not None:
            scores = _cropped(self.up5(scores), fourth) + self.score4(fourth)
        if self.score3 is not None:
            scores = _cropped(self.up4(scores), third) + self.score3(third)
        return _cropped(self.up(scores), input)


def _cropped(maps: Any, like: Any) -> Any:
    """Return the upper left part of ``maps``, of the height and width of ``like``."""
    (height, width), (h, w) = maps.shape[2:], like.shape[2:]
    return F.pad(maps, (0, w - width, 0, h - height)) if (height, width) != (h, w) else maps


def _bilinear(channels: int, stride: int, dtype: Any) -> nn.ConvTranspose2d:
    """Return the layer that enlarges each map ``stride`` times; it starts as bilinear interpolation."""
    size = 2 * stride
    layer = nn.ConvTranspose2d(channels, channels, size, stride, stride // 2, bias=False, dtype=dtype)
    ramp = 1 - np.abs((np.arange(size) + 0.5) / stride - 1)
    layer.weight.data[...] = np.eye(channels)[:, :, None, None] * np.outer(ramp, ramp)
    return layer


def fcn(**options: Any) -> FCN:
    """Return a fully convolutional network on VGG-16 for (N, 3, H, W): FCN-8s by default.

    Args:
        options: ``num_classes`` (21), ``finest`` (8; 16 or 32 for FCN-16s and FCN-32s), ``width`` (4096), ``dropout``
            (0.5), ``dtype``.
    """
    return FCN(**options)
