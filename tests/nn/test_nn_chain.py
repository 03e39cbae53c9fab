"""Batch norm with the ReLU behind it and a residual between, as one: the bits of the layers one by one, and torch's."""

from __future__ import annotations

import copy

import numpy as np
import oracle
import pytest
from counting import counted
from layouts import DTYPES, normal

import fastconv
from fastconv import models, nn
from fastconv.errors import DTypeError, ShapeError
from fastconv.models.densenet import DenseBlock, DenseLayer
from fastconv.models.googlenet import Inception
from fastconv.models.resnet import BasicBlock, Bottleneck
from fastconv.nn import functional as F

by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def everything(model, *inputs, run=None):
    """Return output, gradients and buffers of a copy of the model after one walk forward and back."""
    model = copy.deepcopy(model)
    tensors = [fastconv.tensor(x, requires_grad=True) for x in inputs]
    y = run(model, *tensors) if run else model(*tensors)
    y.backward(normal("dy", y.shape, str(y.dtype)))
    return [y.numpy(), *(t.grad for t in tensors), *(p.grad for p in model.parameters()), *model.state_dict().values()]


def assert_same(results):
    for one, other in zip(*results, strict=True):
        oracle.assert_same_bits(np.asarray(one), np.asarray(other))


BLOCKS = {
    "basic": (lambda: BasicBlock(6, 6), (2, 6, 9, 7)),
    "downsample": (
        lambda: Bottleneck(8, 4, 2, nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))), (2, 8, 9, 7)
    ),
    "dense": (lambda: DenseLayer(20, 8, 4, 0.0, None), (2, 20, 5, 6)),
    "inception": (lambda: Inception(20, 8, 6, 10, 4, 7, 5), (2, 20, 6, 7)),
    "cifar": (lambda: models.create("cifar_net", depth=8), (2, 3, 12, 12)),
    "plain": (lambda: models.create("cifar_net", depth=8, residual=False), (2, 3, 12, 12)),
    "1d": (lambda: nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), nn.ReLU(), nn.Conv1d(5, 4, 1)), (3, 3, 11)),
    "3d": (lambda: nn.Sequential(nn.BatchNorm3d(3, affine=False), nn.ReLU(), nn.Conv3d(3, 4, 2)), (2, 3, 4, 5, 6)),
    "rows": (lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()), (7, 4)),
    "no statistics": (lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU()), (2, 3, 5, 4)),
}  # fmt: skip


@by_dtype
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_nobody_can_tell_but_by_the_clock(both_ways, name, training, dtype):
    make, shape = BLOCKS[name]
    model = make().to(dtype).train(training)
    assert_same(both_ways(lambda: everything(model, normal((name, "x"), shape, dtype))))


@by_dtype
@pytest.mark.parametrize("training", [True, False])
def test_chain_with_a_residual_equals_torch(both_ways, training, dtype):
    t = oracle.torch()
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False, dtype=dtype), nn.BatchNorm2d(6, dtype=dtype)).train(
        training
    )
    x, residual = normal("x", (3, 4, 5, 7), dtype), normal("r", (3, 6, 5, 7), dtype)

    def run(model, x, residual):
        return nn.chain(x, *model, F.relu, residual=residual)

    results = both_ways(lambda: everything(model, x, residual, run=run))
    assert_same(results)
    theirs = t.nn.Sequential(t.nn.Conv2d(4, 6, 3, padding=1, bias=False), t.nn.BatchNorm2d(6)).double().train(training)
    theirs.load_state_dict({k: t.from_numpy(np.array(v)) for k, v in model.state_dict().items()})
    a, b = (t.from_numpy(v.astype("f8")).requires_grad_() for v in (x, residual))
    y = t.relu(theirs(a) + b)
    y.backward(t.from_numpy(normal("dy", tuple(y.shape), dtype).astype("f8")))
    wanted = [y.detach(), a.grad, b.grad, *(p.grad for p in theirs.parameters())]
    for actual, expected in zip(results[0], wanted, strict=False):
        oracle.assert_close(actual, expected.numpy())


STEPS = {
    "alone": lambda conv, norm: [F.relu],
    "without relu": lambda conv, norm: [conv, norm],
    "conv": lambda conv, norm: [conv, nn.ReLU()],
    "conv and pool": lambda conv, norm: [conv, F.relu, nn.MaxPool2d(2)],
    "norm": lambda conv, norm: [conv, norm, nn.ReLU()],
    "norm last": lambda conv, norm: [norm, F.relu, conv, norm],
    "norm and more": lambda conv, norm: [norm, F.relu, norm, F.relu],
    "function": lambda conv, norm: [conv, lambda a: a * 2.0],
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (4, 1, 1), (2, 4, 1, 6)])
@pytest.mark.parametrize("name", STEPS)
def test_the_residual_comes_before_the_last_step(both_ways, name, shape, training):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    x = normal("x", (2, 4, 6, 6), "float32")
    residual = normal("r", shape, "float32")

    def run(model, x, residual):
        steps = STEPS[name](*model)
        one_by_one = x
        for step in steps[:-1]:
            one_by_one = step(one_by_one)
        assert_same([[v.numpy()] for v in (nn.chain(x, *steps, residual=residual), steps[-1](one_by_one + residual))])
        return nn.chain(x, *steps, residual=residual)

    model.train(training)
    assert_same(both_ways(lambda: everything(model, x, residual, run=run)))


def test_errors_are_those_of_the_layers():
    norm = nn.BatchNorm2d(4)
    x = np.ones((2, 4, 3, 3), np.float32)
    with pytest.raises(ShapeError, match=r"add: expected other to broadcast with input \(2, 4, 3, 3\)"):
        nn.chain(x, norm, F.relu, residual=np.ones((2, 5, 3, 3), np.float32))
    with pytest.raises(DTypeError, match="residual"):
        nn.chain(x, norm, F.relu, residual=np.ones((2, 4, 3, 3)))
    with pytest.raises(ShapeError, match="BatchNorm2d: expected input of 4 axes"):
        nn.chain(x[0], norm, F.relu)


def test_what_runs_as_one():
    names = [("0", "1"), ("3", "4", "5")]
    layers = [nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.MaxPool2d(2)]
    assert nn.units(nn.Sequential(*layers)) == names
    layers[0].forward = lambda input: input
    assert nn.units(nn.Sequential(*layers)) == names[1:]
    layers[4] = nn.Tanh()
    assert nn.units(nn.Sequential(*layers)) == []


def test_a_convolution_runs_with_its_norm_in_training():
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers)
    assert nn.units(net) == [("0", "1", "2"), ("3", "4")]
    with counted() as calls:
        net(fastconv.tensor(normal("x", (2, 3, 8, 8), "float32")))
    assert calls["conv_moments_forward"] == 2
    assert calls["conv_forward"] == calls["batch_norm_statistics"] == 0
    assert nn.units(net.eval()) == [("1", "2")]
    layers[4].forward = lambda input: input
    assert nn.units(net.train()) == [("0", "1", "2")]
    assert nn.units(nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm2d(3))) == []
    lasting = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3, track_running_stats=False)).eval()
    assert nn.units(lasting) == [("0", "1")]


@by_dtype
def test_a_dense_block_takes_the_moments_of_a_map_once(both_ways, dtype):
    block = DenseBlock(3, 8, 4, 2, 0.0, dtype)
    x = normal("x", (2, 8, 9, 11), dtype)
    assert_same(both_ways(lambda: everything(block, x)))
    seen = []
    for layer in block.children():
        layer.norm1.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    assert_same([everything(block, x), everything(copy.deepcopy(block), x)])  # hooks: each layer for itself
    with counted() as calls:
        DenseBlock(3, 8, 4, 2, 0.0, "float32")(fastconv.tensor(normal("x", (2, 8, 9, 11), "float32")))
    assert calls["batch_norm_statistics"] == 3
    assert calls["conv_moments_forward"] == 3


def test_frozen_norms_and_constant_residuals_get_no_gradient():
    norm = nn.BatchNorm2d(3)
    norm.weight.requires_grad = norm.bias.requires_grad = False
    x = fastconv.tensor(normal("x", (2, 3, 4, 4), "float32"), requires_grad=True)
    residual = normal("r", (2, 3, 4, 4), "float32")
    nn.chain(x, norm, F.relu, residual=residual).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is None
    leaf = fastconv.tensor(residual, requires_grad=True)
    y = nn.chain(x.numpy(), norm, F.relu, residual=leaf)
    y.sum().backward()
    np.testing.assert_array_equal(leaf.grad, y.numpy() > 0)
    assert not nn.chain(x.numpy(), norm, F.relu, residual=residual).requires_grad
