"""The only place that reads FASTCONV_* variables and asks what the machine and the installation offer."""

from __future__ import annotations

import os
import platform
import tempfile
from functools import cache
from pathlib import Path

from .errors import ArgumentError, mismatch

_BACKENDS = ("cpu", "reference")
COMPUTE = ("float32", "bf16", "tf32")
ISAS = ("scalar", "avx2", "avx512", "neon", "avx512_bf16")


def _choice(variable: str, known: tuple[str, ...], default: str) -> str:
    value = os.environ.get(variable, "").strip().lower() or default
    if value not in known:
        raise ArgumentError(mismatch(variable, f"one of {', '.join(known)}", repr(value)))
    return value


def numpy_backend() -> str:
    """FASTCONV_BACKEND: the backend that serves NumPy arrays, ``cpu`` (default) or ``reference``."""
    return _choice("FASTCONV_BACKEND", _BACKENDS, "cpu")


def max_isa() -> str | None:
    """FASTCONV_MAX_ISA: the widest instruction set that kernels may use; None where it is not set."""
    return _choice("FASTCONV_MAX_ISA", ISAS, "") if os.environ.get("FASTCONV_MAX_ISA") else None


def exact() -> bool:
    """FASTCONV_EXACT=1: no algorithm that transforms its operands (Winograd) unless a call asks for it."""
    return _choice("FASTCONV_EXACT", ("0", "1"), "0") == "1"


def compute() -> str:
    """FASTCONV_COMPUTE: in which numbers float32 operands are multiplied, ``float32`` (default), ``bf16``, ``tf32``."""
    return _choice("FASTCONV_COMPUTE", COMPUTE, "float32")


def fuse() -> bool:
    """FASTCONV_FUSE: whether a Sequential runs a convolution with its ReLU and max-pool as one; 0 is no."""
    return _choice("FASTCONV_FUSE", ("0", "1"), "1") == "1"


def cuda_sync() -> bool:
    """FASTCONV_SYNC=1: wait after each kernel on a GPU, so that a fault is reported with its operation's name."""
    return _choice("FASTCONV_SYNC", ("0", "1"), "0") == "1"


def wgmma() -> bool:
    """FASTCONV_WGMMA: whether tensor cores of compute capability 9.0 multiply by ``wgmma``; 0: by ``mma.sync``."""
    return _choice("FASTCONV_WGMMA", ("0", "1"), "1") == "1"


def cuda_simulated() -> bool:
    """NUMBA_ENABLE_CUDASIM=1, numba's own variable: kernels for GPUs run in its simulator, for tests."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0").strip() not in ("", "0")


def num_threads() -> int:
    """FASTCONV_NUM_THREADS, or the processors that this process may use (affinity and cgroup limits counted in)."""
    value = os.environ.get("FASTCONV_NUM_THREADS", "").strip()
    if value:
        if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= 1):
            raise ArgumentError(mismatch("FASTCONV_NUM_THREADS", "a whole number of at least 1", repr(value)))
        return int(value)
    return available_processors()


@cache
def weight_cache_bytes() -> int:
    """FASTCONV_WEIGHT_CACHE: bytes of packed weights, and copies of them, that inference keeps between calls.

    The default is 256 MB; 0 keeps nothing. Read once: this stands on the path of every layer.
    """
    value = os.environ.get("FASTCONV_WEIGHT_CACHE", "").strip() or str(256 << 20)
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise ArgumentError(mismatch("FASTCONV_WEIGHT_CACHE", "a whole number of bytes", repr(value)))
    return int(value)


def available_processors() -> int:
    """Count the processors that this process may use: affinity, then the cgroup's quota (v2 and v1)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, int(quota + 0.5))) if quota else count


def _cgroup_quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        limit_us = int((folder / "cpu.cfs_quota_us").read_text())
        return None if limit_us <= 0 else limit_us / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None


def tuned() -> Path | None:
    """FASTCONV_TUNED: a file of verdicts that ``fastconv.tune`` wrote, 1 for the one in the cache; None if not set."""
    value = os.environ.get("FASTCONV_TUNED", "").strip()
    if value in ("", "0"):
        return None
    return tuned_file() if value == "1" else folder("FASTCONV_TUNED", value)


def tuned_file() -> Path:
    """Where ``fastconv.tune`` keeps its verdicts if it is not told."""
    return cache_dir() / "tuned.json"


def processor() -> str:
    """The processor's name with its family and model, as a cloud's name may say too little."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        fields = {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in lines if ":" in line)}
        return "{model name}, family {cpu family}, model {model}".format_map(fields)
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def data_dir() -> Path | None:
    """FASTCONV_DATA: the folder with data sets (``mnist/``, ``fashion-mnist/``, ...); None where it is not set."""
    value = os.environ.get("FASTCONV_DATA", "").strip()
    return folder("FASTCONV_DATA", value) if value else None


def cache_dir() -> Path:
    """FASTCONV_CACHE, or the user's cache folder: where downloads are kept."""
    value = os.environ.get("FASTCONV_CACHE", "").strip()
    if value:
        return folder("FASTCONV_CACHE", value)
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    try:
        return (Path(base) if base else Path.home() / ".cache") / "fastconv"
    except RuntimeError:  # a user without a home, as containers have
        return Path(tempfile.gettempdir()) / "fastconv"


def folder(name: str, value: str | os.PathLike[str]) -> Path:
    """Return the path that the option or variable ``name`` holds, ``~`` as the home folder.

    Raises:
        ArgumentError: there is no such home.
    """
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ArgumentError(mismatch(name, "a folder", f"{str(value)!r}, a home that is not known")) from None
