"""The compute mode bf16: which numbers are multiplied, that their products are summed in float32, and the same bits.

What runs in bfloat16 is compared with float64 products of operands that PyTorch has rounded, under the bound of
float32: so the rounding of the operands is the only one of bfloat16.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import oracle
import pytest
from cases import CONV_CASES
from layouts import LAYOUTS, normal

import fastconv
from fastconv import backends, explain, nn
from fastconv import functional as F
from fastconv.backends.cpu import runtime
from fastconv.errors import ArgumentError
from fastconv.geometry import conv_geometry

VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")
SHAPES = [  # around vectors, panels, chunks and pairs; odd channels, strides, padding, dilation, groups, volumes
    conv_geometry(f"conv{len(x) - 2}d", len(x) - 2, x, w, **options, exact=True, compute="bf16")
    for x, w, options in [
        ((2, 4, 5, 6), (4, 4, 1, 1), {}),
        ((2, 33, 9, 11), (47, 33, 3, 3), {"padding": 1}),
        ((3, 16, 8, 8), (64, 16, 3, 3), {"padding": 1, "stride": 2}),
        ((2, 3, 7, 7), (6, 3, 5, 5), {"padding": 2}),
        ((2, 11, 9, 8), (9, 11, 3, 3), {"padding": 1}),
        ((1, 20, 9, 8), (40, 10, 3, 3), {"padding": 2, "dilation": 2, "groups": 2}),
        ((20, 130, 5, 6), (70, 130, 1, 1), {"stride": 2}),
        ((1, 1300, 4, 4), (70, 1300, 2, 2), {}),
        ((1, 2500, 2, 2), (5, 2500, 1, 1), {}),
        ((2, 6, 40), (36, 6, 4), {"padding": 3}),
        ((1, 17, 5, 6, 7), (19, 17, 3, 1, 2), {"padding": (1, 0, 1)}),
    ]
] + [replace(case.geometry, compute="bf16", exact=True) for case in CONV_CASES]
by_geometry = pytest.mark.parametrize("geometry", SHAPES, ids=lambda g: f"{g.input_shape}-{g.weight_shape}")


@pytest.fixture(autouse=True)
def restore_threads():
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


def rounded(a: np.ndarray) -> np.ndarray:
    return oracle.torch().from_numpy(np.array(a)).bfloat16().double().numpy()


def problem(geometry, dtype="float32"):
    """Return x, w, b and dy."""
    shapes = geometry.input_shape, geometry.weight_shape, (geometry.oc,), geometry.output_shape
    return tuple(normal((str(geometry), name), shape, dtype) for name, shape in zip("xwbd", shapes, strict=True))


def results(backend, geometry, x, w, b, dy):
    return {
        "conv_forward": backend.conv_forward(x, w, b, geometry),
        "conv_backward_input": backend.conv_backward_input(dy, w, None, geometry),
        "conv_backward_weight": backend.conv_backward_weight(dy, x, geometry),
    }


def rounds(backend, verb, geometry):
    line = backend.explain(verb, geometry, "float32")
    return line.startswith((f"{verb}: bf16", f"{verb}: reference"))


def expected(backend, geometry, x, w, b, dy):
    """Products in float64 of what is multiplied: rounded operands, or the operands themselves."""
    exact = replace(geometry, compute="float32")
    reference = backends.get("reference")
    kinds = [results(reference, exact, *(f(a) for a in (x, w)), b.astype(np.float64), f(dy)) for f in (rounded, wide)]
    return {verb: kinds[0 if rounds(backend, verb, geometry) else 1][verb] for verb in VERBS}


def wide(a):
    return a.astype(np.float64)


@by_geometry
def test_operands_are_rounded_and_sums_are_not(backend, geometry):
    arrays = problem(geometry)
    wanted = expected(backend, geometry, *arrays)
    for verb, value in results(backend, geometry, *arrays).items():
        assert value.dtype == np.float32
        oracle.assert_close(value, wanted[verb], what=verb)


def test_the_cases_run_in_bfloat16():
    cpu = backends.get("cpu")
    assert all(rounds(cpu, verb, geometry) for geometry in SHAPES[:11] for verb in VERBS[:2])
    assert all(rounds(cpu, VERBS[2], geometry) for geometry in SHAPES[1:11] if min(geometry.ic, geometry.oc) >= 16)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("geometry", [SHAPES[1], SHAPES[5], SHAPES[10]], ids=["3x3", "groups", "3-D"])
def test_takes_any_memory_order(backend, geometry, layout):
    arrays = problem(geometry)
    wanted = expected(backend, geometry, *arrays)
    for verb, value in results(backend, geometry, *(LAYOUTS[layout](a) for a in arrays)).items():
        oracle.assert_close(value, wanted[verb], what=verb)


@by_geometry
def test_float64_is_not_concerned(backend, geometry):
    arrays = problem(geometry, "float64")
    wanted = results(backend, replace(geometry, compute="float32"), *arrays)
    for verb, value in results(backend, geometry, *arrays).items():
        oracle.assert_same_bits(value, wanted[verb], verb)


@pytest.mark.parametrize("geometry", SHAPES[:11], ids=lambda g: f"{g.input_shape}-{g.weight_shape}")
def test_bits_depend_on_neither_threads_nor_batch(isa, geometry):
    cpu = backends.get("cpu")
    x, w, b, dy = problem(replace_batch(geometry, 7))
    wanted = None
    for threads in (1, 2, 4):
        runtime.set_num_threads(threads)
        found = results(cpu, replace_batch(geometry, 7), x, w, b, dy)
        wanted = wanted or found
        for verb in VERBS:
            oracle.assert_same_bits(found[verb], wanted[verb], f"{verb}, {threads} threads")
    alone = results(cpu, replace_batch(geometry, 1), x[3:4], w, b, dy[3:4])
    for verb in VERBS[:2]:
        oracle.assert_same_bits(alone[verb], wanted[verb][3:4], verb)


def replace_batch(geometry, n):
    return replace(geometry, n=n)


def test_all_instruction_sets_give_the_same_bits():
    """Pairs are added in the same order whatever a vector holds, and products of bfloat16 numbers are exact."""
    from fastconv.backends.cpu import available_isas, set_max_isa

    geometry = SHAPES[1]
    arrays = problem(geometry)
    try:
        bits = []
        for name in available_isas():
            set_max_isa(name)
            bits.append(results(backends.get("cpu"), geometry, *arrays))
    finally:
        set_max_isa(None)
    for other in bits[1:]:
        for verb in VERBS[:2]:
            oracle.assert_same_bits(other[verb], bits[0][verb], verb)


@pytest.mark.parametrize("sizes", [(1, 10, 7), (5, 33, 40), (64, 1024, 70), (300, 9, 65), (2, 2500, 3)], ids=str)
def test_linear(backend, sizes):
    n, i, o = sizes
    x, w, b, dy = (
        normal((sizes, k), s, "float32") for k, s in zip("xwbd", ((n, i), (o, i), (o,), (n, o)), strict=True)
    )
    y = backend.linear_forward(x, w, b, False, "bf16")
    oracle.assert_close(y, rounded(x) @ rounded(w).T + b)
    oracle.assert_same_bits(backend.linear_forward(x[:1], w, b, True, "bf16"), y[:1])
    oracle.assert_close(backend.linear_backward_input(dy, w, "bf16"), rounded(dy) @ rounded(w))
    oracle.assert_close(backend.linear_backward_weight(dy, x, "bf16"), rounded(dy).T @ rounded(x))
    a, c = x.astype(np.float64), w.astype(np.float64)
    oracle.assert_same_bits(backend.linear_forward(a, c, None, False, "bf16"), backend.linear_forward(a, c, None))


def test_special_values_stay_where_they_are(backend):
    """In the last channel of an odd number, whose pair has no second one."""
    geometry = SHAPES[1]
    x, w, b, _ = problem(geometry)
    seen = np.zeros(geometry.output_shape)
    for special, (i, row, column) in {np.inf: (0, 4, 5), -np.inf: (1, 1, 8), np.nan: (1, 6, 2)}.items():
        x[i, -1, 0, row, column] = special
        seen[i, :, :, row - 1 : row + 2, column - 1 : column + 2] = special
    y = backend.conv_forward(x, np.abs(w), b, geometry)
    np.testing.assert_array_equal(np.where(np.isfinite(y), 0, y), seen)


# ------------------------------------------------------------------------------------------- the setting


def test_the_mode_holds_in_its_block_and_may_be_set():
    assert fastconv.compute_mode() == "float32"
    with fastconv.compute("bf16"):
        assert fastconv.compute_mode() == "bf16"
        with fastconv.compute("float32"):
            assert fastconv.compute_mode() == "float32"
        assert fastconv.compute_mode() == "bf16"
    assert fastconv.compute_mode() == "float32"
    setting = fastconv.compute("bf16")
    assert fastconv.compute_mode() == "bf16"
    with setting:
        pass
    assert fastconv.compute_mode() == "float32"
    for wrong in ("fp16", None, 16):
        with pytest.raises(ArgumentError, match="compute: expected one of float32, bf16, tf32, got"):
            fastconv.compute(wrong)
    assert fastconv.compute_mode() == "float32"


def test_explain_says_what_runs():
    shapes = (8, 64, 14, 14), (32, 64, 1, 1)
    assert not re.search("(not|:) bf16", explain("conv2d", *shapes))
    assert explain("conv2d", *shapes, compute="bf16").startswith("conv_forward: bf16 (")
    with fastconv.compute("bf16"):
        assert explain("conv2d", *shapes).startswith("conv_forward: bf16 (")
        assert "not bf16: float64" in explain("conv2d", *shapes, dtype="float64")
        assert "not bf16: 1 channels a group" in explain("conv2d", (8, 1, 14, 14), (32, 1, 3, 3))
        assert explain("conv2d", (8, 64, 16, 16), (64, 64, 5, 5)).startswith("conv_forward: winograd (")
    with pytest.raises(ArgumentError, match="conv2d: expected one of float32, bf16"):
        explain("conv2d", *shapes, compute="half")


def test_a_gradient_has_the_mode_of_its_forward_pass():
    x, w = normal("x", (4, 9), "float32"), normal("w", (8, 9), "float32")
    image, kernel = normal("i", (2, 9, 5, 5), "float32"), normal("k", (8, 9, 1, 1), "float32")
    for f, a, b in ((F.linear, x, w), (F.conv2d, image, kernel)):
        found = []
        for forward, backward in (("bf16", "bf16"), ("bf16", "float32"), ("float32", "bf16")):
            leaves = [fastconv.Tensor(v, requires_grad=True) for v in (a, b)]
            with fastconv.compute(forward):
                y = f(*leaves)
            with fastconv.compute(backward):
                y.backward(np.ones(y.shape, np.float32) / 3)
            found.append([leaf.grad for leaf in leaves])
        for first, second, third in zip(*found, strict=True):
            oracle.assert_same_bits(first, second)
            assert not np.array_equal(first, third)


def test_a_network_learns_in_bfloat16():
    rng = np.random.default_rng(3)
    x, labels = rng.standard_normal((32, 8, 8, 8), dtype=np.float32), rng.integers(0, 4, 32)
    losses = {}
    for mode in ("float32", "bf16"):
        fastconv.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(8, 24, 3, stride=2), nn.ReLU(), nn.Conv2d(24, 16, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(16, 4),
        )  # fmt: skip
        optimizer = fastconv.optim.SGD(model.parameters(), lr=0.1)
        with fastconv.compute(mode):
            for _ in range(30):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(fastconv.tensor(x)), labels)
                loss.backward()
                optimizer.step()
        assert all(p.numpy().dtype == np.float32 for p in model.parameters())
        losses[mode] = loss.item()
    assert losses["bf16"] != losses["float32"]
    assert abs(losses["bf16"] - losses["float32"]) < 0.02
