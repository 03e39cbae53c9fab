"""The gradient of max pooling has two ways to go, by outputs and by inputs: the same bits, the reference's values."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
from cases import POOL_CASES, PoolCase
from layouts import DTYPES, LAYOUTS, normal

from fastconv import backends

runtime = pytest.importorskip("fastconv.backends.cpu.runtime", reason="the compiled backend is not built")
scatter = pytest.importorskip("fastconv.backends.cpu.pool_scatter")

SMALL = [case for case in POOL_CASES if case.maximum and case.n == 2 and case.c == 3]  # images side by side
CASES = [replace(case, n=260) for case in SMALL] + [
    PoolCase("max", 8, 35, (9, 10), 2, stride=4, padding=(1, 0)), PoolCase("max", 9, 20, (11, 7), 3, stride=(2, 1)),
    PoolCase("max", 8, 17, (13, 7, 10), (2, 2, 3), stride=(6, 5, 4), padding=(1, 0, 1)),
    PoolCase("max", 8, 20, (5, 6, 7), (3, 2, 2), stride=1, padding=1), PoolCase("max", 11, 33, (8, 7), 3, stride=1),
    PoolCase("max", 8, 33, (9, 11), (3, 2), stride=(2, 3), dilation=(2, 3)), PoolCase("max", 8, 5, (40, 40), 3),
]  # fmt: skip


@pytest.fixture(autouse=True)
def restore_threads():
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


@pytest.mark.parametrize("layout", ["fortran", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_both_ways(case, dtype, layout, monkeypatch):
    cpu, geometry = backends.get("cpu"), case.geometry
    runtime.set_num_threads(1)
    x = np.round(normal("x", (case.n, case.c, *geometry.input), dtype))  # ties
    dy = LAYOUTS[layout](normal("dy", geometry.output_shape, dtype))
    _, winners = cpu.max_pool_forward(x, geometry, "winners")
    _, indices = cpu.max_pool_forward(x, geometry, "indices")
    ways, pool = [], pytest.importorskip("fastconv.backends.cpu.pool")
    for way in (True, False):
        monkeypatch.setattr(pool, "expands", lambda *sizes, way=way: way)
        ways.append(cpu.max_pool_backward(dy, winners, geometry))
    oracle.assert_same_bits(ways[0], ways[1], "by outputs and by inputs")
    oracle.assert_close(ways[0], backends.get("reference").max_pool_backward(dy, indices, geometry), what="dx")


def test_the_way_is_a_matter_of_channels_and_places():
    runtime.set_num_threads(2)
    few = PoolCase("max", 64, 5, (9, 9), 3).geometry
    assert scatter.expands(few, 9, 1)
    assert not scatter.expands(few, 9, 16)  # too few groups for two threads
    assert not scatter.expands(PoolCase("max", 64, 64, (9, 9), 3).geometry, 9, 1)
    assert not scatter.expands(PoolCase("max", 64, 32, (9, 9), 2).geometry, 4, 1)
    assert scatter.expands(PoolCase("max", 64, 64, (9, 9), 5, stride=2).geometry, 25, 1)
    assert not scatter.expands(PoolCase("max", 64, 64, (7, 7), 7).geometry, 49, 1)  # an index for 49 inputs
    assert not scatter.expands(
        PoolCase("max", 64, 64, (20, 20), 17, stride=1).geometry, 289, 1
    )  # more than a byte counts


WIDE = [
    PoolCase("max", 300, 3, (16, 17), 16, stride=1), PoolCase("max", 8, 35, (20, 12), (4, 6), stride=(1, 3)),
    PoolCase("max", 8, 80, (9, 9), 5, stride=2, padding=2), PoolCase("max", 300, 7, (6, 7, 8), 3, stride=2, padding=1),
    PoolCase("max", 8, 130, (9, 9), 7, stride=1), PoolCase("max", 300, 4, (40, 11), (5, 4), stride=3, dilation=(2, 3)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WIDE, ids=lambda case: case.id)
def test_wide_windows_keep_bytes_or_indices_to_the_same_bits(case, dtype, monkeypatch):
    cpu, geometry = backends.get("cpu"), case.geometry
    runtime.set_num_threads(2)
    x = np.round(normal("x", (case.n, case.c, *geometry.input), dtype))  # ties
    x[0, 0] = np.nan
    dy = LAYOUTS["channels_last"](normal("dy", geometry.output_shape, dtype))
    y, places = cpu.max_pool_forward(x, geometry, "winners")
    assert not isinstance(places, np.ndarray)
    monkeypatch.setattr(pytest.importorskip("fastconv.backends.cpu.pool"), "expands", lambda *sizes: False)
    expected, indices = cpu.max_pool_forward(x, geometry, "winners")
    assert isinstance(indices, np.ndarray)
    oracle.assert_same_bits(y, expected)
    from_places, from_indices = (cpu.max_pool_backward(dy, kept, geometry) for kept in (places, indices))
    oracle.assert_same_bits(from_places, from_indices)
    oracle.assert_close(from_places, backends.get("reference").max_pool_backward(dy, indices, geometry), what="dx")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 110, 130), (1, 3, 170, 90), (40, 7, 3, 4), (2, 20, 9, 8)], ids=str)
def test_indices_add_up_alike_on_any_threads_and_in_any_layout(shape, dtype):
    cpu, (n, c, h, w) = backends.get("cpu"), shape
    geometry = PoolCase("max", n, c, (2 * h, 2 * w), 2).geometry
    dy = normal("dy", geometry.output_shape, dtype)
    index = np.random.default_rng(0).integers(0, 4 * h * w, dy.shape)  # some more than once
    layouts, results = (np.ascontiguousarray, LAYOUTS["channels_last"]), []
    for threads in (1, 2, 3):
        runtime.set_num_threads(threads)
        results += [cpu.max_pool_backward(lay(dy), lay(index), geometry) for lay in layouts]
    for other in results[1:]:
        oracle.assert_same_bits(other, results[0])
    oracle.assert_close(results[0], backends.get("reference").max_pool_backward(dy, index, geometry))
    index.flat[-1] = 4 * h * w
    for lay in layouts:
        with pytest.raises(IndexError, match="outside the plane"):
            cpu.max_pool_backward(lay(dy), lay(index), geometry)
