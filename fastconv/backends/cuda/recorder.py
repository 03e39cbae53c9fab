"""A machine without a device: it notes which kernels would be started, and compiles them to PTX and machine code.

What a kernel costs in registers and shared memory is known so where there is no GPU.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ...errors import DeviceError, mismatch
from . import launch

_USED = {
    "registers": re.compile(r"Used (\d+) registers"),
    "stack": re.compile(r"(\d+) bytes stack frame"),
    "spills": re.compile(r"(\d+) bytes spill stores"),
    "shared": re.compile(r"(\d+) bytes smem"),
}
_SERIALIZED = re.compile(r"\(C75\d\d\)|wgmma.* serialized")  # 7510 to 7515; 7517 to 7519: a wait, a fence is injected


class Launch(NamedTuple):
    """A kernel, as its factory and key, with the types of its arguments."""

    name: str
    key: tuple
    types: tuple


class Usage(NamedTuple):
    """What ptxas says of a kernel: registers a thread, bytes of stack and of spilled registers, bytes a block; and
    whether it lets ``wgmma`` wait where the kernel does not, as it does where something touches the sums meanwhile."""

    registers: int
    stack: int
    spills: int
    shared: int
    serialized: bool


class _Nowhere:
    """Memory that is not there."""

    def __init__(self, dtype: np.dtype | None = None) -> None:
        self.dtype = dtype

    def __getitem__(self, key: Any) -> _Nowhere:
        return self

    def view(self, dtype: np.dtype) -> _Nowhere:
        return _Nowhere(np.dtype(dtype))

    def copy_to_device(self, *args: Any, **kwargs: Any) -> None:
        pass

    def copy_to_host(self, target: np.ndarray, stream: Any) -> None:
        target[...] = 0


class _Done:
    def synchronize(self) -> None:
        pass

    def record(self, stream: Any) -> None:
        pass


class Recorder(launch.Machine):
    """Stands in for a device (``launch.use``) and keeps each different launch. Arrays hold nothing: zeros come back."""

    runs = False
    processors = 132
    capability = (9, 0)

    def __init__(self) -> None:
        if find_spec("numba_cuda") is None:
            raise DeviceError(mismatch("cuda", "numba-cuda", "no such package"))
        from numba import cuda

        self.cuda, self.math, self.stream = cuda, math, _Done()
        self.kernels: dict[Launch, Callable] = {}
        self._origins: dict[Callable, tuple[str, tuple]] = {}

    def compile(self, kernel: Callable, identity: str) -> Callable:
        return kernel

    def note(self, make: Callable, key: tuple, kernel: Callable) -> None:
        """Remember where a kernel comes from."""
        self._origins[kernel] = f"{make.__module__.rpartition('.')[2]}.{make.__name__}", key

    def allocate(self, nbytes: int) -> _Nowhere:
        return _Nowhere()

    def address(self, memory: Any) -> int:
        return 0

    def begin(self) -> None:
        pass

    def end(self) -> Callable[[], None]:
        return lambda: None

    def abandon(self) -> None:
        pass

    def copy_at_once(self, memory: Any, values: np.ndarray) -> None:
        pass

    def free_memory(self) -> int | None:
        return None

    def pinned(self, nbytes: int) -> np.ndarray:
        return np.zeros(nbytes, np.uint8)

    def event(self) -> _Done:
        return _Done()

    def start(self, compiled: Any, grid: Any, block: Any, arguments: Sequence[Any]) -> None:
        name, key = self._origins[compiled]
        self.kernels[Launch(name, key, tuple(map(_type, arguments)))] = compiled

    def synchronize(self) -> None:
        pass


def _type(argument: Any) -> Any:
    """Return the type of a kernel's argument that numba's launcher sees: names of kernels on disk hold these."""
    from numba import from_dtype
    from numba.cuda import types
    from numba.cuda.typing.typeof import typeof

    if isinstance(argument, _Nowhere):
        return types.Array(from_dtype(argument.dtype), 1, "C")
    return typeof(argument)


@cache
def ptxas() -> Path | None:
    """Return the assembler of the installed CUDA packages, or None."""
    found = find_spec("nvidia")
    for folder in found.submodule_search_locations if found else ():
        for path in sorted(Path(folder).glob("cu1*/bin/ptxas")) + sorted(Path(folder).glob("cuda_nvcc/bin/ptxas")):
            return path
    return None


@contextmanager
def _pretended(capability: tuple[int, int]) -> Iterator[None]:
    """Let numba compile what it replaces built-in functions with: it asks the device for its capability then."""
    from numba.cuda import dispatcher

    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


def usage(recorded: Launch, kernel: Callable, capabilities: Sequence[tuple[int, int]]) -> list[Usage | None]:
    """Compile a kernel for the lowest of some compute capabilities, as (8, 0), assemble it for each of them, and return
    what it uses there; None where it cannot run."""
    ptx, only = _ptx(recorded, kernel, min(capabilities)), _only(kernel)
    architectures = [only or "sm_{}{}".format(*c) for c in capabilities]
    return [
        used_by(recorded.name, ptx, architecture) if architecture.startswith("sm_{}{}".format(*c)) else None
        for c, architecture in zip(capabilities, architectures, strict=True)
    ]


def used_by(name: str, ptx: str, architecture: str) -> Usage:
    """Return what a kernel uses on an architecture."""
    said = _assembled(name, ptx, architecture)[1]
    found = {field: pattern.search(said) for field, pattern in _USED.items()}
    numbers = {field: int(match[1]) if match else 0 for field, match in found.items()}
    return Usage(**numbers, serialized=_SERIALIZED.search(said) is not None)


def machine_code(
    recorded: Launch, kernel: Callable, capability: tuple[int, int], architectures: Sequence[str]
) -> tuple[str, dict[str, bytes]]:
    """Compile a kernel for a compute capability; return its entry's name, and machine code for each of these
    architectures on which it runs."""
    entry, only = "kernel", _only(kernel)
    ptx = _renamed(_ptx(recorded, kernel, capability), entry)
    return entry, {a: _assembled(recorded.name, ptx, a)[0] for a in architectures if only in (None, a)}


def _only(kernel: Callable) -> str | None:
    """Return the architecture without which a kernel's instructions are not there, as sm_90a, or None."""
    capability = getattr(kernel, "capability", None)
    return capability and "sm_{}{}{}".format(*capability)


def _renamed(ptx: str, entry: str) -> str:
    """Give a kernel and its shared memory other names, and take out what no instruction uses: numba's names count the
    functions that a process has compiled, while machine code shall be the same whatever was compiled before.

    >>> _renamed(".common .global NumbaEnv_f_v7;\\n.shared _cudapy_smem_9[4];\\n.entry f_v7(.param f_v7_param_0)", "k")
    '.shared k_memory0[4];\\n.entry k(.param k_param_0)'
    """
    ptx = re.sub(r"^\.common \.global .*NumbaEnv.*\n", "", ptx, flags=re.MULTILINE)
    names = {re.search(r"\.entry\s+([\w$]+)", ptx)[1]: entry}
    for i, name in enumerate(dict.fromkeys(re.findall(r"\b_cudapy_\w+", ptx))):
        names[name] = f"{entry}_memory{i}"
    known = "|".join(map(re.escape, names))
    return re.sub(rf"\b({known})(?=\b|_)", lambda match: names[match[1]], ptx)


def _ptx(recorded: Launch, kernel: Callable, capability: tuple[int, int]) -> str:
    from numba import cuda

    bounds = getattr(kernel, "options", {}).get("launch_bounds")
    capability = getattr(kernel, "capability", capability)  # the only one that has a kernel's instructions
    with _pretended(capability[:2]):
        return cuda.compile_ptx(kernel, recorded.types, cc=capability, launch_bounds=bounds)[0]


def _assembled(name: str, ptx: str, architecture: str) -> tuple[bytes, str]:
    """Return machine code, and what ptxas says of it."""
    if ptxas() is None:
        raise DeviceError(mismatch("cuda", "ptxas (pip install nvidia-cuda-nvcc, part of fastconv[cuda13])", "none"))
    with TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        code = source.with_suffix(".cubin")
        command = [str(ptxas()), f"-arch={architecture}", "-v", str(source), "-o", str(code)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise DeviceError(mismatch(f"ptxas for {name}", "PTX that it takes", run.stderr.strip()))
        return code.read_bytes(), run.stderr
