"""Sums that are cut into parts: the rule, and both ways of adding them, in numba's simulator."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import ConvCase
from layouts import DTYPES, normal

from fastconv import backends, config
from fastconv.backends.cuda import array, launch, linear, parts, recorder
from fastconv.backends.cuda.conv_backward_input import conv_backward_input
from fastconv.backends.cuda.conv_forward import conv_forward
from fastconv.backends.cuda.product import product

pytestmark = pytest.mark.skipif(not config.cuda_simulated(), reason="NUMBA_ENABLE_CUDASIM=1 is not set")
WAYS = {"apart": 10**9, "in turn": 0}  # rounds of blocks from which on parts come in turn
CASES = (
    ConvCase(1, 9, 10, (3, 2), 3, padding=1),
    ConvCase(1, 37, 9, (3, 3), 1),
    ConvCase(1, 12, 18, (2, 2), (3, 2), padding=1, groups=2),
    ConvCase(1, 10, 11, (5, 4), 3, stride=2, padding=1),  # phases: c is not dense
    ConvCase(2, 11, 9, (5,), 5, padding=4, dilation=2),
    ConvCase(1, 6, 9, (2, 3, 1), (2, 3, 1), stride=(1, 2, 1), padding=(1, 1, 0)),
)
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def both(monkeypatch, call) -> list[np.ndarray]:
    """Return what ``call()`` gives with parts apart and with parts in turn."""
    found = []
    for rounds in WAYS.values():
        monkeypatch.setattr(parts, "_ROUNDS", rounds)
        found.append(call().numpy())
    return found


def prepared(case: ConvCase, dtype: str) -> list[np.ndarray]:
    g = case.geometry
    shapes = g.input_shape, g.weight_shape, (g.oc,), g.output_shape, (g.ic,)
    return [normal((case.id, name), shape, dtype) for name, shape in zip("xwbdc", shapes, strict=True)]


@pytest.fixture
def started(monkeypatch):
    """Which kernels are started, and for products whether in turn, and in how many parts."""
    seen, blocks = [], launch.blocks

    def noted(op, make, key, grid, *rest):
        seen.append((make.__name__, getattr(key[0], "in_turn", None), grid[2] if make is product else 1))
        blocks(op, make, key, grid, *rest)

    monkeypatch.setattr(launch, "blocks", noted)
    return seen


@by_dtype
@by_case
def test_forward_and_input_gradient_both_ways(monkeypatch, case, dtype):
    g, reference = case.geometry, backends.get("reference")
    x, w, b, dy, c = prepared(case, dtype)
    device_x, device_w, device_b, device_dy, device_c = map(array.from_numpy, (x, w, b, dy, c))
    apart, in_turn = both(monkeypatch, lambda: conv_forward(device_x, device_w, device_b, g, activation="relu"))
    oracle.assert_same_bits(apart, in_turn, "y")
    oracle.assert_close(apart, reference.relu_forward(reference.conv_forward(x, w, b, g)))
    for bias, device_bias in ((None, None), (c, device_c)):
        apart, in_turn = both(monkeypatch, lambda of=device_bias: conv_backward_input(device_dy, device_w, of, g))
        oracle.assert_same_bits(apart, in_turn, "dx")
        oracle.assert_close(apart, reference.conv_backward_input(dy, w, bias, g))


@by_dtype
@pytest.mark.parametrize("n, i, o", [(1, 70, 9), (9, 40, 33), (5, 33, 4)])
def test_linear_both_ways(monkeypatch, n, i, o, dtype):
    reference = backends.get("reference")
    shapes = (n, i), (o, i), (o,), (n, o)
    x, w, b, dy = (normal(name, shape, dtype) for name, shape in zip("xwbd", shapes, strict=True))
    device_x, device_w, device_b, device_dy = map(array.from_numpy, (x, w, b, dy))
    apart, in_turn = both(monkeypatch, lambda: linear.linear_forward(device_x, device_w, device_b))
    oracle.assert_same_bits(apart, in_turn, "y")
    oracle.assert_close(apart, reference.linear_forward(x, w, b))
    apart, in_turn = both(monkeypatch, lambda: linear.linear_backward_input(device_dy, device_w))
    oracle.assert_same_bits(apart, in_turn, "dx")
    oracle.assert_close(apart, reference.linear_backward_input(dy, w))


def test_each_way_starts_what_it_says(monkeypatch, started):
    case = CASES[0]
    x, w, b, *_ = map(array.from_numpy, prepared(case, "float32"))
    both(monkeypatch, lambda: conv_forward(x, w, b, case.geometry))
    assert started == [("product", False, 3), ("add_apart", None, 1), ("product", True, 1)]


def test_a_sample_alone_and_in_a_batch_that_is_computed_in_turn(started):
    """The processors of the device and the batch choose the way, not the bits."""
    case = ConvCase(24, 9, 3, (2, 2), 3, padding=1)
    x, w, b, *_ = prepared(case, "float32")
    device_w, device_b = array.from_numpy(w), array.from_numpy(b)
    whole = conv_forward(array.from_numpy(x), device_w, device_b, case.geometry).numpy()
    one = ConvCase(1, 9, 3, (2, 2), 3, padding=1).geometry
    alone = conv_forward(array.from_numpy(x[3:4]), device_w, device_b, one).numpy()
    oracle.assert_same_bits(whole[3:4], alone)
    assert [name for name, *_ in started] == ["product", "product", "add_apart"]


@pytest.mark.parametrize(
    "rows, pixels, depth, compute, terms",
    [
        (512, 49, 4608, "float32", 512),  # the last layers of ResNet
        (256, 196, 2304, "float32", 576),
        (512, 49, 4608, "tf32", 1152),
        (64, 3136, 576, "float32", 576),  # too short
        (512, 784, 4608, "float32", 928),  # 104 tiles: five parts are enough for 132 processors
        (512, 12544, 4608, "float32", 4608),  # tiles enough
        (0, 49, 4608, "float32", 512),
    ],
)  # fmt: skip
def test_the_rule(rows, pixels, depth, compute, terms):
    with launch.use(recorder.Recorder()):
        plans = [
            parts.planned((rows, pixels), (rows, n * pixels), depth, 1, 4, compute) for n in (0, 1, 2, 7, 64, 1024)
        ]  # fmt: skip
    assert {plan.part for plan in plans} == {terms}
    assert {plan.parts for plan in plans} == {-(-depth // terms)}
    assert not (plans[-1].apart and rows)
    assert plans[1].apart == (terms < depth)
