"""VGG: stacks of 3x3 convolutions (Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556, table 1)."""

from __future__ import annotations

from typing import Any

from .. import init, nn

# Maps of each convolution, stage by stage; every stage ends in a 2x2 max-pool.
_STAGES = {
    11: [[64], [128], [256] * 2, [512] * 2, [512] * 2],
    13: [[64] * 2, [128] * 2, [256] * 2, [512] * 2, [512] * 2],
    16: [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3],
    19: [[64] * 2, [128] * 2, [256] * 4, [512] * 4, [512] * 4],
}


def vgg_features(depth: int, batch_norm: bool = False, ceil_mode: bool = False, dtype: Any = None) -> nn.Sequential:
    """Return the convolutions and max-pools: (N, 3, H, W) -> (N, 512, H / 32, W / 32)."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in _STAGES[depth]:
        for maps in stage:
            layers.append(nn.Conv2d(channels, maps, 3, padding=1, dtype=dtype))
            layers += [nn.BatchNorm2d(maps, dtype=dtype)] if batch_norm else []
            layers.append(nn.ReLU())
            channels = maps
        layers.append(nn.MaxPool2d(2, ceil_mode=ceil_mode))
    features = nn.Sequential(*layers)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            init.zeros_(layer.bias)
    return features


class VGG(nn.Module):
    """``features`` to (N, 512, H / 32, W / 32), ``avgpool`` to 7x7, and a ``classifier`` of three dense layers."""

    def __init__(
        self, depth: int, batch_norm: bool = False, num_classes: int = 1000, dropout: float = 0.5, dtype: Any = None
    ) -> None:
        self.features = vgg_features(depth, batch_norm, dtype=dtype)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096, dtype=dtype), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(4096, 4096, dtype=dtype), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(4096, num_classes, dtype=dtype),
        )  # fmt: skip
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                init.normal_(layer.weight, 0, 0.01)
                init.zeros_(layer.bias)

    def forward(self, input: Any) -> Any:
        return self.classifier(nn.functional.flatten(self.avgpool(self.features(input)), 1))


def vgg11(batch_norm: bool = False, **options: Any) -> VGG:
    """Return VGG-11 (configuration A) for (N, 3, 224, 224): 132,863,336 parameters with 1,000 classes.

    The networks of this module have the names and shapes of torchvision's, with batch norm those of ``vgg11_bn``.

    Args:
        batch_norm: put batch norm behind each convolution.
        options: ``num_classes`` (1000), ``dropout`` (0.5), ``dtype``.
    """
    return VGG(11, batch_norm, **options)


def vgg13(batch_norm: bool = False, **options: Any) -> VGG:
    """Return VGG-13 (configuration B): 133,047,848 parameters; see ``vgg11``."""
    return VGG(13, batch_norm, **options)


def vgg16(batch_norm: bool = False, **options: Any) -> VGG:
    """Return VGG-16 (configuration D): 138,357,544 parameters; see ``vgg11``."""
    return VGG(16, batch_norm, **options)


def vgg19(batch_norm: bool = False, **options: Any) -> VGG:
    """Return VGG-19 (configuration E): 143,667,240 parameters; see ``vgg11``."""
    return VGG(19, batch_norm, **options)
