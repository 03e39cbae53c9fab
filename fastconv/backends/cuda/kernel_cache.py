"""Compiled kernels on disk: in the user's cache, and those that a wheel for GPUs brings along.

numba's own cache does not serve: it looks at one source file, while kernels are made of functions from several, and its
keys hold the random names of intrinsics, so that a second process finds nothing. Here a kernel's name is a digest of
all sources of this folder, of the compiler's version, of the factory with its key, and of the arguments' types. What
is kept is machine code and the name of its entry, no pickles.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any

from ... import config

PREBUILT = Path(__file__).parent / "prebuilt"
ARCHITECTURES = {8: "sm_80", 9: "sm_90a", 10: "sm_100"}  # of prebuilt code, by the major compute capability
_CHANGED = (ImportError, AttributeError, TypeError)  # private parts of numba-cuda are not what they were


def text(value: Any) -> str:
    """Return a part of a factory's key as text that is the same in every process.

    >>> text((float, "rows", 4))
    "(builtins.float, 'rows', 4)"
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(text, value))})"
    if isinstance(value, FunctionType):
        inside = [text(cell.cell_contents) for cell in value.__closure__ or ()]
        return f"{value.__module__}.{value.__qualname__}{inside or ''}"
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else repr(value)


def sources() -> Iterator[Path]:
    """Yield the files whose functions kernels are made of, in a fixed order."""
    yield from sorted(Path(__file__).parent.glob("*.py"))


def compiler() -> dict[str, str]:
    """Return the versions of what compiles kernels."""
    from numba import cuda

    toolkit = ".".join(map(str, cuda.runtime.get_version()))
    return {"numba": version("numba"), "numba-cuda": version("numba-cuda"), "CUDA": toolkit}


@cache
def stamp() -> str:
    """Return what all kernels have in common: a digest of their sources, and of what compiles them."""
    found = sha256(json.dumps(compiler()).encode())
    for path in sources():
        found.update(b"\0" + path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def digest(identity: str, types: Any) -> str:
    """Return the name of a kernel's code: ``identity`` is its factory's name and key, ``types`` are its arguments'."""
    return sha256(f"{stamp()} {identity} {tuple(types)}".encode()).hexdigest()[:32]


def identity(name: str, key: tuple) -> str:
    return f"{name.removeprefix('fastconv.backends.cuda.')} {text(key)}"


def packed(entry: str, cubin: bytes) -> bytes:
    """Return a file's content: a line of JSON, then machine code."""
    return json.dumps({"entry": entry}).encode() + b"\n" + cubin


def unpacked(content: bytes) -> tuple[str, bytes]:
    """Return the entry's name and the machine code."""
    line, _, cubin = content.partition(b"\n")
    return json.loads(line)["entry"], cubin


def write(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def places(name: str, capability: tuple[int, int]) -> list[Path]:
    """Return where a kernel's code may lie: with the package, then in the user's cache, which is written to."""
    major, minor = capability
    own = config.cache_dir() / "cuda" / stamp() / f"sm_{major}{minor}" / name
    architecture = ARCHITECTURES.get(major)
    return [*([PREBUILT / architecture / name] if architecture else []), own]


class KernelCache:
    """Takes the place of the cache of one of numba's dispatchers, that of a kernel ``identity``; ``missed`` is called
    with the compute capability where there is no such kernel."""

    def __init__(self, identity: str, capability: tuple[int, int], missed: Callable[[tuple], None]) -> None:
        self.identity, self.capability, self.missed = identity, tuple(capability), missed

    @property
    def cache_path(self) -> str:
        return str(config.cache_dir() / "cuda" / stamp())

    def load_overload(self, types: Any, target_context: Any) -> Any:
        """Return the kernel for these types of arguments, or None."""
        for path in places(digest(self.identity, types), self.capability):
            try:
                return rebuilt(*unpacked(path.read_bytes()), types, self.capability)
            except (OSError, ValueError, KeyError, *_CHANGED):  # not there, not whole, or for another numba-cuda
                continue
        self.missed(self.capability)
        return None

    def save_overload(self, types: Any, kernel: Any) -> None:
        """Keep a kernel that was compiled; a folder that cannot be written to is no error."""
        *_, path = places(digest(self.identity, types), self.capability)
        with suppress(OSError, *_CHANGED):
            linked = kernel.library.get_cubin(numba_capability(self.capability))
            write(path, packed(kernel.entry_name, linked.code))

    def flush(self) -> None:
        """Nothing to forget: names change with what they stand for."""

    enable = disable = flush


def numba_capability(capability: tuple[int, int]) -> tuple[int, int, str]:
    """Return a compute capability as numba-cuda names what it compiles for."""
    return (*capability, "a" if capability >= (9, 0) else "")


def rebuilt(entry: str, cubin: bytes, types: Any, capability: tuple[int, int]) -> Any:
    """Return numba's kernel of machine code."""
    from cuda.core import ObjectCode
    from numba.cuda import types as kinds
    from numba.cuda.codegen import CUDACodeLibrary
    from numba.cuda.dispatcher import _Kernel

    library = CUDACodeLibrary._rebuild(
        codegen=None, name=entry, entry_name=entry, llvm_strs=[], ptx_cache={}, linkerinfo_cache={},
        cubin_cache={numba_capability(capability): ObjectCode.from_cubin(cubin, name=entry)}, max_registers=None,
        nvvm_options={}, needs_cudadevrt=False, nrt=False, use_cooperative=False, lto=False,
    )  # fmt: skip
    return _Kernel._rebuild(
        cooperative=False, name=entry, signature=kinds.void(*types), codelibrary=library, debug=False, lineinfo=False,
        call_helper=None, extensions=[],
    )  # fmt: skip
