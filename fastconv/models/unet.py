"""U-Net in two and three dimensions: an image in, a mask of its size out."""

from __future__ import annotations

from typing import Any

from .. import init, nn
from ..arguments import integer
from ..errors import ArgumentError, ShapeError, mismatch
from ..nn import functional as F

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class UNet(nn.Module):
    """``down0`` ... ``down{depth}`` with max-pools between them; then up again: a transposed convolution, the maps of
    the same size from the way down beside it, two convolutions; at last 1x1 to the classes.

    Convolutions are padded, so the mask has the input's size, which must be a multiple of 2**depth.
    """

    def __init__(
        self, rank: int, in_channels: int, out_channels: int, width: int, depth: int, batch_norm: bool,
        widen_late: bool, dtype: Any,
    ) -> None:  # fmt: skip
        op = f"unet{rank}d"
        for name, value in (("width", width), ("depth", depth)):
            integer(op, name, value, 1)
        self.rank, self.depth = rank, depth
        self.pool = _POOL[rank](2)
        channels, kept = in_channels, []
        for level in range(depth + 1):
            out = width << level
            first = out // 2 if widen_late else out
            setattr(self, f"down{level}", _twice(rank, channels, first, out, batch_norm, dtype))
            channels = out
            kept.append(out)
        for level in reversed(range(depth)):
            skip = kept[level]
            up = channels if widen_late else skip
            setattr(self, f"up{level}", _UP[rank](channels, up, 2, 2, dtype=dtype))
            setattr(self, f"merge{level}", _twice(rank, skip + up, skip, skip, batch_norm, dtype))
            channels = skip
        self.head = _CONV[rank](channels, out_channels, 1, dtype=dtype)
        for layer in self.modules():
            if isinstance(layer, _CONV[rank]) and layer is not self.head:
                init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, input: Any) -> Any:
        if any(size % (1 << self.depth) for size in input.shape[2:]):
            expected = f"spatial sizes that are multiples of {1 << self.depth}"
            raise ShapeError(mismatch(f"unet{self.rank}d", expected, f"input {tuple(input.shape)}"))
        kept = [input]
        for level in range(self.depth + 1):
            kept.append(getattr(self, f"down{level}")(self.pool(kept[-1]) if level else input))
        x = kept.pop()
        for level in reversed(range(self.depth)):
            x = F.cat([kept.pop(), getattr(self, f"up{level}")(x)], 1)
            x = getattr(self, f"merge{level}")(x)
        return self.head(x)


def _twice(rank: int, channels: int, first: int, second: int, batch_norm: bool, dtype: Any) -> nn.Sequential:
    """Return two 3x3 convolutions, each with batch norm, if asked for, and ReLU."""
    layers: list[nn.Module] = []
    for inside, outside in ((channels, first), (first, second)):
        layers.append(_CONV[rank](inside, outside, 3, padding=1, dtype=dtype))
        layers += [_NORM[rank](outside, dtype=dtype)] if batch_norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def unet2d(
    in_channels: int = 1, out_channels: int = 2, width: int = 64, depth: int = 4, batch_norm: bool = False,
    dtype: Any = None,
) -> UNet:  # fmt: skip
    """Return U-Net for (N, in_channels, H, W) (Ronneberger, Fischer and Brox 2015, https://arxiv.org/abs/1505.04597):
    31,030,658 parameters by default. The paper's convolutions are unpadded and lose a border; these keep the size.

    Args:
        out_channels: classes; the output is logits, (N, out_channels, H, W).
        width: maps of the first level; they double ``depth`` times.
        batch_norm: put batch norm behind each 3x3 convolution.
    """
    return UNet(2, in_channels, out_channels, width, depth, batch_norm, False, dtype)


def unet3d(
    in_channels: int = 3, out_channels: int = 3, width: int = 64, depth: int = 3, batch_norm: bool = True,
    dtype: Any = None,
) -> UNet:  # fmt: skip
    """Return 3-D U-Net for (N, in_channels, D, H, W) (Çiçek et al. 2016, https://arxiv.org/abs/1606.06650):
    19,075,523 parameters by default. (The paper's 19,069,955 count neither batch norm nor the biases of the transposed
    convolutions.)

    The first of each pair of convolutions on the way down has half the maps, so that no pool follows a narrow layer.

    Raises:
        ArgumentError: an odd ``width``.
    """
    if integer("unet3d", "width", width, 2) % 2:
        raise ArgumentError(mismatch("unet3d", "width to be even", width))
    return UNet(3, in_channels, out_channels, width, depth, batch_norm, True, dtype)
