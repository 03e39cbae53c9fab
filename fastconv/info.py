"""What runs here: versions, processor, threads, backends, data sets found: what ``fastconv info`` shows."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from . import __version__, backends, config
from .data import mnist
from .errors import FastconvError

_PACKAGES = ("numpy", "safetensors", "tqdm", "pillow", "matplotlib")


def collect() -> dict[str, Any]:
    """Return the facts as a dict of plain values.

    >>> sorted(collect())
    ['backends', 'cache', 'data', 'isa', 'machine', 'packages', 'threads', 'version']
    """
    return {
        "version": __version__,
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "processors": config.available_processors(),
        },
        "threads": config.num_threads(),
        "isa": _isa(),
        "backends": {name: _backend(name) for name in ("cpu", "cuda", "reference")},
        "packages": {name: _version(name) for name in _PACKAGES},
        "data": {source.name: _place(source) for source in mnist.SOURCES.values()} | {"digits": "embedded"},
        "cache": str(config.cache_dir()),
    }


def show_config() -> None:
    """Print versions, processor, threads, instruction set, backends and data: what ``fastconv info`` shows."""
    print(text(collect()))


def text(facts: dict[str, Any]) -> str:
    """Return the facts as aligned lines."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name}: {'-' if entry is None else entry}" for name, entry in value.items())
        lines.append(f"{key:<9} {'-' if value is None else value}")
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _backend(name: str) -> str:
    try:
        chosen = backends.get(name)
        reason = _prebuilt() if name == "cuda" else None
    except (FastconvError, ImportError) as error:
        return f"not available ({error})"
    said = "in use" if chosen is backends.for_numpy() else "available"
    return f"{said}; {reason}" if reason else said


def _prebuilt() -> str | None:
    """Why the kernels that came with the package do not serve the GPU that is here; None where they do."""
    cuda = import_module(".backends.cuda.shipped", __package__)
    return cuda.unused(import_module(".backends.cuda.launch", __package__).machine().capability)


def _isa() -> str | None:
    """The instruction set that the cpu backend uses, and those it could."""
    if _backend("cpu").startswith("not"):
        return None
    dispatch = import_module(".backends.cpu.dispatch", __package__)
    return f"{dispatch.isa()} (of {', '.join(dispatch.available_isas())})"


def _place(source: mnist.Source) -> str | None:
    found = mnist.find(source)
    return f"{found[0]} ({found[1]})" if found else None
