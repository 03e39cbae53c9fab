"""Hooks as torch's: order, replacing, removing, exceptions; and a hooked layer runs by itself."""

import copy
import re

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import nn
from fastconv.errors import ArgumentError


def scenario(library, ones):
    """The same hooks on torch's layer and ours; what was called, with what, and the result."""

    class Layer(library.Module):
        def forward(self, input, *others):
            return input

    layer, events = Layer(), []

    def before(name, add=None):
        def hook(module, args):
            events.append((name, args[0].sum().item()))
            return None if add is None else (args[0] + add)

        return hook

    def after(name, factor=None):
        def hook(module, args, output):
            events.append((name, args[0].sum().item(), output.sum().item()))
            return None if factor is None else output * factor

        return hook

    layer.register_forward_pre_hook(before("first", 1))
    removed = layer.register_forward_pre_hook(before("removed", 100))
    layer.register_forward_pre_hook(before("before first", 2), prepend=True)
    layer.register_forward_pre_hook(lambda module, args: (args[0] * 2, "ignored"))
    layer.register_forward_hook(after("a"))
    layer.register_forward_hook(after("b", 10))
    layer.register_forward_hook(after("c"))
    layer.register_forward_hook(after("front", -1), prepend=True)
    removed.remove()
    removed.remove()
    return layer(ones).sum().item(), events


def test_order_and_replacements_are_torchs():
    t = oracle.torch()
    ours, theirs = scenario(nn, fastconv.tensor(np.ones(3, np.float32))), scenario(t.nn, t.ones(3))
    assert ours == theirs
    assert [event[0] for event in ours[1]] == ["before first", "first", "front", "a", "b", "c"]


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_what_cannot_be_called_is_no_hook(register):
    layer = nn.ReLU()
    with pytest.raises(TypeError, match=f"^{register}: expected hook to be a function, got None$"):
        getattr(layer, register)(None)
    assert "forward" not in vars(layer)


def with_keywords(library, x):
    class Layer(library.Module):
        def forward(self, x, scale=1.0):
            return x * scale

    layer, seen = Layer(), []
    layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {**kwargs, "scale": 3.0}), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, kwargs, y: seen.append(dict(kwargs)), with_kwargs=True)
    return layer(x, scale=2.0).sum().item(), seen


def test_keywords_are_torchs():
    t = oracle.torch()
    expected = with_keywords(t.nn, t.ones(2))
    assert with_keywords(nn, fastconv.tensor(np.ones(2, np.float32))) == expected == (6.0, [{"scale": 3.0}])


def test_hooks_that_are_always_called_see_exceptions_pass():
    calls = []
    layer = nn.Linear(2, 1)
    layer.register_forward_hook(lambda *args: calls.append("usual"))
    layer.register_forward_hook(lambda m, args, output: calls.append(output), always_call=True)
    with pytest.raises(ValueError, match="linear"):
        layer(np.ones((1, 3), np.float32))
    assert calls == [None]
    layer(np.ones((1, 2), np.float32))
    assert calls[1] == "usual"
    assert calls[2].shape == (1, 1)


def test_a_module_without_hooks_is_as_before():
    layer = nn.ReLU()
    untouched = dict(vars(layer))
    with layer.register_forward_hook(print), layer.register_forward_pre_hook(print):
        assert vars(layer) != untouched
    assert vars(layer) == untouched

    layer.forward = lambda input: input + 1  # a forward of its own comes back
    own = layer.forward
    handle = layer.register_forward_hook(lambda m, args, y: y * 10)
    assert layer(1) == 20
    handle.remove()
    assert layer.forward is own
    handle = layer.register_forward_hook(lambda m, args, y: y * 10)
    layer.forward = replaced = lambda input: 7  # a later one is not taken away with the hooks
    handle.remove()
    assert layer.forward is replaced


def test_hooks_do_not_stand_in_states_and_go_with_copies():
    layer = nn.Conv2d(1, 1, 1)
    names = list(layer.state_dict())
    handle = layer.register_forward_hook(lambda m, args, y: m)
    twin = copy.deepcopy(layer)
    assert list(layer.state_dict()) == names == list(twin.state_dict())
    x = np.ones((1, 1, 2, 2), np.float32)
    assert layer(x) is layer
    assert twin(x) is twin
    handle.remove()
    assert layer(x).shape == x.shape
    assert twin(x) is twin


def test_a_hook_may_remove_itself_while_it_runs():
    layer, calls = nn.Identity(), []

    def once(module, args, output):
        calls.append(output)
        handle.remove()

    handle = layer.register_forward_hook(once)
    layer.register_forward_hook(lambda *args: calls.append("second"))
    layer(1)
    layer(2)
    assert calls == [1, "second", "second"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_hooked_layer_runs_by_itself_and_gives_what_the_unit_gives(place):
    fastconv.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = np.random.default_rng(0).standard_normal((2, 3, 10, 10)).astype(np.float32)
    expected = net(x).numpy()
    assert nn.units(net) == [("0", "1", "2")]
    shapes = []
    with net[place].register_forward_hook(lambda m, args, y: shapes.append(y.shape)):
        assert [names for names in nn.units(net) if str(place) in names] == []
        np.testing.assert_allclose(net(x).numpy(), expected, rtol=1e-6, atol=1e-6)
    assert shapes == [((2, 8, 8, 8), (2, 8, 8, 8), (2, 8, 4, 4))[place]]
    assert nn.units(net) == [("0", "1", "2")]


def test_parts_by_name():
    net = nn.Sequential({"stem": nn.Sequential(nn.Linear(2, 3)), "head": nn.Linear(3, 1)})
    assert net.get_submodule("") is net
    assert net.get_submodule("stem.0") is net.stem[0]
    assert net.get_parameter("stem.0.bias") is net.stem[0].bias
    has = "below Sequential (which has stem, head)"
    for ask, kind, wrong in (
        (net.get_submodule, "module", "stem.1"), (net.get_submodule, "module", "head.weight"),
        (net.get_parameter, "parameter", "stem"), (net.get_parameter, "parameter", "head.weight.x"),
    ):  # fmt: skip
        message = f"{ask.__name__}: expected the name of a {kind} {has}, got '{wrong}'"
        with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
            ask(wrong)
