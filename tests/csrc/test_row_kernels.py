"""Micro-kernels other than convolution's, each alone, per instruction set: NumPy formulas, and no stray writes."""

import ctypes
from itertools import product

import numpy as np
import pytest
from laboratory import FLAG, ISAS, POINTER, REAL, SIZE, Map, Moments, Normalise, Reduce, close, struct, values

from fastconv.backends.cpu import _lab, available_isas

DTYPES = {np.float32: 0, np.float64: 1}
WORD = ctypes.c_uint64
COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 35)
GUARD = 40  # elements around what a kernel may write

by_isa = pytest.mark.parametrize("isa", available_isas())
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


Transpose = struct(dst=POINTER, src=POINTER, rows=SIZE, columns=SIZE, ld=SIZE, sj=SIZE)
Masked = struct(y=POINTER, x=POINTER, mask=POINTER, count=SIZE, factor=REAL)
RandomMask = struct(mask=POINTER, first=SIZE, count=SIZE, key=WORD * 2, threshold=WORD)
Channels = struct(y=POINTER, a=POINTER, b=POINTER, channels=SIZE, positions=SIZE, ldy=SIZE, lda=SIZE, ldb=SIZE)
Targets = struct(
    y=POINTER, log_prob=POINTER, target=POINTER, weight=POINTER, loss=POINTER, scale=POINTER, dloss=POINTER,
    channels=SIZE, positions=SIZE, ldy=SIZE, ldl=SIZE, target_step=SIZE, dloss_step=SIZE, ignore_index=SIZE,
    smoothing=REAL,
)  # fmt: skip
Step = struct(
    p=POINTER, g=POINTER, first=POINTER, second=POINTER, count=SIZE, lr=REAL, weight_decay=REAL, momentum=REAL,
    dampening=REAL, beta1=REAL, beta2=REAL, eps=REAL, correction=REAL, shrink=REAL, nesterov=FLAG, start=FLAG,
)  # fmt: skip


def call(kernel, isa, dtype, arguments, **values):
    packed = arguments(**{k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in values.items()})
    _lab.call(kernel, ISAS[isa], DTYPES[dtype], bytes(packed))


def guarded(shape, dtype, fill=7):
    """An array that a kernel writes, and the memory around it."""
    outer = np.full(int(np.prod(shape)) + 2 * GUARD, fill, dtype)
    return outer[GUARD:-GUARD].reshape(shape), outer


def untouched(outer, fill=7):
    return (outer[:GUARD] == fill).all() and (outer[-GUARD:] == fill).all()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


# name -> inputs, formula; the scalar is 0.25
MAPS = {
    "add": (2, lambda a, b: a + b),
    "subtract": (2, lambda a, b: a - b),
    "multiply": (2, lambda a, b: a * b),
    "divide": (2, lambda a, b: a / b),
    "scale": (1, lambda a: a * 0.25),
    "add_relu": (2, lambda a, b: np.maximum(a + b, 0)),
    "relu_forward": (1, lambda x: np.maximum(x, 0)),
    "relu_backward": (2, lambda dy, y: dy * (y > 0)),
    "leaky_relu_forward": (1, lambda x: np.where(x > 0, x, 0.25 * x)),
    "leaky_relu_backward": (2, lambda dy, x: np.where(x > 0, dy, 0.25 * dy)),
    "sigmoid_forward": (1, sigmoid),
    "sigmoid_backward": (2, lambda dy, y: dy * y * (1 - y)),
    "tanh_forward": (1, np.tanh),
    "tanh_backward": (2, lambda dy, y: dy * (1 - y * y)),
    "mse_forward": (2, lambda x, t: (x - t) ** 2),
    "mse_backward": (3, lambda dy, x, t: 2 * dy * (x - t)),
    "bce_with_logits_forward": (4, lambda x, t, w, p: w * (p * t * softplus(-x) + (1 - t) * softplus(x))),
    "bce_with_logits_backward": (
        5, lambda dy, x, t, w, p: dy * w * ((1 - t) * sigmoid(x) - p * t * sigmoid(-x)),
    ),
}  # fmt: skip


@by_dtype
@by_isa
@pytest.mark.parametrize("name", MAPS)
def test_map(isa, dtype, name):
    inputs, formula = MAPS[name]
    for count in COUNTS:
        x = [values("x" * (k + 1), count, dtype, 0.5 if name == "divide" else -3.0) for k in range(inputs)]
        y, outer = guarded(count, dtype)
        pointers = (POINTER * 5)(*(a.ctypes.data for a in x))
        call(name, isa, dtype, Map, y=y, x=pointers, rows=1, count=count, scalar=(REAL * 2)(0.25, 0))
        close(y, formula(*(a.astype(np.float64) for a in x)), dtype)
        assert untouched(outer)


@by_dtype
@by_isa
@pytest.mark.parametrize("stream", (0, 1))
def test_rows_of_a_map(isa, dtype, stream):
    for count in COUNTS:
        a, b = values("a", (5, count), dtype), values("bb", count, dtype)
        y, outer = guarded((5, count), dtype)
        pointers, step = (POINTER * 5)(a.ctypes.data, b.ctypes.data), (SIZE * 5)(count, 0)
        call("add", isa, dtype, Map, y=y, x=pointers, step=step, rows=5, count=count, stream=stream)
        np.testing.assert_array_equal(y, a + b)
        assert untouched(outer)


@by_dtype
@by_isa
def test_a_streamed_map_fills_aligned_memory(isa, dtype):
    memory = np.zeros(4096, np.uint8)
    start = -memory.ctypes.data % 64
    y, x = memory[start : start + 2048].view(dtype), values("x", 2048 // dtype().itemsize, dtype)
    for rows in (1, 2, 4):
        y[:] = 7
        pointers, step = (POINTER * 5)(x.ctypes.data), (SIZE * 5)(y.size // rows)
        options = {"rows": rows, "count": y.size // rows, "scalar": (REAL * 2)(2, 0), "stream": 1}
        call("scale", isa, dtype, Map, y=y, x=pointers, step=step, **options)
        np.testing.assert_array_equal(y, x * 2)


@by_isa
@pytest.mark.parametrize("rows, columns", [(1, 20), (16, 16), (15, 40), (17, 16), (40, 35), (64, 3), (33, 100)])
def test_transpose_bytes(isa, rows, columns):
    src = np.random.default_rng(0).integers(0, 256, (columns, rows + 3)).astype(np.uint8)
    dst = np.full((rows + 2, columns + 5), 7, np.uint8)
    wanted = dst.copy()
    wanted[1:-1, :columns] = src[:, :rows].T
    call("transpose_bytes", isa, np.float32, Transpose, dst=dst[1:], src=src, rows=rows, columns=columns,
         ld=dst.shape[1], sj=src.shape[1])  # fmt: skip
    np.testing.assert_array_equal(dst, wanted)


@by_dtype
@by_isa
def test_dropout(isa, dtype):
    words = np.random.Philox(key=np.array((7, 2**63), np.uint64)).random_raw(64 + max(COUNTS))
    for count in COUNTS:
        mask, outer = guarded(count, np.uint8)
        key = (WORD * 2)(7, 2**63)
        call("random_mask", isa, dtype, RandomMask, mask=mask, first=64, count=count, key=key, threshold=2**63)
        np.testing.assert_array_equal(mask, words[64 : 64 + count] >= np.uint64(2**63))
        assert untouched(outer)
        x = values("x", count, dtype)
        y, outer = guarded(count, dtype)
        call("masked", isa, dtype, Masked, y=y, x=x, mask=mask, count=count, factor=1.5)
        np.testing.assert_array_equal(y, np.where(mask, x * dtype(1.5), 0))
        assert untouched(outer)


def softmax(x):
    powers = np.exp(x)
    return powers / powers.sum(0)


CHANNELS = {
    "softmax_forward": lambda a, b: softmax(a),
    "softmax_backward": lambda a, b: b * (a - (a * b).sum(0)),
    "log_softmax_forward": lambda a, b: np.log(softmax(a)),
    "log_softmax_backward": lambda a, b: a - np.exp(b) * a.sum(0),
}


@by_dtype
@by_isa
@pytest.mark.parametrize("name", CHANNELS)
def test_channels(isa, dtype, name):
    for count in COUNTS:
        a, b = values("a", (5, count + 3), dtype), values("bb", (5, count + 1), dtype)
        y, outer = guarded((5, count), dtype)
        call(name, isa, dtype, Channels, y=y, a=a, b=b, channels=5, positions=count, ldy=count, lda=count + 3,
             ldb=count + 1)  # fmt: skip
        close(y, CHANNELS[name](*(m[:, :count].astype(np.float64) for m in (a, b))), dtype)
        assert untouched(outer)


CHANNELS_IN_ROWS = (
    "softmax_forward_rows", "softmax_backward_rows", "log_softmax_forward_rows", "log_softmax_backward_rows"
)  # fmt: skip


@by_dtype
@by_isa
@pytest.mark.parametrize("name", CHANNELS_IN_ROWS)
def test_rows_of_channels(isa, dtype, name):
    formula = CHANNELS[name.removesuffix("_rows")]
    for count in (*COUNTS, 100):
        a, b = values("a", (5, count + 3), dtype), values("bb", (5, count + 1), dtype)
        y, outer = guarded((5, count), dtype)
        call(name, isa, dtype, Channels, y=y, a=a, b=b, channels=count, positions=5, ldy=count,
             lda=count + 3, ldb=count + 1)  # fmt: skip
        close(y, formula(*(m[:, :count].T.astype(np.float64) for m in (a, b))).T, dtype)
        assert untouched(outer)


@by_dtype
@by_isa
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_targets_of_rows_of_channels(isa, dtype, smoothing):
    positions = 70
    for channels in (*COUNTS, 100):
        log_prob, weight = values("l", (positions, channels), dtype), values("w", channels, dtype, 0.5)
        dloss, at = values("dd", positions, dtype), np.arange(positions)
        target = at % (channels + 1) - 1  # -1 is ignored
        wide, used = log_prob.astype(np.float64), target >= 0
        scale = np.where(used, weight[target], 0).astype(np.float64)
        common = {
            "log_prob": log_prob, "target": target, "weight": weight, "channels": channels, "positions": positions,
            "ldy": channels, "ldl": channels, "target_step": 1, "dloss_step": 1, "ignore_index": -1,
            "smoothing": smoothing,
        }  # fmt: skip
        loss, outer = guarded(positions, dtype)
        kept = np.empty(positions, dtype)
        call("nll_forward_rows", isa, dtype, Targets, loss=loss, scale=kept, **common)
        smooth = -(weight * wide).sum(1) / channels
        close(loss, used * ((1 - smoothing) * -scale * wide[at, target] + smoothing * smooth), dtype)
        close(kept, scale, dtype)
        assert untouched(outer)
        gradient = -smoothing / channels * weight * (used * dloss)[:, None]
        gradient[at, target] -= (1 - smoothing) * scale * dloss
        y, outer = guarded((positions, channels), dtype)
        call("nll_backward_rows", isa, dtype, Targets, y=y, dloss=dloss, **common)
        close(y, gradient, dtype)
        call("cross_entropy_backward_rows", isa, dtype, Targets, y=y, dloss=dloss, **common)
        close(y, gradient - np.exp(wide) * gradient.sum(1)[:, None], dtype)
        assert untouched(outer)


@by_dtype
@by_isa
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_targets(isa, dtype, smoothing):
    for count in (*COUNTS, 64, 70):
        log_prob, weight, dloss = values("l", (4, count), dtype), values("w", 4, dtype, 0.5), values("dd", count, dtype)
        target = np.arange(count) % 5 - 1  # -1 is ignored
        wide, used, at = log_prob.astype(np.float64), target >= 0, np.arange(count)
        scale = np.where(used, weight[target], 0).astype(np.float64)
        common = {
            "log_prob": log_prob, "target": target, "weight": weight, "channels": 4, "positions": count, "ldy": count,
            "ldl": count, "target_step": 1, "dloss_step": 1, "ignore_index": -1, "smoothing": smoothing,
        }  # fmt: skip
        loss, outer = guarded(count, dtype)
        kept = np.empty(count, dtype)
        call("nll_forward", isa, dtype, Targets, loss=loss, scale=kept, **common)
        smooth = -(weight[:, None] * wide).sum(0) / 4
        close(loss, used * ((1 - smoothing) * -scale * wide[target, at] + smoothing * smooth), dtype)
        close(kept, scale, dtype)
        assert untouched(outer)
        gradient = -smoothing / 4 * weight[:, None] * (used * dloss)
        gradient[target, at] -= (1 - smoothing) * scale * dloss
        y, outer = guarded((4, count), dtype)
        call("nll_backward", isa, dtype, Targets, y=y, dloss=dloss, **common)
        close(y, gradient, dtype)
        call("cross_entropy_backward", isa, dtype, Targets, y=y, dloss=dloss, **common)
        close(y, gradient - np.exp(wide) * gradient.sum(0), dtype)
        assert untouched(outer)


BLOCKS = [(1, 1), (3, 5), (4, 16), (64, 16), (65, 17), (130, 35), (5, 64), (5, 67), (3, 511), (66, 530), (2, 1031)]


@by_dtype
@by_isa
def test_moments_of_rows(isa, dtype):
    for rows, columns in BLOCKS:
        x = values("x", (rows + 70, columns), dtype) + np.arange(0, 1000, 1000 / columns, dtype)[:columns]
        arrays = {name: guarded(columns, np.float64) for name in ("start", "offset", "square")}
        common = {name: array for name, (array, _) in arrays.items()} | {"columns": columns, "ldx": columns}
        call("moment_rows", isa, dtype, Moments, x=x, count=0, rows=rows, **common)
        call("moment_rows", isa, dtype, Moments, x=x[rows:], count=rows, rows=70, **common)
        wide, eps = x.astype(np.longdouble), np.finfo(dtype).eps
        mean = common["start"].astype(np.longdouble) + common["offset"]  # no rounding of the test's own
        np.testing.assert_allclose(mean, wide.mean(0), rtol=eps / 2, atol=8 * eps)
        np.testing.assert_allclose(common["square"], len(x) * wide.var(0).astype(float), rtol=64 * eps)
        assert all(untouched(outer) for _, outer in arrays.values())


@by_dtype
@by_isa
def test_sums_of_rows(isa, dtype):
    for rows, columns in BLOCKS:
        x, dy = values("x", (rows, columns), dtype), values("dy", (rows, columns), dtype)
        mean = values("mmm", columns, dtype)
        d = x.astype(np.float64) - mean
        scale, shift = values("cccc", columns, dtype), values("ccccc", columns, dtype)
        passed = dy * (d * scale + shift > 0)
        for name, first, second, constants in [
            ("sum_rows", x, None, {}), ("gradient_rows", dy, dy * d, {}),
            ("gradient_rows", passed, passed * d, {"scale": scale, "shift": shift}),
        ]:  # fmt: skip
            one, outer_one = guarded(columns, dtype)
            two, outer_two = guarded(columns, dtype)
            one[:] = two[:] = 1
            call(name, isa, dtype, Reduce, x=x, dy=dy, mean=mean, first=one, second=two, rows=rows, columns=columns,
                 ldx=columns, lddy=columns, **constants)  # fmt: skip
            close(one, 1 + first.sum(0, dtype=np.float64), dtype)
            close(two, 1 if second is None else 1 + second.sum(0), dtype)
            assert untouched(outer_one)
            assert untouched(outer_two)


@by_dtype
@by_isa
def test_normalisation_of_rows(isa, dtype):
    for rows, columns, by_row in product((3, 4, 9), COUNTS, (0, 1)):
        x, dy = values("x", (rows, columns), dtype), values("dy", (rows, columns), dtype)
        mean, scale, shift, slope = (values("c" * k, (rows, 1) if by_row else columns, dtype) for k in (3, 4, 5, 6))
        d = x.astype(np.float64) - mean
        z = d * scale + shift
        for name, options, wanted in [
            ("normalise_rows", {}, z), ("normalise_rows", {"relu": 1}, np.maximum(z, 0)),
            ("normalise_rows", {"dy": dy}, z + dy), ("normalise_rows", {"dy": dy, "relu": 1}, np.maximum(z + dy, 0)),
            ("normalise_gradient_rows", {"dy": dy}, dy * scale - (shift + d * slope)),
            ("normalise_gradient_rows", {"dy": dy, "bias": shift}, dy * (z > 0) * scale - (shift + d * slope)),
            ("normalise_gradient_rows", {"dy": dy, "residual": x, "ldr": columns}, dy * scale - shift - d * slope + x),
        ]:  # fmt: skip
            y, outer = guarded((rows, columns), dtype)
            call(name, isa, dtype, Normalise, y=y, x=x, mean=mean, scale=scale, shift=shift, slope=slope, rows=rows,
                 columns=columns, ldy=columns, ldx=columns, lddy=columns, by_row=by_row, **options)  # fmt: skip
            close(y, wanted, dtype)
            assert untouched(outer)


@by_dtype
@by_isa
def test_storing_normalised_rows_past_the_caches_changes_nothing(isa, dtype):
    for rows, columns in ((5, 64), (3, 320), (3, 2048)):
        memory = np.zeros(rows * columns * dtype().itemsize + 64, np.uint8)
        start = -memory.ctypes.data % 64
        y = memory[start : start + rows * columns * dtype().itemsize].view(dtype).reshape(rows, columns)
        x, dy = values("x", (rows, columns), dtype), values("dy", (rows, columns), dtype)
        mean, scale, shift, slope = (values("c" * k, columns, dtype) for k in (3, 4, 5, 6))
        for name, residual in (("normalise_rows", None), ("normalise_gradient_rows", None),
                               ("normalise_gradient_rows", x)):  # fmt: skip
            results = []
            for stream in (0, 1, 2):
                y[...] = 7
                call(name, isa, dtype, Normalise, y=y, x=x, dy=dy, mean=mean, scale=scale, shift=shift, slope=slope,
                     rows=rows, columns=columns, ldy=columns, ldx=columns, lddy=columns, stream=stream,
                     residual=residual, ldr=columns)  # fmt: skip
                results.append(y.copy())
            for result in results[1:]:
                np.testing.assert_array_equal(results[0], result)


@by_dtype
@by_isa
def test_optimiser_steps(isa, dtype):
    for count in COUNTS:
        (p, outer), (m, outer_m), (v, outer_v) = (guarded(count, dtype) for _ in range(3))
        p[:], m[:], v[:] = values("p", count, dtype), values("mm", count, dtype), values("vvv", count, dtype, 0.5)
        g = values("gggg", count, dtype)
        wide = [a.astype(np.float64) for a in (p, g, m, v)]
        call("sgd_step", isa, dtype, Step, p=p, g=g, first=m, count=count, lr=0.1, weight_decay=0.5, momentum=0.5,
             dampening=0.25, nesterov=1)  # fmt: skip
        decayed = wide[1] + 0.5 * wide[0]
        buffer = 0.5 * wide[2] + 0.75 * decayed
        close(m, buffer, dtype)
        close(p, wide[0] - 0.1 * (decayed + 0.5 * buffer), dtype)
        wide = [a.astype(np.float64) for a in (p, g, m, v)]
        call("adam_step", isa, dtype, Step, p=p, g=g, first=m, second=v, count=count, lr=0.1, beta1=0.75, beta2=0.5,
             eps=0.125, correction=0.5, shrink=0.875)  # fmt: skip
        mean, square = 0.75 * wide[2] + 0.25 * wide[1], 0.5 * wide[3] + 0.5 * wide[1] ** 2
        close(m, mean, dtype)
        close(v, square, dtype)
        close(p, 0.875 * wide[0] - 0.1 * mean / (np.sqrt(square) / 0.5 + 0.125), dtype)
        assert untouched(outer)
        assert untouched(outer_m)
        assert untouched(outer_v)
