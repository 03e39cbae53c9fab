"""Fixtures and profiles of the whole suite: the backends under test, each instruction set of the compiled one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from math import prod
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # cases, oracle and layouts, whatever pytest's import mode

from on_numpy import OnNumpy

from fastconv import backends, config
from fastconv.config import cuda_simulated as simulated
from fastconv.geometry import ConvGeometry

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # property tests skip by themselves
    pass
else:
    # The backend fixture chooses once for all examples of a test, which is what is wanted.
    common = {
        "deadline": None,
        "derandomize": True,
        "suppress_health_check": [HealthCheck.function_scoped_fixture],
    }
    settings.register_profile("default", max_examples=25, **common)
    settings.register_profile("ci", max_examples=100, print_blob=True, **common)
    settings.register_profile("simulator", max_examples=3, **common)
    profile = "ci" if os.environ.get("CI") else "default"
    settings.load_profile("simulator" if simulated() else profile)

_MISSING = "not-built"


def _isas() -> tuple[str, ...]:
    """The instruction sets of the compiled backend, or the one entry that says it was not built."""
    try:
        return tuple(import_module("fastconv.backends.cpu.dispatch").available_isas())
    except ModuleNotFoundError:
        return (_MISSING,)


@contextmanager
def _capped(isa: str) -> Iterator[backends.Backend]:
    """Let the compiled backend use ``isa`` at most; skip where it was not built, fail where it must have been."""
    if isa == _MISSING:
        reason = "fastconv.backends.cpu is not built: pip install -e ."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    dispatch = import_module("fastconv.backends.cpu.dispatch")
    dispatch.set_max_isa(isa)
    try:
        yield backends.get("cpu")
    finally:
        dispatch.set_max_isa(config.max_isa())


@pytest.fixture(params=_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once for each instruction set of the compiled backend."""
    with _capped(request.param):
        yield request.param


@contextmanager
def _chosen(name: str) -> Iterator[backends.Backend]:
    if name in DEVICES:
        yield OnNumpy(backends.get(name))
    elif name == "reference":
        yield backends.get(name)
    else:
        with _capped(name) as cpu:
            yield cpu


DEVICES = ("cuda",)  # backends whose arrays are their own
NUMPY = ("reference", *_isas())


def _label(name: str) -> str:
    return name if name in ("reference", *DEVICES) else f"cpu_{name}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", action="store_true", help="run the backends' tests on a GPU too")
    parser.addoption("--all-kernels", action="store_true", help="compile every CUDA kernel, not one of each factory")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the backends: the devices join with --gpu, and in numba's simulator of a GPU they are alone."""
    if "backend" in metafunc.fixturenames:
        chosen = DEVICES if simulated() else NUMPY
        if metafunc.config.getoption("--gpu"):
            chosen = (*NUMPY, *DEVICES)
        metafunc.parametrize("backend", chosen, ids=_label, indirect=True)


MOST_SIMULATED = 8_000  # multiplications of a layer in a test, at 10 us each, where a GPU is simulated
MOST_ELEMENTS = 20_000  # of an array whose shape is a test's parameter


def _multiplications(item: pytest.Item) -> int:
    """Count those of a convolution or a linear layer among a test's parameters."""
    given = getattr(item, "callspec", None)
    given = given.params if given else {}
    geometry = getattr(given.get("case"), "geometry", given.get("geometry"))
    name = given.get("name")
    cases = getattr(item.module, "CASES", None)
    if isinstance(cases, dict) and name in cases and hasattr(item.module, "problem"):
        found = item.module.problem(name, "float32")
        geometry = found[0] if isinstance(found, tuple) else found.geometry
        return 2 * geometry.flops if isinstance(geometry, ConvGeometry) else 0  # as a unit, and its verbs apart
    if isinstance(geometry, ConvGeometry):
        return geometry.flops // 2
    if "i" in given and "o" in given:
        return given.get("n", given.get("batch", 1)) * given["i"] * given["o"]
    return 0


def _elements(item: pytest.Item) -> int:
    """Count those of the largest shape among a test's parameters; a pool's often, as its test pools in many ways."""
    given = getattr(item, "callspec", None)
    given = given.params if given else {}
    pools = getattr(item.module, "POOLS", {})
    if given.get("name") in pools:
        return 15 * prod(pools[given["name"]][1])
    shapes = [value for value in given.values() if isinstance(value, tuple) and value]
    return max((prod(shape) for shape in shapes if all(type(size) is int for size in shape)), default=0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the simulator leave out what takes it seconds, and tests of other backends."""
    if not simulated():
        return
    others = {"isa", "numpy_backend"}
    left_out = [
        item
        for item in items
        if others & set(item.fixturenames)
        or item.path.parent.name == "cpu"
        or _multiplications(item) > MOST_SIMULATED
        or _elements(item) > MOST_ELEMENTS
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[backends.Backend]:
    """Run the test for every backend, called with NumPy arrays, and for each instruction set of the compiled one."""
    with _chosen(request.param) as chosen:
        yield chosen


@pytest.fixture(params=NUMPY, ids=_label)
def numpy_backend(request: pytest.FixtureRequest) -> Iterator[backends.Backend]:
    """The backends whose arrays are NumPy's."""
    with _chosen(request.param) as chosen:
        yield chosen


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names that all processes of a parallel run find: no addresses, and nothing of bytes, which may hold the time."""
    if isinstance(val, bytes):
        return "bytes"
    return getattr(val, "__qualname__", None) if callable(val) else None
