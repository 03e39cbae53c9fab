"""Few channels a group by Winograd's algorithm: all directions against the reference, rounding, rule, equal bits."""

import numpy as np
import pytest
from fastconv.backends.cpu.conv_backward_input import conv_backward_input
from fastconv.backends.cpu.conv_backward_weight import conv_backward_weight
from fastconv.backends.cpu.conv_forward import conv_forward
from fastconv.backends.cpu.dispatch import lanes
from layouts import LAYOUTS
from oracle import relative_error

from fastconv import functional as F
from fastconv.backends.cpu import plan, runtime, winograd_rule
from fastconv.backends.reference import conv as reference
from fastconv.geometry import conv_geometry

VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")
CASES = [
    ((2, 8, 1, 9, 8), (8, 2, 1, 3, 3), 4, {"padding": (0, 1, 1)}),
    ((3, 24, 1, 14, 13), (24, 4, 1, 3, 3), 6, {"padding": (0, 1, 1)}),  # a short last block
    ((2, 32, 1, 7, 30), (32, 8, 1, 3, 3), 4, {}),
    ((1, 24, 1, 5, 5), (24, 8, 1, 3, 3), 3, {"padding": (0, 2, 0)}),
    ((2, 9, 1, 6, 7), (12, 3, 1, 3, 3), 3, {"padding": (0, 0, 3)}),
    ((2, 12, 5, 6, 6), (6, 2, 1, 3, 3), 6, {"padding": (0, 1, 1), "stride": (2, 1, 1)}),
    ((2, 8, 3, 6, 6), (8, 2, 1, 3, 3), 4, {"padding": (1, 1, 1)}),  # planes of padding
    ((2, 5, 1, 9, 9), (5, 1, 1, 3, 3), 5, {"padding": (0, 1, 1)}),
    ((2, 48, 1, 9, 10), (48, 16, 1, 3, 3), 3, {"padding": (0, 1, 1)}),
    ((0, 8, 1, 6, 6), (8, 2, 1, 3, 3), 4, {}),
    ((9, 16, 1, 33, 34), (16, 4, 1, 3, 3), 4, {"padding": (0, 1, 1)}),  # several pieces of several parts
    ((4, 44, 1, 47, 54), (44, 4, 1, 3, 3), 11, {"padding": (0, 1, 0)}),  # units of all blocks, read in order
    ((4, 44, 1, 49, 52), (44, 4, 1, 3, 3), 11, {"padding": (0, 0, 8)}),  # of which some see padding alone
]


@pytest.fixture(autouse=True)
def restore_threads():
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


def arrays_for(geometry, dtype):
    rng = np.random.default_rng(1)
    shapes = geometry.input_shape, geometry.weight_shape, geometry.output_shape, (geometry.oc,), (geometry.ic,)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("x, w, groups, options", CASES)
def test_all_directions_against_the_reference(isa, x, w, groups, options, layout):
    geometry = conv_geometry("conv3d", 3, x, w, groups=groups, **options)
    if not winograd_rule.in_squares(geometry, 8):
        pytest.skip("groups wider than this instruction set's vectors")
    x, w, dy, b, c = arrays_for(geometry, np.float64)
    order = LAYOUTS[layout]
    way = {"lanes": True, "winograd": 0}
    y = conv_forward(order(x), order(w), order(b), geometry, activation="relu", **way)
    assert relative_error(y, np.maximum(reference.conv_forward(x, w, b, geometry), 0)) <= 2e-13
    dx = conv_backward_input(order(dy), order(w), order(c), geometry, **way)
    assert relative_error(dx, reference.conv_backward_input(dy, w, c, geometry)) <= 2e-13
    dw = conv_backward_weight(order(dy), order(x), geometry, **way)
    assert relative_error(dw, reference.conv_backward_weight(dy, x, geometry)) <= 2e-13


def squares(groups, depth, *plane, n=3, **options):
    """The geometry of a layer with ``depth`` channels a group in and out."""
    channels = groups * depth
    shapes = (n, channels, *plane), (channels, depth, 3, 3)
    return conv_geometry("conv2d", 2, *shapes, groups=groups, padding=1, **options)


@pytest.mark.parametrize(
    "groups, depth, plane", [(32, 8, (28, 28)), (3, 8, (13, 18)), (6, 4, (56, 56)), (3, 16, (14, 14))]
)
def test_equal_bits_on_any_threads_in_any_order_and_anywhere_in_a_batch(isa, groups, depth, plane):
    geometry = squares(groups, depth, *plane)
    if not winograd_rule.in_squares(geometry):
        pytest.skip("groups wider than this instruction set's vectors")
    x, w, dy, b, _ = arrays_for(geometry, np.float32)
    way = {"lanes": True, "winograd": 0}

    def all_directions(order, part=np.s_[:]):
        g = squares(groups, depth, *plane, n=len(x[part]))
        yield conv_forward(order(x[part]), w, b, g, **way)
        yield conv_backward_input(order(dy[part]), w, None, g, **way)
        if part == np.s_[:]:
            yield conv_backward_weight(order(dy), order(x), g, **way)

    expected = list(all_directions(LAYOUTS["channels_last"]))
    for threads in (1, 2, 3):
        runtime.set_num_threads(threads)
        for layout in sorted(LAYOUTS):
            for one, other in zip(all_directions(LAYOUTS[layout]), expected, strict=True):
                np.testing.assert_array_equal(one, other)
    for one, other in zip(all_directions(LAYOUTS["channels_last"], np.s_[-1:]), expected[:2], strict=True):
        np.testing.assert_array_equal(one[0], other[-1])


@pytest.mark.parametrize(
    "groups, depth, plane", [(32, 8, (28, 28)), (32, 16, (14, 14)), (4, 32, (7, 7)), (2, 8, (128, 128))]
)
def test_rounding_stays_below_the_bound(groups, depth, plane):
    geometry = squares(groups, depth, *plane)
    if not winograd_rule.in_squares(geometry):
        pytest.skip("groups wider than this instruction set's vectors")
    x, w, dy, b, _ = arrays_for(geometry, np.float32)
    given = {"conv_forward": (x, w, b), "conv_backward_input": (dy, w, None), "conv_backward_weight": (dy, x)}
    for verb in VERBS:
        assert plan.chosen(verb, geometry, 4).name == "winograd"
        assert plan.chosen(verb, squares(groups, depth, *plane, exact=True), 4).name in ("grouped", "tiles")
        exact = [None if a is None else a.astype(np.float64) for a in given[verb]]
        expected = getattr(reference, verb)(*exact, geometry)
        assert 0 < relative_error(plan.choose(verb, geometry, 4)(*given[verb], geometry), expected) < 1e-5, verb


@pytest.mark.parametrize("depth, plane, options, name", [
    (4, (56, 56), {"padding": 1}, "grouped"),  # transforms cost more than they save
    (8, (6, 6), {}, "grouped"),
    (8, (28, 28), {"padding": 1, "stride": 2}, "grouped"),
])  # fmt: skip
def test_where_it_declines(depth, plane, options, name):
    if lanes(4) < depth:
        pytest.skip("groups wider than this instruction set's vectors")
    geometry = conv_geometry("conv2d", 2, (1, 16 * depth, *plane), (16 * depth, depth, 3, 3), groups=16, **options)
    assert plan.chosen("conv_forward", geometry, 4).name == name


def test_kept_weights_follow_the_weights():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 64, 28, 28)).astype(np.float32)
    w = rng.standard_normal((64, 8, 3, 3)).astype(np.float32)
    for _ in range(4):
        expected = F.conv2d(x, w, padding=1, groups=8, exact=True)
        for _again in range(3):
            assert relative_error(F.conv2d(x, w, padding=1, groups=8), expected) < 1e-5
        w *= -1.5
