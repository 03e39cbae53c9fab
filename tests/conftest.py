"""Fixtures and profiles of the whole suite: the backends under test, each instruction set of the compiled one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # cases, oracle and layouts, whatever pytest's import mode

from on_numpy import OnNumpy

from fastconv import backends, config

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
    settings.load_profile("ci" if os.environ.get("CI") else "default")

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


DEVICES: tuple[str, ...] = ()  # backends whose arrays are their own
NUMPY = ("reference", *_isas())


def _label(name: str) -> str:
    return name if name in ("reference", *DEVICES) else f"cpu_{name}"


@pytest.fixture(params=[*NUMPY, *DEVICES], ids=_label)
def backend(request: pytest.FixtureRequest) -> Iterator[backends.Backend]:
    """Run the test for every backend, called with NumPy arrays, and for each instruction set of the compiled one."""
    with _chosen(request.param) as chosen:
        yield chosen


@pytest.fixture(params=NUMPY, ids=_label)
def numpy_backend(request: pytest.FixtureRequest) -> Iterator[backends.Backend]:
    """The backends whose arrays are NumPy's."""
    with _chosen(request.param) as chosen:
        yield chosen
