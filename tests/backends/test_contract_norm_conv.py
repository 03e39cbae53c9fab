"""Batch norm, its ReLU and a 1x1 convolution behind it as one: every backend against the verbs one by one and float64.

Forward, the moments of the result and the weight's gradient have the bits of the verbs; the other gradients add up in
another order.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

from fastconv import backends
from fastconv.geometry import conv_geometry

# x, output channels: what the compiled backend takes as one, around its tiles, register tiles and panels ...
FUSED = {
    "1d": ((3, 16, 200), 33),
    "just enough": ((2, 33, 16, 16), 64),
    "a channel": ((1, 1, 25, 21), 1),
    "few channels": ((5, 3, 11, 13), 16),
    "odd": ((1, 100, 23, 29), 130),
    "wide": ((2, 130, 18, 17), 600),
    "deep": ((2, 600, 17, 16), 100),
    "3d": ((2, 64, 5, 9, 13), 3),
    "many": ((3, 64, 41, 37), 40),
}
# ... and what it does not.
APART = {
    "one too few": ((1, 16, 7, 73), 33),
    "few, 1d": ((2, 3, 64), 1),
    "few, deep": ((2, 600, 6, 7), 64),
    "few, 3d": ((2, 33, 2, 5, 6), 100),
    "empty": ((0, 3, 32, 32), 16),
}
CASES = FUSED | APART
by_case = pytest.mark.parametrize("name", CASES)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
last = LAYOUTS["channels_last"]


def part(a):
    """Some channels of a larger array, whose others are NaN; channels side by side."""
    whole = last(np.full((a.shape[0], a.shape[1] + 7, *a.shape[2:]), np.nan, a.dtype))
    whole[:, 3:-4] = a
    return whole[:, 3:-4]


ORDERS = {"C": np.ascontiguousarray, "part": part} | LAYOUTS
ROWS = ("channels_last", "part", "wall_behind_last", "wall_before_last")  # those that are taken as one


def lift(shape):
    """(A, B, spatial) -> (A, B, D, H, W)."""
    return (*shape[:2], *(1,) * (5 - len(shape)), *shape[2:])


def rows(a):
    return a.reshape(*a.shape[:2], int(np.prod(a.shape[2:])))


def problem(name, dtype, x_shape=None, oc=None):
    """Return geometry and arrays, x never so near to the ReLU's kink that rounding decides."""
    shape, columns = CASES.get(name, (x_shape, oc))
    w_shape = (columns, shape[1], *(1,) * (len(shape) - 2))
    geometry = conv_geometry("conv", len(shape) - 2, shape, w_shape)
    c = geometry.ic
    sizes = {"x": lift(shape), "w": lift(w_shape), "dy": geometry.output_shape, "b": (geometry.oc,), "mean": (c,),
             "rstd": (c,), "weight": (c,), "bias": (c,), "residual": lift(shape)}  # fmt: skip
    p = SimpleNamespace(geometry=geometry, **{k: normal((name, k), size, dtype) for k, size in sizes.items()})
    p.rstd = np.abs(p.rstd) + p.rstd.dtype.type(0.3)
    p.weight += np.copysign(p.weight.dtype.type(0.3), p.weight)
    for weight, bias in ((p.weight, p.bias), (None, None)):
        near = np.abs(normalised(p, weight, bias)) < 1e-3
        p.x[near] += p.x.dtype.type(0.0625)
    p.norm = p.mean, p.rstd, p.weight, p.bias
    return p


def normalised(p, weight, bias):
    """(x - mean) * rstd * weight + bias in float64."""
    one = (a if a is None else a.astype("f8").reshape(-1, 1, 1, 1) for a in (p.mean, p.rstd, weight, bias))
    mean, rstd, weight, bias = one
    z = (p.x - mean) * rstd
    z = z if weight is None else z * weight
    return z if bias is None else z + bias


def expected(p, norm, b, residual=None):
    """The formulas in float64."""
    _, _, weight, bias = norm
    x, w, dy = rows(p.x).astype("f8"), p.w.astype("f8").reshape(p.w.shape[:2]), rows(p.dy).astype("f8")
    mean, rstd = (one.astype("f8")[:, None] for one in norm[:2])
    scale = rstd if weight is None else rstd * weight.astype("f8")[:, None]
    z = rows(normalised(p, weight, bias))
    a = np.maximum(z, 0)
    y = w @ a if b is None else w @ a + b[:, None]
    dz = (w.T @ dy) * (z > 0)
    dx = dz * scale if residual is None else dz * scale + rows(residual)
    return SimpleNamespace(
        y=y.reshape(p.dy.shape), dw=(dy @ a.transpose(0, 2, 1)).sum(0).reshape(p.w.shape), dx=dx.reshape(p.x.shape),
        dweight=(dz * (x - mean) * rstd).sum((0, 2)), dbias=dz.sum((0, 2)),
    )  # fmt: skip


def apart(backend, p, norm, b, lay):
    """y, its moments and dw by the verbs one after the other."""
    z = backend.batch_norm_forward(rows(lay(p.x)), *norm, "relu").reshape(p.x.shape)
    dw = backend.conv_backward_weight(lay(p.dy), z, p.geometry)
    return *backend.conv_moments_forward(z, p.w, b, p.geometry), dw


def check_forward(backend, p, norm, b, lay, wanted):
    y, *moments = backend.norm_conv_forward(lay(p.x), *norm, lay(p.w), b, p.geometry, True)
    dw = backend.norm_conv_backward_weight(lay(p.dy), lay(p.x), *norm, p.geometry)
    names = "y", "mean", "variance", "dw"
    for what, one, other in zip(names, (y, *moments, dw), apart(backend, p, norm, b, lay), strict=True):
        oracle.assert_same_bits(one, other, what)
    alone, *none = backend.norm_conv_forward(lay(p.x), *norm, lay(p.w), b, p.geometry, False)
    assert none == [None, None]
    oracle.assert_same_bits(alone, y)
    oracle.assert_close(y, wanted.y)
    oracle.assert_close(dw, wanted.dw)


def variants(p):
    """What may be there or not: of the norm, and the convolution's bias."""
    mean, rstd, weight, _ = p.norm
    return (p.norm, p.b), ((mean, rstd, None, None), None), ((mean, rstd, weight, None), p.b)


@by_dtype
@by_case
def test_forward_and_weight_gradient_have_the_bits_of_the_verbs(backend, name, dtype):
    p = problem(name, dtype)
    for norm, b in variants(p):
        check_forward(backend, p, norm, b, last, expected(p, norm, b))


@by_dtype
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["1d", "odd", "few channels", "3d", "one too few"])
def test_any_memory_order(backend, name, order, dtype):
    p, lay = problem(name, dtype), ORDERS[order]
    wanted = expected(p, p.norm, p.b, p.residual)
    constants = p.norm if order == "part" else [lay(one) for one in p.norm]
    p.norm, b = constants, p.b if order == "part" else lay(p.b)
    given = [lay(one) for one in (p.x, p.dy, p.residual)]
    before = [one.copy() for one in given]
    check_forward(backend, p, p.norm, b, lay, wanted)
    x, dy, residual = given
    found = backend.norm_conv_backward_input(dy, lay(p.w), x, *p.norm, p.geometry, residual)
    for what, one in zip(("dx", "dweight", "dbias"), found, strict=True):
        assert one.dtype == dtype
        oracle.assert_close(one, getattr(wanted, what), what=what)
    for one, copy in zip(given, before, strict=True):
        oracle.assert_same_bits(one, copy)


def check_gradients(found, wanted, dtype):
    for what, one in zip(("dx", "dweight", "dbias"), found, strict=True):
        assert one.dtype == dtype, what
        oracle.assert_close(one, getattr(wanted, what), what=what)


@by_dtype
@by_case
def test_input_gradient(backend, name, dtype):
    p = problem(name, dtype)
    dy, x = last(p.dy), last(p.x)
    for norm, _ in variants(p):
        arguments = dy, p.w, x, *norm, p.geometry
        check_gradients(backend.norm_conv_backward_input(*arguments), expected(p, norm, None), dtype)
        wanted = expected(p, norm, None, p.residual)
        for lay in (last, np.ascontiguousarray, part):
            residual = lay(p.residual)
            check_gradients(backend.norm_conv_backward_input(*arguments, residual), wanted, dtype)
            oracle.assert_same_bits(residual, p.residual)


@by_dtype
@by_case
def test_input_gradient_is_written_where_it_is_wanted_and_nowhere_else(backend, name, dtype):
    p = problem(name, dtype)
    arguments = last(p.dy), p.w, last(p.x), *p.norm, p.geometry
    alone = backend.norm_conv_backward_input(*arguments)
    total = backend.norm_conv_backward_input(*arguments, last(p.residual))
    for inner in (slice(None), slice(2, -3)):
        more = 0 if inner == slice(None) else 5
        whole = last(np.full((p.x.shape[0], p.x.shape[1] + more, *p.x.shape[2:]), 7, dtype))
        out = whole[:, inner]
        for residual, wanted in ((None, alone), (last(p.residual), total), (out, total)):
            if residual is out:
                out[...] = p.residual
            found = backend.norm_conv_backward_input(*arguments, residual, out=out)
            assert found[0] is out
            for one, other in zip(found, wanted, strict=True):
                oracle.assert_same_bits(one, other)
            out[...] = 7
            assert (whole == 7).all()


@by_dtype
def test_nan_passes_as_in_the_verbs(backend, dtype):
    p = problem("few channels", dtype)
    p.x[1, 2, 0, 3, 4] = np.nan
    x, dy = last(p.x), last(p.dy)
    y = backend.norm_conv_forward(x, *p.norm, p.w, p.b, p.geometry, False)[0]
    wanted = np.zeros(y.shape, bool)
    wanted[1, :, 0, 3, 4] = True
    np.testing.assert_array_equal(np.isnan(y), wanted)
    dx, dweight, dbias = backend.norm_conv_backward_input(dy, p.w, x, *p.norm, p.geometry)
    assert np.isfinite(dx).all()  # what is behind the gate, not what closes it
    np.testing.assert_array_equal(np.isnan(dweight), [False, False, True])
    assert np.isfinite(dbias).all()
    z = backend.batch_norm_forward(rows(x), *p.norm, "relu")
    dz = backend.relu_backward(rows(backend.conv_backward_input(dy, p.w, None, p.geometry)), z)
    verbs = backend.batch_norm_backward(dz, rows(x), *p.norm[:3], False)
    for one, other in zip((rows(dx), dweight[:2], dbias), (verbs[0], verbs[1][:2], verbs[2]), strict=True):
        oracle.assert_close(one, other.astype("f8"))


SHAPES = [(4, 3, 5), (1, 2, 7), (3, 17, 60), (16, 33, 1), (2, 100, 300), (0, 3, 4)]


@by_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "n{}_c{}_l{}".format(*shape))
def test_settling(backend, shape, dtype):
    dx, x = normal((shape, "dx"), shape, dtype), normal((shape, "x"), shape, dtype)
    constants = [normal((shape, name), shape[1:2], dtype) for name in ("mean", "slope", "shift")]
    mean, slope, shift = (one.astype("f8")[:, None] for one in constants)
    wanted = dx.astype("f8") - ((x.astype("f8") - mean) * slope + shift)
    for lay in ORDERS.values():
        for other in (lay, np.ascontiguousarray, last):
            given = lay(dx), other(x)
            found = backend.batch_norm_settle(*given, *constants)
            assert found.dtype == dtype
            oracle.assert_close(found, wanted)
            for array, before in zip(given, (dx, x), strict=True):
                oracle.assert_same_bits(array, before)
    strided = [LAYOUTS["every_other"](one) for one in constants]
    oracle.assert_close(backend.batch_norm_settle(dx, x, *strided), wanted)


def test_gradients_by_finite_differences(backend):
    p = problem("by differences", "float64", (2, 3, 16, 17), 5)

    def normaliser(x):
        mean, variance = backend.batch_norm_statistics(rows(x))
        return mean, backend.reciprocal_root(variance, 0.1)

    def forward(x, weight, bias, w):
        return backend.norm_conv_forward(last(x), *normaliser(x), weight, bias, w, None, p.geometry, False)[0]

    def backward(dy, x, weight, bias, w):
        dy, x, count = last(dy), last(x), x.size // x.shape[1]
        constants = *normaliser(x), weight, bias
        dx, dweight, dbias = backend.norm_conv_backward_input(dy, w, x, *constants, p.geometry)
        mean, rstd = constants[:2]
        line = rstd * rstd * weight * dweight / count, rstd * weight * dbias / count
        dx = backend.batch_norm_settle(rows(dx), rows(x), mean, *line).reshape(x.shape)
        return dx, dweight, dbias, backend.norm_conv_backward_weight(dy, x, *constants, p.geometry)

    oracle.gradcheck(forward, backward, (p.x, p.weight, p.bias, p.w))


# ------------------------------------------------------------------------------------- the compiled backend


def test_what_is_taken_as_one(isa):
    cpu = backends.get("cpu")
    declines = pytest.importorskip("fastconv.backends.cpu.norm_conv").declines
    for name in FUSED:
        p = problem(name, "float32")
        for order in ROWS:
            for dtype in DTYPES:
                x = ORDERS[order](p.x.astype(dtype))
                assert cpu.fuses_norm_conv(x, p.geometry), (name, order)
                assert declines(x, p.geometry) is None
    for name in APART:
        p = problem(name, "float32")
        assert declines(last(p.x), p.geometry) == "few pixels"
        assert not cpu.fuses_norm_conv(last(p.x), p.geometry)
    assert not backends.get("reference").fuses_norm_conv(x, p.geometry)


REFUSED = {
    "3x3": ({"w": (8, 16, 3, 3), "padding": 1}, "not 1x1 over all pixels"),
    "1x2": ({"w": (8, 16, 1, 2), "padding": "same"}, "not 1x1 over all pixels"),
    "strides": ({"stride": 2}, "not 1x1 over all pixels"),
    "padding": ({"padding": 1}, "not 1x1 over all pixels"),
    "strides and padding": ({"stride": 2, "padding": (12, 13)}, "not 1x1 over all pixels"),  # as many pixels as before
    "groups": ({"w": (8, 8, 1, 1), "groups": 2}, "not 1x1 over all pixels"),
    "rounded": ({"compute": "bf16"}, "rounds its operands"),
    "a sum of pieces": ({"x": (1, 2305, 24, 26), "w": (8, 2305, 1, 1)}, "channels"),
    "a gradient of pieces": ({"w": (2305, 16, 1, 1)}, "channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_taken_as_one(name):
    declines = pytest.importorskip("fastconv.backends.cpu.norm_conv").declines
    options, reason = REFUSED[name]
    shapes = [options.pop(key, usual) for key, usual in (("x", (1, 16, 24, 26)), ("w", (8, 16, 1, 1)))]
    geometry = conv_geometry("conv2d", 2, *shapes, **options)
    x = last(np.zeros(lift(shapes[0]), np.float32))
    assert declines(x, geometry) == reason
    assert not backends.get("cpu").fuses_norm_conv(x, geometry)


@pytest.mark.parametrize("order", [order for order in ORDERS if order not in ROWS])
def test_an_order_of_memory_that_is_not_taken(order):
    norm_conv = pytest.importorskip("fastconv.backends.cpu.norm_conv")
    p = problem("odd", "float32")
    assert norm_conv.declines(ORDERS[order](p.x), p.geometry) == "the order of its input's memory"
    assert norm_conv.lies_in_rows(part(p.x))
    for other in (part(p.x)[..., 1:], part(p.x)[:, ::2], part(p.x)[:, :, :, ::-1], last(p.x)[:1].repeat(2, 0)[::-1]):
        assert not norm_conv.lies_in_rows(other)


def answers(p, x, dy, residual):
    """What all three verbs say."""
    cpu = backends.get("cpu")
    assert cpu.fuses_norm_conv(x, p.geometry)
    return (
        *cpu.norm_conv_forward(x, *p.norm, p.w, p.b, p.geometry, True),
        *cpu.norm_conv_backward_input(dy, p.w, x, *p.norm, p.geometry, residual),
        cpu.norm_conv_backward_weight(dy, x, *p.norm, p.geometry),
    )


@by_dtype
@pytest.mark.parametrize("name", FUSED)
def test_threads_do_not_change_bits(isa, name, dtype):
    """Few tiles among them, whose panels are shared out."""
    runtime = pytest.importorskip("fastconv.backends.cpu.runtime")
    before, p = runtime.get_num_threads(), problem(name, dtype)
    arrays = part(p.x), last(p.dy), last(p.residual)
    try:
        results = []
        for threads in (1, 2, 3):
            runtime.set_num_threads(threads)
            results.append(answers(p, *arrays))
    finally:
        runtime.set_num_threads(before)
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            oracle.assert_same_bits(one, other)


@pytest.mark.parametrize("frozen", [True, {}], ids=["compared", "vouched_for"])
@pytest.mark.parametrize("name", ["odd", "wide", "deep"])
def test_kept_weights_change_nothing_and_serve_the_convolution_alone(isa, name, frozen):
    cpu, p = backends.get("cpu"), problem(name, "float32")
    frozen, x = dict(frozen) if isinstance(frozen, dict) else frozen, last(p.x)
    wanted = cpu.norm_conv_forward(x, *p.norm, p.w, p.b, p.geometry, True)
    z = cpu.batch_norm_forward(rows(x), *p.norm, "relu").reshape(x.shape)
    for moments in (True, False, True):
        found = cpu.norm_conv_forward(x, *p.norm, p.w, p.b, p.geometry, moments, frozen)
        for one, other in zip(found[: 3 if moments else 1], wanted, strict=False):
            oracle.assert_same_bits(one, other)
        oracle.assert_same_bits(cpu.conv_forward(z, p.w, p.b, p.geometry, frozen), wanted[0])
