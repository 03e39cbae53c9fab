"""The compiled kernels that a wheel for GPUs brings along: what they are for, and whether they are found here.

Their names hold the versions of the compiler: another one, be it a patch release, may pass arguments another way. So
with another one none of them is found, and each kernel is compiled when it is first needed. That is said here, since
nothing else shows it but the time it takes.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ... import config
from ...errors import mismatch
from . import kernel_cache

_LIST = "made.json"
_COST = "each kernel is compiled when it is first needed, about a second each, and kept"


class Made(NamedTuple):
    """What kernels were compiled from and with: a digest of both, and the versions of the compiler."""

    stamp: str
    compiler: dict[str, str]


def _made_here() -> Made:
    return Made(kernel_cache.stamp(), kernel_cache.compiler())


def sign(folder: Path) -> None:
    """Leave in a folder of kernels what they were made from and with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _LIST).write_text(json.dumps(_made_here()._asdict(), indent=1) + "\n", encoding="utf-8")


def _signed() -> Made | None:
    try:
        return Made(**json.loads((kernel_cache.PREBUILT / _LIST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def unused(capability: tuple[int, int] | None = None) -> str | None:
    """Return why the kernels that came along are not used here, on a device of a compute capability where that is
    known. Nothing where they are, or where none came."""
    if not kernel_cache.PREBUILT.is_dir() or config.cuda_simulated() or find_spec("numba_cuda") is None:
        return None
    made, here = _signed(), _made_here()
    if made is None:
        return _sentence(f"the file {_LIST} beside them", "none that can be read")
    if made.compiler != here.compiler:
        return _sentence(*(", ".join(map(" ".join, each.compiler.items())) for each in (made, here)))
    if made.stamp != here.stamp:
        return _sentence("the sources that they were compiled from", "changed ones")
    if capability is not None and capability[0] not in kernel_cache.ARCHITECTURES:
        known = " or ".join(f"{major}.x" for major in kernel_cache.ARCHITECTURES)
        return _sentence(f"a GPU of compute capability {known}", "{}.{}".format(*capability))
    return None


def _sentence(expected: str, actual: str) -> str:
    return f"{mismatch('prebuilt kernels', expected, actual)}; {_COST}"


_warned: set[tuple[int, int]] = set()  # marked before it is said: where warnings are errors, once is enough too


def warn_once(capability: tuple[int, int]) -> None:
    """Say why a kernel that may have come along is compiled all the same, the first time that one is."""
    if capability in _warned:
        return
    _warned.add(capability)
    if reason := unused(capability):
        warnings.warn(reason, RuntimeWarning, stacklevel=2)
