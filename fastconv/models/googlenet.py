"""GoogLeNet (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842), with batch norm, and its module's naive version."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import init, nn
from ..nn import functional as F


class GoogLeNetOutputs(NamedTuple):
    """What GoogLeNet returns in training: (N, num_classes) each."""

    logits: Any
    aux_logits2: Any
    aux_logits1: Any

    def loss(self, labels: Any, weight: float = 0.3) -> Any:
        """Return the cross-entropy with ``labels`` (N,), and ``weight`` times that of each auxiliary classifier: the
        paper's section 5."""
        first, second = F.cross_entropy(self.aux_logits1, labels), F.cross_entropy(self.aux_logits2, labels)
        return F.cross_entropy(self.logits, labels) + (first + second) * weight


class BasicConv2d(nn.Module):
    """A convolution without bias, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dtype: Any = None, **options: Any
    ) -> None:
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, bias=False, dtype=dtype, **options)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001, dtype=dtype)

    def forward(self, input: Any) -> Any:
        return nn.chain(input, self.conv, self.bn, F.relu)


class _Branches(nn.Module):
    """Branches side by side; their maps are concatenated."""

    def forward(self, input: Any) -> Any:
        return F.cat([branch(input) for branch in self.children()], 1)


class Inception(_Branches):
    """1x1, 3x3 and 5x5 convolutions and a max-pool, with 1x1 reductions before the dear ones and behind the pool.

    As in torchvision, whose weights this network takes, the '5x5' branch convolves 3x3 unless ``wide`` is set.
    """

    def __init__(
        self, in_channels: int, ch1x1: int, ch3x3red: int, ch3x3: int, ch5x5red: int, ch5x5: int, pool_proj: int,
        wide: bool = False, dtype: Any = None,
    ) -> None:  # fmt: skip
        size = 5 if wide else 3
        self.branch1 = BasicConv2d(in_channels, ch1x1, 1, dtype)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, ch3x3red, 1, dtype), BasicConv2d(ch3x3red, ch3x3, 3, dtype, padding=1)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, ch5x5red, 1, dtype),
            BasicConv2d(ch5x5red, ch5x5, size, dtype, padding=size // 2),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(in_channels, pool_proj, 1, dtype)
        )


class NaiveInception(_Branches):
    """The module before the 1x1 reductions (the paper's figure 2a): the pool passes all its maps on."""

    def __init__(self, in_channels: int, ch1x1: int, ch3x3: int, ch5x5: int, dtype: Any = None) -> None:
        self.branch1 = BasicConv2d(in_channels, ch1x1, 1, dtype)
        self.branch2 = BasicConv2d(in_channels, ch3x3, 3, dtype, padding=1)
        self.branch3 = BasicConv2d(in_channels, ch5x5, 5, dtype, padding=2)
        self.branch4 = nn.MaxPool2d(3, 1, 1)


class InceptionAux(nn.Module):
    """An auxiliary classifier: the mean to 4x4, 1x1 to 128 maps, two dense layers."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float, dtype: Any) -> None:
        self.conv = BasicConv2d(in_channels, 128, 1, dtype)
        self.fc1 = nn.Linear(2048, 1024, dtype=dtype)
        self.fc2 = nn.Linear(1024, num_classes, dtype=dtype)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: Any) -> Any:
        maps = self.conv(F.adaptive_avg_pool2d(input, 4))
        return self.fc2(self.dropout(F.relu(self.fc1(F.flatten(maps, 1)))))


# Name: maps in; 1x1; 3x3 reduction, 3x3; 5x5 reduction, 5x5; projection of the pool (the paper's table 1).
_MODULES = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128), "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip


class GoogLeNet(nn.Module):
    """A stem of three convolutions, nine inception modules, the mean over the image, a dense layer."""

    def __init__(
        self, num_classes: int = 1000, aux_logits: bool = True, dropout: float = 0.2, dropout_aux: float = 0.7,
        wide: bool = False, dtype: Any = None,
    ) -> None:  # fmt: skip
        self.conv1 = BasicConv2d(3, 64, 7, dtype, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1, dtype)
        self.conv3 = BasicConv2d(64, 192, 3, dtype, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, sizes in _MODULES.items():
            setattr(self, f"inception{name}", Inception(*sizes, wide=wide, dtype=dtype))
            if name == "3b":
                self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
            elif name == "4e":
                self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.aux1 = InceptionAux(512, num_classes, dropout_aux, dtype) if aux_logits else None
        self.aux2 = InceptionAux(528, num_classes, dropout_aux, dtype) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes, dtype=dtype)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                init.trunc_normal_(layer.weight, std=0.01, a=-2, b=2)

    def forward(self, input: Any) -> Any:
        x = self.maxpool1(self.conv1(input))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        first = x = self.inception4a(x)
        second = x = self.inception4d(self.inception4c(self.inception4b(x)))
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(F.flatten(self.avgpool(x), 1)))
        if self.training and self.aux1 is not None:
            return GoogLeNetOutputs(logits, self.aux2(second), self.aux1(first))
        return logits


def googlenet(**options: Any) -> GoogLeNet:
    """Return GoogLeNet for (N, 3, 224, 224): 6,624,904 parameters with 1,000 classes, 13,004,888 with ``aux_logits``.

    In training it returns ``GoogLeNetOutputs``, whose ``loss`` has its auxiliary classifiers in; in inference the
    logits. Names and shapes are torchvision's.

    Args:
        options: ``num_classes`` (1000), ``aux_logits`` (True), ``dropout`` (0.2), ``dropout_aux`` (0.7), ``wide``
            (False: the third branch convolves 3x3 as torchvision's, else 5x5 as the paper's), ``dtype``.
    """
    return GoogLeNet(**options)
