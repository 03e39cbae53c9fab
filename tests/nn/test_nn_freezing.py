"""Fine-tuning: frozen parts cost no backward pass, keep their numbers, and hold their statistics when told."""

import re

import numpy as np
import pytest
from counting import counted

import fastconv
from fastconv import functional as F
from fastconv import models, nn, optim
from fastconv.errors import ArgumentError

BACKWARD = re.compile(r"backward|bias_backward")


def network():
    fastconv.manual_seed(0)
    return nn.Sequential({
        "features": nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU()
        ),
        "flatten": nn.Flatten(),
        "head": nn.Linear(16, 3),
    })  # fmt: skip


def step(net):
    """One forward and backward pass; return how often each verb was called."""
    x = np.random.default_rng(1).standard_normal((5, 2, 8, 8)).astype(np.float32)
    with counted() as calls:
        F.cross_entropy(net(x), [0, 1, 2, 0, 1]).backward()
    return {name: number for name, number in calls.items() if BACKWARD.search(name)}


def test_what_is_not_frozen_costs_a_backward_pass():
    calls = step(network())
    assert calls["conv_backward_weight"] == 2
    assert calls["conv_backward_input"] == 1  # the image wants no gradient
    assert calls["batch_norm_backward"] == 1


def test_a_frozen_beginning_costs_none():
    net = network().freeze("features")
    assert step(net) == {"cross_entropy_backward": 1, "linear_backward_weight": 1, "bias_backward": 1}
    assert all(p.grad is None for p in net.get_submodule("features").parameters())
    assert all(p.grad is not None for p in net.get_submodule("head").parameters())


def test_what_is_frozen_in_the_middle_passes_gradients_on():
    net = network().freeze("features.4", "head")
    calls = step(net)
    assert calls["conv_backward_weight"] == 1
    assert calls["conv_backward_input"] == 1
    assert calls["linear_backward_input"] == 1
    assert "linear_backward_weight" not in calls
    assert net.get_parameter("features.0.weight").grad is not None


def test_a_frozen_unit_costs_none_either():
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )
    assert len(nn.units(net)) == 2
    assert not {name for name in step(net.freeze("0", "3")) if name.startswith("conv")}
    assert "conv_act_pool_backward" in step(net.unfreeze())


@pytest.mark.parametrize("optimizer", [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1)])
def test_an_optimiser_leaves_what_is_frozen(optimizer):
    net = network()
    stepper = optimizer(net.parameters())
    step(net)
    stepper.step()
    step(net)  # gradients are there when the parts are frozen
    net.freeze("features", "head.bias")
    before = net.state_dict()
    stepper.step()
    moved = {name for name, _ in net.named_parameters() if (net.state_dict()[name] != before[name]).any()}
    assert moved == {"head.weight"}
    net.unfreeze("head")
    stepper.zero_grad()
    step(net)
    stepper.step()
    assert (net.state_dict()["head.bias"] != before["head.bias"]).any()


def test_held_batch_norm_keeps_its_statistics_through_train():
    net = network()
    step(net)  # statistics that are not 0 and 1
    net.freeze("features", statistics=True)
    held, before = net.get_submodule("features.1"), net.state_dict()
    for mode in (True, False, True):
        assert net.train(mode).training is mode
        assert held.training is False
    step(net)
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        np.testing.assert_array_equal(net.state_dict()[f"features.1.{key}"], before[f"features.1.{key}"])
    assert net.get_submodule("features.2").training  # the others follow
    net.unfreeze("features")
    assert held.training
    step(net)
    assert (net.state_dict()["features.1.running_mean"] != before["features.1.running_mean"]).any()


def test_without_being_told_statistics_adapt_as_torchs():
    net = network().freeze()
    before = net.state_dict()
    x = np.random.default_rng(1).standard_normal((5, 2, 8, 8)).astype(np.float32)
    assert not net(x).requires_grad
    assert (net.state_dict()["features.1.running_mean"] != before["features.1.running_mean"]).any()


def test_parts_may_be_modules_and_must_be_inside():
    net = network()
    assert net.freeze(net.get_submodule("head"), "features.0.weight") is net
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["features.0.weight", "head.weight", "head.bias"]
    assert net.num_parameters(trainable_only=True) == net.num_parameters() - 72 - 51
    net.unfreeze()
    assert all(p.requires_grad for p in net.parameters())
    has = "parts below Sequential (which has features, flatten, head)"
    for wrong, shown in (("feature", "'feature'"), (nn.ReLU(), "a ReLU from elsewhere"), (3, "a int from elsewhere")):
        message = f"freeze: expected {has}, got {shown}"
        with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
            net.freeze("head", wrong)
    assert all(p.requires_grad for p in net.parameters())  # nothing has changed


def test_the_recipe_of_fine_tuning():
    """A trained body, a new head: the head learns and the body stays, bit for bit."""
    fastconv.manual_seed(1)
    net = models.create("cifar_net", depth=8)
    body = net.state_dict()
    head = next(reversed(dict(net.named_children())))
    net.freeze(statistics=True)
    setattr(net, head, nn.Linear(64, 4))
    net.train()
    optimizer = optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.05)
    labels, losses = np.arange(8) % 4, []
    x = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
    x += labels[:, None, None, None].astype(np.float32)  # classes differ in brightness
    for _ in range(20):
        optimizer.zero_grad()
        with counted() as calls:
            loss = F.cross_entropy(net(x), labels)
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert not {name for name in calls if name.startswith(("conv_backward", "batch_norm_backward"))}
    assert losses[-1] < 0.5 * losses[0]
    for key, value in net.state_dict().items():
        if not key.startswith(f"{head}."):
            np.testing.assert_array_equal(value, body[key], key)
