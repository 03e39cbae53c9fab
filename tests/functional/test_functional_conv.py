"""The functional's own part of convolution: ranks, unbatched input, the tape, public backwards, messages.

The numbers of every shape are tested against the backends in tests/backends.
"""

import re

import numpy as np
import oracle
import pytest
import tape

from fastconv import Tensor
from fastconv import functional as F
from fastconv.errors import ArgumentError, DTypeError, ShapeError

SIZES = {1: (7,), 2: (7, 6), 3: (5, 6, 7)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}


def operands_of(rank, dtype="float64", batch=(2,), groups=1, transposed=False):
    first, second = (4, 6 // groups) if transposed else (6, 4 // groups)
    return tape.arrays(dtype, (*batch, 4, *SIZES[rank]), (first, second, *KERNELS[rank]), (6,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "dilation": 2}, {"groups": 2, "padding": "same"}])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_like_torch(rank, options, dtype):
    inputs = operands_of(rank, dtype, groups=options.get("groups", 1))
    tape.assert_like_torch(f"conv{rank}d", inputs, **options)
    tape.assert_like_torch(f"conv{rank}d", [*inputs[:2], None], **options)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "output_padding": 1}, {"groups": 2, "dilation": 2}]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_transpose_like_torch(rank, options):
    inputs = operands_of(rank, groups=options.get("groups", 1), transposed=True)
    tape.assert_like_torch(f"conv_transpose{rank}d", inputs, **options)


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched_input(rank, transposed):
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    tape.assert_like_torch(name, operands_of(rank, batch=(), transposed=transposed), stride=2)


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_public_backward_is_the_tape(rank, transposed):
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    x, w, b = operands_of(rank, transposed=transposed)
    _, gradients, dy = tape.run(lambda *a: getattr(F, name)(*a, stride=2, padding=1), (x, w, b))
    backward = getattr(F, f"{name}_backward")
    for public, taped in zip(backward(dy, x, w, stride=2, padding=1), gradients, strict=True):
        oracle.assert_same_bits(public, taped)
    dx, dw, db = backward(Tensor(dy), Tensor(x), w, stride=2, padding=1, needs=(False, True, False))
    assert dx is None
    assert db is None
    oracle.assert_same_bits(dw, gradients[1])
    with pytest.raises(ShapeError, match=rf"^{name}_backward: expected dy to have the shape of the output"):
        backward(dy[:1], x, w, stride=2, padding=1)


def test_options_as_lists_and_positions_are_torchs():
    x, w, b = operands_of(2)
    expected = F.conv2d(x, w, b, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=1)
    oracle.assert_same_bits(F.conv2d(x, w, b, [2, 1], [1, 0], [1, 2], 1), expected)
    oracle.assert_same_bits(F.conv2d(x, w, b, np.array([2, 1]), (1, 0), np.array([1, 2]), np.int64(1)), expected)
    x, w, b = operands_of(2, transposed=True)
    tape.assert_like_torch("conv_transpose2d", (x, w, b), 2, 1, 1, 1, 1)


def test_an_empty_batch_has_gradients_of_zero():
    x, w, b = operands_of(2, batch=(0,))
    y, (dx, dw, db), _ = tape.run(F.conv2d, (x, w, b))
    assert (y.shape, dx.shape) == ((0, 6, 5, 5), x.shape)
    assert not dw.any()
    assert not db.any()


def test_conv_takes_lists():
    assert F.conv1d([[[1.0, 2.0, 3.0]]], [[[1.0, 1.0]]]).tolist() == [[[3.0, 5.0]]]


def test_names_and_documentation():
    assert F.conv2d.__name__ == F.conv2d.__qualname__ == "conv2d"
    assert F.conv_transpose3d_backward.__name__ == "conv_transpose3d_backward"
    assert all(getattr(F, name).__doc__ for name in F.__all__)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, w: F.conv2d(x[0, 0], w), ShapeError,
         "conv2d: expected input of 4 axes (N, C, H, W), got shape (7, 6)"),
        (lambda x, w: F.conv2d(x, w[:, :3]), ShapeError,
         "conv2d: expected weight (OC, 3, KH, KW) to match input (N, 4, H, W): 3 != 4"),
        (lambda x, w: F.conv2d(x, w.astype("f4")), DTypeError,
         "conv2d: expected weight to have the dtype of input float64, got float32"),
        (lambda x, w: F.conv2d(x.astype(int), w), DTypeError,
         "conv2d: expected input to be float32 or float64, got int64"),
        (lambda x, w: F.conv2d(x, w, np.zeros(5)), ShapeError,
         "conv2d: expected bias (6,) to match the output channels, got shape (5,)"),
        (lambda x, w: F.conv2d(x, w, stride=0), ArgumentError, "conv2d: expected stride >= 1, got 0"),
        (lambda x, w: F.conv2d(x, w, stride=1.5), ArgumentError, "conv2d: expected stride to be an integer, got 1.5"),
        (lambda x, w: F.conv2d(x, w, stride=(1, 2, 3)), ArgumentError,
         "conv2d: expected stride to be an int or 2 ints, got 3: (1, 2, 3)"),
        (lambda x, w: F.conv2d(x, w, stride=[[1, 1]]), ArgumentError,
         "conv2d: expected stride to be an integer, got [1, 1]"),
        (lambda x, w: F.conv2d(x, w, padding="full"), ArgumentError,
         "conv2d: expected padding to be 'same', 'valid' or integers, got 'full'"),
        (lambda x, w: F.conv2d(x, w, groups=5), ShapeError,
         "conv2d: expected weight's first axis (OC) divisible by groups 5, got 6"),
        (lambda x, w: F.conv2d(x[:, :, :2], w), ShapeError,
         "conv2d: expected padded input at least as large as the dilated kernel (3, 2), got (2, 6)"),
    ],
)  # fmt: skip
def test_messages(call, error, message):
    x, w, _ = operands_of(2)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call(x, w)
