"""Which networks fit which data, and how each is told about channels, classes, sizes and demographic numbers."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import models
from ..data.cases import Frame
from ..errors import ArgumentError, FastconvError, mismatch
from ..nn import Module
from ..nn.modes import in_mode
from ..tensor import no_grad

_ANY = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "cifar_net", "r3d_18")  # number of channels
_COLOUR = (
    "alexnet", "densenet121", "densenet161", "densenet169", "densenet201", "googlenet", "nin_cifar", "nin_imagenet",
    "vgg11", "vgg13", "vgg16", "vgg19", "fcn",
)  # fmt: skip
_GREY = ("lenet5", "tutorial")
_FLAT = ("logistic_regression", "deep_network")
_UNETS = {2: "unet2d", 3: "unet3d"}
_DEPTH = 3  # of U-Nets: small data, small nets


def default(frame: Frame) -> str:
    """Return the name of a small network for the data of a frame.

    >>> default(Frame("classify", ("a", "b"), 1, (64, 64), True))
    'cifar_net'
    """
    rank = len(frame.size)
    if frame.task == "segment":
        return _UNETS[rank]
    return "volume_classifier" if rank == 3 or frame.scores else "cifar_net"


def arguments(name: str, frame: Frame, width: int | None) -> tuple[dict[str, Any], Frame, int]:
    """Return what ``models.create`` needs besides the name; the frame, in colour for networks that take nothing else;
    and of what the sizes must be multiples.

    Raises:
        ArgumentError: a network for another task, for other images, or without a place for demographic numbers.
    """
    rank, classes, multiple = len(frame.size), len(frame.classes), 1
    more: dict[str, Any] = {"num_classes": classes}
    if name in _UNETS.values():
        more = {"in_channels": frame.channels, "out_channels": classes, "width": width or 16, "depth": _DEPTH}
        more["batch_norm"], multiple = True, 1 << _DEPTH
    elif name == "volume_classifier":
        more |= {"modalities": frame.channels, "scores": frame.scores, "width": width or 16, "rank": rank}
    elif name in _ANY:
        more["in_channels"] = frame.channels
    elif name in _FLAT:
        more["features"] = frame.channels * prod(frame.size)
    elif name in _COLOUR:
        if frame.channels == 1:
            frame = frame.fitted(channels=3, mean=frame.mean * 3, std=frame.std * 3)
        more |= {"aux_logits": False} if name == "googlenet" else {}
    elif name not in _GREY:
        raise ArgumentError(mismatch("train", f"a model to {frame.task}", repr(name)))
    ranks = {"unet3d": 3, "r3d_18": 3, "volume_classifier": rank, **dict.fromkeys(_FLAT, rank)}
    wanted = {
        f"a model to {frame.task}": (name in _UNETS.values() or name == "fcn") == (frame.task == "segment"),
        f"a model for {rank}-D images": ranks.get(name, 2) == rank,
        f"a model for {frame.channels} channels": frame.channels == (1 if name in _GREY else 3) or name not in (
            *_GREY, *_COLOUR
        ),
        "a model that takes demographic numbers (or --columns without names)": not frame.scores or "scores" in more,
        "a model whose --width can be chosen": width is None or "width" in more,
    }  # fmt: skip
    for what, fits in wanted.items():
        if not fits:
            raise ArgumentError(mismatch("train", what, repr(name)))
    return more, frame, multiple


def example(frame: Frame, multiple: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Return inputs of one sample, of zeros."""
    size = [-(-s // multiple) * multiple for s in frame.size]
    image = np.zeros((1, frame.channels, *size), dtype)
    return (image, np.zeros((1, frame.scores), dtype)) if frame.scores else (image,)


def require_fit(name: str, model: Module, inputs: tuple[np.ndarray, ...]) -> None:
    """Run the network once, on the device of NumPy arrays.

    Raises:
        ArgumentError: it does not take inputs of this size.
    """
    try:
        with in_mode(model, False), no_grad():
            model(*inputs)
    except FastconvError as error:
        sizes = " x ".join(map(str, inputs[0].shape[1:]))
        raise ArgumentError(
            mismatch("train", f"a model for images of {sizes} (or another --size)", f"{name}: {error}")
        ) from None


def create(name: str, options: dict[str, Any], dtype: str) -> Module:
    """Return a new network in ``dtype``."""
    model = models.create(name, **options)
    model.to(dtype)
    return model
