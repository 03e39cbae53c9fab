"""summary: figures by hand, torchvision's published ones, and a model that is as it was before."""

import inspect
import re

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import functional as F
from fastconv import init, models, nn, random
from fastconv.backends.base import Backend
from fastconv.errors import ArgumentError, DeviceError, ShapeError
from fastconv.inspection import meter


def small():
    return nn.Sequential({
        "conv": nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), "norm": nn.BatchNorm2d(8), "relu": nn.ReLU(),
        "depthwise": nn.Conv2d(8, 16, (3, 1), groups=8, dilation=2, bias=False), "flatten": nn.Flatten(),
        "head": nn.Linear(16 * 2 * 6, 5),
    })  # fmt: skip


def test_figures_by_hand():
    table = fastconv.summary(small().double(), (2, 3, 11, 12))
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["", "conv", "norm", "relu", "depthwise", "flatten", "head"]
    assert {name: row.outputs for name, row in rows.items()} == {
        "": [(2, 5)], "conv": [(2, 8, 6, 6)], "norm": [(2, 8, 6, 6)], "relu": [(2, 8, 6, 6)],
        "depthwise": [(2, 16, 2, 6)], "flatten": [(2, 192)], "head": [(2, 5)],
    }  # fmt: skip
    products = {name: row.multiply_adds for name, row in rows.items() if row.multiply_adds}
    assert products == {"conv": 2 * 8 * 36 * 27, "depthwise": 2 * 16 * 12 * 3, "head": 2 * 192 * 5}
    assert table.flops == 2 * table.multiply_adds == 2 * sum(products.values())
    assert [row.parameters for row in table.rows] == [0, 8 * 27 + 8, 16, 0, 48, 0, 192 * 5 + 5]
    assert table.parameters == small().num_parameters()
    assert table.parameter_bytes == 8 * table.parameters
    # a float64 has 8 bytes; flattening copies nothing, and the whole has no array of its own
    assert [row.output_bytes for row in table.rows] == [0, 4608, 4608, 4608, 3072, 0, 80]
    assert (table.inputs, table.input_bytes) == ([(2, 3, 11, 12)], 2 * 3 * 11 * 12 * 8)
    assert table["conv"] is table.rows[1]
    with pytest.raises(ArgumentError, match="summary: expected the name of a row, got 'x'"):
        table["x"]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolutions_are_counted_as_their_adjoints(rank):
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1](6, 4, 3, stride=2, groups=2)
    table = fastconv.summary(layer, (2, 6, *(5,) * rank))
    assert table.rows[0].outputs == [(2, 4, *(11,) * rank)]
    assert table.multiply_adds == 2 * 6 * 5**rank * (4 // 2) * 3**rank


def test_products_outside_of_layers_are_counted_where_they_happen():
    class Attention(nn.Module):
        def __init__(self):
            self.kernel = nn.Parameter(np.ones((2, 3, 3, 3), np.float32))
            self.child = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            maps = F.flatten(self.child(F.conv_unit(x, self.kernel, None, pool=2)), 2)
            return F.matmul(F.conv1d(maps, np.ones((4, 2, 1), np.float32)), np.ones((9, 7), np.float32))

    table = fastconv.summary(nn.Sequential(Attention()), (1, 3, 8, 8))
    assert [row.multiply_adds for row in table.rows] == [0, 2 * 36 * 27 + 4 * 9 * 2 + 4 * 7 * 9, 2 * 9 * 2]
    assert [row.parameters for row in table.rows] == [0, 54, 6]
    assert [row.output_bytes for row in table.rows] == [0, 4 * 4 * 7, 4 * 2 * 9]


def test_every_forward_verb_with_products_is_counted():
    """A verb that takes the geometry of a convolution and is no gradient must be known to the meter."""
    verbs = {name: verb for part in Backend.__mro__[:-1] for name, verb in vars(part).items() if callable(verb)}
    products = {name for name, verb in verbs.items() if {"geometry", "w"} <= set(inspect.signature(verb).parameters)}
    assert len(products) > 4
    assert products - {"conv_act_pool_backward", "norm_conv_backward_input"} <= set(vars(meter._Meter))


@pytest.mark.parametrize(
    "name",
    ["alexnet", "vgg11", "vgg16", "vgg19_bn", "googlenet", "resnet18", "resnet50", "resnet152", "densenet121",
     "densenet161", "r3d_18"],
)  # fmt: skip
def test_torchvisions_figures(name):
    meta = oracle.torchvision().models.get_model_weights(name).DEFAULT.meta
    with init.skip():
        net = models.create(name.removesuffix("_bn"), **({"batch_norm": True} if "_bn" in name else {}))
    table = fastconv.summary(net, (1, 3, 16, 112, 112) if name == "r3d_18" else (1, 3, 224, 224))
    assert round(table.multiply_adds / 1e9, 3) == meta["_ops"]
    unused = 13_004_888 - 6_624_904 if name == "googlenet" else 0  # auxiliary classifiers, which torchvision leaves out
    assert table.parameters == meta["num_params"] + unused


def test_figures_of_whole_networks_by_hand():
    figures = {}
    for name in ("alexnet", "vgg16", "resnet50"):
        with init.skip():
            figures[name] = fastconv.summary(models.create(name), (1, 3, 224, 224)).multiply_adds
    convolutions = 3025 * 64 * 363 + 729 * 192 * 1600 + 169 * (384 * 1728 + 256 * 3456 + 256 * 2304)
    assert figures["alexnet"] == convolutions + 9216 * 4096 + 4096 * 4096 + 4096 * 1000 == 714_188_480
    maps, products = 3, 25_088 * 4096 + 4096 * 4096 + 4096 * 1000
    for stage, (width, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for _ in range(count):
            products += (224 >> stage) ** 2 * 9 * maps * width
            maps = width
    assert figures["vgg16"] == products == 15_470_264_320
    maps, products = 64, 112**2 * 64 * 3 * 49 + 2048 * 1000
    for width, count, size in ((64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7)):
        before = size if width == 64 else 2 * size  # the 3x3 of the first block halves the size
        products += before**2 * maps * width + size**2 * (9 * width**2 + 4 * width**2 + maps * 4 * width)
        products += (count - 1) * size**2 * (4 * width**2 + 9 * width**2 + 4 * width**2)
        maps = 4 * width
    assert figures["resnet50"] == products == 4_089_184_256


class Twice(nn.Module):
    """One layer called twice and known by two names, one that never runs, two inputs, a dict and a tuple."""

    def __init__(self):
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.unused = nn.Linear(4, 100)

    def forward(self, x, scale):
        y = self.again(self.first(x)) * scale
        return {"y": y, "more": (self.tied(y), y)}


def test_layers_that_run_twice_share_or_never_run():
    model = Twice()
    table = fastconv.summary(model, [(3, 4), np.ones((3, 1), np.float32)])
    assert [row.name for row in table.rows] == ["", "first", "tied", "unused"]
    assert [row.calls for row in table.rows] == [1, 2, 1, 0]
    assert [row.multiply_adds for row in table.rows] == [0, 2 * 48, 48, 0]
    assert [row.parameters for row in table.rows] == [0, 20, 4, 500]
    assert table.parameters == model.num_parameters()
    assert table.inputs == [(3, 4), (3, 1)]
    assert table["unused"].outputs == []
    assert table[""].outputs == [(3, 4), (3, 4), (3, 4)]
    assert [row.output_bytes for row in table.rows] == [48, 2 * 48, 48, 0]  # y, once
    text = str(table)
    assert "3 x 4 (2 calls)" in text
    assert "not run" in text


def test_depth_moves_figures_up_and_keeps_the_sums():
    with init.skip():
        net = models.create("resnet18")
    net.freeze("layer1", "layer2.0.conv1")
    whole = fastconv.summary(net, (1, 3, 64, 64))
    for depth in (0, 1, 2):
        table = fastconv.summary(net, (1, 3, 64, 64), depth)
        assert max(row.depth for row in table.rows) == depth
        for figure in ("parameters", "trainable", "parameter_bytes", "multiply_adds", "output_bytes"):
            assert getattr(table, figure) == getattr(whole, figure)
    assert len(fastconv.summary(net, (1, 3, 64, 64), 0).rows) == 1
    table = fastconv.summary(net, (1, 3, 64, 64), 1)
    assert table["layer1"].trainable == 0
    assert table["layer1"].parameters == 147_968
    assert table["layer2"].trainable == table["layer2"].parameters - 64 * 128 * 9
    with pytest.raises(ArgumentError, match="summary: expected depth >= 0, got -1"):
        fastconv.summary(net, (1, 3, 64, 64), -1)


def test_the_model_is_left_as_it_was():
    fastconv.manual_seed(5)
    net = nn.Sequential(small(), nn.Dropout(0.5))
    net[0].norm.eval()
    state, streams = net.state_dict(), random.get_state()
    modes = [module.training for module in net.modules()]
    attributes = [set(vars(module)) - {"training"} for module in net.modules()]
    fastconv.summary(net, (1, 3, 11, 12))

    class Fails(nn.Module):
        def __init__(self):
            self.net = net

        def forward(self, x):
            self.net(x)
            random.generator().random()
            random.dropout_key()
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fastconv.summary(Fails(), (1, 3, 11, 12))
    assert modes == [module.training for module in net.modules()]
    assert modes.count(False) == 1
    assert attributes == [set(vars(module)) - {"training"} for module in net.modules()]
    assert random.get_state() == streams
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, state[key], key)
    assert fastconv.is_grad_enabled()
    assert fastconv.backends.for_numpy() is fastconv.backends.get(fastconv.backends.for_numpy().name)


def test_hooks_of_the_user_run_inside():
    net, seen = small(), []
    net.relu.register_forward_hook(lambda m, args, y: seen.append(y.shape))
    fastconv.summary(net, (1, 3, 11, 12))
    assert seen == [(1, 8, 6, 6)]


def test_a_layer_that_fails_and_is_replaced():
    class Fallback(nn.Module):
        def __init__(self):
            self.wide, self.narrow = nn.Linear(9, 4), nn.Linear(3, 4)

        def forward(self, x):
            try:
                return self.wide(x)
            except ShapeError:
                return self.narrow(x)

    table = fastconv.summary(Fallback(), (2, 3))
    assert [row.multiply_adds for row in table.rows] == [0, 0, 24]
    assert [row.outputs for row in table.rows] == [[(2, 4)], [], [(2, 4)]]


def test_lists_whose_modules_run_are_not_said_to_be_idle():
    class Listed(nn.Module):
        def __init__(self):
            self.used, self.idle = nn.ModuleList([nn.Linear(2, 2)]), nn.ModuleList([nn.Linear(2, 2)])

        def forward(self, x):
            return self.used[0](x)

    table = fastconv.summary(Listed(), (1, 2))
    assert {row.name: row.ran for row in table.rows} == {
        "": True, "used": True, "used.0": True, "idle": False, "idle.0": False,
    }  # fmt: skip
    assert table["used"].calls == 0
    assert [line.split()[0] for line in str(table).splitlines() if "not run" in line] == ["idle", "0"]
    assert str(fastconv.summary(Listed(), (1, 2), 1)).count("not run") == 1


def test_units_are_marked():
    table = fastconv.summary(models.create("tutorial"), (1, 1, 28, 28))
    assert {row.name: row.unit for row in table.rows if row.unit} == {
        "c1": 1, "relu1": 1, "p2": 1, "c3": 2, "relu3": 2, "p4": 2, "f5": 3, "relu5": 3,
    }  # fmt: skip
    assert table.parameters == 317_066
    assert table.multiply_adds == 24**2 * 32 * 25 + 8**2 * 64 * 25 * 32 + 1024 * 256 + 256 * 10


def test_the_table_lines_up():
    net = small().freeze("conv")
    lines = str(fastconv.summary(net, fastconv.Tensor(np.zeros((1, 3, 11, 12), np.float32)))).splitlines()
    head, rows = lines[0], lines[2:9]
    assert re.split(r"  +", head) == [
        "layer", "type", "output", "parameters", "multiply-adds", "output memory", "trainable", "unit"
    ]  # fmt: skip
    for row in rows:
        assert row[head.index("type") - 1] == " " != row[head.index("type")]
        assert len(row) <= len(head)
    assert lines[-3] == "parameters: 1,253, 224 of them frozen (4.9 KB)"
    assert repr(fastconv.summary(net, (1, 3, 11, 12))) == str(fastconv.summary(net, (1, 3, 11, 12)))


@pytest.mark.parametrize("wrong", [5, "1, 3", [], None])
def test_inputs_that_are_none(wrong):
    with pytest.raises(ArgumentError, match="summary: expected inputs to be a shape, an array, or a list of these"):
        fastconv.summary(small(), wrong)


def test_an_empty_batch_and_no_parameters():
    table = fastconv.summary(small(), (0, 3, 11, 12))
    assert table.multiply_adds == 0
    assert table["head"].outputs == [(0, 5)]
    assert fastconv.summary(nn.ReLU(), (2, 3)).rows[0].output_bytes == 24


def test_a_model_elsewhere_is_named(monkeypatch):
    net = small()
    monkeypatch.setattr(nn.Parameter, "device", property(lambda self: "cuda"))
    with pytest.raises(DeviceError, match="summary: expected a model on 'cpu', got 'cuda'"):
        fastconv.summary(net, (1, 3, 11, 12))
