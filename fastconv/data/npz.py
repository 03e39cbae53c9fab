"""NumPy's .npy and .npz files from anywhere: what a header claims is believed once the file's own size allows it.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html in a zip file. No pickle is ever opened.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from ..errors import DataError, mismatch
from .files import is_bomb, read_pieces

_HEADER = 1 << 14  # more bytes than an honest header takes


def read_npz(path: str | os.PathLike[str], max_bytes: int = 1 << 36) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name, in native byte order.

    Args:
        max_bytes: how much the arrays may take in memory, together.

    Raises:
        DataError: the file is missing, truncated, damaged, no archive of plain arrays, or would unpack to more than
            ``max_bytes``, to more than its bytes can hold, or to 64 MB and more than 500 times its size. The message
            names the file and the array.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez_compressed(folder + "/a.npz", x=np.arange(3))
    ...     read_npz(folder + "/a.npz")
    {'x': array([0, 1, 2])}
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(path, members, path.stat().st_size, max_bytes)
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = _array(
                        f"{path}: {member.filename}", file, member.file_size
                    )
            return arrays
    except FileNotFoundError:
        raise DataError(mismatch("read_npz", f"a file {path}", "none there")) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise DataError(mismatch("read_npz", f"{path} to be an intact .npz archive", error)) from None
    except OSError as error:
        raise DataError(mismatch("read_npz", f"{path} to be readable", error.strerror or error)) from None
    except MemoryError:
        raise DataError(mismatch("read_npz", f"{path} to fit into memory", "more than there is")) from None


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array in an .npy file, in native byte order.

    Raises:
        DataError: the file is missing, truncated, damaged, or no plain array; the message names it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/a.npy", np.arange(3))
    ...     read_npy(folder + "/a.npy")
    array([0, 1, 2])
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            return _array(str(path), file, path.stat().st_size)
    except FileNotFoundError:
        raise DataError(mismatch("read_npy", f"a file {path}", "none there")) from None
    except OSError as error:
        raise DataError(mismatch("read_npy", f"{path} to be readable", error.strerror or error)) from None
    except MemoryError:
        raise DataError(mismatch("read_npy", f"{path} to fit into memory", "more than there is")) from None


def _check_sizes(path: Path, members: list[zipfile.ZipInfo], size: int, max_bytes: int) -> None:
    total = sum(member.file_size for member in members)
    if len({member.filename for member in members}) != len(members):
        raise DataError(mismatch("read_npz", f"{path} to name each array once", "a name twice"))
    if sum(member.compress_size for member in members) > size:
        raise DataError(mismatch("read_npz", f"{path} to hold what its directory lists", f"{size:,} bytes"))
    if total > max_bytes:
        raise DataError(mismatch("read_npz", f"{path} to unpack to {max_bytes:,} bytes at most", f"{total:,}"))
    for member in members:
        if is_bomb(member.file_size, max(member.compress_size, 1)):
            claimed = f"{member.filename} of {member.file_size:,} bytes packed into {member.compress_size:,}"
            raise DataError(mismatch("read_npz", f"{path} to hold data", claimed))


def _array(where: str, file: BinaryIO, size: int) -> np.ndarray:
    head = _Head(file)
    try:
        version = np.lib.format.read_magic(head)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, columns_first, dtype = read_header[version](head, max_header_size=_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, TokenError) as error:
        raise DataError(mismatch("read_npz", f"{where} to begin with an .npy header", error)) from None
    if dtype.hasobject or dtype.kind not in "biufc":
        raise DataError(mismatch("read_npz", f"{where} to hold numbers", f"dtype {dtype}"))
    count = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or head.taken + count != size:
        claimed = f"{'x'.join(map(str, shape))} of {dtype} in {size - head.taken:,} bytes"
        raise DataError(mismatch("read_npz", f"{where} to hold {count:,} bytes of values", claimed))
    data = read_pieces(file, count)
    if len(data) < count:
        raise DataError(mismatch("read_npz", f"{where} to hold {count:,} bytes of values", f"{len(data):,}"))
    file.read(1)  # makes zipfile compare its checksum
    try:
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")
    except ValueError as error:  # more axes than NumPy has, or huge ones beside a zero
        raise DataError(mismatch("read_npz", f"{where} to hold an array", error)) from None
    return array.astype(dtype.newbyteorder("="), copy=False)


class _Head:
    """The file while its header is read: counts the bytes, and gives no more than a header has."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.taken = file, 0

    def read(self, count: int) -> bytes:
        data = self.file.read(min(count, _HEADER))
        self.taken += len(data)
        return data
