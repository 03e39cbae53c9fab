"""Every network of fastconv.models with the smallest inputs that it takes, or nearly."""

from __future__ import annotations

import numpy as np

from fastconv import init, models, nn

SHAPES = {
    "deep_network": [(7, 5)], "logistic_regression": [(35,)],
    "alexnet": [(3, 70, 70)], "alexnet_2012": [(3, 67, 75)], "cifar_net": [(3, 32, 32)], "densenet121": [(3, 33, 40)],
    "densenet161": [(3, 32, 32)], "densenet169": [(3, 32, 32)], "densenet201": [(3, 32, 32)], "fcn": [(3, 40, 33)],
    "googlenet": [(3, 40, 33)], "grid_detector": [(3, 32, 48)], "lenet5": [(1, 28, 28)], "nin_cifar": [(3, 32, 32)],
    "nin_imagenet": [(3, 80, 70)], "r3d_18": [(3, 4, 16, 12)], "resnet101": [(3, 32, 32)], "resnet152": [(3, 32, 32)],
    "resnet18": [(3, 40, 33)], "resnet34": [(3, 32, 32)], "resnet50": [(3, 40, 33)], "tutorial": [(1, 28, 28)],
    "unet2d": [(1, 32, 48)], "unet3d": [(3, 8, 16, 8)], "vgg11": [(3, 32, 32)], "vgg13": [(3, 32, 32)],
    "vgg16": [(3, 33, 40)], "vgg19": [(3, 32, 32)], "volume_classifier": [(2, 8, 9, 8), (3,)],
}  # fmt: skip
OPTIONS = {
    "deep_network": {"features": 35}, "logistic_regression": {"features": 35},
    "fcn": {"width": 64, "num_classes": 3}, "grid_detector": {"num_classes": 3, "width": 8}, "unet2d": {"width": 8},
    "unet3d": {"width": 8}, "volume_classifier": {"modalities": 2, "scores": 3},
}  # fmt: skip


def create(name: str, dtype: type = np.float32) -> nn.Module:
    """A network in inference mode, of the dtype, whose layers all see numbers of about unit size."""
    with init.skip():
        net = models.create(name, **OPTIONS.get(name, {}))
        if name.startswith(("alexnet", "vgg")):
            _narrow(net.classifier)
    rng = np.random.default_rng(3)
    for layer in net.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.running_mean[...] = 0.1 * rng.standard_normal(layer.running_mean.shape)
            layer.running_var[...] = rng.uniform(0.5, 1.5, layer.running_var.shape)
    for _, parameter in net.named_parameters():
        shape = parameter.shape
        if len(shape) > 1:
            parameter.data[...] = rng.standard_normal(shape, np.float32) * np.sqrt(2 / parameter.data[0].size)
        else:
            parameter.data[...] = rng.uniform(0.5, 1.0, shape)
    return net.to(np.dtype(dtype).name).eval()


def _narrow(classifier: nn.Sequential) -> None:
    """Leave 16 outputs to each dense layer: a test of graphs needs no hundred million weights."""
    width = None
    for name, layer in classifier.named_children():
        if isinstance(layer, nn.Linear):
            setattr(classifier, name, nn.Linear(width or layer.in_features, 16))
            width = 16


def inputs(name: str, batch: int, dtype: type = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    return [rng.standard_normal((batch, *shape)).astype(dtype) for shape in SHAPES[name]]
