"""Units of convolution, ReLU and max-pool: every backend against its own verbs one after the other, and PyTorch."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

from fastconv import backends
from fastconv.geometry import conv_geometry, pool_geometry

# rank, x, w, options of the convolution, pool: sums of many lengths, windows of every rank, rests that are dropped
CASES = {
    "lenet_c1": (2, (3, 1, 28, 28), (32, 1, 5, 5), {}, 2),
    "lenet_c3": (2, (3, 32, 12, 12), (64, 32, 5, 5), {}, 2),
    "lenet_c3_one": (2, (1, 32, 12, 12), (64, 32, 5, 5), {}, 2),
    "few_tiles": (2, (2, 17, 8, 9), (33, 17, 5, 5), {}, 2),
    "winograd_5x5_rest": (2, (3, 33, 15, 18), (49, 33, 5, 5), {"padding": (1, 0)}, 2),
    "winograd_3x3": (2, (5, 32, 10, 10), (40, 32, 3, 3), {}, 2),
    "one": (2, (1, 1, 2, 2), (1, 1, 1, 1), {}, 1),
    "1d": (1, (2, 3, 23), (5, 3, 4), {"stride": 2, "padding": 3}, 3),
    "1d_wide": (1, (2, 20, 30), (19, 20, 3), {"padding": "same"}, 2),
    "padded": (2, (2, 16, 9, 11), (17, 16, 3, 3), {"padding": 1}, 2),
    "rest": (2, (2, 7, 10, 13), (33, 7, 3, 3), {"padding": (2, 0)}, (3, 2)),
    "strided": (2, (2, 9, 17, 15), (8, 9, 3, 2), {"stride": (2, 1)}, (2, 3)),
    "dilated": (2, (2, 18, 14, 15), (10, 18, 3, 3), {"dilation": (1, 2), "padding": 2}, 2),
    "groups": (2, (2, 6, 8, 8), (9, 2, 3, 3), {"groups": 3}, 2),
    "depthwise": (2, (2, 6, 8, 8), (6, 1, 3, 3), {"groups": 6}, 2),
    "pointwise": (2, (2, 33, 6, 6), (20, 33, 1, 1), {}, 2),
    "3d": (3, (2, 5, 6, 7, 8), (6, 5, 3, 2, 3), {"padding": 1}, (2, 3, 2)),
    "many_places": (2, (1, 17, 19, 18), (3, 17, 3, 3), {}, 15),
    "far_taps": (2, (1, 300, 51, 50), (3, 300, 3, 3), {"dilation": 24, "padding": 2}, 2),  # too much for one piece
    "empty": (2, (0, 4, 8, 8), (5, 4, 3, 3), {}, 2),
}
by_case = pytest.mark.parametrize("name", CASES)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def lift(array):
    """(A, B, spatial) -> (A, B, D, H, W)."""
    return array.reshape(*array.shape[:2], *(1,) * (5 - array.ndim), *array.shape[2:])


def problem(name, dtype, n=None):
    """Return the geometries and x, w, b, dy of five axes."""
    rank, x_shape, w_shape, options, pool = CASES[name]
    x_shape = (x_shape[0] if n is None else n, *x_shape[1:])
    conv = conv_geometry("conv", rank, x_shape, w_shape, **options)
    pooling = pool_geometry("pool", rank, (conv.n, conv.oc, *conv.output[3 - rank :]), pool)
    x, w = lift(normal((name, "x"), x_shape, dtype)), lift(normal((name, "w"), w_shape, dtype))
    return conv, pooling, x, w, normal((name, "b"), (conv.oc,), dtype), normal((name, "d"), pooling.output_shape, dtype)


def apart(backend, conv, pooling, x, w, b, dy, activation="relu"):
    """Forward and the gradients by the verbs one after the other."""
    z = backend.conv_forward(x, w, b, conv)
    a = backend.relu_forward(z) if activation else z
    y, position = backend.max_pool_forward(a, pooling)
    da = backend.max_pool_backward(dy, position, pooling)
    dz = backend.relu_backward(da, a) if activation else da
    dx, dw = backend.conv_backward_input(dz, w, None, conv), backend.conv_backward_weight(dz, x, conv)
    return y, dx, dw, backend.bias_backward(dz)


def as_unit(backend, conv, pooling, x, w, b, dy, activation="relu"):
    y, index = backend.conv_act_pool_forward(x, w, b, conv, activation, pooling)
    return y, *backend.conv_act_pool_backward(dy, index, x, w, conv, pooling, (True, True, True))


def check(actual, expected):
    oracle.assert_same_bits(actual[0], expected[0], "y")
    for what, value, wanted in zip(("dx", "dw", "db"), actual[1:], expected[1:], strict=True):
        assert value.dtype == wanted.dtype, what
        oracle.assert_close(value, wanted, what=what)


@by_dtype
@pytest.mark.parametrize("activation", ["relu", None])
@by_case
def test_equals_the_verbs_one_after_the_other(backend, name, dtype, activation):
    arrays = problem(name, dtype)
    check(as_unit(backend, *arrays, activation), apart(backend, *arrays, activation))


@by_dtype
@by_case
def test_equals_torch(backend, name, dtype):
    rank, _, _, options, pool = CASES[name]
    conv, pooling, x, w, b, dy = problem(name, dtype)

    def net(t, x, w, b):
        f = t.nn.functional
        return getattr(f, f"max_pool{rank}d")(f.relu(getattr(f, f"conv{rank}d")(x, w, b, **options)), pool)

    def lower(a):
        return a.reshape(*a.shape[:2], *a.shape[5 - rank :])

    y, (dx, dw, db) = oracle.run(net, (lower(x), lower(w), b), lower(dy))
    actual = as_unit(backend, conv, pooling, x, w, b, dy)
    for what, value, wanted in zip(("y", "dx", "dw"), actual[:3], (y, dx, dw), strict=True):
        assert value.dtype == dtype, what
        oracle.assert_close(value, lift(wanted), what=what)
    oracle.assert_close(actual[3], db, what="db")


@by_case
def test_index_is_the_place_of_the_maximum(backend, name):
    conv, pooling, x, w, b, _ = problem(name, "float64")
    y, index = backend.conv_act_pool_forward(x, w, b, conv, "relu", pooling)
    expected_y, expected = backends.get("reference").conv_act_pool_forward(x, w, b, conv, "relu", pooling)
    assert (index.dtype, index.shape) == (np.uint8, y.shape)
    oracle.assert_close(y, expected_y)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(index == 255, y <= 0)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["lenet_c1", "padded", "strided", "groups", "3d"])
def test_takes_any_memory_order(backend, name, layout, dtype):
    conv, pooling, x, w, b, dy = problem(name, dtype)
    wanted = as_unit(backend, conv, pooling, x, w, b, dy)
    check(as_unit(backend, conv, pooling, *(LAYOUTS[layout](a) for a in (x, w, b, dy))), wanted)
    y, index = backend.conv_act_pool_forward(x, w, b, conv, "relu", pooling)
    gradients = backend.conv_act_pool_backward(dy, LAYOUTS[layout](index), x, w, conv, pooling, (True, True, True))
    check((y, *gradients), wanted)


@by_case
def test_without_bias(backend, name):
    conv, pooling, x, w, _, dy = problem(name, "float32")
    check(as_unit(backend, conv, pooling, x, w, None, dy), apart(backend, conv, pooling, x, w, None, dy))


@pytest.mark.parametrize("name", ["lenet_c1", "padded", "3d", "groups"])
def test_ties_go_to_the_first_place_and_negatives_nowhere(backend, name):
    conv, pooling, x, w, b, dy = problem(name, "float32")
    x[:], w[:] = 1.0, 1.0
    check(as_unit(backend, conv, pooling, x, w, b, dy), apart(backend, conv, pooling, x, w, b, dy))
    y, *gradients = as_unit(backend, conv, pooling, x, w, np.full_like(b, -1e4), dy)
    assert not y.any()
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("name", ["lenet_c1", "lenet_c3", "padded", "3d", "groups"])
def test_nan_goes_where_it_goes_in_the_verbs(backend, name, activation):
    conv, pooling, x, w, b, dy = problem(name, "float32")
    x[-1, 0, -1, 3, 3] = np.nan
    y, index = backend.conv_act_pool_forward(x, w, b, conv, activation, pooling)
    expected, *gradients = apart(backend, conv, pooling, x, w, b, dy, activation)
    oracle.assert_same_bits(y, expected)
    assert np.isnan(y).any()
    assert not np.isnan(y).all()
    db = backend.conv_act_pool_backward(dy, index, x, w, conv, pooling, (False, False, True))[2]
    oracle.assert_close(db, gradients[2])


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3])
@pytest.mark.parametrize("name", ["lenet_c1", "lenet_c3", "groups"])
def test_computes_what_is_needed(backend, name, needs):
    conv, pooling, x, w, b, dy = problem(name, "float32")
    everything = as_unit(backend, conv, pooling, x, w, b, dy)[1:]
    index = backend.conv_act_pool_forward(x, w, b, conv, "relu", pooling)[1]
    some = backend.conv_act_pool_backward(dy, index, x, w, conv, pooling, needs)
    for needed, one, other in zip(needs, some, everything, strict=True):
        assert (one is not None) == needed
        if needed:
            oracle.assert_same_bits(one, other)


@by_case
def test_writes_no_input_and_returns_new_arrays(backend, name):
    conv, pooling, *arrays = problem(name, "float32")
    before = [a.copy() for a in arrays]
    results = as_unit(backend, conv, pooling, *arrays)
    for array, copy in zip(arrays, before, strict=True):
        oracle.assert_same_bits(array, copy)
    for result in results:
        assert result.flags.writeable
        assert not any(np.shares_memory(result, a) for a in arrays)
    assert results[2].flags.c_contiguous
    assert results[3].flags.c_contiguous


@by_dtype
@by_case
def test_a_sample_does_not_know_its_batch(backend, name, dtype):
    conv, pooling, x, w, b, dy = problem(name, dtype, 6)
    together = as_unit(backend, conv, pooling, x, w, b, dy)
    conv, pooling, *_ = problem(name, dtype, 1)
    for i in (0, 3, 5):
        alone = as_unit(backend, conv, pooling, x[i : i + 1], w, b, dy[i : i + 1])
        for k, what in enumerate(("y", "dx")):
            oracle.assert_same_bits(together[k][i : i + 1], alone[k], f"sample {i} of {what}")


@by_dtype
@by_case
def test_thread_count_does_not_change_bits(isa, name, dtype):
    runtime = import_module("fastconv.backends.cpu.runtime")
    before = runtime.get_num_threads()
    arrays = problem(name, dtype, 9)
    try:
        results = []
        for threads in (1, 2, 4, 4):
            runtime.set_num_threads(threads)
            results.append(as_unit(backends.get("cpu"), *arrays))
    finally:
        runtime.set_num_threads(before)
    for other in results[1:]:
        for value, again in zip(results[0], other, strict=True):
            oracle.assert_same_bits(value, again)


@by_dtype
@pytest.mark.parametrize("name", ["padded", "groups", "1d"])
def test_without_a_pool(backend, name, dtype):
    conv, _, x, w, b, _ = problem(name, dtype)
    z = backend.conv_forward(x, w, b, conv)
    oracle.assert_same_bits(backend.conv_act_forward(x, w, b, conv, None), z)
    oracle.assert_same_bits(backend.conv_act_forward(x, w, b, conv, "relu"), backend.relu_forward(z))


@pytest.mark.parametrize("name", ["1d", "padded", "3d", "groups", "pointwise"])
def test_finite_differences(backend, name):
    conv, pooling, x, w, b, _ = problem(name, "float64")

    def forward(x, w, b):
        return backend.conv_act_pool_forward(x, w, b, conv, "relu", pooling)[0]

    def backward(dy, x, w, b):
        index = backend.conv_act_pool_forward(x, w, b, conv, "relu", pooling)[1]
        return backend.conv_act_pool_backward(dy, index, x, w, conv, pooling, (True, True, True))

    oracle.gradcheck(forward, backward, (x, w, b))


def test_explain_unit_names_the_verbs(backend):
    conv, pooling, *_ = problem("lenet_c3", "float32")
    text = backend.explain_unit(conv, pooling, "float32")
    assert "conv_act_pool_forward" in text
    assert "conv_act_pool_backward" in text
