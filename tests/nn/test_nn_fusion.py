"""Units in a Sequential: which layers become one, and that nobody can tell but by the clock."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import models, nn
from fastconv.errors import ArgumentError, DTypeError, ShapeError
from fastconv.nn import _units, fusion


@pytest.fixture
def apart(monkeypatch):
    """Return a function that runs another with units turned off."""

    def without_units(function, *arguments):
        with monkeypatch.context() as m:
            m.setattr(_units, "ENABLED", False)
            return function(*arguments)

    return without_units


def train_once(model, x):
    """Return the output and every gradient, the input's first."""
    model.zero_grad()
    x = fastconv.tensor(x, requires_grad=True)
    y = model(x)
    (y * y).sum().backward()
    return [y.numpy(), x.grad, *(p.grad for p in model.parameters())]


NETWORKS = {
    "2d": ((3, 2, 11, 13), lambda: [nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 3, 3)]),
    "1d": ((3, 4, 20), lambda: [nn.Conv1d(4, 8, 5, stride=2), nn.ReLU(), nn.MaxPool1d(3)]),
    "3d": ((2, 3, 7, 8, 9), lambda: [nn.Conv3d(3, 18, 3, bias=False), nn.ReLU(inplace=True), nn.MaxPool3d((1, 2, 2))]),
    "no pool": ((3, 2, 9, 9), lambda: [nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU()]),
    "no relu": ((3, 2, 9, 9), lambda: [nn.Conv2d(2, 8, 3), nn.MaxPool2d((3, 2))]),
    "unbatched": ((2, 9, 9), lambda: [nn.Conv2d(2, 8, 3), nn.ReLU(), nn.MaxPool2d(2)]),
    "linear": ((3, 2, 7), lambda: [nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.ReLU()]),
    "same": ((2, 2, 9, 9), lambda: [nn.Conv2d(2, 18, 3, padding="same", groups=2), nn.ReLU(), nn.MaxPool2d(2)]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_those_of_the_layers_one_by_one(apart, name):
    shape, layers = NETWORKS[name]
    model = nn.Sequential(*layers())
    assert nn.units(model)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    actual, expected = train_once(model, x), apart(train_once, model, x)
    oracle.assert_same_bits(actual[0], expected[0], "y")
    for one, other in zip(actual[1:], expected[1:], strict=True):
        oracle.assert_close(one, other)


def test_lenet(apart):
    model = models.create("tutorial")
    assert nn.units(model) == [("c1", "relu1", "p2"), ("c3", "relu3", "p4"), ("f5", "relu5")]
    x = np.random.default_rng(0).standard_normal((5, 1, 28, 28), dtype=np.float32)
    actual, expected = train_once(model, x), apart(train_once, model, x)
    oracle.assert_same_bits(actual[0], expected[0], "y")
    for one, other in zip(actual[1:], expected[1:], strict=True):
        oracle.assert_close(one, other)


def test_no_gradient_is_recorded_where_none_is_wanted():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = np.ones((1, 1, 8, 8), np.float32)
    with fastconv.no_grad():
        assert not model(x).requires_grad
    for p in model.parameters():
        p.requires_grad = False
    assert not model(fastconv.tensor(x)).requires_grad
    model[0].bias.requires_grad = True
    model(x).sum().backward()
    assert model[0].bias.grad is not None
    assert model[0].weight.grad is None


class OwnConv(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) * 2.0


class OwnReLU(nn.ReLU):
    pass


@pytest.mark.parametrize(
    "layers, units",
    [
        ([nn.ReLU(), nn.MaxPool2d(2)], 0),
        ([nn.Conv2d(1, 2, 3)], 0),
        ([nn.Conv2d(1, 2, 3), nn.Tanh(), nn.MaxPool2d(2)], 0),
        ([OwnConv(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)], 0),
        ([nn.Conv2d(1, 2, 3), OwnReLU(), nn.MaxPool2d(2)], 0),
        ([nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.ReLU()], 0),
        ([nn.ConvTranspose2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)], 0),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, return_indices=True)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(3, padding=1)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, dilation=2)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(16)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d((2, 2), 2)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2)], 2),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(15)], 3),
        ([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d((2, 1))], 3),
    ],
)
def test_what_is_a_unit(apart, layers, units):
    assert fusion.unit_length(layers, 0) == units
    assert apart(fusion.unit_length, layers, 0) == 0


def test_changes_are_seen_at_the_next_call():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = np.random.default_rng(0).standard_normal((1, 1, 9, 9), dtype=np.float32)
    assert model(x).shape == (1, 4, 3, 3)
    model[2].kernel_size = model[2].stride = 3
    assert model(x).shape == (1, 4, 2, 2)
    model[2].ceil_mode = True
    assert model(x).shape == (1, 4, 3, 3)
    setattr(model, "1", nn.Tanh())
    assert (model(x).numpy() < 0).any()
    model[0].forward = lambda input: input
    assert model(x).shape == (1, 1, 3, 3)
    twin = copy.deepcopy(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))
    assert nn.units(twin) == [("0", "1")]


CONV_RELU_POOL = {"c": nn.Conv2d, "r": nn.ReLU, "p": nn.MaxPool2d}


@pytest.mark.parametrize("name", CONV_RELU_POOL)
@pytest.mark.parametrize("attribute", ["forward", "__call__"])
def test_what_was_put_in_place_of_a_layers_forward_runs(monkeypatch, name, attribute):
    x = np.random.default_rng(0).standard_normal((1, 2, 9, 9), dtype=np.float32)
    model = nn.Sequential({"c": nn.Conv2d(2, 4, 3), "r": nn.ReLU(), "p": nn.MaxPool2d(2)})
    assert nn.units(model) == [("c", "r", "p")]
    model(x)
    kind, calls = CONV_RELU_POOL[name], []
    original = getattr(kind, attribute)
    monkeypatch.setattr(kind, attribute, lambda self, input: calls.append(name) or original(self, input))
    model(x)
    assert calls == [name]
    assert not any(name in unit for unit in nn.units(model))


def test_a_base_class_whose_forward_was_replaced(monkeypatch):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU())
    monkeypatch.setattr(nn.Conv2d.__mro__[1], "forward", lambda self, input: -input)
    np.testing.assert_array_equal(model(-np.ones((1, 2, 9, 9), np.float32)), np.ones((1, 2, 9, 9)))


def test_a_sequential_calls_its_layers():
    class Doubled(nn.Identity):
        def __call__(self, input):
            return 2 * super().__call__(input)

    assert nn.Sequential(Doubled(), Doubled())(np.ones(1)) == 4


def message(function, *arguments):
    with pytest.raises((ShapeError, ArgumentError, DTypeError)) as caught:
        function(*arguments)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "shape, dtype, pool",
    [
        ((1, 2, 9, 9), "float32", 2),
        ((1, 1, 2, 9), "float32", 2),
        ((1, 1, 9), "float32", 2),
        ((1, 1, 9, 9), "float64", 2),
        ((1, 1, 9, 9), "int32", 2),
        ((1, 1, 5, 5), "float32", 4),
        ((1, 1, 9, 9), "float32", 0),
        ((1, 1, 9, 9), "float32", (2, 2, 2)),
    ],
)
def test_messages_are_those_of_the_layers(apart, shape, dtype, pool):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(pool))
    x = np.ones(shape, dtype)
    assert message(model, x) == apart(message, model, x)


@given(st.data())
def test_random_networks(data):
    rank = data.draw(st.integers(1, 3))
    conv, pool = [(nn.Conv1d, nn.MaxPool1d), (nn.Conv2d, nn.MaxPool2d), (nn.Conv3d, nn.MaxPool3d)][rank - 1]
    ic, oc = data.draw(st.integers(1, 18)), data.draw(st.integers(1, 34))
    kernel, edge = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    stride, padding = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 2))
    size = data.draw(st.integers(kernel + stride * edge, 14 if rank < 3 else 9))
    model = nn.Sequential(conv(ic, oc, kernel, stride, padding), nn.ReLU(), pool(edge))
    x = np.random.default_rng(0).standard_normal((2, ic, *(size,) * rank), dtype=np.float32)
    actual = train_once(model, x)
    layers = list(model)
    inside = fastconv.tensor(x, requires_grad=True)
    model.zero_grad()
    y = layers[2](layers[1](layers[0](inside)))
    (y * y).sum().backward()
    oracle.assert_same_bits(actual[0], y.numpy())
    for one, other in zip(actual[1:], [inside.grad, *(p.grad for p in model.parameters())], strict=True):
        oracle.assert_close(one, other)


@pytest.mark.parametrize("value, expected", [("0", "[]"), ("1", "[('0', '1')]"), ("", "[('0', '1')]")])
def test_environment(value, expected):
    code = "from fastconv import nn; print(nn.units(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())))"
    environment = {**os.environ, "FASTCONV_FUSE": value}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == expected


def test_environment_is_checked():
    environment = {**os.environ, "FASTCONV_FUSE": "maybe"}
    run = subprocess.run([sys.executable, "-c", "import fastconv.nn"], env=environment, capture_output=True, text=True)
    assert "FASTCONV_FUSE: expected one of 0, 1, got 'maybe'" in run.stderr


def test_options_that_are_arrays_are_left_to_the_layer():
    x = np.random.default_rng(3).standard_normal((1, 2, 9, 9))
    net = nn.Sequential(nn.Conv2d(2, 3, 3, dtype="float64"), nn.ReLU(), nn.MaxPool2d(2, padding=np.array([0, 0])))
    assert nn.units(net) == [("0", "1")]
    with fastconv.no_grad():
        np.testing.assert_array_equal(net(x).shape, (1, 3, 3, 3))
