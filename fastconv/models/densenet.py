"""DenseNet: each layer sees the maps of all before it (Huang et al. 2017, https://arxiv.org/abs/1608.06993)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import backends, init, nn
from ..nn import functional as F
from ..nn.fusion import moments_for
from ..tensor import Tensor

_OLD_NAME = re.compile(r"(?<=\.)(norm|conv)\.([12])(?=\.\w+$)")


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 1x1 to ``bn_size * growth_rate`` maps; batch norm, ReLU, 3x3 to ``growth_rate`` maps."""

    def __init__(self, channels: int, growth_rate: int, bn_size: int, drop_rate: float, dtype: Any) -> None:
        width = bn_size * growth_rate
        self.norm1 = nn.BatchNorm2d(channels, dtype=dtype)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False, dtype=dtype)
        self.norm2 = nn.BatchNorm2d(width, dtype=dtype)
        self.conv2 = nn.Conv2d(width, growth_rate, 3, padding=1, bias=False, dtype=dtype)
        self.drop_rate = drop_rate

    def forward(self, input: Any, moments: Any = None, room: Any = None) -> Any:
        steps = self.norm1, F.relu, self.conv1, self.norm2, F.relu, self.conv2
        out = nn.chain(input, *steps, moments=moments, room=None if self.drop_rate else room)
        return F.dropout(out, self.drop_rate, self.training) if self.drop_rate else out


class DenseBlock(nn.Module):
    """``denselayer1``, ``denselayer2``, ...: what each adds is concatenated to what it saw.

    NumPy's arrays have views, so all layers' maps lie in one array, and each layer sees the first channels of it. What
    batch norm wants to know of a map is found out once, not by every layer that sees it.
    """

    def __init__(
        self, layers: int, channels: int, growth_rate: int, bn_size: int, drop_rate: float, dtype: Any
    ) -> None:
        for i in range(layers):
            layer = DenseLayer(channels + i * growth_rate, growth_rate, bn_size, drop_rate, dtype)
            setattr(self, f"denselayer{i + 1}", layer)
        self.channels, self.growth_rate = channels + layers * growth_rate, growth_rate

    def forward(self, input: Any) -> Any:
        array, room = input.data if isinstance(input, Tensor) else input, None
        if isinstance(array, np.ndarray) and (backend := backends.of(array)).owns(array):  # a traced one's is another
            room = backend.empty((array.shape[0], self.channels, *array.shape[2:]), array.dtype)
        moments, inside = None, False  # the input may lie in another order, in which sums round otherwise
        for layer in self.children():
            ours = room is not None and type(layer) is DenseLayer and "forward" not in vars(layer)  # not replaced
            moments = moments_for(layer.norm1, input, moments) if ours and inside else None
            first = input.shape[1]
            maps = layer(input, moments, room[:, first : first + self.growth_rate]) if ours else layer(input)
            channels = first + maps.shape[1]
            inside = room is not None and channels <= self.channels
            input = F.cat([input, maps], 1, out=room[:, :channels] if inside else None)
        return input


class DenseNet(nn.Module):
    """``features``, ReLU, the mean over the image, and a dense ``classifier``."""

    def __init__(
        self, growth_rate: int = 32, block_config: Sequence[int] = (6, 12, 24, 16), num_init_features: int = 64,
        bn_size: int = 4, drop_rate: float = 0, num_classes: int = 1000, dtype: Any = None,
    ) -> None:  # fmt: skip
        channels = num_init_features
        features: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(3, channels, 7, 2, 3, bias=False, dtype=dtype),
            "norm0": nn.BatchNorm2d(channels, dtype=dtype),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, 2, 1),
        }
        for i, layers in enumerate(block_config):
            features[f"denseblock{i + 1}"] = DenseBlock(layers, channels, growth_rate, bn_size, drop_rate, dtype)
            channels += layers * growth_rate
            if i + 1 < len(block_config):
                features[f"transition{i + 1}"] = _transition(channels, dtype)
                channels //= 2
        features["norm5"] = nn.BatchNorm2d(channels, dtype=dtype)
        self.features = nn.Sequential(features)
        self.classifier = nn.Linear(channels, num_classes, dtype=dtype)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                init.kaiming_normal_(layer.weight)
        init.zeros_(self.classifier.bias)

    def forward(self, input: Any) -> Any:
        maps = F.relu(self.features(input))
        return self.classifier(F.flatten(F.adaptive_avg_pool2d(maps, 1), 1))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """``Module.load_state_dict``, also of names as in torchvision's own files, which write ``norm.1`` for ``norm1``
        in the dense layers."""
        if isinstance(state_dict, Mapping):
            state_dict = {_OLD_NAME.sub(r"\1\2", str(name)): value for name, value in state_dict.items()}
        return super().load_state_dict(state_dict, strict)


def _transition(channels: int, dtype: Any) -> nn.Sequential:
    """Return what stands between blocks: half as many maps, half the size."""
    layers = {
        "norm": nn.BatchNorm2d(channels, dtype=dtype),
        "relu": nn.ReLU(),
        "conv": nn.Conv2d(channels, channels // 2, 1, bias=False, dtype=dtype),
        "pool": nn.AvgPool2d(2),
    }
    return nn.Sequential(layers)


def densenet121(**options: Any) -> DenseNet:
    """Return DenseNet-121 for (N, 3, 224, 224): 7,978,856 parameters with 1,000 classes.

    The networks of this module have the names and shapes of torchvision's.

    Args:
        options: ``num_classes`` (1000), ``drop_rate`` (0), ``dtype``.
    """
    return DenseNet(32, (6, 12, 24, 16), 64, **options)


def densenet161(**options: Any) -> DenseNet:
    """Return DenseNet-161: 28,681,000 parameters; see ``densenet121``."""
    return DenseNet(48, (6, 12, 36, 24), 96, **options)


def densenet169(**options: Any) -> DenseNet:
    """Return DenseNet-169: 14,149,480 parameters; see ``densenet121``."""
    return DenseNet(32, (6, 12, 32, 32), 64, **options)


def densenet201(**options: Any) -> DenseNet:
    """Return DenseNet-201: 20,013,928 parameters; see ``densenet121``."""
    return DenseNet(32, (6, 12, 48, 32), 64, **options)
