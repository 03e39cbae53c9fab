"""The small networks: sizes, the same numbers as torch's with the same state, repeatable training."""

import re

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import functional as F
from fastconv import models, optim
from fastconv.errors import ArgumentError


def images(n=2, dtype="float32"):
    return np.random.default_rng(0).standard_normal((n, 1, 28, 28)).astype(dtype)


def test_the_tutorial_net_has_317066_parameters():
    model = models.tutorial_net()
    assert model.num_parameters() == 317_066
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes["c1.weight"] == (32, 1, 5, 5)
    assert shapes["c3.weight"] == (64, 32, 5, 5)
    assert shapes["f5.weight"] == (256, 1024)
    assert shapes["f6.weight"] == (10, 256)


def test_lenet5_has_61706_parameters():
    assert models.lenet5().num_parameters() == 61_706


def test_output_relu_is_the_last_layer():
    assert (models.tutorial_net(output_relu=True)(images()).numpy() >= 0).all()
    assert (models.tutorial_net()(images()).numpy() < 0).any()


def torch_twin(t, name):
    n = t.nn
    if name == "tutorial":
        return n.Sequential(
            n.Conv2d(1, 32, 5), n.ReLU(), n.MaxPool2d(2), n.Conv2d(32, 64, 5), n.ReLU(), n.MaxPool2d(2), n.Flatten(),
            n.Linear(1024, 256), n.ReLU(), n.Linear(256, 10),
        )  # fmt: skip
    return n.Sequential(
        n.Conv2d(1, 6, 5, padding=2), n.Tanh(), n.AvgPool2d(2), n.Conv2d(6, 16, 5), n.Tanh(), n.AvgPool2d(2),
        n.Flatten(), n.Linear(400, 120), n.Tanh(), n.Linear(120, 84), n.Tanh(), n.Linear(84, 10),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["tutorial", "lenet5"])
def test_two_training_steps_like_torch(name):
    t = oracle.torch()
    ours = models.create(name, dtype="float64")
    theirs = torch_twin(t, name).double()
    keys = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict({key: t.from_numpy(value) for key, value in keys})
    x, labels = images(dtype="float64"), np.array([3, 7])
    a, b = optim.SGD(ours.parameters(), lr=0.1, momentum=0.9), t.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        a.zero_grad()
        b.zero_grad()
        loss, expected = F.cross_entropy(ours(x), labels), t.nn.functional.cross_entropy(
            theirs(t.from_numpy(x)), t.from_numpy(labels)
        )  # fmt: skip
        loss.backward()
        expected.backward()
        a.step()
        b.step()
        oracle.assert_close(loss.numpy(), expected.detach().numpy(), 1e-12)
    for (key, mine), wanted in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        oracle.assert_close(mine.data, wanted.detach().numpy(), 1e-10, key)


def test_training_repeats_bit_for_bit_with_the_seed():
    def train():
        fastconv.manual_seed(4)
        model = models.lenet5()
        optimiser = optim.Adam(model.parameters())
        for _ in range(2):
            optimiser.zero_grad()
            F.cross_entropy(F.dropout(model(images()), 0.2), [1, 2]).backward()
            optimiser.step()
        return model.state_dict()

    first, second = train(), train()
    for key, value in first.items():
        oracle.assert_same_bits(value, second[key], key)


def test_registry():
    assert models.create("lenet5", activation="relu", pooling="max")(images()).shape == (2, 10)
    with pytest.raises(ArgumentError, match=re.escape("lenet5: expected activation 'tanh' or 'relu', got 'gelu'")):
        models.lenet5(activation="gelu")
