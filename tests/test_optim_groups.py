"""Parameter groups by name: every parameter in one group, each with its own options, nothing misspelt."""

import re

import numpy as np
import pytest

from fastconv import functional as F
from fastconv import init, models, nn, optim
from fastconv.errors import ArgumentError


def test_every_parameter_stands_in_exactly_one_group():
    with init.skip():
        model = models.create("resnet18")
    options = {"": {"lr": 1e-3}, "layer1": {"lr": 1e-4}, "layer1.1.bn2": {"lr": 0.0}, "fc.weight": {"lr": 0.1}}
    groups = optim.parameter_groups(model, options)
    assert [group["lr"] for group in groups] == [1e-3, 1e-4, 0.0, 0.1]
    names = {id(p): name for name, p in model.named_parameters()}
    held = [[names[id(p)] for p in group["params"]] for group in groups]
    assert sorted(name for group in held for name in group) == sorted(names.values())
    assert held[2] == ["layer1.1.bn2.weight", "layer1.1.bn2.bias"]
    assert held[3] == ["fc.weight"]
    assert "fc.bias" in held[0]
    assert all(name.startswith("layer1.") for name in held[1])
    assert len(held[1]) == 10


def test_whole_parts_between_dots_count():
    net = nn.Sequential({"a": nn.Linear(2, 2), "ab": nn.Linear(2, 2)})
    groups = optim.parameter_groups(net, {"a": {"lr": 1.0}, "ab": {"lr": 2.0}})
    assert [len(group["params"]) for group in groups] == [2, 2]
    assert groups[1]["params"][0] is net.ab.weight
    net.ab.weight = net.a.weight  # shared: by its first name
    groups = optim.parameter_groups(net, {"a": {"lr": 1.0}, "ab": {"lr": 2.0}})
    assert [len(group["params"]) for group in groups] == [2, 1]


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.AdamW])
def test_each_rate_is_used_and_follows_a_schedule(optimizer):
    """Rates by group do what optimisers apart, each with its rate, do."""
    x, labels = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32), [0, 1, 2, 0, 1, 2]

    def train(split):
        net = nn.Sequential({"body": nn.Linear(5, 4), "relu": nn.ReLU(), "head": nn.Linear(4, 3)})
        rng = np.random.default_rng(3)
        for p in net.parameters():
            p.data[...] = rng.standard_normal(p.shape)
        if split:
            steppers = [optimizer(net.body.parameters(), lr=0.001), optimizer(net.head.parameters(), lr=0.1)]
        else:
            options = {"body": {"lr": 0.001}, "head": {"lr": 0.1}}
            steppers = [optimizer(optim.parameter_groups(net, options))]
        schedules = [optim.lr_scheduler.StepLR(stepper, 1, 0.5) for stepper in steppers]
        for _ in range(3):
            net.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            for stepper, schedule in zip(steppers, schedules, strict=True):
                stepper.step()
                schedule.step()
        return net.state_dict(), [group["lr"] for stepper in steppers for group in stepper.param_groups]

    (state, rates), (expected, expected_rates) = train(False), train(True)
    assert rates == expected_rates == [0.001 / 8, 0.1 / 8]
    for key, value in expected.items():
        np.testing.assert_array_equal(state[key], value, key)


def test_frozen_parameters_stand_in_groups_and_stay():
    net = nn.Sequential({"body": nn.Linear(5, 4), "head": nn.Linear(4, 3)}).freeze("body")
    stepper = optim.SGD(optim.parameter_groups(net, {"": {"lr": 0.1, "weight_decay": 0.5}}))
    before = net.state_dict()
    F.cross_entropy(net(np.ones((1, 5), np.float32)), [0]).backward()
    stepper.step()
    after = net.state_dict()
    np.testing.assert_array_equal(after["body.weight"], before["body.weight"])
    assert (after["head.weight"] != before["head.weight"]).any()


def test_mistakes_are_named():
    net = nn.Sequential({"body": nn.Linear(5, 4), "relu": nn.ReLU(), "head": nn.Linear(4, 3)})
    for options, message in (
        ({"": {}, "haed": {"lr": 1.0}}, "names of parts that have parameters of their own, got 'haed'"),
        ({"": {}, "relu": {"lr": 1.0}}, "names of parts that have parameters of their own, got 'relu'"),
        ({"": {}, "body": {}, "head": {}}, "names of parts that have parameters of their own, got ''"),
        ({"head": {"lr": 1.0}}, "options for every parameter, also for body.weight, got names ['head']"),
        ({"": 0.1}, "options {name: {option: value}}, got {'': 0.1}"),
    ):
        with pytest.raises(ArgumentError, match=f"^{re.escape(f'parameter_groups: expected {message}')}$"):
            optim.parameter_groups(net, options)
    with pytest.raises(ArgumentError, match="SGD: expected a group of 'params' and of"):
        optim.SGD(optim.parameter_groups(net, {"": {"rate": 1.0}}))
