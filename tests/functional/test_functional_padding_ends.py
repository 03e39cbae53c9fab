"""Paddings that differ before and after, dilated averages, norms of windows: against torch on padded input."""

import numpy as np
import pytest
import tape
from layouts import DTYPES, distinct, normal

from fastconv import functional as F
from fastconv.errors import ArgumentError, ShapeError

# sizes, kernel, padding (before, after), stride, dilation
CASES = [
    ((7,), (3,), (0, 2), 2, 1),
    ((9, 8), (3, 2), (2, 0, 1, 2), (2, 1), (1, 2)),
    ((6, 6), (3, 3), (0, 0, 1, 1), 1, 1),
    ((4, 5, 6), (2, 3, 1), (1, 0, 0, 0, 2, 0), 1, (1, 2, 1)),
]
by_case = pytest.mark.parametrize("sizes, kernel, padding, stride, dilation", CASES, ids=str)


def flat(padding):
    """The order of ``pad``: the last axis first."""
    rank = len(padding) // 2
    return [padding[side] for axis in range(rank)[::-1] for side in (axis, axis + rank)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups, channels", [(1, 3), (2, 4), (1, 17)])
@by_case
def test_convolution(sizes, kernel, padding, stride, dilation, groups, channels, dtype):
    name = f"conv{len(sizes)}d"
    x, w = normal("x", (2, channels, *sizes), dtype), normal("w", (2 * groups, channels // groups, *kernel), dtype)
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    tape.assert_same(
        lambda *a: getattr(F, name)(*a, padding=padding, **options),
        lambda t, x, *a: getattr(t.nn.functional, name)(t.nn.functional.pad(x, flat(padding)), *a, **options),
        [x, w, normal("b", (2 * groups,), dtype)],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@by_case
def test_transposed_convolution(sizes, kernel, padding, stride, dilation, dtype):
    name = f"conv_transpose{len(sizes)}d"
    options = {"stride": stride, "dilation": dilation}
    tape.assert_same(
        lambda *a: getattr(F, name)(*a, padding=padding, **options),
        lambda t, *a: t.nn.functional.pad(
            getattr(t.nn.functional, name)(*a, **options), [-width for width in flat(padding)]
        ),
        [normal("x", (2, 3, *sizes), dtype), normal("w", (3, 2, *kernel), dtype), normal("b", (2,), dtype)],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ceil_mode", [False, True])
@by_case
def test_max_pooling(sizes, kernel, padding, stride, dilation, ceil_mode, dtype):
    name, options = f"max_pool{len(sizes)}d", {"stride": stride, "dilation": dilation, "ceil_mode": ceil_mode}
    tape.assert_same(
        lambda x: getattr(F, name)(x, kernel, padding=padding, **options),
        lambda t, x: getattr(t.nn.functional, name)(
            t.nn.functional.pad(x, flat(padding), value=-float("inf")), kernel, **options
        )[(..., *(slice(n) for n in pooled(sizes, kernel, padding, stride, dilation, ceil_mode)))],
        [distinct("x", (2, 3, *sizes), dtype)],
    )


def pooled(sizes, kernel, padding, stride, dilation, ceil_mode):
    """The output's sizes: with ``ceil_mode`` no window starts after the input."""
    rank = len(sizes)
    each = [v if isinstance(v, tuple) else (v,) * rank for v in (stride, dilation)]
    for size, k, p, q, s, d in zip(sizes, kernel, padding[:rank], padding[rank:], *each, strict=True):
        span = size + p + q - d * (k - 1) - 1
        count = (-(-span // s) if ceil_mode else span // s) + 1
        yield count - (ceil_mode and (count - 1) * s >= size + p)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("include", [True, False])
@by_case
def test_average_pooling(sizes, kernel, padding, stride, dilation, include, dtype):
    rank = len(sizes)
    options = {"stride": stride, "dilation": dilation}

    def theirs(t, x):
        """A depthwise convolution with ones, divided by how many it has summed."""
        f = t.nn.functional
        ones = t.ones(3, 1, *kernel, dtype=t.float64)
        padded, seen = f.pad(x, flat(padding)), f.pad(t.ones_like(x), flat(padding), value=float(include))
        total, count = (getattr(f, f"conv{rank}d")(a, ones, groups=3, **options) for a in (padded, seen))
        return total / count

    tape.assert_same(
        lambda x: getattr(F, f"avg_pool{rank}d")(x, kernel, padding=padding, count_include_pad=include, **options),
        theirs,
        [normal("x", (2, 3, *sizes), dtype)],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1, 2, 3.5])
@by_case
def test_norms_of_windows(sizes, kernel, padding, stride, dilation, p, dtype):
    rank = len(sizes)

    def theirs(t, x):
        f = t.nn.functional
        ones = t.ones(3, 1, *kernel, dtype=t.float64)
        powers = f.pad(x.abs() ** p, flat(padding))
        return getattr(f, f"conv{rank}d")(powers, ones, groups=3, stride=stride, dilation=dilation) ** (1 / p)

    tape.assert_same(
        lambda x: getattr(F, f"lp_pool{rank}d")(x, p, kernel, stride, padding=padding, dilation=dilation),
        theirs,
        [distinct("x", (2, 3, *sizes), dtype)],
    )


def test_lp_pool_like_torch_and_its_order():
    x = np.abs(distinct("x", (2, 3, 8, 6)))
    tape.assert_like_torch("lp_pool2d", [x], 3.0, 2, 2)
    with pytest.raises(ArgumentError, match=r"lp_pool2d: expected norm_type in \[1, 1e\+300\], got 0\.5"):
        F.lp_pool2d(x, 0.5, 2)


def test_paddings_that_do_not_fit():
    x, w = np.zeros((1, 1, 5, 5)), np.zeros((1, 1, 3, 3))
    for wrong in [(1, 1, 1), (1,) * 5, (1, 1, 1, -1), (1, 1, 1, 1.0)]:
        with pytest.raises(ArgumentError, match="expected padding"):
            F.conv2d(x, w, padding=wrong)
        with pytest.raises(ArgumentError, match="expected padding"):
            F.max_pool2d(x, 3, padding=wrong)
    with pytest.raises(ShapeError, match="every window to see an input element"):
        F.max_pool2d(x, 2, 1, padding=(0, 0, 3, 0))
    assert F.avg_pool2d(np.zeros((0, 1, 5, 5)), 2, padding=(0, 1, 1, 0)).shape == (0, 1, 3, 3)
