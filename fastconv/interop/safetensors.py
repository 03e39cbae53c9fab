"""The safetensors format (https://huggingface.co/docs/safetensors): arrays by name and a few strings, read and written.

Written by us, so that equal contents are equal files, atomically, with a checksum; read by the ``safetensors`` package,
whose checks of hostile headers are audited. What is made of the arrays is said elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.files import write_atomic
from ..errors import CheckpointError, mismatch

CHECKSUM = "fastconv.sha256"  # the metadata entry that carries it
_CODES = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8",
    "<u8": "U64", "<u4": "U32", "<u2": "U16", "|u1": "U8", "|b1": "BOOL",
}  # fmt: skip
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


def write(op: str, path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], strings: Mapping[str, str]) -> None:
    """Write ``arrays`` in their order, wider dtypes first, and ``strings``, the file's metadata.

    Raises:
        CheckpointError: a dtype that the format lacks, or the file cannot be written; what stood there is intact.
    """
    stored = {name: _storable(op, name, array) for name, array in arrays.items()}
    stored = dict(sorted(stored.items(), key=lambda item: -item[1].itemsize))  # each then lies at a multiple of its own
    head: dict[str, Any] = {"__metadata__": {**strings, CHECKSUM: _digest(stored, strings)}}
    place = 0
    for name, array in stored.items():
        ends = [place, place := place + array.nbytes]
        head[name] = {"dtype": _CODES[array.dtype.str], "shape": list(array.shape), "data_offsets": ends}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    try:
        write_atomic(path, len(text).to_bytes(8, "little"), text, *map(_bytes, stored.values()))
    except OSError as error:
        reason = f"{error.strerror or error}; nothing was overwritten"
        raise CheckpointError(mismatch(op, f"{path} to be writable", reason)) from None


def contents(op: str, path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file.

    Raises:
        CheckpointError: it is missing, cannot be read, or does not fit into memory.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(mismatch(op, f"a file {path}", "none there")) from None
    except OSError as error:
        raise CheckpointError(mismatch(op, f"{path} to be readable", error.strerror or error)) from None
    except MemoryError:
        raise CheckpointError(mismatch(op, f"{path} to fit into memory", "more than there is")) from None


def parse(
    op: str, path: str | os.PathLike[str], data: bytes, verified: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and strings in ``data``, the file's contents; bfloat16, which NumPy lacks, as float32.

    Raises:
        CheckpointError: it is damaged or no such file, holds a dtype that NumPy lacks, or its checksum, which only
            files by ``write`` have, is not that of the contents; with ``verified`` also one without a checksum.
    """
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(data)
        strings = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RecursionError):
        raise CheckpointError(
            mismatch(op, f"{path} to be a whole safetensors file", "a damaged or foreign one")
        ) from None
    arrays = {name: _array(op, path, name, **entry) for name, entry in entries}
    stated = strings.pop(CHECKSUM, None)
    if verified and stated is None:
        raise CheckpointError(mismatch(op, f"{path} to be written by fastconv", "a foreign file"))
    if stated is not None and stated != _digest(arrays, strings):
        raise CheckpointError(mismatch(op, f"{path} to match its SHA-256", "altered contents"))
    return arrays, strings


def widened(array: np.ndarray) -> np.ndarray:
    """Return float16 as float32, anything else as it is."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def from_bfloat16(words: np.ndarray) -> np.ndarray:
    """Return bfloat16 numbers, given as uint16, as float32: they are its upper halves."""
    return (words.astype(np.uint32) << 16).view(np.float32)


def _array(op: str, path: Any, name: str, *, dtype: str, shape: list[int], data: Any) -> np.ndarray:
    known = "<u2" if dtype == "BF16" else _DTYPES.get(dtype)
    if known is None:
        raise CheckpointError(mismatch(op, f"{name} in {path} of a dtype that NumPy has, or BF16", dtype))
    array = np.frombuffer(data, known).reshape(shape)
    if dtype == "BF16":
        return from_bfloat16(array)
    return array if array.flags.writeable and array.flags.aligned else array.copy()


def _storable(op: str, name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, array.dtype.newbyteorder("<"))
    if array.dtype.str not in _CODES:
        raise CheckpointError(mismatch(op, f"{name} of numbers that a file can hold", array.dtype))
    return array if array.flags.c_contiguous else array.copy("C")


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _digest(arrays: Mapping[str, np.ndarray], strings: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(strings), sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}\0".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()
