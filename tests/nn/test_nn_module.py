"""Module: names, states, modes, conversion, text; containers."""

import copy
import re

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import Tensor, nn
from fastconv.errors import ArgumentError, CheckpointError


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def network(module=nn):
    return module.Sequential(
        module.Conv2d(1, 4, 3, padding=1), module.BatchNorm2d(4), module.ReLU(),
        module.Sequential(module.MaxPool2d(2), module.Flatten(), module.Linear(16, 3, bias=False)),
    )  # fmt: skip


def test_names_order_and_shapes_are_torchs():
    ours, theirs = network(), network(oracle.torch().nn)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    assert [k for k, _ in ours.named_buffers()] == [k for k, _ in theirs.named_buffers()]
    assert [k for k, _ in ours.named_modules()] == [k for k, _ in theirs.named_modules()]
    assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())
    assert ours.state_dict()["1.num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize("value", [np.ones((2, 3), np.float32), fastconv.tensor(np.ones((2, 3), np.float32)), 1.0])
def test_what_is_no_parameter_does_not_take_the_place_of_one(value):
    layer = nn.Linear(3, 2)
    expected = f"weight to be a Parameter or None (weight.data takes arrays), got {type(value).__name__}"
    with raises(TypeError, f"Linear: expected {expected}"):
        layer.weight = value
    layer.weight, layer.bias = nn.Parameter(np.ones((2, 3), np.float32)), None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    np.testing.assert_array_equal(layer(np.ones((1, 3), np.float32)).data, [[3, 3]])


def test_only_a_parameter_is_registered_as_one():
    module = nn.Module()
    for value in (np.ones(2, np.float32), fastconv.tensor(np.ones(2, np.float32)), 1.0):
        expected = "weight to be a Parameter or None (a Parameter is made of an array)"
        with raises(TypeError, f"Module: expected {expected}, got {type(value).__name__}"):
            module.register_parameter("weight", value)
    module.register_parameter("weight", nn.Parameter(np.ones(2, np.float32)))
    module.register_parameter("bias", None)
    assert [name for name, _ in module.named_parameters()] == ["weight"]
    assert module.bias is None


def test_repr_is_torchs():
    assert repr(network()) == repr(network(oracle.torch().nn))


def test_a_torch_state_dict_loads_by_name():
    t = oracle.torch()
    theirs = network(t.nn)
    ours = network()
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype(np.float32)
    oracle.assert_close(ours.eval()(x).numpy(), theirs.eval()(t.from_numpy(x)).detach().numpy())


def test_state_dict_is_a_copy_and_loading_copies():
    model = nn.Linear(2, 1)
    state = model.state_dict()
    model.weight.data += 1
    assert (state["weight"] != model.weight.data).all()
    model.load_state_dict(state)
    state["weight"] += 1
    assert (state["weight"] != model.weight.data).all()


def test_loading_keeps_parameter_objects_and_dtype():
    model = nn.Linear(2, 1)
    weight = model.weight
    model.load_state_dict({"weight": np.ones((1, 2), np.float64), "bias": Tensor(np.ones(1, np.float32))})
    assert model.weight is weight
    assert weight.dtype == np.float32
    assert (weight.data == 1).all()


def test_torchs_tensors_are_loaded_as_they_are():
    t = oracle.torch()
    for theirs in (t.nn.Linear(3, 2), t.nn.Linear(3, 2).bfloat16()):
        for state in (dict(theirs.named_parameters()), theirs.state_dict()):
            ours = nn.Linear(3, 2).double()
            ours.load_state_dict(state)
            np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach().double().numpy())
            assert ours.weight.dtype == np.float64
    with pytest.raises(CheckpointError, match=r"got\n  weight: can't convert Sparse layout"):
        nn.Linear(3, 2).load_state_dict({"weight": t.zeros(2, 3).to_sparse(), "bias": t.zeros(2)})


def test_strict_errors_name_every_key_and_change_nothing():
    model = nn.Linear(2, 1)
    before = model.state_dict()
    with raises(
        CheckpointError,
        "load_state_dict: expected the 2 names and shapes of Linear, got\n"
        "  missing bias\n  unexpected extra\n  weight of shape (1, 3) in place of (1, 2)",
    ):
        model.load_state_dict({"weight": np.ones((1, 3)), "extra": np.ones(1)})
    with pytest.raises(CheckpointError, match="weight of shape"):
        model.load_state_dict({"weight": np.ones((1, 3))}, strict=False)
    with pytest.raises(CheckpointError, match="bias: tensor: expected numbers, got complex128"):
        model.load_state_dict({"weight": np.ones((1, 2)), "bias": np.ones(1, complex)})
    for key, value in model.state_dict().items():
        oracle.assert_same_bits(value, before[key])
    result = model.load_state_dict({"bias": np.ones(1), "extra": np.ones(1)}, strict=False)
    assert result == (["weight"], ["extra"])
    assert model.bias.data == 1


def test_modes_reach_every_module():
    model = network()
    assert all(m.training for m in model.modules())
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model.train()
    assert all(m.training for m in model.modules())


def test_to_converts_parameters_gradients_and_floating_buffers():
    model = network()
    model(np.ones((2, 1, 4, 4), np.float32)).sum().backward()
    model.to("float64")
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {np.dtype("f8")}
    assert model[1].running_mean.dtype == np.float64
    assert model[1].num_batches_tracked.dtype == np.int64
    assert model.float()[0].weight.dtype == np.float32
    assert model.to("cpu") is model


def test_freezing_and_zero_grad():
    model = network()
    model[0].requires_grad_(False)
    model(np.ones((2, 1, 4, 4), np.float32)).sum().backward()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None
    assert model.num_parameters(trainable_only=True) == model.num_parameters() - 40
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_shared_parameter_is_listed_once_and_saved_twice():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert "1.weight" in model.state_dict()


def test_apply_goes_children_first():
    seen = []
    network().apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Flatten", "Linear", "Sequential", "Sequential"]


def test_deepcopy_is_independent():
    model = network()
    twin = copy.deepcopy(model)
    twin[0].weight.data += 1
    assert (twin[0].weight.data != model[0].weight.data).all()


def test_containers():
    model = nn.Sequential({"a": nn.Identity(), "b": nn.Linear(2, 3)})
    assert list(model.state_dict()) == ["b.weight", "b.bias"]
    assert len(model) == 2
    assert model[-1] is model.b
    assert isinstance(model[:1], nn.Sequential)
    blocks = nn.ModuleList([nn.Linear(1, 1)])
    blocks.append(nn.Linear(1, 2))
    assert [tuple(p.shape) for p in blocks.parameters()] == [(1, 1), (1,), (2, 1), (2,)]
    heads = nn.ModuleDict({"left": nn.Linear(1, 1)})
    heads["right"] = nn.Linear(1, 1)
    assert "right" in heads
    assert list(heads) == list(heads.keys()) == ["left", "right"]
    del heads["left"]
    assert list(dict(heads.items())) == ["right"]
    with raises(ArgumentError, "Sequential: expected modules, got int"):
        nn.Sequential(3)
    assert [name for name, _ in nn.Sequential({"units": nn.Identity()}).named_children()] == ["units"]
    with raises(ArgumentError, "Sequential: expected names without dots that no attribute has, got 'forward'"):
        nn.Sequential({"forward": nn.Identity()})


def test_a_network_repeats_with_the_seed():
    fastconv.manual_seed(11)
    first = network().state_dict()
    fastconv.manual_seed(11)
    for key, value in network().state_dict().items():
        oracle.assert_same_bits(value, first[key])


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1)
