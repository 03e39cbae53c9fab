"""Kernels become machine code for sm_80 and sm_90 without a GPU: one of each factory, or with --all-kernels all.

It needs the packages of the extra ``cuda13`` (or ``cuda12``), and the source tree.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastconv import config
from fastconv.backends.cuda import launch, recorder, tiles, warpgroups
from fastconv.errors import DeviceError

DRIVER = Path(__file__).parents[3] / "bench" / "cuda_resources.py"
MAY_SPILL: frozenset[str] = frozenset()

pytestmark = [
    pytest.mark.skipif(not DRIVER.is_file(), reason="the source tree is not here"),
    pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is missing: [cuda13]"),
    pytest.mark.skipif(recorder.ptxas() is None, reason="ptxas is missing: [cuda13]"),
    pytest.mark.skipif(config.cuda_simulated(), reason="numba simulates, it does not compile"),
]


@cache
def driver() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cuda_resources", DRIVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def kernels() -> dict:
    return driver().recorded().kernels


def test_every_factory_is_reached():
    kernels()
    reached = {name.name for name in kernels()}
    known = {".".join(name.split(".")[-2:]) for name in launch.factories if name.startswith("fastconv.")}
    assert known == reached


def test_the_table_of_the_guide_has_a_line_for_each_factory():
    kernels()
    lines = (DRIVER.parents[1] / "docs" / "cuda.md").read_text(encoding="utf-8").splitlines()
    named = [line.split()[1] for line in lines if re.match(r"\| \w+\.\w+ \| \d+ \|", line)]
    assert named == sorted({launched.name for launched in kernels()})


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(recorder.__file__).parent.glob("*.py")))
def test_kernels_compile_without_spills(name, request):
    """The kernels of one file."""
    seen = set()
    for launched, kernel in kernels().items():
        if launched.name.partition(".")[0] != name:
            continue
        if launched.name in seen and not request.config.getoption("--all-kernels"):
            continue
        seen.add(launched.name)
        by_capability = recorder.usage(launched, kernel, driver().CAPABILITIES)
        assert by_capability[1] is not None
        assert (by_capability[0] is None) == hasattr(kernel, "capability")
        for used in filter(None, by_capability):
            what = f"{launched.name} {driver().text_of(launched.key)}: {used}"
            assert used.registers > 0, what
            assert used.shared <= 48 << 10, what
            assert launched.name in MAY_SPILL or not used.spills, what
            assert launched.name != "product.product" or not used.stack, what  # sums would lie in memory
            assert not used.serialized, what


LARGEST = "tf32", (128, 256)  # all of the shared memory that there is


def products(cores: str) -> list[tuple]:
    """The recorded products by an instruction, with their kernels."""
    found = [pair for pair in kernels().items() if pair[0].name == "product.product"]
    return [pair for pair in found if pair[0].key[0].cores == cores]


def test_tensor_cores_have_products_of_every_tile_by_both_instructions():
    recorded = {
        cores: {(p.key[0].compute, p.key[0].tile) for p, _ in products(cores)} for cores in ("mma.sync", "wgmma")
    }
    assert recorded["mma.sync"] == {(compute, tile) for compute in tiles._CORES for tile, _ in tiles._CORES[compute]}
    assert recorded["wgmma"] == {(compute, tile) for compute in tiles._CORES for tile, _ in tiles._WARPGROUPS}
    for operand in ("a", "b"):
        kinds = {getattr(p.key[0], operand)[0] for p, _ in products("wgmma")}
        assert kinds == {getattr(p.key[0], operand)[0] for p, _ in products("mma.sync")}


@pytest.mark.parametrize("tile", [tile for tile, _ in tiles._WARPGROUPS], ids=str)
@pytest.mark.parametrize("compute", tiles._CORES)
def test_each_tile_of_wgmma_compiles_for_its_architecture_alone(compute, tile, request):
    if not request.config.getoption("--all-kernels") and (compute, tile[:2]) not in (("bf16", (128, 128)), LARGEST):
        pytest.skip("without --all-kernels one tile of a mode")
    launched, kernel = next(p for p in products("wgmma") if p[0].key[0].compute == compute and p[0].key[0].tile == tile)
    ptx = recorder._ptx(launched, kernel, (8, 0))
    assert ".target sm_90a" in ptx
    shape = f"m64n{tile.columns}" + ("k16.f32.bf16.bf16" if compute == "bf16" else "k8.f32.tf32.tf32")
    assert ptx.count(f"wgmma.mma_async.sync.aligned.{shape}") == (1 if compute == "bf16" else 2)
    between = ptx[ptx.index("wgmma.commit_group") : ptx.index("wgmma.wait_group")]
    multiply = ptx[ptx.index("wgmma.mma_async") : ptx.index("wgmma.commit_group")]
    assert len(set(re.findall(r"%f\d+", multiply))) == tile.columns // 2
    assert not set(re.findall(r"%f\d+", multiply)) & set(re.findall(r"%f\d+", between))  # sums, while they change
    for text in re.split("bar.sync", ptx)[:2]:
        assert text.rindex("st.shared") < text.index("fence.proxy.async.shared::cta", text.rindex("st.shared"))
    used = recorder.used_by(launched.name, ptx, "sm_90a")
    assert (used.spills, used.stack, used.serialized) == (0, 0, False)
    assert 0 < used.shared <= 48 << 10
    with pytest.raises(DeviceError, match="wgmma"):
        recorder.used_by(launched.name, ptx.replace("sm_90a", "sm_90"), "sm_90")


COMMIT = "wgmma.commit_group.sync.aligned;"


@pytest.mark.parametrize(
    "old, new", [(COMMIT, f"{COMMIT} add.f32 SUM, SUM, SUM;"), ("wgmma.fence.sync.aligned;", "")], ids=["wait", "fence"]
)
def test_what_ptxas_adds_to_wgmma_is_seen(old, new):
    """A sum that is changed while instructions add to it; instructions that do not begin with a fence."""
    launched, kernel = next(pair for pair in products("wgmma") if pair[0].key[0].compute == "tf32")
    ptx = recorder._ptx(launched, kernel, (9, 0))
    assert not recorder.used_by(launched.name, ptx, "sm_90a").serialized
    a_sum = re.search(r"wgmma\.mma_async[^{]*\{(%f\d+)", ptx)[1]
    assert recorder.used_by(launched.name, ptx.replace(old, new.replace("SUM", a_sum)), "sm_90a").serialized


def test_a_statement_has_the_sums_in_the_order_of_registers():
    """Each sum of a thread is another constant before an instruction, and goes to another place after it."""
    from numba import cuda, float32, uint64

    columns = 64
    many = columns // 4
    begin, wait = warpgroups.instructions(True, columns, 1), warpgroups.wait(columns)

    def kernel(c, of_a, of_b):
        sums = cuda.local.array((2, many), np.float32)
        for i in range(2):
            for j in range(many):
                sums[i, j] = np.float32(1 + i * many + j)
        begin((of_a,), (of_b,), sums)
        wait(sums)
        for i in range(2):
            for j in range(many):
                c[i * many + j] = sums[i, j]

    ptx = cuda.compile_ptx(kernel, (float32[::1], uint64, uint64), cc=warpgroups.CAPABILITY)[0]
    registers = re.findall(r"%f\d+", re.search(r"wgmma\.mma_async[^{]*\{([^}]*)\}", ptx)[1])
    before = {name: int(bits, 16) for name, bits in re.findall(r"mov\.f32 \s*(%f\d+), 0f(\w{8});", ptx)}
    after = {
        name: int(at or 0) // 4 for at, name in re.findall(r"st\.global\.f32 \s*\[%rd\d+(?:\+(\d+))?\], (%f\d+);", ptx)
    }
    wanted = [i * many + j for i, j in warpgroups.registers(columns)]
    assert [np.uint32(before[name]).view(np.float32) - 1 for name in registers] == wanted
    assert [after[name] for name in registers] == wanted
