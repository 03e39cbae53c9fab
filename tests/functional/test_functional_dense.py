"""Linear, batch norm, activations and dropout as functionals: against torch, public backwards, messages."""

import re

import numpy as np
import oracle
import pytest
import tape

import fastconv
from fastconv import Tensor
from fastconv import functional as F
from fastconv.errors import ArgumentError, DTypeError, ShapeError


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_like_torch(lead, dtype):
    x, w, b = tape.arrays(dtype, (*lead, 5), (3, 5), (3,))
    tape.assert_like_torch("linear", [x, w, b])
    tape.assert_like_torch("linear", [x, w, None])


def test_linear_backward_is_the_tape():
    x, w, b = tape.arrays("float64", (4, 5), (3, 5), (3,))
    _, gradients, dy = tape.run(F.linear, (x, w, b))
    for public, taped in zip(F.linear_backward(dy, x, w), gradients, strict=True):
        oracle.assert_same_bits(public, taped)
    assert F.linear_backward(dy, x, w, needs=(False, False, True))[:2] == (None, None)
    with raises(ShapeError, "linear_backward: expected dy to have the shape of the output (4, 3), got shape (4, 2)"):
        F.linear_backward(dy[:, :2], x, w)
    with raises(ShapeError, "linear: expected weight (3, 5) to match input (*, 4): 5 != 4"):
        F.linear(x[:, :4], w)


# -------------------------------------------------------------------------------------------- batch norm


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_like_torch(shape, training, affine):
    x, mean, w, b = tape.arrays("float64", shape, (3,), (3,), (3,))
    var = np.array([0.5, 1.0, 2.0])
    w, b = (w, b) if affine else (None, None)
    options = {"training": training, "momentum": 0.3, "eps": 1e-3}
    ours = [mean.copy(), var.copy()]
    y, gradients, dy = tape.run(lambda x, w, b: F.batch_norm(x, *ours, w, b, **options), (x, w, b))
    t = oracle.torch()
    theirs = [t.from_numpy(mean.copy()), t.from_numpy(var.copy())]
    expected, wanted = oracle.run(
        lambda t, x, w, b: t.nn.functional.batch_norm(x, *theirs, w, b, **options), (x, w, b), dy
    )
    oracle.assert_close(y, expected)
    for gradient, want in zip(gradients, wanted, strict=True):
        if want is not None:
            oracle.assert_close(gradient, want)
    for running, want in zip(ours, theirs, strict=True):
        oracle.assert_close(running, want.numpy())
    public = F.batch_norm_backward(dy, x, mean, var, w, training=training, eps=1e-3)
    oracle.assert_same_bits(public[0], gradients[0])


def test_running_statistics_may_move_before_the_walk_back():
    x, mean = tape.arrays("float64", (4, 2), (2,))
    var = np.ones(2)
    (fixed,) = tape.run(lambda x: F.batch_norm(x, mean.copy(), var, np.ones(2)), [x])[1]
    leaf, moving, w = Tensor(x, requires_grad=True), mean.copy(), Tensor(np.ones(2), requires_grad=True)
    y = F.batch_norm(leaf, moving, var, w)
    expected = (F.batch_norm(x, mean, var) * 1.0).sum(0)
    moving += 100
    y.backward(np.ones((4, 2)))
    oracle.assert_close(w.grad, expected)
    assert fixed.shape == leaf.grad.shape


def test_batch_norm_of_an_empty_batch_leaves_the_running_statistics():
    mean, var = np.zeros(2), np.ones(2)
    y, (dx, dw), _ = tape.run(lambda x, w: F.batch_norm(x, mean, var, w, training=True), (np.ones((0, 2)), np.ones(2)))
    assert y.shape == dx.shape == (0, 2)
    assert not dw.any()
    assert not mean.any()
    assert (var == 1).all()


def test_batch_norm_messages():
    x = np.ones((2, 3, 4))
    with raises(ShapeError, "batch_norm: expected weight (3,) to match the channels, got shape (4,)"):
        F.batch_norm(x, np.zeros(3), np.ones(3), np.ones(4))
    with raises(ArgumentError, "batch_norm: expected running_mean where training is False, got None"):
        F.batch_norm(x, None, np.ones(3))
    with raises(ShapeError, "batch_norm: expected more than one value per channel in training, got input (1, 3)"):
        F.batch_norm(np.ones((1, 3)), None, None, training=True)
    with raises(ShapeError, "batch_norm: expected input (N, C, *) of at least two axes, got shape (2,)"):
        F.batch_norm(np.ones(2), None, None, training=True)
    with raises(DTypeError, "batch_norm: expected running_mean to have the dtype of input float64, got float32"):
        F.batch_norm(x, np.zeros(3, "f4"), np.ones(3, "f4"))


# ------------------------------------------------------------------------------------------- activations

ELEMENTWISE = [("relu", {}), ("leaky_relu", {"negative_slope": 0.2}), ("sigmoid", {}), ("tanh", {})]


@pytest.mark.parametrize(("name", "options"), ELEMENTWISE)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4), (0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_like_torch(name, options, shape, dtype):
    tape.assert_like_torch(name, tape.arrays(dtype, shape), **options)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_like_torch(name, dim):
    tape.assert_like_torch(name, tape.arrays("float64", (3, 4, 5)), dim=dim)


def test_activation_backwards_are_the_tape():
    (x,) = tape.arrays("float64", (3, 4))
    for name, options in [*ELEMENTWISE, ("softmax", {"dim": 1}), ("log_softmax", {"dim": 0})]:
        y, (dx,), dy = tape.run(lambda a, n=name, o=options: getattr(F, n)(a, **o), [x])
        saved = x if name == "leaky_relu" else y
        oracle.assert_same_bits(getattr(F, f"{name}_backward")(dy, saved, **options), dx)
        with pytest.raises(ShapeError, match=rf"^{name}_backward: expected dy to have the shape of"):
            getattr(F, f"{name}_backward")(dy[:2], saved, **options)


def test_softmax_messages():
    with raises(ArgumentError, "softmax: expected dim to be an integer, got None"):
        F.softmax(np.ones((2, 3)), None)
    with raises(ArgumentError, "softmax: expected dim in [-2, 2) for 2 axes, got 2"):
        F.softmax(np.ones((2, 3)), 2)


# ----------------------------------------------------------------------------------------------- dropout


def test_dropout_repeats_with_the_seed_and_varies_within_it():
    x = np.ones(1000, np.float32)
    fastconv.manual_seed(3)
    first, second = F.dropout(x), F.dropout(x)
    fastconv.manual_seed(3)
    oracle.assert_same_bits(F.dropout(x), first)
    assert (first != second).any()
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 400 < (first > 0).sum() < 600


def test_dropout_gradient_is_its_mask():
    y, (dx,), dy = tape.run(lambda x: F.dropout(x, 0.25), [np.ones((20, 20))])
    np.testing.assert_array_equal(dx, dy * y)
    np.testing.assert_array_equal(F.dropout_backward(dy, y > 0, 0.25), dx)


def test_dropout_edges():
    x = np.array([1.0, np.nan])
    np.testing.assert_array_equal(F.dropout(x, 0.9, training=False), x)
    np.testing.assert_array_equal(F.dropout(x, 0.0), x)
    np.testing.assert_array_equal(F.dropout(x, 1.0), [0.0, 0.0])
    with raises(ArgumentError, "dropout: expected p in [0, 1], got 1.5"):
        F.dropout(x, 1.5)
