"""Pad, cat, add, reshape and flatten as functionals: against torch, public backwards, messages."""

import re

import numpy as np
import oracle
import pytest
import tape

from fastconv import Tensor
from fastconv import functional as F
from fastconv.errors import ArgumentError, DeviceError, DTypeError, ShapeError


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("pad", [(1, 2), (1, 2, 3, 1), (0, 1, 2, 0, 1, 1), (-1, 2), (-2, -1, 0, 3)])
@pytest.mark.parametrize("value", [None, 1.5])
def test_pad_constant_like_torch(pad, value):
    tape.assert_like_torch("pad", tape.arrays("float64", (2, 3, 4, 5)), pad, value=value)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("shape", "pad"), [((2, 3, 5), (2, 1)), ((2, 3, 4, 5), (1, 2, 3, 0)), ((3, 4, 5), (1, 2, 2, 1))]
)
def test_pad_modes_like_torch(mode, shape, pad):
    tape.assert_like_torch("pad", tape.arrays("float64", shape), pad, mode)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_backward_is_the_tape(mode):
    (x,) = tape.arrays("float64", (2, 3, 4, 5))
    y, (dx,), dy = tape.run(lambda a: F.pad(a, (2, 1, 1, 0), mode), [x])
    assert y.shape == (2, 3, 5, 8)
    oracle.assert_same_bits(F.pad_backward(dy, x.shape, (2, 1, 1, 0), mode), dx)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((1,),), ArgumentError, "pad: expected pad of up to 2 (before, after) pairs, flat, got (1,)"),
        (((1,) * 6,), ArgumentError,
         "pad: expected pad of up to 2 (before, after) pairs, flat, got (1, 1, 1, 1, 1, 1)"),
        (((1, 1), "wrap"), ArgumentError,
         "pad: expected mode to be one of constant, reflect, replicate, circular, got 'wrap'"),
        (((3, 0), "reflect"), ShapeError, "pad: expected pad of at most 2 for mode 'reflect' and size 3, got (3, 0)"),
        (((4, 0), "circular"), ShapeError, "pad: expected pad of at most 3 for mode 'circular' and size 3, got (4, 0)"),
        (((-2, -2),), ShapeError, "pad: expected pad that crops at most the size 3, got (-2, -2)"),
        (((0.5, 1),), ArgumentError, "pad: expected pad to be an integer, got 0.5"),
    ],
)  # fmt: skip
def test_pad_messages(arguments, error, message):
    with raises(error, message):
        F.pad(np.ones((2, 3)), *arguments)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cat_like_torch(dim):
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    shapes[1][dim], shapes[2][dim] = 1, 0
    inputs = tape.arrays("float64", *shapes)
    y, gradients, dy = tape.run(lambda *a: F.cat(a, dim), inputs)
    expected, wanted = oracle.run(lambda t, *a: t.cat(a, dim), inputs, dy)
    oracle.assert_same_bits(y, expected)
    for gradient, want in zip(gradients, wanted, strict=True):
        oracle.assert_same_bits(gradient, want)
    for part, want in zip(F.cat_backward(dy, [a.shape[dim] for a in inputs], dim), wanted, strict=True):
        oracle.assert_same_bits(part, want)


def test_cat_leaves_what_lies_there_already():
    whole, seven = np.zeros((2, 3, 3)), np.full((2, 1, 3), 7.0)
    whole[:, :2] = first = np.random.default_rng(0).standard_normal((2, 2, 3))
    x = Tensor(whole[:, :2], requires_grad=True)
    y = F.cat([x, seven], 1, out=whole)
    assert y.data is whole
    oracle.assert_same_bits(y.data, np.concatenate([first, seven], 1))
    y.backward(np.arange(18.0).reshape(2, 3, 3))
    oracle.assert_same_bits(x.grad, np.arange(18.0).reshape(2, 3, 3)[:, :2])
    apart = np.zeros((2, 3, 6))[..., ::2]
    assert F.cat([seven, first], 1, out=apart) is apart
    oracle.assert_same_bits(apart, np.concatenate([seven, first], 1))


def test_cat_messages():
    parts = [np.ones(1), np.ones(2)]
    with raises(ShapeError, "cat: expected out to have shape (3,) and dtype float64, got shape (4,) and dtype float64"):
        F.cat(parts, out=np.ones(4))
    for out, kind in ((3, "int"), (Tensor(np.ones(3)), "Tensor")):
        with raises(DeviceError, f"cat: expected out to be an array on the device of tensors, got '{kind}'"):
            F.cat(parts, out=out)
    fixed, packed = np.zeros(3), np.zeros(3, [("value", "f8"), ("tag", "u1")])
    fixed.flags.writeable = False
    for out in (fixed, packed["value"], np.broadcast_to(np.zeros(()), 3)):
        with raises(ArgumentError, "cat: expected out to be writable and aligned, got an array that is not"):
            F.cat(parts, out=out)
    assert not fixed.any()
    assert packed.tobytes() == bytes(packed.nbytes)
    row = np.arange(4.0)
    for tensors, i in (([row[2:], row[:2]], 0), ([row[:2], row[1:3]], 1), ([row[1:], np.ones(1)], 0)):
        with raises(ArgumentError, f"cat: expected out apart from tensors[{i}], got memory that both share"):
            F.cat(tensors, out=row)
    assert row.tolist() == [0, 1, 2, 3]
    with raises(ArgumentError, "cat: expected tensors to be a sequence of at least one array, got none"):
        F.cat([])
    with raises(
        ShapeError, "cat: expected tensors[1] to agree with tensors[0] (2, 3) but for axis 0, got shape (2, 4)"
    ):
        F.cat([np.ones((2, 3)), np.ones((2, 4))])
    with raises(DTypeError, "cat: expected tensors[1] to have the dtype of tensors[0] float64, got float32"):
        F.cat([np.ones(2), np.ones(2, "f4")])
    with raises(ShapeError, "cat_backward: expected sizes that add up to 3, got (1, 1)"):
        F.cat_backward(np.ones(3), (1, 1))


def test_add_and_its_backward():
    a, b = tape.arrays("float64", (2, 3), (3,))
    tape.assert_like_torch("add", [a, b])
    da, db = F.add_backward(np.ones((2, 3)), (2, 3), (3,))
    np.testing.assert_array_equal(db, [2, 2, 2])
    assert da.shape == (2, 3)
    with raises(ShapeError, "add: expected other to broadcast with input (2, 3), got shape (4,)"):
        F.add(a, np.ones(4))


@pytest.mark.parametrize(("start", "end"), [(0, -1), (1, -1), (1, 2), (-2, 3)])
def test_flatten_like_torch(start, end):
    tape.assert_like_torch("flatten", tape.arrays("float64", (2, 3, 4, 5)), start, end)


def test_reshape_and_its_messages():
    tape.assert_like_torch("reshape", tape.arrays("float64", (2, 6)), (3, -1))
    strided = np.arange(12.0).reshape(3, 4)[:, ::-2].T
    np.testing.assert_array_equal(F.reshape(Tensor(strided), (6,)).numpy(), strided.reshape(6))
    assert F.reshape_backward(np.ones(6), (2, 3)).shape == (2, 3)
    assert F.flatten(np.array(3.0)).shape == (1,)
    with raises(ShapeError, "reshape: expected a shape of 12 elements like input (2, 6), got (5, -1)"):
        F.reshape(np.ones((2, 6)), (5, -1))
    with raises(ShapeError, "flatten: expected start_dim <= end_dim, got 1 > 0"):
        F.flatten(np.ones((2, 6)), 1, 0)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("widths", [(3, -2), (-2, 3), (1, -3), (-1, -1)])
def test_crops_beside_padding_like_torch(mode, widths):
    tape.assert_like_torch("pad", tape.arrays("float64", (2, 3, 4)), widths, mode)


def test_a_circle_is_cropped_before_it_is_wrapped():
    np.testing.assert_array_equal(F.pad(np.arange(5.0), (2, -2), "circular"), [1.0, 2.0, 0.0, 1.0, 2.0])
    with pytest.raises(ShapeError, match="pad of at most 1 for mode 'circular'"):
        F.pad(np.arange(3.0), (2, -2), "circular")
