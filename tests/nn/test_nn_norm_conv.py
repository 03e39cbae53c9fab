"""Batch norm, its ReLU and a 1x1 convolution behind it as one operation, in networks: the results of the layers one by
one, and torch's. Inputs are large enough, and their channels side by side, so that it is taken.
"""

from __future__ import annotations

import copy

import numpy as np
import oracle
import pytest
from counting import counted
from layouts import DTYPES, LAYOUTS, normal

import fastconv
from fastconv import nn
from fastconv.errors import FastconvError
from fastconv.models.densenet import DenseBlock, _transition
from fastconv.nn import functional as F

pytest.importorskip("fastconv.backends.cpu.norm_conv")
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
last = LAYOUTS["channels_last"]
VERBS = "norm_conv_forward", "norm_conv_backward_input", "norm_conv_backward_weight"


def leaf(x, wanted=True):
    """A Tensor of the array itself, in whatever order it lies."""
    return fastconv.Tensor(x, requires_grad=wanted)


def everything(model, *inputs, run=None, wanted=True):
    """Return, by name, output, gradients and buffers of a copy of the model after one walk forward and back, and the
    calls of verbs."""
    model = copy.deepcopy(model)
    tensors = [leaf(last(x), wanted) for x in inputs]
    with counted() as calls:
        y = run(model, *tensors) if run else model(*tensors)
        y.backward(normal("dy", y.shape, str(y.dtype)))
    gradients = {f"input {i}": tensor.grad for i, tensor in enumerate(tensors)}
    gradients |= {name: p.grad for name, p in model.named_parameters()}
    buffers = {f"buffer {name}": np.array(value) for name, value in model.named_buffers()}
    return {"y": y.numpy(), **gradients, **buffers}, calls


def assert_alike(results, exact=()):
    """Compare both ways: what came forward, and the gradients named ``exact``, bit by bit."""
    one, other = results
    assert list(one) == list(other)
    for name, value in one.items():
        if name == "y" or name.startswith("buffer") or name in exact:
            oracle.assert_same_bits(np.asarray(value), np.asarray(other[name]), name)
        else:
            assert type(value) is type(other[name]), name
            assert value is None or oracle.relative_error(value, other[name]) <= oracle.BOUNDS[str(value.dtype)], name


def pair(channels=16, out=8, **options):
    """Batch norm, ReLU and a 1x1 convolution of planes."""
    return nn.BatchNorm2d(channels, **options), nn.ReLU(), nn.Conv2d(channels, out, 1, bias=False)


# What is made, the input, how often the operation runs, and the gradients behind it: those have the same bits.
MODELS = {
    "dense block": (
        lambda: DenseBlock(3, 16, 8, 4, 0.0, None), (2, 16, 17, 16), 3,
        ("denselayer3.conv1.weight", "denselayer3.norm2.weight", "denselayer3.norm2.bias", "denselayer3.conv2.weight"),
    ),
    "dense block and transition": (
        lambda: nn.Sequential(DenseBlock(2, 16, 8, 4, 0.0, None), _transition(32, None)), (2, 16, 17, 16), 3,
        ("1.conv.weight",),
    ),
    "two": (
        lambda: nn.Sequential(*pair(), *pair(8, 12)), (3, 16, 14, 15), 2, ("5.weight",),
    ),
    "1x1 and 3x3": (
        lambda: nn.Sequential(*pair(33, 24), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 8, 3, padding=1)),
        (3, 33, 14, 15), 1, ("2.weight", "3.weight", "3.bias", "5.weight", "5.bias"),
    ),
    "1d": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 12, 3, bias=False), nn.BatchNorm1d(12), nn.ReLU(inplace=True), nn.Conv1d(12, 20, 1)
        ), (3, 4, 203), 1, ("3.weight", "3.bias"),
    ),
    "3d": (
        lambda: nn.Sequential(
            nn.Conv3d(3, 10, 3, padding=1, bias=False), nn.BatchNorm3d(10), nn.ReLU(), nn.Conv3d(10, 7, 1, bias=False),
            nn.BatchNorm3d(7),
        ), (2, 3, 5, 8, 9), 1, ("3.weight", "4.weight", "4.bias"),
    ),
    "behind a ReLU": (
        lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), *pair()), (2, 3, 19, 18), 1, ("4.weight",)
    ),
    "plain": (lambda: nn.Sequential(*pair(affine=False)), (2, 16, 17, 16), 1, ("2.weight",)),
    "without a shift": (lambda: nn.Sequential(*pair(bias=False)), (2, 16, 17, 16), 1, ("2.weight",)),
    "no statistics": (lambda: nn.Sequential(*pair(track_running_stats=False)), (2, 16, 17, 16), 1, ("2.weight",)),
    "too few pixels": (
        lambda: nn.Sequential(*pair()), (1, 16, 7, 73), 0, ("input 0", "0.weight", "0.bias", "2.weight")
    ),
}  # fmt: skip


@by_dtype
@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_the_layers_one_by_one(both_ways, name, dtype):
    make, shape, count, exact = MODELS[name]
    model = make().to(dtype)
    (one, calls), (other, none) = both_ways(lambda: everything(model, normal((name, "x"), shape, dtype)))
    assert [calls[verb] for verb in VERBS] == [count] * 3
    assert [none[verb] for verb in VERBS] == [0] * 3
    assert_alike((one, other), exact)


def test_the_moments_of_its_result_are_taken_on_the_way():
    make, shape, *_ = MODELS["1x1 and 3x3"]
    _, calls = everything(make(), normal("x", shape, "float32"))
    assert calls["batch_norm_statistics"] == 1
    assert calls["conv_moments_forward"] == 0


def test_the_first_layer_of_a_block_takes_its_input_as_it_lies(both_ways):
    make, shape, *_ = MODELS["dense block"]
    x = normal("x", shape, "float32")

    def run(model, input):
        return model(leaf(np.ascontiguousarray(input.numpy())))  # channels first

    model = make()
    (one, calls), (other, _) = both_ways(lambda: everything(model, x, run=run))
    assert calls["norm_conv_forward"] == 2
    assert_alike((one, other))


ENDS = {
    "the norm": (lambda layers: layers, 1, "3.weight"),
    "a ReLU": (lambda layers: [*layers, F.relu], 1, "3.weight"),
    "the convolution": (lambda layers: layers[:-1], 0, "3.weight"),
}


@by_dtype
@pytest.mark.parametrize("shape", [(2, 12, 17, 16), (12, 1, 1)])
@pytest.mark.parametrize("name", ENDS)
def test_chain_with_a_residual(both_ways, name, shape, dtype):
    choose, count, exact = ENDS[name]
    norm = nn.BatchNorm2d(12)
    model = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
                          nn.Conv2d(12, 12, 1, bias=False), norm).to(dtype)  # fmt: skip

    def run(model, x):
        return nn.chain(x, *choose(list(model)), residual=residual)

    x, residual = normal("x", (2, 3, 17, 16), dtype), normal("r", shape, dtype)
    (one, calls), (other, _) = both_ways(lambda: everything(model, x, run=run))
    assert calls["norm_conv_forward"] == count
    assert_alike((one, other), (exact,))


class OwnConv(nn.Conv2d):
    pass


def hooked(layer):
    layer.register_forward_hook(lambda module, args, output: None)
    return layer


# Layers of 16 maps that are not taken as one.
OTHERS = {
    "hook on the norm": lambda norm, relu, conv: [hooked(norm), relu, conv],
    "hook on the ReLU": lambda norm, relu, conv: [norm, hooked(relu), conv],
    "hook on the convolution": lambda norm, relu, conv: [norm, relu, hooked(conv)],
    "another activation": lambda norm, relu, conv: [norm, nn.LeakyReLU(), conv],
    "something between": lambda norm, relu, conv: [norm, relu, nn.Identity(), conv],
    "no ReLU": lambda norm, relu, conv: [norm, conv],
    "a derived class": lambda norm, relu, conv: [norm, relu, OwnConv(16, 8, 1)],
    "eval": lambda norm, relu, conv: [norm.eval(), relu, conv],
    "3x3": lambda norm, relu, conv: [norm, relu, nn.Conv2d(16, 8, 3, padding=1)],
    "strides": lambda norm, relu, conv: [norm, relu, nn.Conv2d(16, 8, 1, stride=2)],
    "padding": lambda norm, relu, conv: [norm, relu, nn.Conv2d(16, 8, 1, padding=1)],
    "strides and padding": lambda norm, relu, conv: [norm, relu, nn.Conv2d(16, 8, 1, stride=2, padding=8)],
    "groups": lambda norm, relu, conv: [norm, relu, nn.Conv2d(16, 8, 1, groups=2)],
    "reflection": lambda norm, relu, conv: [norm, relu, nn.Conv2d(16, 8, 1, padding=1, padding_mode="reflect")],
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_taken_as_one(both_ways, name):
    model = nn.Sequential(*OTHERS[name](*pair()))
    x = normal("x", (2, 16, 16, 17), "float32")
    (one, calls), (other, _) = both_ways(lambda: everything(model, x))
    assert not any(calls[verb] for verb in VERBS)
    assert_alike((one, other), set(one))


def test_evaluation_needs_the_batch_only_without_statistics(both_ways):
    x = normal("x", (2, 16, 16, 17), "float32")
    for options, count in (({}, 0), ({"track_running_stats": False}, 1)):
        model = nn.Sequential(*pair(**options)).eval()
        (one, calls), (other, _) = both_ways(lambda model=model: everything(model, x))
        assert calls["norm_conv_forward"] == count
        assert_alike((one, other), ("2.weight",))


@pytest.mark.parametrize("wanted", [True, False], ids=["input", "constant"])
@pytest.mark.parametrize("frozen", ["0.weight 0.bias", "2.weight", "0.weight", "0.weight 0.bias 2.weight"])
def test_only_the_gradients_that_are_wanted(both_ways, frozen, wanted):
    model, frozen = nn.Sequential(*pair()), frozen.split()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    if len(frozen) == 3 and not wanted:
        assert not model(leaf(last(normal("x", (2, 16, 16, 17), "float32")), False)).requires_grad
        return
    (one, calls), (other, _) = both_ways(
        lambda: everything(model, normal("x", (2, 16, 16, 17), "float32"), wanted=wanted)
    )
    assert_alike((one, other), ("2.weight",))
    assert {name for name, value in one.items() if value is None} == {*frozen, *(() if wanted else ("input 0",))}
    assert calls["norm_conv_forward"] == 1
    assert calls["norm_conv_backward_weight"] == ("2.weight" not in frozen)
    assert calls["norm_conv_backward_input"] == (wanted or not {"0.weight", "0.bias"} <= set(frozen))


def test_nothing_is_recorded_where_no_gradient_is_taken():
    model, x = nn.Sequential(*pair()), last(normal("x", (2, 16, 16, 17), "float32"))
    wanted = copy.deepcopy(model)(leaf(x))
    with fastconv.no_grad(), counted() as calls:
        found = model(leaf(x))
    assert calls["norm_conv_forward"] == 1
    assert not found.requires_grad
    oracle.assert_same_bits(found.numpy(), wanted.numpy())


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_statistics_of_several_batches(both_ways, momentum):
    def run():
        model = nn.Sequential(*pair(momentum=momentum))
        for i in range(3):
            model(leaf(last(normal(i, (2, 16, 16, 17), "float32"))))
        return {name: np.array(value) for name, value in model.named_buffers()}

    one, other = both_ways(run)
    assert one["0.num_batches_tracked"] == 3
    for name, value in one.items():
        oracle.assert_same_bits(value, other[name], name)


def test_nan_goes_where_it_goes_in_the_layers(both_ways):
    x = normal("x", (2, 16, 16, 17), "float32")
    x[1, 3, 2, 5] = np.nan
    model = nn.Sequential(*pair())
    (one, calls), (other, _) = both_ways(lambda: everything(model, x))
    assert calls["norm_conv_forward"] == 1
    assert np.isnan(one["y"]).all()
    for name, value in one.items():
        np.testing.assert_array_equal(np.isnan(value), np.isnan(other[name]), name)
        known = ~np.isnan(value)
        assert oracle.relative_error(value[known], other[name][known]) <= oracle.BOUNDS["float32"], name
    np.testing.assert_array_equal(np.isnan(one["input 0"]).any(axis=(0, 2, 3)), np.arange(16) == 3)


WRONG = {
    "fewer channels": (lambda: pair(16)[2:], lambda: nn.BatchNorm2d(4), (2, 16, 16, 17), "float32"),
    "more channels": (lambda: pair(16)[2:], lambda: nn.BatchNorm2d(64), (2, 16, 16, 17), "float32"),
    "one channel": (lambda: pair(16)[2:], lambda: nn.BatchNorm2d(1), (2, 16, 16, 17), "float32"),
    "fewer weights": (
        lambda: pair(16)[2:], lambda: nn.BatchNorm2d(4, track_running_stats=False), (2, 16, 16, 17), "float32"
    ),
    "the convolution's channels": (lambda: pair(17)[2:], lambda: nn.BatchNorm2d(16), (2, 16, 16, 17), "float32"),
    "no batch": (lambda: pair(16)[2:], lambda: nn.BatchNorm2d(16), (16, 32, 17), "float32"),
    "a volume": (lambda: pair(16)[2:], lambda: nn.BatchNorm2d(16), (2, 16, 2, 16, 17), "float32"),
    "another dtype": (lambda: pair(16)[2:], lambda: nn.BatchNorm2d(16), (2, 16, 16, 17), "float64"),
    "the norm's dtype": (lambda: pair(16)[2:], lambda: nn.BatchNorm2d(16, dtype="float64"), (2, 16, 16, 17), "float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_those_of_the_layers(both_ways, name):
    make, norm, shape, dtype = WRONG[name]

    def message():
        with pytest.raises(FastconvError) as caught:
            nn.chain(leaf(last(normal("x", shape, dtype))), norm(), F.relu, *make())
        return str(caught.value)

    one, other = both_ways(message)
    assert one == other


def test_rows_are_no_picture_without_a_batch(both_ways):
    """BatchNorm1d sees (N, C), whose columns are its channels; for Conv1d they are positions."""
    model, x = nn.Sequential(nn.BatchNorm1d(520), nn.ReLU(), nn.Conv1d(520, 3, 1)), normal("x", (520, 520), "float32")

    def run(model, input):
        return model(leaf(np.asfortranarray(input.numpy())))

    (one, calls), (other, _) = both_ways(lambda: everything(model, x, run=run))
    assert calls["norm_conv_forward"] == 0
    assert_alike((one, other), set(one))
