"""Tensors out of the files of ``torch.save``, without PyTorch and without running their pickles.

Since PyTorch 1.6 such a file is a zip archive without compression: ``NAME/data.pkl`` is a pickle that builds the saved
object and refers to storages, ``NAME/data/KEY`` are their bytes, ``NAME/byteorder`` says which comes first. Before,
it was a sequence: four pickles (a magic number, a version, facts on the machine, the object), one of the storages'
keys, then each storage as a count and its bytes. (torch/serialization.py describes both.) A tensor is a storage with
an offset, sizes and strides; those that share a storage share memory here as well.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..errors import CheckpointError, mismatch
from . import pickles
from .pickles import Name, Persistent, Refused
from .safetensors import from_bfloat16, widened

_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = pickle.dumps(_MAGIC, protocol=2)
_STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bf16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1",
    "ByteStorage": "|u1", "BoolStorage": "|b1",
}  # fmt: skip
_DAMAGED = (
    ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, EOFError, NotImplementedError,
    RuntimeError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


class _Stored(NamedTuple):
    """A tensor as the pickle describes it."""

    storage: Any
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Storage(NamedTuple):
    """A storage as a tensor refers to it: where its bytes are found, and what they are."""

    key: str
    dtype: str
    count: int


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Stored:
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
        raise ValueError("sizes that are none")
    return _Stored(_storage(storage), offset, tuple(size), tuple(stride))


def _storage(reference: Any) -> _Storage:
    if type(reference) is not Persistent:
        raise ValueError("a tensor without a storage")
    kind, name, key, _, count, *view = reference.id
    if kind != "storage" or type(name) is not Name or type(key) is not str or type(count) is not int:
        raise ValueError("a reference to no storage")
    if any(part is not None for part in view):
        raise Refused("a view of a storage")
    if name.name not in _STORAGES:
        raise Refused(f"{name}")
    return _Storage(key, _STORAGES[name.name], count)


def _ordered(items: Sequence[tuple[Any, Any]] = ()) -> dict:
    return pickles._filled({}, [part for item in items for part in item])


# What a file may name, and what a call of it means.
_NAMES: dict[Name, Callable[..., Any] | None] = {
    Name("collections", "OrderedDict"): _ordered,
    Name("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    Name("torch", "Size"): lambda sizes=(): tuple(sizes),
    **{Name("torch", name): None for name in _STORAGES},
}


def recognises(data: bytes) -> bool:
    """Whether a file's contents begin as one of ``torch.save``, or as any pickle."""
    pickled = data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return data[:4] == b"PK\3\4" or (pickled and data[8:9] != b"{")  # a safetensors header begins there


def parse(op: str, path: str | os.PathLike[str], data: bytes, key: str | None) -> dict[str, np.ndarray]:
    """Return the tensors by name: of the dict that was saved, or of its entry ``key``.

    Raises:
        CheckpointError: the file is damaged, big-endian, asks for anything but tensors and plain values, or there is
            no such dict.
    """
    try:
        tree, storage = _unzipped(data) if data[:2] == b"PK" else _legacy(data)
        return _arrays(_entry(tree, key), storage)
    except Refused as what:
        text = f"{path} to hold tensors and plain values (in PyTorch: torch.save(model.state_dict(), ...))"
        raise CheckpointError(mismatch(op, text, f"{what}, which was not run")) from None
    except CheckpointError as what:
        raise CheckpointError(f"{op}: {path}: {what}") from None
    except _DAMAGED as error:
        raise CheckpointError(
            mismatch(op, f"{path} to be a whole file of torch.save", f"a damaged or foreign one ({error})")
        ) from None


def _unzipped(data: bytes) -> tuple[Any, Callable[[_Storage], Any]]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise ValueError("names that stand twice")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise ValueError("compressed entries")
    if sum(entry.file_size for entry in entries.values()) > len(data):  # a small file stays small
        raise ValueError("entries of more bytes than the file has")
    roots = [name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError("no data.pkl")

    def member(name: str) -> bytes:
        return archive.read(entries[roots[0] + name])  # nothing is unpacked to the disk

    if roots[0] + "byteorder" in entries and member("byteorder") != b"little":
        raise Refused("big-endian numbers")
    tree = pickles.read(io.BytesIO(member("data.pkl")), _NAMES)
    return tree, lambda storage: member(f"data/{storage.key}")


def _legacy(data: bytes) -> tuple[Any, Callable[[_Storage], Any]]:
    stream = io.BytesIO(data)
    if not data.startswith(_LEGACY):
        pickles.read(stream, _NAMES)  # says what it asks for, if that is refused
        raise ValueError("a pickle of something else")
    _, version, machine, tree = (pickles.read(stream, _NAMES) for _ in range(4))
    if version != 1001:
        raise ValueError(f"version {version}")
    if not machine["little_endian"]:
        raise Refused("big-endian numbers")
    keys = pickles.read(stream, _NAMES)
    widths = {storage.key: _width(storage) for storage in _storages(tree)}
    places: dict[str, Any] = {}
    view = memoryview(data)
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        if key not in widths:
            raise Refused(f"a storage {key!r} beside those of the state dict")
        start = stream.tell()
        stream.seek(start + count * widths[key])
        places[key] = view[start : stream.tell()]
    return tree, lambda storage: places[storage.key]


def _width(storage: _Storage) -> int:
    return 2 if storage.dtype == "bf16" else np.dtype(storage.dtype).itemsize


def _storages(tree: Any) -> list[_Storage]:
    """Return the storages of all tensors in a tree, each part of which is looked at once."""
    found, left, seen = [], [tree], set()
    while left:
        node = left.pop()
        if isinstance(node, _Stored):
            found.append(node.storage)
        elif isinstance(node, dict | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            left += node.values() if isinstance(node, dict) else node
    return found


def _entry(tree: Any, key: str | None) -> dict[str, _Stored]:
    """Return the dict of tensors that ``key`` leads to."""
    node = tree
    for part in key.split(".") if key is not None else ():
        if not isinstance(node, dict) or part not in node:
            raise CheckpointError(f"expected an entry {key!r}, got {_described(node)}")
        node = node[part]
    if not isinstance(node, dict) or not all(type(k) is str and type(v) is _Stored for k, v in node.items()):
        raise CheckpointError(
            f"expected a dict of names to tensors{' at ' + repr(key) if key is not None else ''}, "
            f"got {_described(node)}; its entry is chosen by `key`"
        )
    return node


def _described(node: Any) -> str:
    if not isinstance(node, dict):
        return _kind(node)
    return "a dict of " + ", ".join(f"{key!r} ({_kind(value)})" for key, value in node.items())


def _kind(node: Any) -> str:
    return "tensor" if isinstance(node, _Stored) else type(node).__name__


def _arrays(tensors: dict[str, _Stored], contents: Callable[[_Storage], Any]) -> dict[str, np.ndarray]:
    flat: dict[_Storage, np.ndarray] = {}
    arrays = {}
    for name, (storage, offset, size, stride) in tensors.items():
        if storage not in flat:
            flat[storage] = _numbers(storage, contents(storage))
        numbers = flat[storage]
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if prod(size) and (last >= numbers.size or prod(size) > numbers.size):
            raise ValueError(f"{name} of size {size} in a storage of {numbers.size}")
        if not prod(size):
            arrays[name] = np.zeros(size, numbers.dtype)
        else:
            steps = [step * numbers.itemsize for step in stride]
            arrays[name] = np.lib.stride_tricks.as_strided(numbers[offset:], size, steps)
    return arrays


def _numbers(storage: _Storage, data: Any) -> np.ndarray:
    if storage.count * _width(storage) != len(data):
        raise ValueError(f"a storage of {storage.count} numbers in {len(data)} bytes")
    if storage.dtype == "bf16":
        return from_bfloat16(np.frombuffer(data, "<u2"))
    return widened(np.frombuffer(data, storage.dtype).copy())
