"""Every network of fastconv.models as a file of ONNX: the checker passes it, onnxruntime gives our outputs."""

from __future__ import annotations

import pytest
from exported import check, ops, settled

from fastconv import init, models, nn

# Name: shapes of the inputs, options. Small, where the network allows it.
NETWORKS = {
    "alexnet": ([(2, 3, 63, 63)], {"num_classes": 7}),
    "alexnet_2012": ([(2, 3, 63, 63)], {"num_classes": 7}),
    "vgg11": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "vgg13": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "vgg16": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "vgg19": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "resnet18": ([(2, 3, 33, 40)], {"num_classes": 7}),
    "resnet34": ([(2, 3, 33, 40)], {"num_classes": 7}),
    "resnet50": ([(2, 3, 33, 40)], {"num_classes": 7}),
    "resnet101": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "resnet152": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "googlenet": ([(2, 3, 40, 33)], {"num_classes": 7}),
    "deep_network": ([(2, 1, 28, 28)], {}),
    "logistic_regression": ([(2, 1, 28, 28)], {}),
    "densenet121": ([(2, 3, 33, 32)], {"num_classes": 7}),
    "densenet161": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "densenet169": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "densenet201": ([(2, 3, 32, 32)], {"num_classes": 7}),
    "r3d_18": ([(2, 3, 4, 17, 16)], {"num_classes": 7}),
    "nin_cifar": ([(2, 3, 32, 32)], {}),
    "nin_imagenet": ([(2, 3, 67, 67)], {}),
    "cifar_net": ([(2, 3, 16, 16)], {}),
    "lenet5": ([(2, 1, 28, 28)], {}),
    "tutorial": ([(2, 1, 28, 28)], {}),
    "fcn": ([(2, 3, 33, 40)], {"width": 8, "num_classes": 4}),
    "unet2d": ([(2, 1, 32, 16)], {"width": 4}),
    "unet3d": ([(2, 3, 8, 8, 16)], {"width": 4, "depth": 2}),
    "volume_classifier": ([(2, 2, 8, 9, 10), (2, 3)], {"modalities": 2, "scores": 3, "width": 4}),
    "grid_detector": ([(2, 3, 32, 32)], {"num_classes": 3}),
}  # fmt: skip


PLAIN = {"Conv", "BatchNormalization", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Concat",
         "Add", "Flatten", "Gemm"}  # fmt: skip
MORE = {
    "lenet5": {"Tanh"}, "deep_network": {"Sigmoid"}, "alexnet_2012": {"LRN"},
    "fcn": {"ConvTranspose", "Pad", "Slice"}, "unet2d": {"ConvTranspose"},
    "unet3d": {"ConvTranspose"}, "cifar_net": {"Pad"}, "grid_detector": {"Reshape"},
}  # fmt: skip


def created(name: str, options: dict) -> nn.Module:
    with init.skip():
        net = models.create(name, **options)
        if name.startswith(("vgg", "alexnet")):  # dense layers of 64, not 4096: half a gigabyte would take 20 seconds
            dense = [i for i, layer in enumerate(net.classifier) if isinstance(layer, nn.Linear)]
            for i in dense:
                old = net.classifier[i].weight.shape
                setattr(
                    net.classifier, str(i), nn.Linear(min(old[1], 64) if i != dense[0] else old[1], min(old[0], 64))
                )
    return settled(net)


def test_every_network_is_here():
    assert set(NETWORKS) == set(models.names())


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_outputs_in_onnxruntime(name):
    shapes, options = NETWORKS[name]
    net = created(name, options)
    proto = check(net, shapes)
    names = {initializer.name for initializer in proto.graph.initializer}
    kept = {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}
    left_out = {key for key in kept if key.startswith("aux")}  # classifiers that only training uses
    assert kept - left_out <= names
    assert all(name.startswith(("sizes", "number", "constant")) for name in names - kept)
    assert all(len(t.dims) == len(shapes[0]) for t in proto.graph.initializer if t.name.endswith("conv1.weight"))
    assert set(ops(proto).split()) <= PLAIN | MORE.get(name, set())
