"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, mismatch
from ..nn import Module
from .alexnet import alexnet, alexnet_2012
from .cnn3d import r3d_18, volume_classifier
from .dense import deep_network, logistic_regression
from .densenet import densenet121, densenet161, densenet169, densenet201
from .detector import grid_detector
from .fcn import fcn
from .googlenet import googlenet
from .lenet import lenet5, tutorial_net
from .nin import nin_cifar, nin_imagenet
from .resnet import cifar_net, resnet18, resnet34, resnet50, resnet101, resnet152
from .unet import unet2d, unet3d
from .vgg import vgg11, vgg13, vgg16, vgg19

_MODELS: dict[str, Callable[..., Module]] = {
    function.__name__: function
    for function in (
        alexnet, alexnet_2012, cifar_net, deep_network, densenet121, densenet161, densenet169, densenet201, fcn,
        googlenet, grid_detector, lenet5, logistic_regression, nin_cifar, nin_imagenet, r3d_18, resnet18, resnet34,
        resnet50, resnet101, resnet152, unet2d, unet3d, vgg11, vgg13, vgg16, vgg19, volume_classifier,
    )
} | {"tutorial": tutorial_net}  # fmt: skip


def names() -> list[str]:
    """Return what ``create`` knows."""
    return sorted(_MODELS)


def create(name: str, **options: Any) -> Module:
    """Return a new network; ``options`` are those of the function of its name.

    >>> create("tutorial").num_parameters()
    317066
    """
    return factory(name)(**options)


def factory(name: str) -> Callable[..., Module]:
    """Return the function that makes the networks of a name.

    >>> factory("tutorial").__name__
    'tutorial_net'
    """
    if name not in _MODELS:
        raise ArgumentError(mismatch("create", f"a model of {', '.join(names())}", repr(name)))
    return _MODELS[name]


__all__ = [
    "alexnet",
    "alexnet_2012",
    "cifar_net",
    "create",
    "deep_network",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "factory",
    "fcn",
    "googlenet",
    "grid_detector",
    "lenet5",
    "logistic_regression",
    "names",
    "nin_cifar",
    "nin_imagenet",
    "r3d_18",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "tutorial_net",
    "unet2d",
    "unet3d",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "volume_classifier",
]
