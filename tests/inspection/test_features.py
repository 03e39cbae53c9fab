"""features: the maps that the layers made, from a model that is left alone."""

import re

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import models, nn
from fastconv.errors import ArgumentError


def test_maps_are_what_the_layers_made_one_by_one():
    fastconv.manual_seed(0)
    net = models.create("tutorial")
    x = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
    names = ["p4", "relu1", "c1", "f6"]
    maps = fastconv.features(net, x, names)
    assert list(maps) == names
    y, expected = x, {}
    for name, layer in net.named_children():
        y = expected[name] = np.asarray(layer(y))
    for name in names:
        assert type(maps[name]) is np.ndarray
        oracle.assert_close(maps[name], expected[name], 1e-6, name)
    assert nn.units(net) == [("c1", "relu1", "p2"), ("c3", "relu3", "p4"), ("f5", "relu5")]
    np.testing.assert_array_equal(fastconv.features(net, fastconv.Tensor(x), "f6")["f6"], maps["f6"])


def test_torchvisions_maps():
    t = oracle.torch()
    fastconv.manual_seed(2)
    ours = models.create("resnet18", num_classes=3)
    theirs = oracle.torchvision().models.resnet18(num_classes=3).eval()
    theirs.load_state_dict({key: t.from_numpy(value) for key, value in ours.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype(np.float32)
    names, expected = ["relu", "layer2.0.downsample", "layer4", "avgpool", ""], {}
    for name in names:
        theirs.get_submodule(name).register_forward_hook(lambda m, args, y, name=name: expected.update({name: y}))
    with t.no_grad():
        theirs(t.from_numpy(x))
    maps = fastconv.features(ours, x, names)
    for name in names[1:]:
        oracle.assert_close(maps[name], expected[name].numpy(), 1e-5, name)
    oracle.assert_close(maps["relu"], expected["relu"].numpy(), 1e-5)


def test_the_model_is_left_alone():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before, attributes = net.state_dict(), [set(vars(module)) - {"training"} for module in net.modules()]
    maps = fastconv.features(net, np.ones((2, 1, 4, 4), np.float32), ["2"])
    assert (maps["2"] != 0).all()  # nothing dropped
    assert net.training
    assert net[1].training
    assert attributes == [set(vars(module)) - {"training"} for module in net.modules()]
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


class Several(nn.Module):
    def __init__(self):
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.scale = nn.Linear(2, 2, bias=False)
        self.twin = self.scale
        self.aux = nn.Identity()
        self.scale.weight.data[...] = 2 * np.eye(2)

    def forward(self, x, y):
        maps, _ = self.pool(x)
        y = self.twin(self.scale(y))
        return self.aux(y) if self.training else {"maps": maps, "y": y}


def test_several_inputs_outputs_and_calls():
    x, y = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), np.ones((1, 2), np.float32)
    maps = fastconv.features(Several(), (x, y), ["pool", "scale", "twin", ""])
    values, indices = maps["pool"]
    assert values.ravel().tolist() == indices.ravel().tolist() == [5, 7, 13, 15]
    assert maps["scale"].tolist() == maps["twin"].tolist() == [[4, 4]]  # the last call's
    assert maps[""]["y"].tolist() == [[4, 4]]
    with pytest.raises(ArgumentError, match=r"^features: expected layers that run in inference, got aux$"):
        fastconv.features(Several(), (x, y), ["scale", "aux"])
    message = "features: expected names of layers (pool, scale, aux), got 'pol'"
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        fastconv.features(Several(), (x, y), ["pol"])


def test_an_exception_takes_the_hooks_away():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3))
    with pytest.raises(ValueError, match="linear"):
        fastconv.features(net, np.ones((1, 2), np.float32), ["0", "1"])
    assert all("forward" not in vars(module) for module in net.modules())
    assert net.training
