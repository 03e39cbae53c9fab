"""The kernels of convolutions and linear layers in numba's simulator: each way and direction against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracle
import pytest
from cases import ConvCase
from hypothesis import given, settings
from layouts import DTYPES, normal
from strategies import conv_cases

from fastconv import backends, config
from fastconv.backends.cuda import array, correlate, launch, linear, narrow, tiles, windows
from fastconv.backends.cuda.conv_backward_input import conv_backward_input
from fastconv.backends.cuda.conv_backward_weight import conv_backward_weight, parts_by_tiles
from fastconv.backends.cuda.conv_forward import conv_forward
from fastconv.backends.cuda.product import product

pytestmark = pytest.mark.skipif(not config.cuda_simulated(), reason="NUMBA_ENABLE_CUDASIM=1 is not set")
WAYS = {"tiles": (correlate.by_tiles, parts_by_tiles), "narrow": (narrow.by_pixels, narrow.parts_by_pixels)}
CASES = (  # several tiles across and down, slices and their rest, everything that a window can do
    ConvCase(2, 5, 9, (7, 6), 3, padding=1),
    ConvCase(2, 3, 7, (9, 7), 3, stride=2, padding=1),
    ConvCase(1, 4, 6, (9, 8), (3, 2), stride=(3, 2), padding=(2, 1), dilation=(2, 3)),
    ConvCase(2, 6, 4, (5, 4), 3, padding=2, groups=2),
    ConvCase(2, 4, 12, (4, 4), 1),
    ConvCase(3, 5, 9, (3, 3), 1),
    ConvCase(1, 3, 5, (6, 5), 1, stride=2),
    ConvCase(2, 3, 4, (13,), 4, padding=3, dilation=2),
    ConvCase(1, 2, 9, (3, 4, 5), (2, 3, 2), stride=(1, 2, 1), padding=(1, 1, 0)),
    ConvCase(1, 1, 1, (2, 2), 2, padding=3),
    ConvCase(2, 4, 4, (6, 5), 3, padding=1, groups=4),
    ConvCase(0, 3, 4, (5, 5), 3),
)
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_way = pytest.mark.parametrize("way", WAYS)


def problem(case: ConvCase, dtype: str) -> list[np.ndarray]:
    g = case.geometry
    shapes = g.input_shape, g.weight_shape, (g.oc,), g.output_shape
    return [normal((case.id, name), shape, dtype) for name, shape in zip("xwbd", shapes, strict=True)]


def computed(case: ConvCase, way: str, x, w, b, dy) -> dict[str, np.ndarray]:
    g, (correlation, parts) = case.geometry, WAYS[way]
    x, w, b, dy = (array.from_numpy(a) for a in (x, w, b, dy))
    return {
        "y": conv_forward(x, w, b, g, correlation).numpy(),
        "dx": conv_backward_input(dy, w, None, g, correlation).numpy(),
        "dw": conv_backward_weight(dy, x, g, parts).numpy(),
    }


def check(case: ConvCase, dtype: str, way: str) -> None:
    g, (x, w, b, dy) = case.geometry, problem(case, dtype)
    reference = backends.get("reference")
    wanted = {
        "y": reference.conv_forward(x, w, b, g),
        "dx": reference.conv_backward_input(dy, w, None, g),
        "dw": reference.conv_backward_weight(dy, x, g),
    }
    for name, value in computed(case, way, x, w, b, dy).items():
        oracle.assert_close(value, wanted[name], what=name)


@by_way
@by_dtype
@by_case
def test_equals_the_reference(case, dtype, way):
    if way == "narrow" and max(case.ic, case.oc) // case.groups > 9:
        pytest.skip("more rows than this way is for")
    check(case, dtype, way)


@settings(max_examples=8)
@given(case=conv_cases())
def test_random_convolutions_in_tiles(case):
    if case.geometry.flops < 40_000:
        check(case, "float32", "tiles")


@settings(max_examples=8)
@given(case=conv_cases())
def test_random_convolutions_by_pixels(case):
    if max(case.ic, case.oc) // case.groups <= 8 and case.geometry.flops < 40_000:
        check(case, "float64", "narrow")


@by_dtype
def test_every_tile_gives_the_same_bits(monkeypatch, dtype):
    case, results = CASES[0], []
    for tile, _ in tiles.candidates(4):
        monkeypatch.setattr(tiles, "_SIMULATED", ((tile, 1.0),))
        results.append(computed(case, "tiles", *problem(case, dtype)))
    assert len(results) > 1
    for name in ("y", "dx"):
        oracle.assert_same_bits(results[0][name], results[1][name], name)


def test_reads_and_writes_16_bytes_together_where_it_can_and_gives_the_same_bits():
    case = CASES[4]
    g, (x, w, b, _) = case.geometry, problem(case, "float32")
    together = conv_forward(*(array.from_numpy(a) for a in (x, w, b)), g).numpy()
    moved = array.empty((x.size + 1,), x.dtype).part(1, x.shape)
    moved[...] = array.from_numpy(x)
    assert not windows.aligned(moved)
    apart = conv_forward(moved, array.from_numpy(w), array.from_numpy(b), g).numpy()
    oracle.assert_same_bits(together, apart)
    assert {form.b[1] for _, form in product.compiled if form.b[0] == "columns"} >= {1, 4}
    assert {form.width for _, form in product.compiled} >= {1, 2}


@by_way
def test_batches_may_be_cut_anywhere(monkeypatch, way):
    case = replace(CASES[1], n=3)
    whole = computed(case, way, *problem(case, "float64"))
    monkeypatch.setattr(windows, "images_at_once", lambda geometry: 2)
    cut = computed(case, way, *problem(case, "float64"))
    for name in ("y", "dx"):
        oracle.assert_same_bits(cut[name], whole[name], name)
    oracle.assert_close(cut["dw"], whole["dw"])


@by_way
def test_a_sum_in_many_parts(monkeypatch, way):
    case = ConvCase(4, 2, 3, (9, 8), 3, padding=1)
    monkeypatch.setattr(tiles, "_BLOCKS", 10**6)
    check(case, "float64", way)


@by_way
def test_a_bias_of_the_input_gradient_and_relu(way):
    case, reference = CASES[1], backends.get("reference")
    g, (x, w, b, dy) = case.geometry, problem(case, "float64")
    db = normal("bias", (g.ic,), "float64")
    device = [array.from_numpy(a) for a in (x, w, b, dy, db)]
    y = conv_forward(*device[:3], g, WAYS[way][0], activation="relu").numpy()
    oracle.assert_close(y, reference.relu_forward(reference.conv_forward(x, w, b, g)))
    dx = conv_backward_input(device[3], device[1], device[4], g, WAYS[way][0]).numpy()
    oracle.assert_close(dx, reference.conv_backward_input(dy, w, db, g))


@by_dtype
@pytest.mark.parametrize("n, i, o", [(3, 5, 7), (9, 16, 12), (1, 1, 1), (0, 4, 4), (4, 0, 5), (4, 5, 0), (70, 8, 4)])
def test_linear_equals_the_reference(n, i, o, dtype):
    shapes = (n, i), (o, i), (o,), (n, o)
    x, w, b, dy = (normal(name, shape, dtype) for name, shape in zip("xwbd", shapes, strict=True))
    reference, device = backends.get("reference"), [array.from_numpy(a) for a in (x, w, b, dy)]
    y, dx = linear.linear_forward(*device[:3]), linear.linear_backward_input(device[3], device[1])
    oracle.assert_close(y.numpy(), reference.linear_forward(x, w, b))
    oracle.assert_close(dx.numpy(), reference.linear_backward_input(dy, w))
    dw = linear.linear_backward_weight(device[3], device[0]).numpy()
    oracle.assert_close(dw, reference.linear_backward_weight(dy, x))


def test_nothing_is_started_for_nothing(monkeypatch):
    monkeypatch.setattr(launch, "blocks", lambda *arguments: pytest.fail("a kernel was started"))
    case = replace(CASES[0], n=0)
    x, w, b, _ = (array.from_numpy(a) for a in problem(case, "float32"))
    for way in WAYS:
        assert conv_forward(x, w, b, case.geometry, WAYS[way][0]).shape == case.geometry.output_shape
