"""3-D networks for volumes: ResNet-18-3D, and one that joins demographic scores to what it sees in the images."""

from __future__ import annotations

from typing import Any

from .. import init, nn
from ..arguments import integer
from ..errors import ShapeError, mismatch
from ..nn import functional as F


class BasicBlock3d(nn.Module):
    """Two 3x3x3 convolutions with batch norm, and their input added."""

    def __init__(self, inplanes: int, planes: int, stride: int, dtype: Any) -> None:
        self.conv1 = nn.Sequential(*_conv(inplanes, planes, 3, stride, dtype), nn.ReLU())
        self.conv2 = nn.Sequential(*_conv(planes, planes, 3, 1, dtype))
        same = stride == 1 and inplanes == planes
        self.downsample = None if same else nn.Sequential(*_conv(inplanes, planes, 1, stride, dtype))

    def forward(self, input: Any) -> Any:
        identity = input if self.downsample is None else self.downsample(input)
        return F.relu(self.conv2(self.conv1(input)) + identity)


def _conv(inplanes: int, planes: int, size: int, stride: int, dtype: Any) -> list[nn.Module]:
    conv = nn.Conv3d(inplanes, planes, size, stride, size // 2, bias=False, dtype=dtype)
    return [conv, nn.BatchNorm3d(planes, dtype=dtype)]


class ResNet3d(nn.Module):
    """A 3x7x7 convolution, four stages of two blocks, the mean over the volume, a dense layer."""

    def __init__(self, num_classes: int = 400, in_channels: int = 3, dtype: Any = None) -> None:
        stem = nn.Conv3d(in_channels, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False, dtype=dtype)
        self.stem = nn.Sequential(stem, nn.BatchNorm3d(64, dtype=dtype), nn.ReLU())
        planes = 64
        for i in range(4):
            width, stride = 64 * 2**i, 1 if i == 0 else 2
            blocks = [BasicBlock3d(planes, width, stride, dtype), BasicBlock3d(width, width, 1, dtype)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            planes = width
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(planes, num_classes, dtype=dtype)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                init.normal_(layer.weight, 0, 0.01)
                init.zeros_(layer.bias)

    def forward(self, input: Any) -> Any:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(input)))))
        return self.fc(F.flatten(self.avgpool(x), 1))


def r3d_18(**options: Any) -> ResNet3d:
    """Return ResNet-18-3D for (N, 3, D, H, W): 33,371,472 parameters with 400 classes (Tran et al. 2018,
    https://arxiv.org/abs/1711.11248). Names and shapes are torchvision's.

    Args:
        options: ``num_classes`` (400), ``in_channels`` (3), ``dtype``.
    """
    return ResNet3d(**options)


_PLANAR = {3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d),
           2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)}  # fmt: skip


class VolumeClassifier(nn.Module):
    """Modalities as channels, scores beside the features: (N, modalities, D, H, W), (N, scores) -> (N, num_classes).

    With ``rank=2`` slices, (N, modalities, H, W).
    """

    def __init__(
        self, num_classes: int = 2, modalities: int = 1, scores: int = 0, width: int = 16, dropout: float = 0.5,
        rank: int = 3, dtype: Any = None,
    ) -> None:  # fmt: skip
        for name, value, least in (("modalities", modalities, 1), ("scores", scores, 0), ("width", width, 1)):
            integer("volume_classifier", name, value, least)
        conv, norm, pool, mean = _PLANAR[integer("volume_classifier", "rank", rank, 2, 3)]
        self.modalities, self.scores = modalities, scores
        layers: list[nn.Module] = []
        planes = modalities
        for stage in range(4):
            out = width << stage
            layers += [conv(planes, out, 3, padding=1, bias=False, dtype=dtype), norm(out, dtype=dtype), nn.ReLU()]
            layers += [pool(2)] if stage < 3 else []
            planes = out
        self.features = nn.Sequential(*layers, mean(1), nn.Flatten())
        self.classifier = nn.Sequential(
            nn.Linear(planes + scores, planes, dtype=dtype), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(planes, num_classes, dtype=dtype),
        )  # fmt: skip

    def forward(self, input: Any, scores: Any = None) -> Any:
        found = 0 if scores is None else tuple(scores.shape)
        if self.scores and found != (input.shape[0], self.scores):
            expected = f"scores (N, {self.scores}) beside input {tuple(input.shape)}"
            raise ShapeError(mismatch("volume_classifier", expected, "none" if scores is None else f"shape {found}"))
        if not self.scores and scores is not None:
            raise ShapeError(mismatch("volume_classifier", "no scores", f"shape {found}"))
        features = self.features(input)
        return self.classifier(F.cat([features, scores], 1) if self.scores else features)


def volume_classifier(**options: Any) -> VolumeClassifier:
    """Return a 3-D classifier of co-registered volumes, with demographic scores joined before its dense layers.

    Scores (age, test results, ...) should be brought to about zero mean and unit variance first.

    Args:
        options: ``num_classes`` (2), ``modalities`` (1: T1, T2, ... as channels), ``scores`` (0: how many scores a
            sample has), ``width`` (16: maps of the first stage; it doubles three times), ``dropout`` (0.5),
            ``rank`` (3; 2 for slices), ``dtype``.

    >>> import numpy as np
    >>> net = volume_classifier(modalities=2, scores=3).eval()
    >>> net(np.zeros((1, 2, 8, 8, 8), np.float32), np.zeros((1, 3), np.float32)).shape
    (1, 2)
    """
    return VolumeClassifier(**options)
