"""Winograd's algorithm: all forms and directions against the reference, its bound on rounding, its rule, equal bits."""

from itertools import pairwise

import numpy as np
import pytest
from fastconv.backends.cpu.conv_backward_input import conv_backward_input
from fastconv.backends.cpu.conv_backward_weight import conv_backward_weight
from fastconv.backends.cpu.conv_forward import conv_forward
from layouts import LAYOUTS
from oracle import relative_error

import fastconv
from fastconv import backends, nn
from fastconv import functional as F
from fastconv.backends.cpu import plan, runtime, unit_plan, winograd_rule
from fastconv.backends.reference import conv as reference
from fastconv.errors import ArgumentError
from fastconv.functional.explain import explain
from fastconv.geometry import conv_geometry, pool_geometry

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")


@pytest.fixture(autouse=True)
def restore_threads():
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


def geometry_of(x, w, **options):
    return conv_geometry("conv3d", 3, x, w, **options)


def arrays_for(geometry, rng, dtype):
    x, w = rng.standard_normal(geometry.input_shape), rng.standard_normal(geometry.weight_shape)
    dy, b = rng.standard_normal(geometry.output_shape), rng.standard_normal(geometry.oc)
    return [a.astype(dtype) for a in (x, w, dy, b)]


def errors(geometry, arrays, layout=lambda a: a):
    """The relative RMS errors of all directions, the adjoint apart from the convolution of the gradient."""
    x, w, dy, b = arrays
    form = winograd_rule.form_of(geometry).code
    exact = [a.astype(np.float64) for a in arrays]
    y64 = reference.conv_forward(exact[0], exact[1], exact[3], geometry)
    dx64 = reference.conv_backward_input(exact[2], exact[1], None, geometry)
    dw64 = reference.conv_backward_weight(exact[2], exact[0], geometry)
    found = {
        "forward": relative_error(conv_forward(layout(x), layout(w), b, geometry, winograd=form), y64),
        "input": relative_error(conv_backward_input(layout(dy), layout(w), None, geometry, winograd=form), dx64),
        "weight": relative_error(conv_backward_weight(layout(dy), layout(x), geometry, winograd=form), dw64),
    }
    if geometry.stride[1] == 1:
        dx = conv_backward_input(layout(dy), layout(w), None, geometry, winograd=form, adjoint=True)
        found["adjoint"] = relative_error(dx, dx64)
        dx = conv_backward_input(layout(dy), layout(w), None, geometry, winograd=form, adjoint=True, planes=True)
        found["adjoint by planes"] = relative_error(dx, dx64)
    return found


@st.composite
def problems(draw):
    kernel, step = draw(st.sampled_from(((3, 1), (5, 1), (3, 2))))
    groups = draw(st.sampled_from((1, 1, 2)))
    ic, oc = (groups * draw(st.integers(1, 37)) for _ in range(2))
    padding = draw(st.integers(0, kernel)), draw(st.integers(0, kernel))
    sizes = [draw(st.integers(max(1, kernel - 2 * p), 10 + 7 * step)) for p in padding]
    kd, depth = draw(st.sampled_from(((1, 1), (1, 3), (2, 4), (3, 5))))
    options = {
        "padding": (draw(st.integers(0, kd - 1)), *padding),
        "stride": (draw(st.integers(1, 2)), step, step),
        "dilation": (draw(st.integers(1, 2)) if depth > 2 * (kd - 1) else 1, 1, 1),
        "groups": groups,
    }
    n = draw(st.integers(0, 3))
    return geometry_of((n, ic, depth, *sizes), (oc, ic // groups, kd, kernel, kernel), **options)


# Every other depth of the input gradient sees no tap, and one channel has no others to be packed with.
@hypothesis.example(geometry=geometry_of((1, 3, 3, 9, 9), (1, 3, 1, 3, 3), stride=(2, 1, 1)), layout="inner", threads=1)
@hypothesis.given(geometry=problems(), layout=st.sampled_from(sorted(LAYOUTS)), threads=st.integers(1, 2))
def test_all_directions_against_the_reference(isa, geometry, layout, threads):
    runtime.set_num_threads(threads)
    arrays = arrays_for(geometry, np.random.default_rng(1), np.float64)
    for direction, error in errors(geometry, arrays, LAYOUTS[layout]).items():
        assert error <= 2e-13, direction


@pytest.mark.parametrize("layout", ["channels_last", "inner", "wall_before_last", "wall_behind_last"])
@pytest.mark.parametrize(
    "x, w, options",
    [
        ((3, 24, 1, 67, 70), (26, 24, 1, 3, 3), {"padding": (0, 1, 0)}),
        ((1, 24, 4, 67, 70), (26, 24, 3, 3, 3), {"padding": (1, 0, 2), "stride": (2, 1, 1)}),
        ((3, 24, 1, 70, 67), (26, 24, 1, 5, 5), {"padding": (0, 2, 1)}),
        ((3, 24, 1, 67, 68), (26, 24, 1, 3, 3), {"padding": (0, 9, 11)}),  # tiles that see padding alone
        ((4, 24, 1, 101, 67), (96, 24, 1, 3, 3), {"padding": (0, 1, 0), "stride": (1, 2, 2)}),
    ],
)
def test_arrays_that_are_first_read_in_the_order_of_memory(isa, x, w, options, layout):
    """All arrays are larger than tiles.pxd's FAR, and their rows end where memory does."""
    geometry = geometry_of(x, w, **options)
    arrays = arrays_for(geometry, np.random.default_rng(2), np.float64)
    for direction, error in errors(geometry, arrays, LAYOUTS[layout]).items():
        assert error <= 2e-13, direction


@pytest.mark.parametrize(
    "x, w, options",
    [
        ((1, 200, 4, 7, 7), (130, 200, 3, 3, 3), {}),  # part after part: three blocks of channels, three depth taps
        ((1, 200, 5, 7, 7), (130, 200, 2, 3, 3), {"stride": (2, 1, 1)}),  # of which positions see one, or none
        ((2, 480, 1, 9, 9), (130, 480, 1, 3, 3), {}),
        ((1, 272, 6, 18, 18), (70, 272, 3, 3, 3), {}),  # more products than stay in the cache beside a part
        ((1, 200, 4, 14, 14), (130, 200, 3, 3, 3), {"stride": (1, 2, 2)}),
        ((1, 480, 1, 27, 9), (130, 480, 1, 3, 3), {"stride": (1, 2, 2)}),
        ((1, 200, 6, 9, 9), (130, 200, 3, 3, 3), {"padding": (0, 0, 0)}),  # ends along the depth see one tap, or two
        ((1, 256, 12, 13, 13), (130, 256, 3, 3, 3), {"padding": (0, 1, 1)}),  # a panel too large for a task
    ],
)
def test_tasks_that_transform_their_own_weights(isa, x, w, options):
    geometry = geometry_of(x, w, **{"padding": (w[2] // 2, 1, 1), **options})
    _, weights, dy, _ = arrays_for(geometry, np.random.default_rng(8), np.float32)
    exact = reference.conv_backward_input(dy.astype(np.float64), weights.astype(np.float64), None, geometry)
    results = []
    for threads in (1, 2, 3, 16):
        runtime.set_num_threads(threads)
        results.append(conv_backward_input(dy, weights, None, geometry, winograd=winograd_rule.form_of(geometry).code))
    for again in results[1:]:
        np.testing.assert_array_equal(results[0], again)
    assert relative_error(results[0], exact) < 1e-5


@pytest.mark.parametrize(
    "x, w, options",
    [
        ((1, 200, 6, 13, 13), (130, 200, 3, 3, 3), {}),
        ((3, 70, 5, 30, 11), (72, 70, 3, 3, 3), {"padding": (1, 0, 0)}),  # more planes than a chunk holds
        ((5, 132, 1, 13, 9), (132, 66, 1, 3, 3), {"groups": 2}),
        ((2, 40, 3, 34, 37), (48, 40, 2, 5, 5), {"stride": (2, 1, 1)}),
    ],
)
def test_the_adjoint_by_planes_with_any_number_of_threads(isa, x, w, options):
    geometry = geometry_of(x, w, **options)
    _, weights, dy, _ = arrays_for(geometry, np.random.default_rng(9), np.float32)
    exact = reference.conv_backward_input(dy.astype(np.float64), weights.astype(np.float64), None, geometry)
    form, results = winograd_rule.form_of(geometry).code, []
    for threads in (1, 2, 3, 16):
        runtime.set_num_threads(threads)
        results.append(conv_backward_input(dy, weights, None, geometry, winograd=form, adjoint=True, planes=True))
    for again in results[1:]:
        np.testing.assert_array_equal(results[0], again)
    assert relative_error(results[0], exact) < 1e-5


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize(
    "x, w, groups, stride",
    [
        ((2, 70, 1, 66, 66), (65, 70, 1, 3, 3), 1, 1),  # more tiles than a chunk holds
        ((1, 66, 4, 34, 34), (70, 66, 3, 3, 3), 1, 1),
        ((1, 132, 1, 70, 66), (130, 66, 1, 3, 3), 2, 1),
        ((2, 66, 1, 50, 50), (70, 66, 1, 5, 5), 1, 1),
        ((3, 70, 1, 92, 94), (165, 70, 1, 3, 3), 1, 2),
        ((1, 132, 4, 46, 61), (130, 66, 3, 3, 3), 2, 2),
        ((2, 24, 5, 18, 21), (66, 24, 3, 3, 3), 1, 1),  # vectors along the gradient's channels
        ((1, 34, 4, 46, 61), (128, 17, 3, 3, 3), 2, 2),
    ],
)
def test_weight_gradients_in_panels(isa, x, w, groups, stride, threads):
    runtime.set_num_threads(threads)
    padding = w[2] // 2, w[3] // 2, w[4] // 2
    geometry = geometry_of(x, w, groups=groups, padding=padding, stride=(1, stride, stride))
    arrays = arrays_for(geometry, np.random.default_rng(4), np.float64)
    exact = reference.conv_backward_weight(arrays[2], arrays[0], geometry)
    ours = conv_backward_weight(arrays[2], arrays[0], geometry, winograd=winograd_rule.form_of(geometry).code)
    assert relative_error(ours, exact) <= 2e-13


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "x, w",
    [
        ((2, 64, 1, 30, 30), (70, 64, 1, 3, 3)),
        ((1, 1024, 1, 8, 8), (1024, 1024, 1, 3, 3)),  # weights that threads share
        ((1, 4096, 1, 8, 8), (16, 4096, 1, 3, 3)),  # as many terms as the rule allows
        ((1, 16, 1, 8, 8), (4096, 16, 1, 3, 3)),
        ((2, 96, 1, 66, 66), (104, 96, 1, 3, 3)),  # weights that each thread reads
        ((2, 24, 1, 130, 130), (24, 24, 1, 3, 3)),  # many tiles for a weight gradient
        ((2, 32, 6, 12, 12), (32, 32, 3, 3, 3)),
        ((1, 256, 1, 14, 14), (256, 256, 1, 5, 5)),
        ((2, 16, 1, 130, 130), (16, 16, 1, 5, 5)),
        ((3, 512, 1, 7, 7), (512, 512, 1, 3, 3)),  # short tiles: of an image,
        ((1, 1024, 1, 13, 14), (1024, 1024, 1, 3, 3)),  # in parts of a chunk that threads share,
        ((2, 64, 6, 13, 9), (64, 64, 3, 3, 3)),  # for runs of depth positions,
        ((1, 24, 1, 141, 139), (24, 24, 1, 3, 3)),  # in the last of some chunks
    ],
)
def test_rounding_stays_below_the_bound(x, w, stride):
    """Unit variance, float32, the widest instruction set: a relative RMS error under 1e-5, as the rule promises."""
    if (w[3], stride) not in winograd_rule.FORMS:
        pytest.skip(f"{w[3]}x{w[4]} at stride {stride}")
    x = (*x[:3], stride * x[3], stride * x[4])
    geometry = geometry_of(x, w, padding=(w[2] // 2, w[3] // 2, w[4] // 2), stride=(1, stride, stride))
    for verb in VERBS:
        assert winograd_rule.declines(verb, geometry, 4) is None or stride > 1
    for direction, error in errors(geometry, arrays_for(geometry, np.random.default_rng(2), np.float32)).items():
        assert 0 < error < 1e-5, direction


@pytest.mark.parametrize(
    "x, w, options",
    [
        ((5, 32, 1, 12, 12), (64, 32, 1, 5, 5), {}),
        ((5, 24, 1, 19, 23), (40, 24, 1, 3, 3), {"padding": (0, 1, 1)}),
        ((3, 192, 1, 14, 14), (192, 192, 1, 3, 3), {"padding": (0, 1, 1)}),
        ((3, 16, 6, 18, 16), (16, 16, 3, 3, 3), {"padding": 1}),
        ((5, 16, 16, 14, 14), (48, 16, 3, 3, 3), {"padding": 1}),  # more chunks of a weight gradient than parts
        ((2, 24, 6, 19, 16), (64, 24, 3, 3, 3), {"padding": 1}),
        ((2, 96, 1, 66, 66), (104, 96, 1, 3, 3), {"padding": (0, 1, 1)}),  # several chunks of a large weight gradient
        ((2, 66, 4, 34, 34), (66, 66, 3, 3, 3), {"padding": 1}),
        ((2, 192, 1, 30, 30), (208, 96, 1, 3, 3), {"padding": (0, 1, 1), "groups": 2}),
        ((2, 256, 1, 26, 26), (256, 256, 1, 3, 3), {"padding": (0, 1, 1)}),  # several chunks that threads share
        ((2, 256, 1, 25, 27), (256, 256, 1, 3, 3), {"padding": (0, 1, 1)}),  # with short tiles
        ((5, 80, 1, 38, 46), (88, 80, 1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 2)}),
        ((3, 192, 1, 28, 28), (192, 192, 1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 2)}),
        ((3, 80, 6, 32, 36), (72, 80, 3, 3, 3), {"padding": 1, "stride": 2}),
        ((2, 256, 1, 70, 54), (256, 256, 1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 2)}),
    ],
)
def test_equal_bits_on_any_threads_and_anywhere_in_a_batch(isa, x, w, options):
    geometry = geometry_of(x, w, **options)
    one = geometry_of((1, *x[1:]), w, **options)
    arrays = arrays_for(geometry, np.random.default_rng(3), np.float32)
    x, w, dy, b = arrays
    operands = {"conv_forward": (x, w, b), "conv_backward_input": (dy, w, None), "conv_backward_weight": (dy, x)}
    for verb, given in operands.items():
        assert winograd_rule.declines(verb, geometry, 4) is None
        results = []
        for threads in (1, 2, 3, 16):  # for 16 threads there are too few tiles to work on chunks of their own
            runtime.set_num_threads(threads)
            results.append(plan.choose(verb, geometry, 4)(*given, geometry))
        for other in results[1:]:
            np.testing.assert_array_equal(results[0], other)
        if verb != "conv_backward_weight":
            alone = plan.choose(verb, one, 4)(given[0][-1:], *given[1:], one)
            np.testing.assert_array_equal(alone[0], results[0][-1])


def test_short_tiles_leave_out_a_point():
    """n outputs along an axis need n + kernel - 1 points a tile, of tiles that share them out."""
    for form in winograd_rule.FORMS.values():
        for size in range(1, 40):
            tiles = -(-size // form.m)
            least = size + tiles * (form.kernel - 1)  # what tiles of just the outputs there are would take
            cut = form.stride * min(tiles, tiles * form.m - size)
            least = 2 * size + tiles if form.stride > 1 else least
            assert form.points(size) == tiles * form.side - cut >= least
            assert form.points(size) == least or size in (1, 2, 5)
            edges = form.edges(size)
            assert (len(edges), edges[0], edges[-1]) == (tiles + 1, 0, size)
            assert all(0 < after - before <= form.m for before, after in pairwise(edges))
            for first in range(tiles):  # a window of whole tiles is cut into the same ones
                for last in range(first + 1, tiles + 1):
                    part = form.edges(edges[last] - edges[first])
                    assert [edges[first] + edge for edge in part] == edges[first : last + 1]
    assert [winograd_rule.FORMS[3, 1].points(size) for size in (7, 8, 13, 14)] == [11, 12, 21, 22]


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_edges_of_an_input_gradient_at_stride_2(padding):
    """Tiles begin at odd places of the padded input, and a window of whole tiles is cut into the same ones."""
    for size in range(1, 60):
        edges = winograd_rule.turned_edges(size, padding)
        assert (edges[0], edges[-1]) == (0, size)
        assert all(0 < after - before <= 8 for before, after in pairwise(edges))
        assert all((edge + padding) % 2 for edge in edges[1:-1])
        for first in range(len(edges) - 1):
            inner = padding if first == 0 else padding + edges[first]
            part = winograd_rule.turned_edges(edges[-1] - edges[first], inner)
            assert [edges[first] + edge for edge in part] == edges[first:]


def test_the_rule_sees_neither_batch_nor_threads():
    for n in (0, 1, 7, 512):
        geometry = geometry_of((n, 64, 1, 28, 28), (64, 64, 1, 3, 3), padding=(0, 1, 1))
        assert winograd_rule.declines("conv_forward", geometry, 4) is None


@pytest.mark.parametrize("n, columns", [(37, 64), (9, 24), (7, 64), (8, 200)])  # many chunks, one a part, one part
def test_gradients_of_a_unit_in_parts_of_the_batch(isa, n, columns):
    geometry = conv_geometry("conv2d", 2, (n, 32, 12, 12), (columns, 32, 5, 5))
    pool = pool_geometry("pool", 2, (n, columns, 8, 8), 2)
    x, w, _, b = arrays_for(geometry, np.random.default_rng(5), np.float32)
    dy = np.random.default_rng(6).standard_normal(pool.output_shape).astype(np.float32)
    cpu, wanted = backends.get("cpu"), backends.get("reference")
    index = cpu.conv_act_pool_forward(x, w, b, geometry, "relu", pool)[1]
    exact = [a.astype(np.float64) for a in (dy, x, w)]
    expected = wanted.conv_act_pool_backward(exact[0], index, *exact[1:], geometry, pool, (True, True, True))
    results = []
    for threads in (1, 2, 3, 16):
        runtime.set_num_threads(threads)
        results.append(cpu.conv_act_pool_backward(dy, index, x, w, geometry, pool, (True, True, True)))
    for value, again in zip(results[0] * 3, results[1] + results[2] + results[3], strict=True):
        np.testing.assert_array_equal(value, again)
    for value, exactly in zip(results[0], expected, strict=True):
        assert relative_error(value, exactly) < 1e-5


@pytest.mark.parametrize("n, weight", [(1, "live"), (2, "winograd"), (64, "winograd")])
def test_few_tiles_of_a_unit_change_its_weight_gradient_alone(n, weight):
    geometry = conv_geometry("conv2d", 2, (n, 32, 12, 12), (64, 32, 5, 5))
    verbs = {"forward": "winograd", "backward, input": "winograd", "backward, weight": weight}
    pool = pool_geometry("pool", 2, (n, 64, 8, 8), 2)
    for verb, way in verbs.items():
        assert unit_plan.choose(f"conv_act_pool_{verb}", geometry, pool, 4) == way


@pytest.mark.parametrize(
    "x, w, options, itemsize, reason",
    [
        ((1, 32, 1, 16, 16), (32, 32, 1, 3, 3), {"exact": True}, 4, "exact"),
        ((1, 32, 1, 16, 16), (32, 32, 1, 3, 3), {}, 8, "float64"),
        ((1, 32, 1, 16, 16), (32, 32, 1, 3, 5), {}, 4, "kernel 3x5"),
        ((1, 32, 1, 16, 16), (32, 32, 1, 1, 1), {}, 4, "kernel 1x1"),
        ((1, 32, 1, 16, 16), (32, 32, 1, 3, 3), {"stride": (1, 1, 2)}, 4, "stride"),
        ((1, 32, 1, 32, 32), (32, 32, 1, 3, 3), {"stride": (1, 3, 3)}, 4, "stride"),
        ((1, 32, 1, 32, 32), (32, 32, 1, 5, 5), {"stride": (1, 2, 2)}, 4, "stride"),
        ((1, 64, 1, 64, 64), (64, 64, 1, 3, 3), {"stride": (1, 2, 2), "compute": "bf16"}, 4, "bfloat16"),
        ((1, 64, 1, 64, 64), (64, 8, 1, 3, 3), {"stride": (1, 2, 2), "groups": 8}, 4, "stride 1"),
        ((1, 32, 1, 16, 16), (32, 32, 1, 3, 3), {"dilation": (1, 2, 1)}, 4, "dilation"),
        ((1, 48, 1, 16, 16), (48, 12, 1, 3, 3), {"groups": 4}, 4, "12 channels a group"),
        ((1, 300, 1, 16, 16), (32, 300, 1, 5, 5), {}, 4, "300 terms"),
        ((1, 64, 1, 2, 2), (64, 64, 1, 3, 3), {"padding": (0, 1, 1)}, 4, "no fewer products"),
    ],
)
def test_where_it_declines(x, w, options, itemsize, reason):
    assert reason in winograd_rule.declines("conv_forward", geometry_of(x, w, **options), itemsize)


def test_the_adjoint_is_taken_where_it_has_fewer_tiles():
    assert winograd_rule.adjoint(geometry_of((1, 32, 1, 12, 12), (64, 32, 1, 5, 5)))
    assert not winograd_rule.adjoint(geometry_of((1, 32, 1, 12, 12), (64, 32, 1, 5, 5), padding=(0, 2, 2)))
    assert not winograd_rule.adjoint(geometry_of((1, 512, 1, 16, 16), (512, 512, 1, 3, 3)))  # too large an image


def test_the_adjoint_is_taken_by_planes_where_it_has_fewer_points():
    large = (1, 256, 12, 13, 13), (256, 256, 3, 3, 3)
    assert winograd_rule.adjoint_by_planes(geometry_of(*large))
    assert not winograd_rule.adjoint_by_planes(geometry_of(*large, padding=(0, 1, 1)))
    assert not winograd_rule.adjoint_by_planes(geometry_of((1, 32, 1, 12, 12), (64, 32, 1, 5, 5)))  # by images
    assert not winograd_rule.adjoint_by_planes(geometry_of((1, 256, 12, 61, 61), (256, 256, 3, 3, 3)))  # too large


def test_users_can_refuse_and_see_it():
    shapes = (2, 32, 16, 16), (32, 32, 3, 3)
    assert "winograd" in explain("conv2d", *shapes).splitlines()[0]
    assert "tiles" in explain("conv2d", *shapes, exact=True).splitlines()[0]
    assert "not winograd: exact" in explain("conv2d", *shapes, exact=True)
    rng = np.random.default_rng(4)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    direct = reference.conv_forward(*(a[:, :, None].astype(np.float64) for a in (x, w)), None, geometry_of(
        (2, 32, 1, 16, 16), (32, 32, 1, 3, 3)))[:, :, 0]  # fmt: skip
    refused, allowed = F.conv2d(x, w, exact=True), F.conv2d(x, w, exact=False)
    assert relative_error(refused, direct) < 3e-7 < relative_error(allowed, direct) < 1e-5
    layer = nn.Conv2d(32, 32, 3, bias=False, exact=True)
    layer.weight.data[...] = w
    with fastconv.no_grad():
        np.testing.assert_array_equal(layer(x), refused)
    assert "exact=True" in repr(layer)
    with pytest.raises(ArgumentError, match="conv2d: expected exact to be a bool"):
        F.conv2d(x, w, exact="yes")
