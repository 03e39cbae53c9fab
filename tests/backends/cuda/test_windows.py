"""What is worked out on the host before a product starts: divisions, taps, phases, tiles, parts. No device needed."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from cases import CONV_CASES

from fastconv.backends.cuda import plan, tiles, windows
from fastconv.backends.cuda.loaders import NOWHERE, tap_table
from fastconv.backends.cuda.problem import problem
from fastconv.backends.cuda.scalars import LIMIT, quotient, reciprocal
from fastconv.geometry import conv_geometry

VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")
GEOMETRIES = [case.geometry for case in CONV_CASES]
by_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=[case.id for case in CONV_CASES])
DIVISORS = [1, 2, 3, 5, 7, 9, 49, 127, 128, 129, 641, 3136, 50176, 65535, 65536, 2**20 + 1, 2**30, 2**31 - 1]


class Device:
    """What the rules ask of a machine."""

    simulated, runs, capability = False, False, (9, 0)

    def __init__(self, processors: int = 132) -> None:
        self.processors = processors


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr("fastconv.backends.cuda.launch.machine", Device)


@pytest.mark.parametrize("divisor", DIVISORS)
def test_division_by_multiplication_is_exact(divisor):
    magic, shift = reciprocal(divisor)
    assert magic < 2**32
    edges = {0, 1, LIMIT - 1, *(k * divisor + d for k in (1, 2, 1000, (LIMIT - 1) // divisor) for d in (-1, 0, 1))}
    random = np.random.default_rng(divisor).integers(0, LIMIT, 500).tolist()
    for n in [n for n in edges if 0 <= n < LIMIT] + random:
        assert int(quotient(np.uint32(n), np.uint32(magic), np.uint32(shift))) == n // divisor


def gathered(axes, channels: int, x: np.ndarray, pixel: tuple[int, ...]) -> np.ndarray:
    """What the taps of a pixel see of one image x (channels, D, H, W), by the table's offsets and shifts."""
    offsets, shifts = windows.taps(axes, channels)
    start = np.array([a.start + o * a.stride for a, o in zip(axes, pixel, strict=True)])
    at = start + shifts
    sizes = np.array([a.input for a in axes])
    there = ((at >= 0) & (at < sizes)).all(axis=1)
    first = (start[0] * sizes[1] + start[1]) * sizes[2] + start[2]
    values = np.zeros(len(offsets))
    values[there] = x.reshape(-1)[(first + offsets)[there]]
    return values


@by_geometry
def test_phases_are_the_adjoint_of_the_convolution(geometry):
    """Each pair of an input and an output that a kernel position joins stands in one phase, and in no other."""
    geometry = replace(geometry, n=1, ic=1, oc=1, groups=1)
    joined = np.zeros((prod(geometry.input), prod(geometry.output)), int)
    for position in np.ndindex(*geometry.kernel):
        for o in np.ndindex(*geometry.output):
            terms = zip(o, geometry.stride, position, geometry.dilation, geometry.padding, strict=True)
            i = [a * s + k * d - p for a, s, k, d, p in terms]
            if all(0 <= a < n for a, n in zip(i, geometry.input, strict=True)):
                joined[np.ravel_multi_index(i, geometry.input), np.ravel_multi_index(o, geometry.output)] += 1
    outputs = np.arange(1.0, prod(geometry.output) + 1).reshape(1, *geometry.output)
    for axes, residues in windows.phase_axes(geometry):
        for j in np.ndindex(*(axis.output for axis in axes)):
            i = [r + a * s for r, a, s in zip(residues, j, geometry.stride, strict=True)]
            seen = gathered(axes, 1, outputs, j)
            for o in seen[seen > 0].astype(int) - 1:
                joined[np.ravel_multi_index(i, geometry.input), o] -= 1
    assert not joined.any()


@by_geometry
def test_axes_that_are_not_checked_are_not_left(geometry):
    every = [windows.forward_axes(geometry), *(axes for axes, _ in windows.phase_axes(geometry))]
    for axes in every:
        for axis in axes[: {3: 0, 2: 1, 0: 3}[windows.checked(axes)]]:
            at = [axis.start + o * axis.stride + s for o in range(axis.output) for s in axis.shifts]
            assert not at or (min(at) >= 0 and max(at) < axis.input)


def test_tables_are_padded_with_taps_that_reach_nothing():
    table = tap_table(np.array([3, 5]), np.array([[0, 1, 2], [0, -1, 0]]), 4)
    assert table.tolist() == [[3, 0, 1, 2], [5, 0, -1, 0], [0] + [NOWHERE] * 3, [0] + [NOWHERE] * 3]


def test_negative_numbers_wrap_in_a_problem():
    assert problem(start_h=-3).start_h == 2**32 - 3
    assert problem(image=49).image_size == 49
    with pytest.raises(ValueError, match="no_such_number"):
        problem(no_such_number=1)


@pytest.mark.parametrize(
    "rows, columns, tile", [(512, 100352, (128, 128)), (64, 401408, (64, 128)), (24, 10**6, (32, 128))]
)
def test_a_tile_is_as_large_as_its_work(device, rows, columns, tile):
    assert tiles.pick(rows, columns, 1, 4)[:2] == tile


@pytest.mark.parametrize("compute", ["bf16", "tf32"])
@pytest.mark.parametrize(  # the second: one large block, or four small ones, for each multiprocessor
    "rows, columns, by_mma, by_wgmma",
    [
        (512, 100352, (128, 128), (128, 256)), (1408, 1536, (128, 128), (128, 128)), (64, 64 * 132, (64, 64), (64, 64)),
        (64, 401408, (64, 64), (64, 128)),
    ],
)  # fmt: skip
def test_a_tile_of_tensor_cores_is_as_large_as_its_work(device, monkeypatch, rows, columns, by_mma, by_wgmma, compute):
    assert tiles.pick(rows, columns, 1, 4, compute)[:2] == by_wgmma
    for capability in ((8, 0), (10, 0)):
        monkeypatch.setattr(Device, "capability", capability)
        assert tiles.pick(rows, columns, 1, 4, compute)[:2] == by_mma


def test_small_work_is_spread_over_the_device(device):
    picked = tiles.pick(512, 32 * 49, 1, 4)
    assert -(-512 // picked.rows) * -(-1568 // picked.columns) >= 132


@pytest.mark.parametrize("depth", [0, 1, 255, 256, 100352, 10**7])
@pytest.mark.parametrize("rows, columns", [(64, 27), (512, 4608), (4096, 25088)])
def test_parts_cover_a_sum_and_are_bounded(device, rows, columns, depth):
    tile, parts, part = tiles.pick_parts(rows, columns, depth, 1, 4)
    assert parts * part >= depth > (parts - 1) * part or depth == 0
    assert part % tile.depth == 0
    assert parts == 1 or parts * rows * columns * 4 <= 64 << 20


def test_parts_do_not_depend_on_the_device(monkeypatch):
    found = set()
    for processors in (20, 84, 132):
        monkeypatch.setattr("fastconv.backends.cuda.launch.machine", lambda p=processors: Device(p))
        found.add(tiles.pick_parts(256, 1152, 50176, 1, 4))
    assert len(found) == 1


LARGE = conv_geometry("conv3d", 3, (1, 64, 512, 512, 512), (64, 64, 3, 3, 3), padding=1)
FIRST = conv_geometry("conv2d", 2, (64, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)
DEPTHWISE = conv_geometry("conv2d", 2, (64, 32, 56, 56), (32, 1, 3, 3), padding=1, groups=32)


@pytest.mark.parametrize(
    "geometry, names",
    [
        (LARGE, ("naive", "naive", "naive")),
        (FIRST, ("tiles", "narrow", "tiles")),
        (DEPTHWISE, ("narrow", "narrow", "narrow")),
        (replace(FIRST, ic=64), ("tiles", "tiles", "tiles")),
    ],
)
def test_the_plan_says_what_runs_and_why_not_what_is_before(geometry, names):
    for verb, name in zip(VERBS, names, strict=True):
        line = plan.explain(verb, geometry, "float32")
        assert line.startswith(f"{verb}: {name} (cuda, float32")
        assert name == "narrow" or "not narrow: " in line
        assert plan.chosen(verb, replace(geometry, n=3), 4).name == name


def test_batches_are_cut_where_pixels_would_not_fit_in_31_bits():
    geometry = replace(FIRST, n=10**6)
    most = windows.images_at_once(geometry)
    assert most * prod(geometry.input) < LIMIT <= (most + 1) * prod(geometry.input)
