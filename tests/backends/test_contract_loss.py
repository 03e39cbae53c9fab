"""Losses: every backend against PyTorch, one value a position, with and without weights, smoothing, ignored targets."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, generator, normal

IGNORE = -100
SHAPES = [(4, 3, 1), (5, 10, 1), (2, 17, 6), (1, 2, 1), (0, 3, 2), (3, 1, 4)]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_weight = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
by_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])


def problem(shape: tuple[int, int, int], dtype: str, weighted: bool = False, ignored: bool = True):
    """Return x (N, C, L), target (N, L) with some ignored, class weights (C,) or None, dloss (N, L)."""
    n, c, length = shape
    target = generator((shape, "target")).integers(0, c, (n, length))
    if ignored:
        target[::3, ::2] = IGNORE
    weight = (generator("weight").random(c) + 0.1).astype(dtype) if weighted else None
    return 3 * normal((shape, "x"), shape, dtype), target, weight, normal((shape, "d"), (n, length), dtype)


def torch_loss(name: str, x, target, weight, dloss, **arguments):
    """-> loss (N, L), dx (N, C, L)."""

    def call(t, x, target, weight):
        loss = getattr(t.nn.functional, name)
        return loss(x, target, weight, ignore_index=IGNORE, reduction="none", **arguments)

    loss, gradients = oracle.run(call, (x, target, weight), dloss, count=1)
    return loss, gradients[0]


@by_dtype
@by_smoothing
@by_weight
@by_shape
def test_cross_entropy_equals_torch(backend, shape, weighted, smoothing, dtype):
    x, target, weight, dloss = problem(shape, dtype, weighted)
    loss, scale, log_prob = backend.cross_entropy_forward(x, target, weight, IGNORE, smoothing)
    dx = backend.cross_entropy_backward(dloss, log_prob, target, weight, IGNORE, smoothing)
    wanted_loss, wanted_dx = torch_loss("cross_entropy", x, target, weight, dloss, label_smoothing=smoothing)
    assert loss.dtype == scale.dtype == log_prob.dtype == dx.dtype == dtype
    if shape[1] > 1:  # one class: everything is zero but for rounding
        oracle.assert_close(loss, wanted_loss, what="loss")
        oracle.assert_close(dx, wanted_dx, what="dx")
    oracle.assert_close(log_prob, oracle.torch_functional("log_softmax", (x,), dim=1), what="log_prob")
    classes = np.ones(shape[1], dtype) if weight is None else weight
    np.testing.assert_array_equal(scale, np.where(target == IGNORE, 0, classes[np.where(target == IGNORE, 0, target)]))


@by_dtype
@by_weight
@by_shape
def test_nll_equals_torch(backend, shape, weighted, dtype):
    x, target, weight, dloss = problem(shape, dtype, weighted)
    loss, _ = backend.nll_forward(x, target, weight, IGNORE, 0.0)
    dx = backend.nll_backward(dloss, target, shape[1], weight, IGNORE, 0.0)
    wanted_loss, wanted_dx = torch_loss("nll_loss", x, target, weight, dloss)
    assert loss.dtype == dx.dtype == dtype
    oracle.assert_close(loss, wanted_loss)
    oracle.assert_close(dx, wanted_dx)


@by_dtype
def test_a_class_that_is_also_the_ignored_index(backend, dtype):
    x, target, _, dloss = problem((4, 3, 2), dtype, ignored=False)
    loss, scale, log_prob = backend.cross_entropy_forward(x, target, None, 1, 0.1)
    dx = backend.cross_entropy_backward(dloss, log_prob, target, None, 1, 0.1)
    assert not loss[target == 1].any()
    assert not scale[target == 1].any()
    assert not np.moveaxis(dx, 1, -1)[target == 1].any()
    assert loss[target != 1].all()


def test_cross_entropy_of_extreme_logits(backend):
    x = np.array([[1000, -1000, 0], [-1000, 1000, 0]], "float32")[:, :, None]
    loss, _, _ = backend.cross_entropy_forward(x, np.zeros((2, 1), np.int64), None, IGNORE, 0.0)
    np.testing.assert_array_equal(loss.ravel(), [0, 2000])


def test_an_ignored_position_hides_its_nan(backend):
    x, target, _, dloss = problem((4, 3, 2), "float32", ignored=False)
    x[0, :, 0], target[0, 0] = np.nan, IGNORE
    log_prob = backend.log_softmax_forward(x)
    for smoothing in (0.0, 0.1):
        loss, _ = backend.nll_forward(log_prob, target, None, IGNORE, smoothing)
        assert loss[0, 0] == 0
        assert np.isfinite(loss).all()
    assert np.isfinite(backend.nll_backward(dloss, target, 3, None, IGNORE, 0.1)).all()


@by_dtype
@pytest.mark.parametrize("shape", [(7,), (4, 10), (2, 3, 4, 5), (0, 3), ()], ids=str)
def test_mse_equals_torch(backend, shape, dtype):
    x, target, dloss = (normal((shape, name), shape, dtype) for name in "xtd")
    loss, (dx, _) = oracle.torch_functional("mse_loss", (x, target), dloss, reduction="none")
    for actual, wanted in (
        (backend.mse_forward(x, target), loss),
        (backend.mse_backward(dloss, x, target), dx),
    ):
        assert (actual.dtype, actual.shape) == (np.dtype(dtype), shape)
        oracle.assert_close(actual, wanted)


@by_dtype
@pytest.mark.parametrize("positive", [False, True], ids=["plain", "pos_weight"])
@by_weight
@pytest.mark.parametrize("shape", [(7,), (4, 10), (2, 3, 4, 5), (0, 3)], ids=str)
def test_bce_with_logits_equals_torch(backend, shape, weighted, positive, dtype):
    x, dloss = 4 * normal((shape, "x"), shape, dtype), normal((shape, "d"), shape, dtype)
    rng = generator(shape)
    target = rng.random(shape).astype(dtype)
    weight = rng.random(shape).astype(dtype) if weighted else None
    pos_weight = np.broadcast_to(rng.random(shape[-1]).astype(dtype), shape) if positive else None

    def call(t, x, target, weight, pos_weight):
        loss = t.nn.functional.binary_cross_entropy_with_logits
        return loss(x, target, weight, pos_weight=pos_weight, reduction="none")

    wanted, gradients = oracle.run(call, (x, target, weight, pos_weight), dloss, count=1)
    loss = backend.bce_with_logits_forward(x, target, weight, pos_weight)
    dx = backend.bce_with_logits_backward(dloss, x, target, weight, pos_weight)
    assert loss.dtype == dx.dtype == dtype
    oracle.assert_close(loss, wanted)
    oracle.assert_close(dx, gradients[0])


@by_dtype
def test_bce_of_extreme_logits(backend, dtype):
    x = np.array([-1e4, -100.0, 0.0, 100.0, 1e4], dtype)
    zeros, ones = np.zeros_like(x), np.ones_like(x)
    log2 = np.log(np.array(2, dtype))
    for target, wanted in ((zeros, [0, 0, log2, 100, 1e4]), (ones, [1e4, 100, log2, 0, 0])):
        loss = backend.bce_with_logits_forward(x, target, None, None)
        np.testing.assert_allclose(loss, np.array(wanted, dtype), rtol=1e-6, atol=1e-37)
    gradient = backend.bce_with_logits_backward(ones, x, zeros, None, None)
    np.testing.assert_allclose(gradient, np.array([0, 0, 0.5, 1, 1], dtype), rtol=1e-6, atol=1e-37)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_takes_any_memory_order(backend, layout, dtype):
    change = LAYOUTS[layout]
    x, target, weight, dloss = problem((5, 10, 3), dtype, weighted=True)
    wanted_loss, wanted_dx = torch_loss("cross_entropy", x, target, weight, dloss, label_smoothing=0.1)
    loss, _, log_prob = backend.cross_entropy_forward(change(x), change(target), change(weight), IGNORE, 0.1)
    dx = backend.cross_entropy_backward(change(dloss), change(log_prob), change(target), change(weight), IGNORE, 0.1)
    oracle.assert_close(loss, wanted_loss)
    oracle.assert_close(dx, wanted_dx)
    other = normal("other", x.shape, dtype)
    oracle.assert_close(backend.mse_forward(change(x), other), backend.mse_forward(x, other))
    oracle.assert_close(backend.mse_backward(other, change(x), change(other)), backend.mse_backward(other, x, other))
    binary = (backend.bce_with_logits_forward(change(x), change(other), None, change(other)),
              backend.bce_with_logits_forward(x, other, None, other))  # fmt: skip
    oracle.assert_close(*binary)


@by_dtype
def test_the_gradient_of_a_mean_has_zero_strides(backend, dtype):
    x, target, weight, _ = problem((5, 10, 3), dtype, weighted=True)
    dloss = np.broadcast_to(np.array(0.25, dtype), target.shape)
    log_prob = backend.log_softmax_forward(x)
    arguments = log_prob, target, weight, IGNORE, 0.1
    oracle.assert_same_bits(
        backend.cross_entropy_backward(dloss, *arguments), backend.cross_entropy_backward(dloss.copy(), *arguments)
    )
    dloss = np.broadcast_to(np.array(0.25, dtype), x.shape)
    oracle.assert_same_bits(backend.mse_backward(dloss, x, log_prob), backend.mse_backward(dloss.copy(), x, log_prob))


@by_dtype
@by_weight
def test_a_sample_does_not_know_its_batch(backend, weighted, dtype):
    x, target, weight, dloss = problem((5, 10, 3), dtype, weighted)
    loss, _, log_prob = backend.cross_entropy_forward(x, target, weight, IGNORE, 0.1)
    dx = backend.cross_entropy_backward(dloss, log_prob, target, weight, IGNORE, 0.1)
    for i in range(5):
        one = slice(i, i + 1)
        loss_1, _, log_prob_1 = backend.cross_entropy_forward(x[one], target[one], weight, IGNORE, 0.1)
        dx_1 = backend.cross_entropy_backward(dloss[one], log_prob_1, target[one], weight, IGNORE, 0.1)
        oracle.assert_same_bits(loss[one], loss_1)
        oracle.assert_same_bits(dx[one], dx_1)


def test_writes_no_input(backend):
    x, target, weight, dloss = problem((5, 10, 3), "float32", weighted=True)
    before = [a.copy() for a in (x, target, weight, dloss)]
    _, _, log_prob = backend.cross_entropy_forward(x, target, weight, IGNORE, 0.1)
    backend.cross_entropy_backward(dloss, log_prob, target, weight, IGNORE, 0.1)
    backend.mse_backward(x, log_prob, x)
    backend.bce_with_logits_backward(x, log_prob, x, x, x)
    for array, copy in zip((x, target, weight, dloss), before, strict=True):
        oracle.assert_same_bits(array, copy)
