"""Residual networks (He, Zhang, Ren and Sun 2016, https://arxiv.org/abs/1512.03385), and the plain ones beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import init, nn
from ..arguments import integer
from ..errors import ArgumentError, mismatch
from ..nn import functional as F


def _initialise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and their input added: (N, inplanes, H, W) -> (N, planes, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: Any = None, dtype: Any = None) -> None:
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False, dtype=dtype)
        self.bn1 = nn.BatchNorm2d(planes, dtype=dtype)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False, dtype=dtype)
        self.bn2 = nn.BatchNorm2d(planes, dtype=dtype)
        self.downsample = downsample

    def forward(self, input: Any) -> Any:
        identity = input if self.downsample is None else self.downsample(input)
        out = nn.chain(input, self.conv1, self.bn1, F.relu)
        return nn.chain(out, self.conv2, self.bn2, F.relu, residual=identity)


class Bottleneck(nn.Module):
    """1x1 to ``planes``, 3x3 (here the stride), 1x1 to ``4 * planes``, and the input added."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: Any = None, dtype: Any = None) -> None:
        out = self.expansion * planes
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False, dtype=dtype)
        self.bn1 = nn.BatchNorm2d(planes, dtype=dtype)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False, dtype=dtype)
        self.bn2 = nn.BatchNorm2d(planes, dtype=dtype)
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False, dtype=dtype)
        self.bn3 = nn.BatchNorm2d(out, dtype=dtype)
        self.downsample = downsample

    def forward(self, input: Any) -> Any:
        identity = input if self.downsample is None else self.downsample(input)
        out = nn.chain(input, self.conv1, self.bn1, F.relu, self.conv2, self.bn2, F.relu)
        return nn.chain(out, self.conv3, self.bn3, F.relu, residual=identity)


class ResNet(nn.Module):
    """A 7x7 convolution and a max-pool, four stages of blocks, the mean over the image, a dense layer."""

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], layers: Sequence[int], num_classes: int = 1000,
        in_channels: int = 3, dtype: Any = None,
    ) -> None:  # fmt: skip
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False, dtype=dtype)
        self.bn1 = nn.BatchNorm2d(64, dtype=dtype)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        planes = 64
        for i, count in enumerate(layers):
            stage, planes = _stage(block, planes, 64 * 2**i, count, 1 if i == 0 else 2, dtype)
            setattr(self, f"layer{i + 1}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes, num_classes, dtype=dtype)
        _initialise(self)

    def forward(self, input: Any) -> Any:
        x = nn.chain(input, self.conv1, self.bn1, self.relu, self.maxpool)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.flatten(self.avgpool(x), 1))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, count: int, stride: int, dtype: Any
) -> tuple[nn.Sequential, int]:
    """Return ``count`` blocks, and the number of maps that leave them. Where sizes change, the identity of the first
    becomes a 1x1 convolution (the paper's option B)."""
    out = planes * block.expansion
    downsample = None
    if stride != 1 or inplanes != out:
        downsample = nn.Sequential(
            nn.Conv2d(inplanes, out, 1, stride, bias=False, dtype=dtype), nn.BatchNorm2d(out, dtype=dtype)
        )
    blocks = [block(inplanes, planes, stride, downsample, dtype)]
    blocks += [block(out, planes, dtype=dtype) for _ in range(count - 1)]
    return nn.Sequential(*blocks), out


def resnet18(**options: Any) -> ResNet:
    """Return ResNet-18 for (N, 3, 224, 224): 11,689,512 parameters with 1,000 classes.

    The networks of this module have the names and shapes of torchvision's.

    Args:
        options: ``num_classes`` (1000), ``in_channels`` (3), ``dtype``.
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), **options)


def resnet34(**options: Any) -> ResNet:
    """Return ResNet-34: 21,797,672 parameters; see ``resnet18``."""
    return ResNet(BasicBlock, (3, 4, 6, 3), **options)


def resnet50(**options: Any) -> ResNet:
    """Return ResNet-50: 25,557,032 parameters; see ``resnet18``."""
    return ResNet(Bottleneck, (3, 4, 6, 3), **options)


def resnet101(**options: Any) -> ResNet:
    """Return ResNet-101: 44,549,160 parameters; see ``resnet18``."""
    return ResNet(Bottleneck, (3, 4, 23, 3), **options)


def resnet152(**options: Any) -> ResNet:
    """Return ResNet-152: 60,192,808 parameters; see ``resnet18``."""
    return ResNet(Bottleneck, (3, 8, 36, 3), **options)


class _Unit(nn.Module):
    """Two 3x3 convolutions of a CIFAR network; ``residual`` adds the input, subsampled and padded with maps of zeros
    where sizes change (the paper's option A: no parameters)."""

    def __init__(self, inplanes: int, planes: int, residual: bool, dtype: Any) -> None:
        self.stride, self.new_planes, self.residual = planes // inplanes, planes - inplanes, residual
        self.conv1 = nn.Conv2d(inplanes, planes, 3, self.stride, 1, bias=False, dtype=dtype)
        self.bn1 = nn.BatchNorm2d(planes, dtype=dtype)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False, dtype=dtype)
        self.bn2 = nn.BatchNorm2d(planes, dtype=dtype)

    def forward(self, input: Any) -> Any:
        identity = input if self.residual else None
        if self.residual and self.new_planes:
            identity = F.pad(F.avg_pool2d(input, 1, self.stride), (0, 0, 0, 0, 0, self.new_planes))
        out = nn.chain(input, self.conv1, self.bn1, F.relu)
        return nn.chain(out, self.conv2, self.bn2, F.relu, residual=identity)


def cifar_net(
    depth: int = 20, residual: bool = True, num_classes: int = 10, in_channels: int = 3, dtype: Any = None
) -> nn.Sequential:
    """Return a network for (N, 3, 32, 32) of section 4.2 of the paper: depth = 6n + 2 layers, plain or residual.

    The two differ in nothing but the additions, and have the same parameters: 269,722 at depth 20. It is the pair of
    the degradation experiment: deep plain networks train worse than shallow ones, deep residual ones do not.

    Raises:
        ArgumentError: a depth that is not 6n + 2.
    """
    if integer("cifar_net", "depth", depth, 8) % 6 != 2:
        raise ArgumentError(mismatch("cifar_net", "depth to be 6n + 2", depth))
    layers = [nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False, dtype=dtype), nn.BatchNorm2d(16, dtype=dtype), nn.ReLU()]
    planes = 16
    for width in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(_Unit(planes, width, residual, dtype))
            planes = width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes, dtype=dtype))
    _initialise(network)
    return network
