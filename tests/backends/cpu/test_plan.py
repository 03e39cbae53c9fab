"""Which kernel runs: the plan's rules, what explain says, and that each candidate gives the same answer."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from fastconv.backends.cpu.dispatch import lanes
from oracle import relative_error

from fastconv import backends
from fastconv.backends.cpu import plan, runtime
from fastconv.errors import ArgumentError, ShapeError
from fastconv.functional.explain import explain
from fastconv.geometry import conv_geometry

VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")
DEPTHWISE = [
    ((2, 5, 9, 8), (5, 1, 3, 3), {"padding": 1}),
    ((1, 17, 7, 7), (17, 1, 3, 2), {"stride": 2, "padding": (1, 0)}),
    ((3, 64, 5, 6), (64, 1, 5, 5), {"padding": 2, "dilation": (1, 2), "stride": (2, 1)}),
    ((0, 4, 5, 5), (4, 1, 3, 3), {}),
    ((2, 130, 1, 1), (130, 1, 1, 1), {"stride": 3}),
]


GROUPED = [
    ((2, 8, 9, 8), (8, 2, 3, 3), 4, {"padding": 1}),
    ((1, 24, 7, 7), (24, 4, 3, 2), 6, {"stride": 2, "padding": (1, 0)}),
    ((3, 12, 5, 6), (24, 1, 5, 5), 12, {"padding": 2, "dilation": (1, 2), "stride": (2, 1)}),
    ((0, 4, 5, 5), (4, 2, 3, 3), 2, {}),
    ((2, 48, 9, 15), (48, 16, 3, 3), 3, {"padding": 1, "stride": 2}),
    ((2, 512, 8, 9), (512, 16, 3, 3), 32, {"padding": 1, "stride": 2}),
    ((2, 16, 9, 8), (16, 8, 3, 3), 2, {"padding": 1, "stride": (1, 2)}),
    ((1, 16, 9, 8), (16, 4, 1, 5), 4, {"padding": (0, 2)}),
    ((2, 9, 16, 15), (12, 3, 3, 3), 3, {"padding": (0, 3), "stride": (1, 2)}),
]


def operands(verb, geometry, dtype, rng):
    x, w = rng.standard_normal(geometry.input_shape), rng.standard_normal(geometry.weight_shape)
    dy, b = rng.standard_normal(geometry.output_shape), rng.standard_normal(geometry.oc)
    chosen = {"conv_forward": (x, w, b), "conv_backward_input": (dy, w, None), "conv_backward_weight": (dy, x)}[verb]
    return [None if a is None else a.astype(dtype) for a in chosen]


def candidate(verb, name):
    return next(c for c in plan.CANDIDATES[verb] if c.name == name)


@pytest.mark.parametrize("verb", VERBS)
def test_every_list_ends_with_the_reference_which_never_declines(verb):
    geometry = conv_geometry("conv2d", 2, (1, 4, 5, 5), (4, 1, 3, 3), groups=4)
    last = plan.CANDIDATES[verb][-1]
    assert last.name == "reference"
    assert last.declines(geometry, 4) is None


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("x, w, options", DEPTHWISE)
def test_grouped_and_tiles_agree_with_the_reference(isa, verb, x, w, options):
    geometry = conv_geometry("conv2d", 2, x, w, groups=x[1], **options)
    assert plan.choose(verb, geometry, 8) is candidate(verb, "grouped").run
    arrays = operands(verb, geometry, np.float64, np.random.default_rng(1))
    expected = candidate(verb, "reference").run(*arrays, geometry)
    for name in ("grouped", "tiles"):
        actual = candidate(verb, name).run(*arrays, geometry)
        assert actual.shape == expected.shape
        assert relative_error(actual, expected) <= 1e-13, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("x, w, groups, options", GROUPED)
def test_few_channels_a_group_agree_with_the_reference(isa, verb, x, w, groups, options, dtype):
    geometry = conv_geometry("conv2d", 2, x, w, groups=groups, **options)
    itemsize = np.dtype(dtype).itemsize
    fits = 2 * (max(x[1], w[0]) // groups) <= lanes(itemsize) or x[1] == w[0] == groups * lanes(itemsize)
    run = plan.choose(verb, geometry, itemsize)
    assert run is candidate(verb, "grouped" if fits else "tiles").run
    arrays = operands(verb, geometry, dtype, np.random.default_rng(1))
    wide = [None if a is None else a.astype(np.float64) for a in arrays]
    expected = candidate(verb, "reference").run(*wide, geometry)
    actual = run(*arrays, geometry)
    assert actual.shape == expected.shape
    assert relative_error(actual, expected) <= {"float32": 1e-6, "float64": 1e-13}[dtype]


@pytest.mark.parametrize(
    "x, w, stride",
    [
        ((3, 24, 17, 30), (24, 1, 3, 3), (1, 2)),
        ((2, 24, 17, 30), (24, 1, 3, 3), 2),
        ((1, 1024, 19, 56), (1024, 1, 3, 3), 1),
        ((2, 512, 9, 9), (512, 16, 3, 3), 2),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_grouped_gives_the_same_bits_for_any_memory_order(isa, verb, x, w, stride):
    geometry = conv_geometry("conv2d", 2, x, w, groups=x[1] // w[1], padding=1, stride=stride)
    arrays = operands(verb, geometry, np.float32, np.random.default_rng(1))
    expected = plan.choose(verb, geometry, 4)(*arrays, geometry)
    last = [a if a is None or a.ndim != 5 else np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in arrays]
    np.testing.assert_array_equal(plan.choose(verb, geometry, 4)(*last, geometry), expected)


def test_channels_that_mix_are_not_depthwise():
    for w, groups in (((64, 64, 3, 3), 1), ((64, 32, 3, 3), 2)):
        geometry = conv_geometry("conv2d", 2, (1, 64, 5, 5), w, groups=groups, stride=2)
        assert plan.choose("conv_forward", geometry, 4) is candidate("conv_forward", "tiles").run


def test_explain_names_the_kernel_and_the_reason(isa):
    text = explain("conv2d", (8, 3, 32, 32), (16, 3, 3, 3), padding=1)
    assert [line.split(":")[0] for line in text.splitlines()] == list(VERBS)
    assert f"tiles ({isa}, float32, 7.078 MFLOP)" in text
    assert "not grouped: one group" in text
    assert "grouped" in explain("conv1d", (8, 3, 32), (3, 1, 3), groups=3, dtype="float64").splitlines()[0]


def test_explain_of_a_transposed_convolution_starts_with_the_input_gradient():
    lines = explain("conv_transpose2d", (1, 8, 4, 4), (8, 3, 2, 2), stride=2).splitlines()
    assert [line.split(":")[0] for line in lines] == ["conv_backward_input", "conv_forward", "conv_backward_weight"]


def test_explain_says_what_the_reference_does():
    with backends.use("reference"):
        assert "reference" in explain("conv2d", (1, 3, 8, 8), (4, 3, 3, 3))


def test_explain_refuses_what_it_cannot_explain():
    with pytest.raises(ArgumentError, match="explain: expected op to be a convolution"):
        explain("max_pool2d", (1, 3, 8, 8), (2, 2))
    with pytest.raises(ArgumentError, match="explain: expected dtype 'float32' or 'float64', got 'int8'"):
        explain("conv2d", (1, 3, 8, 8), (4, 3, 3, 3), dtype="int8")
    with pytest.raises(ShapeError, match="conv2d: expected weight"):
        explain("conv2d", (1, 4, 8, 8), (4, 3, 3, 3))


def workspace_of_all_verbs(x, w, options):
    """The bytes of workspace that a process of one thread holds after each verb has run."""
    runtime.set_num_threads(1)  # all tasks run in the thread that calls
    geometry = conv_geometry("conv3d", 3, x, w, **options)
    for verb in VERBS:
        arrays = operands(verb, geometry, np.float32, np.random.default_rng(0))
        getattr(backends.get("cpu"), verb)(*arrays, geometry)
    return runtime.workspace_bytes()


@pytest.mark.parametrize(
    "x, w, options",
    [
        ((2, 64, 1, 112, 112), (64, 64, 1, 3, 3), {"padding": (0, 1, 1)}),  # a source tile much larger than a cache
        ((1, 16, 24, 40, 40), (16, 16, 3, 3, 3), {"padding": 1}),
        ((1, 2048, 1, 7, 7), (64, 2048, 1, 3, 3), {"padding": (0, 1, 1)}),  # many channels
        ((1, 3, 1, 256, 256), (8, 3, 1, 31, 31), {}),  # many taps
        ((2, 512, 1, 30, 30), (512, 1, 1, 3, 3), {"padding": (0, 1, 1), "groups": 512}),
        ((2, 256, 1, 30, 30), (256, 4, 1, 5, 5), {"padding": (0, 2, 2), "groups": 64}),
    ],
)
def test_workspace_stays_below_four_megabytes_a_thread(x, w, options):
    """Beyond inputs, outputs and packed weights, whatever the shape: no copy of the input, no im2col array.

    In a process of its own: in this one other threads take workspaces, and return theirs as they end.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        assert 0 < process.submit(workspace_of_all_verbs, x, w, options).result() <= 4 * 2**20
