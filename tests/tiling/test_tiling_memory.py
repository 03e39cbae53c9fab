"""Budgets: what is reckoned is what the pool holds, and a budget holds where the system enforces it."""

import subprocess
import sys

import numpy as np
import pytest

from fastconv import models, nn, no_grad, predict_volume
from fastconv.backends.cpu import runtime
from fastconv.errors import ArgumentError
from fastconv.graph import outline
from fastconv.tiling.memory import WORKSPACE, budget, keep_packed, peak, size_class


@pytest.mark.parametrize("name, tile, options", [
    ("unet2d", (512, 384), {"width": 8, "depth": 2}), ("unet3d", (40, 48, 48), {"width": 8, "depth": 2}),
    ("unet2d", (400, 512), {"width": 16, "depth": 2, "batch_norm": True}),
])  # fmt: skip
def test_the_pool_holds_what_was_reckoned(name, tile, options):
    net = models.create(name, in_channels=1, **options).eval()
    x = runtime.empty((1, 1, *tile), np.float32)
    x[...] = 0
    with no_grad():
        graph = outline(net, x.shape)
    keep_packed(graph)
    runtime.empty_cache()
    graph(x)
    held = runtime.cached_bytes() + runtime.allocated_bytes()
    reckoned = peak(graph) - runtime.get_num_threads() * WORKSPACE
    assert 0.97 * held < reckoned < 1.2 * held
    runtime.empty_cache()


def test_size_classes_are_those_of_the_pool():
    for count in (4096, 4097, 5000, 65_536, 70_000, 1_000_000, 1_048_577):
        runtime.empty_cache()
        before = runtime.allocated_bytes()
        array = runtime.empty((count,), np.uint8)
        assert runtime.allocated_bytes() - before == size_class(count)
        del array


@pytest.mark.parametrize("text, count", [("512MB", 512 << 20), ("1.5 GiB", 3 << 29), ("64k", 65_536), (12345, 12345)])
def test_budgets_as_people_write_them(text, count):
    assert budget("predict_volume", text) == count


@pytest.mark.parametrize("blend", ["exact", "gaussian"])
@pytest.mark.parametrize("tile", [None, 40])
def test_a_budget_that_is_too_small_names_what_is_needed(blend, tile):
    net = models.unet2d(1, 2, width=16, depth=2)
    volume = np.zeros((1, 120, 120), np.float32)
    with pytest.raises(ArgumentError, match=r"max_memory of at least \d+MB for .*, got 1MB") as caught:
        predict_volume(net, volume, max_memory="1MB", blend=blend, tile=tile)
    needed = str(caught.value).partition("least ")[2].partition(" for")[0]
    assert predict_volume(net, volume, max_memory=needed, blend=blend, tile=tile).shape == (2, 120, 120)


def test_an_answer_in_memory_counts():
    with pytest.raises(ArgumentError, match="max_memory of at least"):
        predict_volume(nn.Identity(), np.broadcast_to(np.float32(1), (1, 4000, 4000)), max_memory="60MB")


SCRIPT = """
import resource, sys
import numpy as np
from fastconv import models, no_grad, predict_volume, tensor
from pathlib import Path

blend, budget, folder = sys.argv[1], int(sys.argv[2]) << 20, Path(sys.argv[3])
net = models.unet2d(1, 2, width=8, depth=2).eval()
predict_volume(net, np.zeros((1, 256, 256), np.float32), blend=blend)  # threads and their stacks
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + budget
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
predict_volume(net, folder / "x.npy", folder / "y.npy", max_memory=budget, blend=blend)
try:
    with no_grad():
        net(tensor(np.load(folder / "x.npy")[None]))
except MemoryError:
    print("the whole does not fit")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux holds to RLIMIT_AS")
@pytest.mark.parametrize("blend", ["exact", "gaussian"])
def test_the_budget_holds_under_a_limit_of_address_space(blend, tmp_path):
    image = np.random.default_rng(0).standard_normal((1, 1400, 1404)).astype(np.float32)
    np.save(tmp_path / "x.npy", image)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, blend, "96", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "the whole does not fit\n"
    answer = np.load(tmp_path / "y.npy", mmap_mode="r")
    assert answer.shape == (2, 1400, 1404)
    assert np.isfinite(answer).all()
