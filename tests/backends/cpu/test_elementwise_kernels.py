"""Elementwise kernels of the compiled backend: errors in ulp, sizes around vectors and chunks, memory order, bits."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

from fastconv import backends
from fastconv.resampling import interpolation

dispatch = pytest.importorskip("fastconv.backends.cpu.dispatch", reason="the compiled backend is not built")
runtime = pytest.importorskip("fastconv.backends.cpu.runtime")

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
WIDTHS = (1, 2, 4, 8, 16)
SIZES = sorted({size for w in WIDTHS for size in (w - 1, w, w + 1, 2 * w + 3)} | {16383, 16384, 16385, 40000})


@pytest.fixture
def cpu(isa):
    return backends.get("cpu")


def ulps(actual: np.ndarray, exact: np.ndarray) -> float:
    """The largest error in units of the last place of the exact values, which are of a wider dtype."""
    return float(np.max(np.abs(actual - exact) / np.spacing(np.abs(exact).astype(actual.dtype))))


def arguments(dtype: str, low: float, high: float) -> np.ndarray:
    """Evenly spread values, and small ones of both signs."""
    small = np.geomspace(1e-30, 1, 500)
    return np.concatenate([np.linspace(low, high, 20_001), small, -small]).astype(dtype)


def exponential(cpu, x: np.ndarray) -> np.ndarray:
    """exp(x) for x <= 0, from the softmax of a pair whose other logit is so large that the sum rounds to 1."""
    pairs = np.stack([x, np.zeros_like(x)], axis=1)[:, :, None]
    return cpu.softmax_forward(pairs)[:, 0, 0]


@pytest.mark.parametrize("name, bound", [("tanh", 2.5), ("sigmoid", 2.0)])
@by_dtype
def test_error_in_ulp(cpu, name, bound, dtype):
    x = arguments(dtype, -30, 30)
    wide = x.astype(np.longdouble)
    exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    assert ulps(getattr(cpu, f"{name}_forward")(x), exact) <= bound


@by_dtype
def test_exp_is_within_2_ulp(cpu, dtype):
    # Below -40 the sum exp(x) + 1 is exactly 1 in both dtypes, so the softmax is the exponential alone.
    lowest = -87.0 if dtype == "float32" else -708.0
    x = np.linspace(lowest, -40, 50_001).astype(dtype)
    assert ulps(exponential(cpu, x), np.exp(x.astype(np.longdouble))) <= 2.0


@by_dtype
def test_exp_underflows_to_zero(cpu, dtype):
    x = np.array([-1e4, -800.0, -np.inf], dtype)
    np.testing.assert_array_equal(exponential(cpu, x), 0)


@by_dtype
def test_tanh_is_odd_and_saturates(cpu, dtype):
    x = arguments(dtype, 0, 40)
    y = cpu.tanh_forward(x)
    np.testing.assert_array_equal(cpu.tanh_forward(-x), -y)
    assert (y[x > 20] == 1).all()
    assert (np.abs(y) <= 1).all()


@by_dtype
def test_logarithm_of_a_sum(cpu, dtype):
    # n equal logits: log_softmax is -log(n)
    for n in (1, 2, 3, 5, 7, 10, 100, 1000):
        y = cpu.log_softmax_forward(np.zeros((1, n, 1), dtype))
        assert ulps(y, -np.log(np.full(y.shape, n, np.longdouble))) <= 2.0


@by_dtype
@pytest.mark.parametrize("size", SIZES)
def test_an_element_does_not_know_its_place(cpu, size, dtype):
    x = normal("x", (size,), dtype)
    for name in ("relu", "sigmoid", "tanh"):
        y = getattr(cpu, f"{name}_forward")(x)
        assert y.shape == x.shape
        for i in {0, size // 2, size - 1} - {-1}:
            one = getattr(cpu, f"{name}_forward")(x[i : i + 1].copy())
            oracle.assert_same_bits(y[i : i + 1], one, f"{name} at {i}")
    np.testing.assert_array_equal(cpu.relu_forward(x), np.maximum(x, 0))


@by_dtype
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_written_beyond_the_array(cpu, size, dtype):
    outer = np.full(size + 64, 7, dtype)
    cpu.accumulate(outer[32 : 32 + size], np.ones(size, dtype))
    np.testing.assert_array_equal(outer[32 : 32 + size], 8)
    np.testing.assert_array_equal(np.delete(outer, slice(32, 32 + size)), 7)


@pytest.mark.parametrize("layout", ["channels_last", "fortran"])
def test_the_result_keeps_the_memory_order(cpu, layout):
    x = LAYOUTS[layout](normal("x", (2, 3, 4, 5), "float32"))
    dy = normal("dy", x.shape, "float32")
    for result in (cpu.relu_forward(x), cpu.relu_backward(dy, x), cpu.tanh_forward(x), cpu.mse_backward(dy, x, dy)):
        assert result.strides == x.strides


SPREAD = {
    "a scalar": ((3, 5, 6, 7), ()), "per channel": ((3, 65, 6, 7), (1, 65, 1, 1)), "a row": ((3, 5000), (5000,)),
    "one sample": ((3, 5, 6, 70), (5, 6, 70)), "per sample": ((3, 5, 6, 7), (3, 1, 1, 1)),
    "a column": ((3, 5000), (3, 1)), "both": ((3, 1, 7), (1, 50, 7)), "inner axis": ((2, 9, 33, 40), (1, 9, 33, 1)),
    "outer product": ((130, 1), (1, 140)),
}  # fmt: skip


@by_dtype
@pytest.mark.parametrize("layout", ["C", "channels_last", "reversed", "every_other"])
@pytest.mark.parametrize("shapes", SPREAD.values(), ids=SPREAD)
def test_broadcasting(cpu, shapes, layout, dtype):
    a, b = normal("a", shapes[0], dtype), normal("b", shapes[1], dtype)
    changed = LAYOUTS[layout](a) if layout in LAYOUTS and a.ndim > 2 else a
    for name, ufunc in {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}.items():
        np.testing.assert_array_equal(getattr(cpu, name)(changed, b), ufunc(a, b))
        np.testing.assert_array_equal(getattr(cpu, name)(b, changed), ufunc(b, a))
    if a.ndim > 2:
        assert cpu.add(LAYOUTS["channels_last"](a), b).shape == np.add(a, b).shape


@by_dtype
def test_operands_that_lie_differently(cpu, dtype):
    for shape in ((2, 5, 7, 9), (3, 130, 40, 2), (2, 3, 5000), (64, 70)):
        a, b = normal("a", shape, dtype), normal("b", shape, dtype)
        for first in (a, a.copy("F"), np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)):
            for second in (b, b[::-1].copy()[::-1], b.copy("F")):
                result = cpu.subtract(first, second)
                np.testing.assert_array_equal(result, a - b)
                assert result.strides == first.strides


def moved(cpu, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Of functions of one variable, local responses, extremes, resampling, copies."""
    image, channels = x.reshape(6, 10, 1, 50, 60), LAYOUTS["channels_last"](x)
    options = (image.shape[:2] + image.shape[3:], None, 1.7, "bilinear", None, None, False)
    axes = interpolation("interpolate", *options)[1]
    y, scale = cpu.local_response_norm_forward(x, 5, 0.1, 0.75, 1.0)
    best = cpu.extremes(x, (0, 2), True)
    widths = [(0, 0), (0, 0), (0, 0), (2, 3), (4, 1)]
    resampled, padded = cpu.resample_forward(image, axes), cpu.pad_forward(image, widths, "reflect", 0.0)
    return {
        "gelu": cpu.pointwise_forward("gelu", x), "gelu backward": cpu.pointwise_backward("gelu", dy, x),
        "lrn": y, "lrn last": cpu.local_response_norm_forward(channels, 5, 0.1, 0.75, 1.0)[0],
        "lrn backward": cpu.local_response_norm_backward(dy, x, scale, 5, 0.1, 0.75),
        "best": best, "best mask": cpu.matches(x, best),
        "resampled": resampled, "resample backward": cpu.resample_backward(resampled, axes, image.shape),
        "cat": cpu.cat([x, channels], 1), "pad": padded,
        "pad backward": cpu.pad_backward(padded, image.shape, widths, "reflect"),
    }  # fmt: skip


def results(cpu, dtype: str) -> dict[str, np.ndarray]:
    """One result of every kind of frame, of several tasks each."""
    x, dy = normal("x", (6, 10, 3000), dtype), normal("dy", (6, 10, 3000), dtype)
    target = np.arange(6 * 3000).reshape(6, 3000) % 10
    loss, _, log_prob = cpu.cross_entropy_forward(x, target, None, -100, 0.1)
    mean, variance = cpu.batch_norm_statistics(x)
    dx, dweight, dbias = cpu.batch_norm_backward(dy, x, mean, 1 / np.sqrt(variance), None, True)
    last = LAYOUTS["channels_last"](x)
    param = x.copy()
    cpu.adam_step([param], [dy], [0 * x], [0 * x], step=1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.0,
                  decoupled=False)  # fmt: skip
    return {
        "tanh": cpu.tanh_forward(x), "softmax": cpu.softmax_forward(x), "loss": loss,
        "cross_entropy": cpu.cross_entropy_backward(loss, log_prob, target, None, -100, 0.1),
        "mean": mean, "variance": variance, "norm": cpu.batch_norm_forward(x, mean, variance, None, None),
        "dx": dx, "dweight": dweight, "dbias": dbias, "last": cpu.batch_norm_statistics(last)[1],
        "sum": cpu.sum(x), "column": cpu.sum(x, 0), "bias": cpu.bias_backward(dy), "adam": param,
        **moved(cpu, x, dy),
        "mask": cpu.dropout_mask(x.shape, 0.5, (1, 2)), "dropout": cpu.dropout_apply(x, dy > 0, 2.0),
    }  # fmt: skip


@by_dtype
def test_bits_do_not_depend_on_threads(cpu, dtype):
    before = runtime.get_num_threads()
    try:
        runtime.set_num_threads(1)
        alone = results(cpu, dtype)
        for threads in (2, 4):
            runtime.set_num_threads(threads)
            for name, value in results(cpu, dtype).items():
                oracle.assert_same_bits(value, alone[name], f"{name} on {threads} threads")
    finally:
        runtime.set_num_threads(before)


def test_a_long_mask_is_numpys_stream(cpu):
    words = np.random.Philox(key=np.array((3, 5), np.uint64)).random_raw(50_001)
    np.testing.assert_array_equal(cpu.dropout_mask((50_001,), 0.25, (3, 5)), words >= np.uint64(2**62))


@by_dtype
@pytest.mark.parametrize("shape", [(2, 35, 9, 10), (3, 16, 4, 4), (1, 70, 33), (2, 3, 40, 2), (2, 64, 3, 9, 5)])
def test_a_mask_that_lies_otherwise(cpu, shape, dtype):
    x = LAYOUTS["channels_last"](normal("x", shape, dtype))
    mask = cpu.dropout_mask(shape, 0.5, (1, 2))
    y = cpu.dropout_apply(x, mask, 2.0)
    assert y.strides == x.strides
    np.testing.assert_array_equal(y, np.where(mask, 2 * x, 0))
