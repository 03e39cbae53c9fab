"""Network in Network (Lin, Chen and Yan 2014, https://arxiv.org/abs/1312.4400)."""

from __future__ import annotations

from typing import Any

from .. import nn


def mlpconv(in_channels: int, maps: tuple[int, int, int], kernel_size: int, dtype: Any = None, **options: Any) -> list:
    """Return the layers of an mlpconv: a convolution and two 1x1 ones, each with ReLU. The 1x1 ones are a perceptron
    that is the same at every pixel."""
    first, second, third = maps
    return [
        nn.Conv2d(in_channels, first, kernel_size, dtype=dtype, **options), nn.ReLU(),
        nn.Conv2d(first, second, 1, dtype=dtype), nn.ReLU(),
        nn.Conv2d(second, third, 1, dtype=dtype), nn.ReLU(),
    ]  # fmt: skip


def nin_cifar(num_classes: int = 10, dropout: float = 0.5, dtype: Any = None) -> nn.Sequential:
    """Return the network for (N, 3, 32, 32): 966,986 parameters with 10 classes.

    Three mlpconvs; the last one's maps are the classes, averaged over the image: there is no dense layer. The widths
    are those that the authors published for CIFAR-10.
    """
    return nn.Sequential(
        *mlpconv(3, (192, 160, 96), 5, dtype, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(dropout),
        *mlpconv(96, (192, 192, 192), 5, dtype, padding=2), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(dropout),
        *mlpconv(192, (192, 192, num_classes), 3, dtype, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def nin_imagenet(num_classes: int = 1000, dropout: float = 0.5, dtype: Any = None) -> nn.Sequential:
    """Return the network for (N, 3, 224, 224): 7,595,176 parameters with 1,000 classes. Four mlpconvs."""
    return nn.Sequential(
        *mlpconv(3, (96, 96, 96), 11, dtype, stride=4), nn.MaxPool2d(3, 2),
        *mlpconv(96, (256, 256, 256), 5, dtype, padding=2), nn.MaxPool2d(3, 2),
        *mlpconv(256, (384, 384, 384), 3, dtype, padding=1), nn.MaxPool2d(3, 2), nn.Dropout(dropout),
        *mlpconv(384, (1024, 1024, num_classes), 3, dtype, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
