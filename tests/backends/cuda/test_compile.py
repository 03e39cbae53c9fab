"""Kernels become machine code for sm_80 and sm_90 without a GPU: one of each factory, or with --all-kernels all.

It needs the packages of the extra ``cuda13`` (or ``cuda12``), and the source tree.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from fastconv import config
from fastconv.backends.cuda import launch, recorder

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
        for used in recorder.usage(launched, kernel, driver().CAPABILITIES):
            what = f"{launched.name} {driver().text_of(launched.key)}: {used}"
            assert used.registers > 0, what
            assert used.shared <= 48 << 10, what
            assert launched.name in MAY_SPILL or not used.spills, what
            assert launched.name != "product.product" or not used.stack, what  # sums would lie in memory
