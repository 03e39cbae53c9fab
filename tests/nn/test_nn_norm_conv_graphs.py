"""Batch norm, its ReLU and a 1x1 convolution as one operation, in graphs: the walk back with gradients that are not
settled, which meet others, are cut by ``cat``, or end in a leaf. Torch's gradients in float64, and finite differences.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from counting import counted
from layouts import normal
from test_nn_norm_conv import everything, last, leaf

from fastconv import nn
from fastconv.models.densenet import DenseBlock, _transition
from fastconv.nn import functional as F

# How an array reaches the loss, by layers of 8 maps ("ab": batch norm, ReLU, 1x1 convolution; "d": of 16 maps; "c": a
# convolution, "n": a batch norm), and how often the operation runs. f is our functional, or torch.
GRAPHS = {
    "a leaf": (lambda f, x, m: m["a"](x), 1),
    "a leaf twice": (lambda f, x, m: m["a"](x) + m["b"](x), 2),
    "a leaf and elsewhere": (lambda f, x, m: m["a"](x) + x * x, 1),
    "two branches": (lambda f, x, m: (lambda y: m["a"](y) + m["b"](y))(m["c"](x)), 2),
    "a sum, its first term older": (lambda f, x, m: (lambda y: y * 2.0 + m["a"](y))(m["c"](x)), 1),
    "a sum, its first term younger": (lambda f, x, m: (lambda y: m["a"](y) + y * 2.0)(m["c"](x)), 1),
    "between": (lambda f, x, m: (lambda y: y * 2.0 + m["a"](y) * 3.0 + y * y + m["b"](y))(m["c"](x)), 2),
    "an identity": (lambda f, x, m: (lambda y: y + m["a"](y))(m["c"](x)), 1),
    "residual blocks": (
        lambda f, x, m: (lambda y: y + m["b"](y))((lambda y: m["a"](y) + y)(f.relu(m["c"](x)))), 2
    ),
    "a constant between": (lambda f, x, m: (lambda y: m["a"](y) + m["b"](y + 1.0))(m["c"](x)), 2),
    "one behind the other": (lambda f, x, m: m["a"](m["b"](m["c"](x))), 2),
    "a constant before": (lambda f, x, m: (lambda y: m["b"](y + 1.0) + m["a"](y) + m["n"](y + 2.0))(m["c"](x)), 2),
    "behind a ReLU": (lambda f, x, m: m["a"](f.relu(m["c"](x))), 1),
    "behind a ReLU, twice": (lambda f, x, m: (lambda y: m["a"](y) + m["b"](y) + y)(f.relu(m["c"](x))), 2),
    "then a convolution": (lambda f, x, m: (lambda y: m["a"](y) + m["c"](y))(f.relu(m["c"](x))), 1),
    "first a convolution": (lambda f, x, m: (lambda y: m["c"](y) + m["a"](y))(m["c"](x)), 1),
    "then a norm": (lambda f, x, m: (lambda y: m["a"](y) + m["n"](y))(m["c"](x)), 1),
    "first a norm": (lambda f, x, m: (lambda y: m["n"](y) + m["a"](y))(m["c"](x)), 1),
    "cat": (lambda f, x, m: (lambda y: m["d"](f.cat([y, m["a"](y)], 1)))(m["c"](x)), 2),
    "cat, and its first part": (
        lambda f, x, m: (lambda y: m["b"](y) + m["d"](f.cat([y, m["a"](y)], 1)))(m["c"](x)), 3
    ),
    "cat, and its second part": (
        lambda f, x, m: (lambda y: m["d"](f.cat([y * 2.0, y], -3)) + m["b"](y))(m["c"](x)), 2
    ),
    "cat, seen twice": (lambda f, x, m: (lambda z: f.cat([m["d"](z), z], 1))(f.cat([m["c"](x), m["a"](x)], 1)), 2),
    "cat, its part elsewhere": (lambda f, x, m: (lambda y: m["d"](f.cat([y, m["a"](x)], 1)) * y)(m["c"](x)), 2),
    "cat of the same": (lambda f, x, m: (lambda y: m["d"](f.cat([y, y], 1)))(m["c"](x)), 1),
    "cat of ReLUs": (
        lambda f, x, m: (lambda y: m["d"](f.cat([y, f.relu(m["n"](y))], 1)) + m["b"](y))(f.relu(m["c"](x))), 2
    ),
    "cat of leaves": (lambda f, x, m: m["d"](f.cat([x, x], 1)) + x * m["a"](x), 2),
    "cat of batches": (lambda f, x, m: (lambda y: m["a"](f.cat([y, x, m["b"](y)], 0)))(m["c"](x)), 2),
}  # fmt: skip
by_graph = pytest.mark.parametrize("name", GRAPHS)


def layers_of(n, **options):
    """Those of the graphs, of our nn or torch's."""

    def three(channels):
        conv = n.Conv2d(channels, 8, 1, bias=channels > 8, **options)  # no bias that a norm takes away again
        return n.Sequential(n.BatchNorm2d(channels, **options), n.ReLU(), conv)

    layers = {"a": three(8), "b": three(8), "d": three(16), "n": n.BatchNorm2d(8, **options)}
    return n.ModuleDict({**layers, "c": n.Conv2d(8, 8, 3, padding=1, bias=False, **options)})


def state(model):
    """Its state with norms that are not plain, by name."""
    changed = {name: normal(name, p.shape) * 0.3 + (p.ndim == 1) for name, p in model.named_parameters()}
    return {name: np.array(value) for name, value in model.state_dict().items()} | changed


@by_graph
def test_gradients_equal_torch(name):
    t, (graph, count) = oracle.torch(), GRAPHS[name]
    ours, theirs = layers_of(nn, dtype="float64"), layers_of(t.nn, dtype=t.float64)
    ours.load_state_dict(state(ours))
    theirs.load_state_dict({k: t.from_numpy(np.array(v)) for k, v in ours.state_dict().items()})
    x = normal("x", (2, 8, 16, 17))
    mine, other = leaf(last(x)), t.from_numpy(x.copy()).requires_grad_()
    with counted() as calls:
        y = graph(F, mine, ours)
        dy = normal("dy", y.shape)
        y.backward(last(dy))
    assert calls["norm_conv_forward"] == calls["norm_conv_backward_input"] == count
    wanted = graph(t, other, theirs)
    wanted.backward(t.from_numpy(dy))
    oracle.assert_close(y.numpy(), wanted.detach().numpy())
    assert type(mine.grad) is np.ndarray
    oracle.assert_close(mine.grad, other.grad.numpy(), what="x")
    for (key, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        if one.grad is not None:
            assert type(one.grad) is np.ndarray
            oracle.assert_close(one.grad, two.grad.numpy(), what=key)
    for one, two in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(np.array(one), two.numpy(), rtol=1e-12, atol=1e-14)


@by_graph
def test_a_second_walk_back_adds_the_same(name):
    graph, _ = GRAPHS[name]
    model, x = layers_of(nn), leaf(last(normal("x", (2, 8, 16, 17), "float32")))
    y = graph(F, x, model)
    dy, leaves = normal("dy", y.shape, "float32"), (x, *model.parameters())
    y.backward(dy, retain_graph=True)
    once = [None if one.grad is None else one.grad.copy() for one in leaves]
    y.backward(dy)
    for one, before in zip(leaves, once, strict=True):
        assert (one.grad is None) == (before is None)
        if before is not None:
            oracle.assert_same_bits(one.grad, before + before)


@by_graph
def test_gradients_are_no_one_elses(name):
    graph, _ = GRAPHS[name]
    model, x = layers_of(nn), leaf(last(normal("x", (2, 8, 16, 17), "float32")))
    y = graph(F, x, model)
    dy = last(normal("dy", y.shape, "float32"))
    before = x.numpy().copy(), dy.copy()
    y.backward(dy)
    oracle.assert_same_bits(x.numpy(), before[0])
    oracle.assert_same_bits(dy, before[1])
    arrays = [dy, x.numpy(), y.numpy(), *(one.grad for one in (x, *model.parameters()) if one.grad is not None)]
    for i, one in enumerate(arrays[3:], 3):
        assert not any(np.shares_memory(one, other) for other in arrays[:i])


def test_a_dense_block_equals_torchvisions():
    t, theirs = oracle.torch(), oracle.torchvision().models.densenet
    ours = nn.Sequential(DenseBlock(2, 16, 8, 4, 0.0, "float64"), _transition(32, "float64"))
    ours.load_state_dict(state(ours))
    theirs = t.nn.Sequential(theirs._DenseBlock(2, 16, 4, 8, 0.0), theirs._Transition(32, 16)).double()
    theirs.load_state_dict({k: t.from_numpy(np.array(v)) for k, v in ours.state_dict().items()})
    x = normal("x", (2, 16, 17, 16))
    other = t.from_numpy(x).requires_grad_()
    found, calls = everything(ours, x)
    assert calls["norm_conv_forward"] == 3
    y = theirs(other)
    y.backward(t.from_numpy(normal("dy", tuple(y.shape))))
    wanted = {"y": y.detach(), "input 0": other.grad, **{name: p.grad for name, p in theirs.named_parameters()}}
    for name, value in wanted.items():
        oracle.assert_close(found[name], value.numpy(), what=name)


def test_gradients_by_finite_differences():
    norm, relu, conv = nn.BatchNorm2d(3, eps=0.1, dtype="float64"), nn.ReLU(), nn.Conv2d(3, 5, 1, dtype="float64")

    def run(*arrays):
        x, *parameters = leaf(last(arrays[0])), *(nn.Parameter(a) for a in arrays[1:])
        norm.weight, norm.bias, conv.weight, conv.bias = parameters
        return nn.chain(x, norm, relu, conv), (x, *parameters)

    def backward(dy, *arrays):
        y, leaves = run(*arrays)
        y.backward(dy)
        return [one.grad for one in leaves]

    inputs = [normal(shape, shape) for shape in ((2, 3, 16, 17), (3,), (3,), (5, 3, 1, 1), (5,))]
    with counted() as calls:
        oracle.gradcheck(lambda *arrays: run(*arrays)[0].numpy(), backward, inputs)
    assert calls["norm_conv_forward"] > 50
