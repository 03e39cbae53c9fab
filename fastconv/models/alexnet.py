"""AlexNet (Krizhevsky, Sutskever and Hinton 2012,
https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks)."""

from __future__ import annotations

from typing import Any

from .. import nn
from ..nn import functional as F


class AlexNet(nn.Module):
    """``features`` to (N, 256, H', W'), ``avgpool`` to 6x6, and a ``classifier`` of three dense layers."""

    def __init__(self, features: nn.Sequential, num_classes: int, dropout: float, dtype: Any) -> None:
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096, dtype=dtype), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(4096, 4096, dtype=dtype), nn.ReLU(),
            nn.Linear(4096, num_classes, dtype=dtype),
        )  # fmt: skip

    def forward(self, input: Any) -> Any:
        return self.classifier(F.flatten(self.avgpool(self.features(input)), 1))


def alexnet(num_classes: int = 1000, dropout: float = 0.5, dtype: Any = None) -> AlexNet:
    """Return the single-tower network for (N, 3, 224, 224): 61,100,840 parameters with 1,000 classes.

    It is that of Krizhevsky 2014 (https://arxiv.org/abs/1404.5997), with torchvision's names and shapes.
    """
    layers = [
        nn.Conv2d(3, 64, 11, 4, 2, dtype=dtype), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2, dtype=dtype), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1, dtype=dtype), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, dtype=dtype), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1, dtype=dtype), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]  # fmt: skip
    return AlexNet(nn.Sequential(*layers), num_classes, dropout, dtype)
