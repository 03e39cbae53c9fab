"""The machine that a result was taken on, and where results go: results/NAME.json, raw samples included."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fastconv
from fastconv import config

RESULTS = Path(__file__).parent / "results"
NEAR = 150  # nanoseconds of a cache line's round trip, at most, between processors that share a cache


def describe() -> dict[str, Any]:
    """Return the processor, what fastconv uses of it, versions and the commit.

    >>> sorted(describe())
    ['commit', 'cpu', 'date', 'isa', 'load', 'processors', 'system', 'threads', 'versions']
    """
    return {
        "cpu": config.processor(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": _isa(),
        "threads": fastconv.get_num_threads() if _isa() else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": _versions(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``result`` and the machine to NAME.json and return the path."""
    path = folder / f"{name}.json"
    write(path, json.dumps({"machine": describe(), **result}, indent=1) + "\n")
    return path


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all, for scripts that may be stopped at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """Let a script's user say where the result goes."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the result (default: bench/results)")


def _isa() -> str | None:
    """The instruction set of the cpu backend; None where it was not built."""
    try:
        return import_module("fastconv.backends.cpu").isa()
    except ModuleNotFoundError:
        return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version(), "fastconv": fastconv.__version__}
    for package in ("numpy", "torch", "jax", "numba", "numba-cuda"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _commit() -> str | None:
    """The commit of the tree, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
