"""Losses as functionals: against torch with every option, public backwards, label checks."""

import re

import numpy as np
import oracle
import pytest
import tape

from fastconv import Tensor
from fastconv import functional as F
from fastconv.errors import ArgumentError, DataError, DTypeError, ShapeError


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def assert_loss_like_torch(name, x, target, *, bound=None, arrays=(), **options):
    """``arrays``: options that are arrays."""
    named = dict(arrays)
    y, (dx,), dy = tape.run(lambda a: getattr(F, name)(a, target, **named, **options), [x])
    t = oracle.torch()
    theirs = {key: t.from_numpy(np.array(value, np.float64)) for key, value in named.items()}
    wide = t.from_numpy(np.array(target, np.float64 if target.dtype.kind == "f" else np.int64))
    expected, (wanted,) = oracle.run(lambda t, a: getattr(t.nn.functional, name)(a, wide, **theirs, **options), [x], dy)
    oracle.assert_close(y, expected, bound)
    oracle.assert_close(dx, wanted, bound)
    public = getattr(F, f"{name}_backward")(dy, x, target, **named, **options)
    oracle.assert_same_bits(public, dx)


SHAPES = [(5,), (4, 5), (2, 5, 3), (2, 5, 3, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_indices(shape, reduction, weighted, smoothing):
    (x,) = tape.arrays("float64", shape)
    labels = np.random.default_rng(2).integers(0, 5, (*shape[:1], *shape[2:]) if len(shape) > 1 else ())
    labels = np.asarray(labels)
    if labels.size > 1:
        labels.flat[1] = -100
    arrays = {"weight": np.array([0.5, 1.0, 2.0, 0.0, 3.0])} if weighted else {}
    options = {"reduction": reduction, "label_smoothing": smoothing}
    assert_loss_like_torch("cross_entropy", x, labels, arrays=arrays, **options)
    if not smoothing:
        assert_loss_like_torch("nll_loss", x, labels, arrays=arrays, reduction=reduction)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_probabilities(shape, reduction, weighted):
    x, target = tape.arrays("float64", shape, shape)
    target = np.abs(target)
    arrays = {"weight": np.array([0.5, 1.0, 2.0, 0.0, 3.0])} if weighted else {}
    assert_loss_like_torch("cross_entropy", x, target, arrays=arrays, reduction=reduction, label_smoothing=0.1)


def test_cross_entropy_float32_and_other_label_dtypes():
    (x,) = tape.arrays("float32", (6, 4))
    for dtype in (np.uint8, np.int32, np.int64):
        assert_loss_like_torch("cross_entropy", x, np.array([0, 1, 2, 3, 0, 1], dtype))
    assert_loss_like_torch("cross_entropy", x, np.array([0, 1, 2, 7, 0, 1]), ignore_index=7)
    assert F.cross_entropy(x, [0, 1, 2, 3, 0, 1]).shape == ()
    assert F.cross_entropy(x, Tensor(np.arange(6) % 4)).dtype == np.float32


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse(reduction):
    x, target = tape.arrays("float64", (3, 4), (3, 4))
    assert_loss_like_torch("mse_loss", x, target, reduction=reduction)
    _, (dx, dt), _ = tape.run(lambda a, b: F.mse_loss(a, b, reduction=reduction), (x, target))
    np.testing.assert_array_equal(dt, -dx)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weights", [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")])
def test_binary_cross_entropy_with_logits(reduction, weights):
    x, target, weight = tape.arrays("float64", (3, 4), (3, 4), (4,))
    target = (target > 0).astype(float)
    arrays = {name: np.abs(weight) for name in weights}
    assert_loss_like_torch("binary_cross_entropy_with_logits", x * 30, target, arrays=arrays, reduction=reduction)


def test_an_empty_batch_sums_to_zero():
    y, (dx,), _ = tape.run(lambda x: F.cross_entropy(x, np.zeros(0, int), reduction="sum"), [np.ones((0, 3))])
    assert y == 0
    assert dx.shape == (0, 3)
    assert np.isnan(F.mse_loss(np.ones((0, 3)), np.ones((0, 3))))


X = np.zeros((3, 5))


@pytest.mark.parametrize("op", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ([0, 5, 1], DataError, "expected target in [0, 5) or ignore_index -100, got 5 at position (1,)"),
        ([0, 1, -1], DataError, "expected target in [0, 5) or ignore_index -100, got -1 at position (2,)"),
        ([0.0, 1.0, np.nan], DTypeError, "expected target to be integers, got float64"),
        ([True, False, True], DTypeError, "expected target to be integers, got bool"),
        ([[0, 1, 2]], ShapeError, "expected target (3,) for input (3, 5), got shape (1, 3)"),
        ([0, 1], ShapeError, "expected target (3,) for input (3, 5), got shape (2,)"),
    ],
)
def test_labels(op, target, error, message):
    with raises(error, f"{op}: {message}"):
        getattr(F, op)(X, target)


def test_messages():
    labels = [0, 1, 2]
    with raises(ArgumentError, "cross_entropy: expected reduction to be 'mean', 'sum' or 'none', got 'avg'"):
        F.cross_entropy(X, labels, reduction="avg")
    with raises(ArgumentError, "cross_entropy: expected label_smoothing in [0, 1], got 2"):
        F.cross_entropy(X, labels, label_smoothing=2)
    with raises(ShapeError, "cross_entropy: expected weight (5,) to match the channels, got shape (4,)"):
        F.cross_entropy(X, labels, np.ones(4))
    with raises(ArgumentError, "cross_entropy: expected weight without requires_grad, got one that requires it"):
        F.cross_entropy(X, labels, Tensor(np.ones(5), requires_grad=True))
    with raises(DTypeError, "cross_entropy: expected target to have the dtype of input float64, got float32"):
        F.cross_entropy(X, X.astype("f4"))
    with raises(ShapeError, "mse_loss: expected target to have the shape of input (3, 5), got shape (5,)"):
        F.mse_loss(X, X[0])
    op = "binary_cross_entropy_with_logits"
    with raises(ShapeError, f"{op}: expected pos_weight to broadcast to input (3, 5), got shape (4,)"):
        F.binary_cross_entropy_with_logits(X, X, pos_weight=np.ones(4))
    with raises(ShapeError, "mse_loss_backward: expected dloss to have the shape of the output (), got shape (3,)"):
        F.mse_loss_backward(np.ones(3), X, X)


def packed(values, dtype):
    """The values as a field of packed records: neither aligned nor a whole number of elements apart."""
    records = np.zeros(values.shape, [("tag", "u1"), ("value", dtype)])
    records["value"] = values
    return records["value"]


@pytest.mark.parametrize("dtype", ["i8", ">i8", "i4", "u1"])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_labels_in_any_memory(name, dtype):
    x, labels = tape.arrays("float32", (6, 5, 3))[0], np.arange(18).reshape(6, 3) % 5
    plain = getattr(F, name)(x, labels, reduction="none")
    for target in (packed(labels, dtype), labels.astype(dtype).T.copy().T, labels.astype(dtype)[::-1][::-1]):
        oracle.assert_same_bits(getattr(F, name)(x, target, reduction="none"), plain)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_labels_that_are_overwritten_before_the_walk_back(loss):
    logits, labels = np.random.default_rng(0).standard_normal((6, 5)), np.array([0, 1, 2, 3, 4, 0])
    gradients = []
    for value in (None, 2**40, -(2**40)):
        x, given = Tensor(logits, requires_grad=True), labels.copy()
        y = loss(x, given)
        if value is not None:
            given[:] = value
        y.backward()
        gradients.append(x.grad)
    for other in gradients[1:]:
        oracle.assert_same_bits(other, gradients[0])


def test_labels_beyond_int64_are_no_class_and_not_ignored():
    allowed = "target in [0, 5) or ignore_index -100"
    with raises(DataError, f"cross_entropy: expected {allowed}, got {2**63 - 1} at position (0,)"):
        F.cross_entropy(np.ones((1, 5)), np.array([2**64 - 100], np.uint64))


def test_a_mean_over_no_label_is_nan_and_says_nothing():
    x, ignored = tape.arrays("float32", (3, 4))[0], np.full(3, 7)
    for name in ("cross_entropy", "nll_loss"):
        assert np.isnan(getattr(F, name)(x, ignored, ignore_index=7))
        dx = getattr(F, f"{name}_backward")(np.float32(1), x, ignored, ignore_index=7)
        np.testing.assert_array_equal(dx, np.zeros_like(x))


def test_what_probabilities_take():
    x = np.float32([[1.0, 2.0], [0.0, 1.0]])
    even = np.full((2, 2), 0.5, np.float32)
    oracle.assert_same_bits(F.cross_entropy(x, even.tolist()), F.cross_entropy(x, even))
    with raises(ArgumentError, "cross_entropy: expected no ignore_index with probabilities, got 1"):
        F.cross_entropy(x, even, ignore_index=1)
    with raises(ShapeError, "cross_entropy: expected input with at least one class, got shape (2, 0)"):
        F.cross_entropy(np.ones((2, 0)), [0, 0])
