"""Two small networks for 28x28 digits: the tutorial's, and LeNet-5."""

from __future__ import annotations

from typing import Any

from .. import nn
from ..errors import ArgumentError, mismatch


def tutorial_net(num_classes: int = 10, output_relu: bool = False, dtype: Any = None) -> nn.Sequential:
    """Return the tutorial's network for (N, 1, 28, 28): 317,066 parameters with 10 classes.

    C1 5x5 to 32 maps, P2, C3 5x5 to 64 maps, P4, F5 of 256 units, F6; ReLU after C1, C3 and F5.

    Args:
        output_relu: put the lecture's ReLU behind F6 as well, for its squared error; cross-entropy does without. The
            bias of F6 then starts 1/2 higher: nine in ten targets are 0, and a unit that starts low may never wake.
    """
    layers = {
        "c1": nn.Conv2d(1, 32, 5, dtype=dtype),  # (N, 32, 24, 24)
        "relu1": nn.ReLU(),
        "p2": nn.MaxPool2d(2),  # (N, 32, 12, 12)
        "c3": nn.Conv2d(32, 64, 5, dtype=dtype),  # (N, 64, 8, 8)
        "relu3": nn.ReLU(),
        "p4": nn.MaxPool2d(2),  # (N, 64, 4, 4)
        "flatten": nn.Flatten(),  # (N, 1024)
        "f5": nn.Linear(1024, 256, dtype=dtype),
        "relu5": nn.ReLU(),
        "f6": nn.Linear(256, num_classes, dtype=dtype),
    }
    if output_relu:
        layers["f6"].bias.data += 0.5
        layers["relu6"] = nn.ReLU()
    return nn.Sequential(layers)


_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
_POOLINGS = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}


def lenet5(num_classes: int = 10, activation: str = "tanh", pooling: str = "avg", dtype: Any = None) -> nn.Sequential:
    """Return LeNet-5 for (N, 1, 28, 28): 61,706 parameters with 10 classes.

    The layers of LeCun et al. 1998 (http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, section II.B) in the dense form
    that is usual today: every C3 map sees all six S2 maps (the paper's table connects 3 to 6 of them), subsampling has
    no trainable coefficients, and the output layer is linear in place of radial basis functions; the paper's own count
    is 60,000. Its 32x32 input is the 28x28 one with 2 pixels of padding.

    Args:
        activation: 'tanh' as in 1998 (unscaled), or 'relu'.
        pooling: 'avg' as in 1998, or 'max'.
    """
    if activation not in _ACTIVATIONS:
        raise ArgumentError(mismatch("lenet5", "activation 'tanh' or 'relu'", repr(activation)))
    if pooling not in _POOLINGS:
        raise ArgumentError(mismatch("lenet5", "pooling 'avg' or 'max'", repr(pooling)))
    squash, subsample = _ACTIVATIONS[activation], _POOLINGS[pooling]
    layers = {
        "c1": nn.Conv2d(1, 6, 5, padding=2, dtype=dtype),  # (N, 6, 28, 28)
        "act1": squash(),
        "s2": subsample(2),  # (N, 6, 14, 14)
        "c3": nn.Conv2d(6, 16, 5, dtype=dtype),  # (N, 16, 10, 10)
        "act3": squash(),
        "s4": subsample(2),  # (N, 16, 5, 5)
        "flatten": nn.Flatten(),  # (N, 400)
        "c5": nn.Linear(400, 120, dtype=dtype),
        "act5": squash(),
        "f6": nn.Linear(120, 84, dtype=dtype),
        "act6": squash(),
        "output": nn.Linear(84, num_classes, dtype=dtype),
    }
    return nn.Sequential(layers)
