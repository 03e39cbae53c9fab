"""Winograd's filtering along rows: against the reference, its bound on rounding, its rule, equal bits."""

import numpy as np
import pytest
from fastconv.backends.cpu.conv_forward import conv_forward
from layouts import LAYOUTS
from oracle import assert_same_bits, relative_error

from fastconv.backends.cpu import plan, runtime, unit_plan, winograd_rule
from fastconv.backends.reference import conv as reference
from fastconv.geometry import conv_geometry, pool_geometry

# x, w, padding: one and many strips, panels with rests, odd rows and columns, planes, padding beyond a tile
CASES = {
    "lenet": ((5, 1, 1, 28, 28), (32, 1, 1, 5, 5), 0),
    "rests": ((2, 3, 1, 9, 15), (37, 3, 1, 5, 5), (0, 2, 2)),
    "planes": ((2, 2, 3, 8, 7), (5, 2, 1, 3, 5), (0, 1, 3)),
    "one_output": ((1, 4, 1, 5, 5), (1, 4, 1, 5, 5), 0),
    "long": ((1, 15, 1, 70, 131), (18, 15, 1, 5, 5), (0, 4, 4)),
    "rows_alone": ((2, 7, 1, 6, 40), (33, 7, 1, 1, 5), 0),
    "all_padding": ((1, 1, 1, 2, 3), (4, 1, 1, 3, 5), (0, 2, 9)),
    "empty": ((0, 3, 1, 12, 12), (4, 3, 1, 5, 5), 0),
}
by_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def restore_threads():
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


def problem(name, dtype, **options):
    x, w, padding = CASES[name]
    geometry = conv_geometry("conv3d", 3, x, w, padding=padding, **options)
    rng = np.random.default_rng(len(name))
    shapes = geometry.input_shape, geometry.weight_shape, (geometry.oc,)
    return geometry, *(rng.standard_normal(shape).astype(dtype) for shape in shapes)


@by_case
@pytest.mark.parametrize("layout", LAYOUTS)
def test_against_the_reference(isa, name, layout):
    geometry, x, w, b = problem(name, np.float64)
    expected = reference.conv_forward(x, w, b, geometry)
    change = LAYOUTS[layout]
    for threads in (1, 3):
        runtime.set_num_threads(threads)
        y = conv_forward(change(x), change(w), b, geometry, lines=True)
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    residual = np.random.default_rng(9).standard_normal(y.shape)
    ended = conv_forward(x, w, None, geometry, lines=True, residual=change(residual), activation="relu")
    wanted = np.maximum(reference.conv_forward(x, w, None, geometry) + residual, 0)
    np.testing.assert_allclose(ended, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["lenet", "rests", "long"])
def test_rounding_stays_below_the_bound(name):
    """Unit variance, float32, the widest instruction set: a relative RMS error under 1e-5."""
    geometry, x, w, b = problem(name, np.float32)
    assert winograd_rule.lines_decline(geometry, 4) is None
    exact = reference.conv_forward(*(a.astype(np.float64) for a in (x, w, b)), geometry)
    assert 0 < relative_error(conv_forward(x, w, b, geometry, lines=True), exact) < 2e-6


@pytest.mark.parametrize("name", ["lenet", "rests", "long"])
def test_equal_bits_on_any_threads_and_anywhere_in_a_batch(isa, name):
    geometry, x, w, b = problem(name, np.float32)
    alone = conv_geometry("conv3d", 3, (1, *x.shape[1:]), w.shape, padding=geometry.padding)
    runtime.set_num_threads(1)
    first = conv_forward(x, w, b, geometry, lines=True)
    for threads in (2, 3, 16):
        runtime.set_num_threads(threads)
        assert_same_bits(conv_forward(x, w, b, geometry, lines=True), first)
        assert_same_bits(conv_forward(x[-1:], w, b, alone, lines=True), first[-1:])


@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("name", ["lenet", "rests", "long"])
def test_a_unit_has_the_bits_of_its_verbs(backend, name, activation):
    geometry, x, w, b = problem(name, np.float32)
    pool = pool_geometry("pool", 3, (geometry.n, geometry.oc, *geometry.output), (1, 2, 2))
    z = backend.conv_act_forward(x, w, b, geometry, activation)
    expected, position = backend.max_pool_forward(z, pool)
    y, index = backend.conv_act_pool_forward(x, w, b, geometry, activation, pool)
    assert_same_bits(y, expected)
    assert index.shape == position.shape


def test_who_runs():
    geometry = problem("lenet", np.float32)[0]
    pool = pool_geometry("pool", 3, (5, 32, 1, 24, 24), (1, 2, 2))
    assert plan.chosen("conv_forward", geometry, 4).name == "lines"
    assert unit_plan.choose("conv_act_pool_forward", geometry, pool, 4) == "lines"
    wide = pool_geometry("pool", 3, (5, 32, 1, 24, 24), (1, 3, 3))
    assert unit_plan.choose("conv_act_pool_forward", geometry, wide, 4) == "composed"
    exact = problem("lenet", np.float32, exact=True)[0]
    assert plan.chosen("conv_forward", exact, 4).name == "tiles"
    assert unit_plan.choose("conv_act_pool_forward", exact, pool, 4) == "fused"
    assert "lines (" in plan.explain("conv_forward", geometry, "float32")


@pytest.mark.parametrize(
    "x, w, options, itemsize, reason",
    [
        ((1, 1, 1, 28, 28), (8, 1, 1, 5, 5), {"exact": True}, 4, "exact"),
        ((1, 1, 1, 28, 28), (8, 1, 1, 5, 5), {}, 8, "float64"),
        ((1, 1, 1, 28, 28), (8, 1, 1, 5, 3), {}, 4, "kernel 1x5x3"),
        ((1, 1, 5, 28, 28), (8, 1, 5, 5, 5), {}, 4, "kernel 5x5x5"),
        ((1, 1, 1, 28, 28), (8, 1, 1, 5, 5), {"stride": (1, 2, 1)}, 4, "stride"),
        ((1, 1, 1, 28, 28), (8, 1, 1, 5, 5), {"padding": (1, 0, 0)}, 4, "padding"),
        ((1, 4, 1, 28, 28), (8, 2, 1, 5, 5), {"groups": 2}, 4, "2 groups"),
        ((1, 16, 1, 28, 28), (8, 16, 1, 5, 5), {}, 4, "16 channels"),
        ((1, 1, 1, 28, 28), (8, 1, 1, 1, 5), {}, 4, "no fewer products"),
        ((1, 15, 1, 28, 4000), (8, 15, 1, 5, 5), {}, 4, "too long"),
    ],
)
def test_where_it_declines(x, w, options, itemsize, reason):
    geometry = conv_geometry("conv3d", 3, x, w, **options)
    assert reason in winograd_rule.lines_decline(geometry, itemsize)
