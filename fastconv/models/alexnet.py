"""AlexNet (Krizhevsky, Sutskever and Hinton 2012,
https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks)."""

from __future__ import annotations

from typing import Any

from .. import init, nn
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


def alexnet_2012(num_classes: int = 1000, dropout: float = 0.5, dtype: Any = None) -> AlexNet:
    """Return the two-tower network of 2012 for (N, 3, 224, 224): 60,965,224 parameters with 1,000 classes.

    The towers, one for each GPU then, are the two groups of the second, fourth and fifth convolution; the third and the
    dense layers see both. Pools overlap (3x3, stride 2), and local response normalisation follows the first two ReLUs:
    its sum runs over 5 neighbours among all maps, as the paper's formula has it, k = 2, alpha = 1e-4, beta = 0.75.
    (``functional.local_response_norm`` divides alpha by the size, as torch's: 5e-4 there.) Initial weights are the
    paper's too: normal with standard deviation 0.01; biases 1 in the grouped convolutions and the hidden dense layers,
    else 0.

    Layers have 290,400 (96 maps of 55x55), 186,624, 64,896, 64,896, 43,264, 4096, 4096 and 1000 neurons. The paper's
    first figure is 253,440, which is 96 x 55 x 48 and no number of square maps; and 224x224 gives maps of 55x55 with a
    border only, of which the paper says nothing (2 pixels here).

    >>> with init.skip():
    ...     network = alexnet_2012()
    >>> network.num_parameters()
    60965224
    """
    layers = [
        nn.Conv2d(3, 96, 11, 4, 2, dtype=dtype), nn.ReLU(), _response_norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2, dtype=dtype), nn.ReLU(), _response_norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1, dtype=dtype), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2, dtype=dtype), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2, dtype=dtype), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]  # fmt: skip
    network = AlexNet(nn.Sequential(*layers), num_classes, dropout, dtype)
    output = network.classifier[6]
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            init.normal_(layer.weight, 0, 0.01)
            dense = isinstance(layer, nn.Linear)
            init.constant_(layer.bias, float(layer is not output if dense else layer.groups == 2))
    return network


def _response_norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
