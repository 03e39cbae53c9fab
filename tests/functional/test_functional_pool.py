"""The functional's own part of pooling: ranks, unbatched input, indices, the tape, public backwards, messages."""

import re

import numpy as np
import oracle
import pytest
import tape

from fastconv import Tensor
from fastconv import functional as F
from fastconv.errors import ArgumentError, DataError, DTypeError, ShapeError

SIZES = {1: (9,), 2: (9, 7), 3: (5, 7, 6)}


def image(rank, batch=(2,)):
    return tape.arrays("float64", (*batch, 3, *SIZES[rank]))[0]


@pytest.mark.parametrize("options", [{}, {"stride": 1, "padding": 1, "dilation": 2}, {"stride": 3, "ceil_mode": True}])
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_like_torch(rank, batch, options):
    x = image(rank, batch)
    tape.assert_like_torch(f"max_pool{rank}d", [x], 2, **options)
    _, indices = getattr(F, f"max_pool{rank}d")(x, 2, return_indices=True, **options)
    np.testing.assert_array_equal(indices, oracle.torch_pool_indices(rank, "max", x, kernel_size=2, **options))


@pytest.mark.parametrize(
    "options", [{}, {"stride": 1, "padding": 1}, {"padding": 1, "count_include_pad": False, "ceil_mode": True}]
)
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_avg_pool_like_torch(rank, batch, options):
    tape.assert_like_torch(f"avg_pool{rank}d", [image(rank, batch)], 3, **options)


def test_divisor_override_like_torch():
    tape.assert_like_torch("avg_pool2d", [image(2)], 2, divisor_override=3)


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_adaptive_pool_like_torch(rank, batch, kind):
    size = (None, 4, 2)[-rank:] if rank > 1 else 4
    tape.assert_like_torch(f"adaptive_{kind}_pool{rank}d", [image(rank, batch)], size)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_public_backwards_are_the_tape(rank):
    x = image(rank)
    options = {"kernel_size": 3, "stride": 2, "padding": 1}
    cases = [
        (f"max_pool{rank}d", options, True), (f"avg_pool{rank}d", options, False),
        (f"adaptive_max_pool{rank}d", {"output_size": 2}, True),
        (f"adaptive_avg_pool{rank}d", {"output_size": 2}, False),
    ]  # fmt: skip
    for name, named, has_indices in cases:
        forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
        _, (dx,), dy = tape.run(lambda a, f=forward, n=named: f(a, **n), [x])
        saved = [forward(x, return_indices=True, **named)[1]] if has_indices else []
        again = {} if name.startswith("adaptive") else named
        oracle.assert_same_bits(backward(dy, *saved, x.shape, **again), dx)


def test_indices_of_a_tensor_are_a_tensor_that_its_backward_takes():
    x = image(2)
    y, indices = F.max_pool2d(Tensor(x), 2, return_indices=True)
    assert isinstance(indices, Tensor)
    dx = F.max_pool2d_backward(y, indices, x.shape, 2)
    assert dx.sum() == pytest.approx(y.numpy().sum())


def bad_index(value):
    def call(x):
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        indices = indices.astype(np.int64)
        indices[0, 1, 2, 1] = value
        F.max_pool2d_backward(y, indices, x.shape, 2)

    return call


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (bad_index(63), DataError, "max_pool2d_backward: expected indices in [0, 63), got 63"),
        (bad_index(-1), DataError, "max_pool2d_backward: expected indices in [0, 63), got -1"),
        (lambda x: F.max_pool2d_backward(np.ones((2, 3, 4, 3)), np.ones((2, 3, 4, 3)), x.shape, 2), DTypeError,
         "max_pool2d_backward: expected indices to be integers, got float64"),
        (lambda x: F.max_pool2d_backward(np.ones((2, 3, 4, 3)), np.ones((2, 3, 4, 2), int), x.shape, 2), ShapeError,
         "max_pool2d_backward: expected indices to have the shape of dy (2, 3, 4, 3), got shape (2, 3, 4, 2)"),
        (lambda x: F.max_pool2d_backward(np.ones((2, 3, 4, 2)), np.ones((2, 3, 4, 2), int), x.shape, 2), ShapeError,
         "max_pool2d_backward: expected dy to have the shape of the output (2, 3, 4, 3), got shape (2, 3, 4, 2)"),
        (lambda x: F.avg_pool2d(x, 0), ArgumentError, "avg_pool2d: expected kernel_size >= 1, got 0"),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=0), ArgumentError,
         "avg_pool2d: expected divisor_override >= 1, got 0"),
        (lambda x: F.max_pool2d(x, 2, padding=2), ArgumentError,
         "max_pool2d: expected padding of at most half the (dilated) kernel_size (2, 2), got (2, 2)"),
        (lambda x: F.max_pool2d(x[0, 0], 2), ShapeError,
         "max_pool2d: expected input of 4 axes (N, C, H, W), got shape (9, 7)"),
        (lambda x: F.max_pool2d(x.astype(int), 2), DTypeError,
         "max_pool2d: expected input to be float32 or float64, got int64"),
        (lambda x: F.adaptive_avg_pool2d(x, 0), ArgumentError,
         "adaptive_avg_pool2d: expected output_size >= 1, got 0"),
    ],
)  # fmt: skip
def test_messages(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call(image(2))


@pytest.mark.parametrize("name", ["max_pool2d", "adaptive_max_pool2d"])
def test_indices_are_int64(name):
    x = image(2)
    for value in (x, Tensor(x)):
        _, indices = getattr(F, name)(value, 2, return_indices=True)
        assert (type(indices), indices.dtype) == (type(value), np.int64)


def test_indices_that_are_overwritten_before_the_walk_back():
    gradients = []
    for spoil in (False, True):
        x = Tensor(image(2), requires_grad=True)
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        if spoil:
            indices.data[...] = 0
        y.sum().backward()
        gradients.append(x.grad)
    oracle.assert_same_bits(*gradients)


def test_indices_in_any_memory():
    x = image(2)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    records = np.zeros(y.shape, [("tag", "u1"), ("value", "i8")])
    records["value"] = indices
    plain = F.max_pool2d_backward(y, indices, x.shape, 2)
    for other in (records["value"], indices.astype(">i4")):
        oracle.assert_same_bits(F.max_pool2d_backward(y, other, x.shape, 2), plain)
