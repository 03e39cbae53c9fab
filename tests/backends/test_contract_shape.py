"""Arithmetic, sums, reshape, cat, pad and dropout: every backend against NumPy's own bits or PyTorch."""

from __future__ import annotations

import operator
from math import fsum

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal, stretched

from fastconv import backends

OPERATORS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}
SHAPES = [
    ((3, 17), (3, 17)), ((3, 17), (17,)), ((3, 17), ()), ((), ()), ((4, 1, 5), (3, 1)), ((0, 3), (3,)),
    ((2, 3, 4, 5), (1, 3, 1, 1)), ((2, 33, 7), (2, 33, 1)),
]  # fmt: skip
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_layout = pytest.mark.parametrize("layout", LAYOUTS)


@by_dtype
@pytest.mark.parametrize("a_shape, b_shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_arithmetic_broadcasts_and_has_the_bits_of_ieee(backend, name, a_shape, b_shape, dtype):
    a, b = normal((a_shape, "a"), a_shape, dtype), normal((b_shape, "b"), b_shape, dtype)
    for left, right in ((a, b), (b, a)):
        result = getattr(backend, name)(left, right)
        assert isinstance(result, np.ndarray)
        oracle.assert_same_bits(result, np.asarray(OPERATORS[name](left, right)))


@by_dtype
@by_layout
@pytest.mark.parametrize("name", OPERATORS)
def test_arithmetic_takes_any_memory_order(backend, name, layout, dtype):
    a, b = normal("a", (3, 17, 6), dtype), normal("b", (3, 17, 6), dtype)
    wanted = OPERATORS[name](a, b)
    change = LAYOUTS[layout]
    for left, right in ((change(a), b), (a, change(b)), (change(a), change(b))):
        oracle.assert_same_bits(getattr(backend, name)(left, right), wanted)


@by_dtype
def test_scale_rounds_its_factor_to_the_dtype(backend, dtype):
    a = normal("a", (3, 17), dtype)
    oracle.assert_same_bits(backend.scale(a, 0.1), a * np.array(0.1, dtype))
    oracle.assert_same_bits(backend.scale(stretched(a, 0), -3), stretched(a, 0) * np.array(-3, dtype))
    assert backend.scale(np.array(2, dtype), 0.5).shape == ()


@by_dtype
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_sum(backend, axis, keepdims, dtype):
    a = normal("a", (5, 33, 70), dtype)
    result = backend.sum(a, axis, keepdims)
    assert isinstance(result, np.ndarray)
    assert result.dtype == dtype
    oracle.assert_close(result, np.asarray(a.astype(np.longdouble).sum(axis=axis, keepdims=keepdims), np.float64))


@by_dtype
def test_sum_of_many_terms_keeps_its_digits(backend, dtype):
    a = np.abs(normal("many", (300_000,), dtype))
    oracle.assert_close(backend.sum(a), np.array(fsum(a.tolist())))


@by_dtype
@by_layout
@pytest.mark.parametrize("axis", [None, 1], ids=str)
def test_the_order_of_a_sum_is_the_shapes(backend, axis, layout, dtype):
    a = normal("a", (5, 33, 20), dtype)
    oracle.assert_same_bits(backend.sum(LAYOUTS[layout](a), axis), backend.sum(a, axis))


@by_dtype
@by_layout
@pytest.mark.parametrize("pixels", [1, 20, 900])
def test_a_sum_over_the_pixels_of_a_sample_does_not_depend_on_the_others(backend, pixels, layout, dtype):
    """Its order is that of shape and layout: channels that lie side by side are read where they lie."""
    a = LAYOUTS[layout](normal("a", (3, 33, pixels), dtype))
    total = backend.sum(a, 2)
    oracle.assert_close(total, a.astype(np.float64).sum(2))
    for i in range(3):
        oracle.assert_same_bits(backend.sum(a[i : i + 1], 2), total[i : i + 1])
    oracle.assert_same_bits(backend.sum(a, (0, 2)), backend.sum(a.copy("K"), (0, 2)))


def test_sum_of_nothing_is_zero(backend):
    a = np.empty((0, 3), "float32")
    np.testing.assert_array_equal(backend.sum(a), 0)
    np.testing.assert_array_equal(backend.sum(a, 0), np.zeros(3))
    assert backend.sum(a, 1).shape == (0,)


@by_layout
def test_reshape_is_logical(backend, layout):
    a = normal("a", (4, 3, 5), "float32")
    np.testing.assert_array_equal(backend.reshape(LAYOUTS[layout](a), (2, 30)), a.reshape(2, 30))


NEW_SHAPES = [
    (7, 1920), (105, 128), (7, 15, 1, 16, 8), (13440,), (7, 15, 128), (840, 16), (7, 3, 5, 128), (1, 7, 30, 64),
    (35, 384),
]  # fmt: skip


@by_dtype
@by_layout
@pytest.mark.parametrize("shape", NEW_SHAPES, ids=str)
def test_reshape_copies_where_strides_cannot_express_it_and_there_alone(numpy_backend, shape, layout, dtype):
    values = normal("a", (7, 15, 16, 8), dtype)
    for a in (LAYOUTS[layout](values), LAYOUTS[layout](values).transpose(0, 2, 3, 1), stretched(values, 1)):
        found = numpy_backend.reshape(a, shape)
        oracle.assert_same_bits(found, np.array(a).reshape(shape))
        assert np.shares_memory(found, a) == np.shares_memory(a.reshape(shape), a)


@by_layout
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cat(backend, axis, layout):
    shapes = [tuple(k if i == axis else s for i, s in enumerate((2, 3, 4))) for k in (1, 0, 5)]
    arrays = [normal(shape, shape, "float32") for shape in shapes]
    result = backend.cat([LAYOUTS[layout](a) for a in arrays], axis)
    oracle.assert_same_bits(result, np.concatenate(arrays, axis))
    single = backend.cat(arrays[:1], axis)
    assert not np.shares_memory(single, arrays[0])


PADS = [
    ((2, 3, 7), (2, 1)),
    ((2, 3, 7), (-2, 1)),
    ((2, 3, 6, 7), (2, 1, 0, 3)),
    ((2, 3, 6, 7), (-1, 2, 1, -2)),
    ((1, 2, 4, 5, 6), (1, 2, 3, 1, 0, 2)),
    ((1, 2, 4, 5, 6), (0, -1, -2, 1, 2, 0)),
    ((2, 3, 6, 7), (0, 0, 3, 1)),
    ((2, 2, 70, 300), (3, 2, 5, 4)),
    ((1, 1, 40_000), (9, 5)),
]
by_pad = pytest.mark.parametrize("shape, pad", PADS, ids=str)
by_mode = pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])


def widths(shape: tuple[int, ...], pad: tuple[int, ...]) -> list[tuple[int, int]]:
    """Torch counts pairs from the last axis; the backend wants one pair an axis."""
    pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)][::-1]
    return [(0, 0)] * (len(shape) - len(pairs)) + pairs


@by_dtype
@by_mode
@by_pad
def test_pad_equals_torch(backend, shape, pad, mode, dtype):
    x = normal((shape, pad), shape, dtype)
    w = widths(shape, pad)
    value = 0.5 if mode == "constant" else 0.0
    y = backend.pad_forward(x, w, mode, value)
    dy = normal((shape, pad, "dy"), y.shape, dtype)
    wanted, (wanted_dx,) = oracle.torch_functional("pad", (x,), dy, pad=pad, mode=mode, value=value or None)
    dx = backend.pad_backward(dy, shape, w, mode)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(y, wanted)
    oracle.assert_close(dx, wanted_dx)


@by_layout
@by_mode
def test_pad_takes_any_memory_order(backend, mode, layout):
    x = normal("x", (2, 3, 6, 7), "float32")
    for w in ([(0, 0), (1, 0), (2, 1), (-1, 3)], [(1, 0), (0, 0), (0, 0), (0, 0)], [(0, 0), (0, 0), (2, 1), (0, 0)]):
        y = backend.pad_forward(x, w, mode, 0.5)
        oracle.assert_same_bits(backend.pad_forward(LAYOUTS[layout](x), w, mode, 0.5), y)
        oracle.assert_same_bits(
            backend.pad_backward(LAYOUTS[layout](y), x.shape, w, mode), backend.pad_backward(y, x.shape, w, mode)
        )


@by_mode
@pytest.mark.parametrize("axis", range(3))
def test_pad_takes_zero_and_negative_strides(backend, mode, axis):
    x = stretched(normal("x", (3, 6, 7), "float32"), axis)
    for w in ([(0, 0), (2, 1), (0, 3)], [(1, 2), (0, 0), (0, 0)]):
        wanted = backends.get("reference").pad_forward(x, w, mode, 0.5)
        oracle.assert_same_bits(backend.pad_forward(x, w, mode, 0.5), wanted)
        wanted = backends.get("reference").pad_forward(x[:, ::-1, ::-2], w, mode, 0.5)
        oracle.assert_same_bits(backend.pad_forward(x[:, ::-1, ::-2], w, mode, 0.5), wanted)


@by_mode
def test_pad_returns_a_new_array(backend, mode):
    x = normal("x", (2, 3, 6), "float32")
    y = backend.pad_forward(x, [(0, 0)] * 3, mode, 0.0)
    oracle.assert_same_bits(y, x)
    assert not np.shares_memory(y, x)
    assert backend.pad_forward(x[:0], [(0, 0), (0, 0), (1, 1)], mode, 0.0).shape == (0, 3, 8)


# The first words of Philox4x64-10 with key (7, 11), from NumPy 2.
PHILOX_WORDS_7_11 = (
    0x504A32D52E513602,
    0x28AB66D5048F8DD8,
    0xC9D6B4BD0CCB97A1,
    0x23557BBBA8447A8E,
    0x2CFCD8AAB96CA6BF,
    0xCD550154156AD0E0,
    0xB610760B5BC2FD2E,
    0xBBB5C9D7048D27DC,
)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9])
def test_dropout_mask_compares_philox_words_with_a_threshold(backend, p):
    mask = backend.dropout_mask((2, 4), p, (7, 11))
    assert mask.dtype == bool
    kept = [word >= int(p * 2**64) for word in PHILOX_WORDS_7_11]
    np.testing.assert_array_equal(mask.ravel(), kept)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 17, 5), (1000,), (0, 3)], ids=str)
def test_dropout_mask_of_a_shape_is_the_start_of_one_stream(backend, shape):
    key = (2**64 - 1, 2**63 + 5)
    stream = np.random.Philox(key=np.array(key, np.uint64)).random_raw(1000) >= np.uint64(2**62)
    mask = backend.dropout_mask(shape, 0.25, key)
    assert mask.shape == shape
    np.testing.assert_array_equal(mask.ravel(), stream[: mask.size])


def test_dropout_mask_keeps_its_share(backend):
    mask = backend.dropout_mask((100_000,), 0.3, (1, 2))
    assert abs(mask.mean() - 0.7) < 5 * np.sqrt(0.3 * 0.7 / 100_000)
    assert (mask != backend.dropout_mask((100_000,), 0.3, (1, 3))).any()


@by_dtype
@by_layout
def test_dropout_apply(backend, layout, dtype):
    x = normal("x", (3, 17, 6), dtype)
    x[0, 0, 0] = np.nan
    mask = backend.dropout_mask(x.shape, 0.5, (0, 1))
    mask[0, 0, 0] = False  # a dropped NaN is 0, as every dropped element
    wanted = np.where(mask, x * np.array(1.25, dtype), np.array(0, dtype))
    for order in (mask, np.asfortranarray(mask)):
        oracle.assert_same_bits(backend.dropout_apply(LAYOUTS[layout](x), order, 1.25), wanted)
