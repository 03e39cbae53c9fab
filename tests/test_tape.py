"""The walk back: gradients that meet, ReLUs whose gradient is gated on the way, and operations that do both."""

from __future__ import annotations

import sys

import counting
import numpy as np
import oracle
import pytest
from layouts import DTYPES, normal

import fastconv
from fastconv import backends
from fastconv import functional as F

by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def weights(dtype):
    one = normal("one", (6, 6, 1, 1), dtype)
    return one, normal("three", (6, 6, 3, 3), dtype), normal("gamma", (6,), dtype)


def conv(f, x, w):
    return f.conv2d(x, w, None, 1, w.shape[2] // 2)


def norm(f, x, gamma):
    return f.batch_norm(x, None, None, gamma, None, True)


# How an array reaches the loss more than once; f is our functional, or torch's.
GRAPHS = {
    "a ReLU, then a convolution": lambda f, x, one, three, gamma: conv(f, f.relu(conv(f, x, one)), three),
    "two convolutions of a ReLU": lambda f, x, one, three, gamma: sum(
        conv(f, y, w) for y in [f.relu(x * 1.5)] for w in (one, three)
    ),
    "a sum, its first term older": lambda f, x, one, three, gamma: (
        lambda y: y * 2.0 + conv(f, y, one)
    )(f.relu(x + 1.0)),
    "a sum, its first term younger": lambda f, x, one, three, gamma: (
        lambda y: conv(f, y, one) + y * 2.0
    )(f.relu(x + 1.0)),
    "between two products": lambda f, x, one, three, gamma: (
        lambda y: y * 2.0 + conv(f, y, one) * 3.0 + y * y
    )(f.relu(x * 0.5)),
    "batch norm adds": lambda f, x, one, three, gamma: (lambda y: y + norm(f, y, gamma) * 2.0)(f.relu(conv(f, x, one))),
    "batch norm first": lambda f, x, one, three, gamma: (lambda y: norm(f, y, gamma) * y)(conv(f, x, three)),
    "a leaf twice": lambda f, x, one, three, gamma: conv(f, x, one) + conv(f, x, three) + norm(f, x, gamma),
    "its own weight": lambda f, x, one, three, gamma: conv(f, one * 2.0, (lambda w: w + w)(one)) + (x * x).sum(),
    "the same array, input and weight": lambda f, x, one, three, gamma: (
        (lambda w: conv(f, w, w))(f.relu(one + 0.3)) + (x * x).sum()
    ),
    "residual blocks": lambda f, x, one, three, gamma: (
        lambda block: block(block(x))
    )(lambda y: f.relu(norm(f, conv(f, f.relu(norm(f, conv(f, y, one), gamma)), three), gamma) + y)),
    "a dense block": lambda f, x, one, three, gamma: (
        lambda y: y + f.relu(norm(f, y, gamma)) + conv(f, f.relu(norm(f, y, gamma * 2.0)), one)
    )(conv(f, x, three)),
    "a ReLU of a ReLU": lambda f, x, one, three, gamma: conv(f, f.relu(f.relu(x)), one) + f.relu(x),
}  # fmt: skip


@by_dtype
@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_equal_torch(name, dtype):
    x, graph = normal("x", (2, 6, 5, 7), dtype), GRAPHS[name]
    parameters = weights(dtype)
    tensors = [fastconv.tensor(a, requires_grad=True) for a in (x, *parameters)]
    y = graph(F, *tensors)
    dy = normal("dy", y.shape, dtype)
    y.backward(dy)
    expected, gradients = oracle.run(lambda t, *a: graph(t.nn.functional, *a), (x, *parameters), dy)
    oracle.assert_close(y.numpy(), expected)
    for tensor, wanted in zip(tensors, gradients, strict=True):
        if wanted is None:
            assert tensor.grad is None
        else:
            oracle.assert_close(tensor.grad, wanted)


@pytest.mark.parametrize("name", GRAPHS)
def test_completing_operations_change_no_bit(name, monkeypatch):
    def gradients():
        tensors = [
            fastconv.tensor(a, requires_grad=True) for a in (normal("x", (2, 6, 5, 7), "float32"), *weights("float32"))
        ]
        y = GRAPHS[name](F, *tensors)
        for _ in range(2):  # the graph is the same after a walk
            y.backward(normal("dy", y.shape, "float32"), retain_graph=True)
        return [t.grad for t in tensors]

    def plain(y, inputs, backward, gate=None, completes=False):
        if gate is not None:
            through, backend = backward, backends.get("cpu")
            backward = lambda dy, needs: through(backend.relu_backward(dy, gate), needs)  # noqa: E731
        return record(y, inputs, backward)

    together, record = gradients(), sys.modules["fastconv.tensor"].record  # fastconv.tensor is a function
    for where, module in list(sys.modules.items()):
        if where.startswith("fastconv.functional") and getattr(module, "record", None) is record:
            monkeypatch.setattr(module, "record", plain)
    for one, other in zip(together, gradients(), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            oracle.assert_same_bits(one, other)


def test_the_users_gradient_is_not_written_to():
    x = fastconv.tensor(normal("x", (2, 6, 5, 7), "float32"), requires_grad=True)
    one = weights("float32")[0]
    y = F.relu(x * 1.0)
    dy = normal("dy", y.shape, "float32")
    kept = dy.copy()
    y.backward(dy, retain_graph=True)
    (y + conv(F, y, one)).backward(dy)
    np.testing.assert_array_equal(dy, kept)


def test_what_is_walked_holds_no_array():
    x = fastconv.tensor(normal("x", (2, 6, 5, 7), "float32"), requires_grad=True)
    y = F.relu(x)
    node = y._node
    assert node.gate is not None
    y.sum().backward()
    assert node.gate is None
    assert node.backward is None


def test_a_gradient_that_came_through_a_gate_is_not_copied_for_its_leaf():
    x = fastconv.tensor(np.float32([[-1, 2, 3]]), requires_grad=True)
    dy = np.float32([[5, 6, 7]])
    with counting.counted() as calls:
        y = F.relu(x)
        y.backward(dy)
    np.testing.assert_array_equal(x.grad, [[0, 6, 7]])
    assert not np.shares_memory(x.grad, dy)
    assert calls["scale"] == 0
