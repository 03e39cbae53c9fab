"""Classifiers without convolutions, to compare others with: logistic regression and the plain deep network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .. import nn


def logistic_regression(features: int = 784, num_classes: int = 10, dtype: Any = None) -> nn.Sequential:
    """Return Wx + b for (N, ...) of ``features`` numbers each; the softmax is in the cross-entropy.

    >>> logistic_regression(4, 3).num_parameters()
    15
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(features, num_classes, dtype=dtype))


def deep_network(
    features: int = 784, num_classes: int = 10, hidden: Sequence[int] = (256, 128), dtype: Any = None
) -> nn.Sequential:
    """Return the plain deep network: y = sigmoid(Wx + b) for each size in ``hidden``, and Wx + b of the last for the
    classes. Input (N, ...) of ``features`` numbers each.

    >>> [layer.weight.shape for layer in deep_network(4, 3, hidden=(8, 5)) if isinstance(layer, nn.Linear)]
    [(8, 4), (5, 8), (3, 5)]
    """
    pairs = pairwise((features, *hidden))
    layers = [layer for a, b in pairs for layer in (nn.Linear(a, b, dtype=dtype), nn.Sigmoid())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear((features, *hidden)[-1], num_classes, dtype=dtype))
