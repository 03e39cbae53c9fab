"""The IDX file format of MNIST: big-endian arrays with a small header, plain or gzip-compressed.

Format: http://yann.lecun.com/exdb/mnist (bottom of the page). Files come from anywhere, so nothing a header claims is
believed before the file's own size allows it.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataError, mismatch
from .files import MAX_RATIO, is_bomb, read_pieces

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array in an IDX file, in native byte order; gzip is recognised by its content, not by the name.

    Raises:
        DataError: the file is missing, unreadable, truncated, damaged, too long, or not IDX; the message names it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "three"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    ...     read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read(path, unpacked, size, packed=True)  # type: ignore[arg-type]
            return _read(path, file, size, packed=False)
    except FileNotFoundError:
        raise DataError(mismatch("read_idx", f"a file {path}", "none there")) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(mismatch("read_idx", f"{path} to be intact", f"damaged gzip data ({error})")) from None
    except EOFError:
        raise DataError(mismatch("read_idx", f"{path} to be complete", "a gzip stream that is cut off")) from None
    except OSError as error:
        raise DataError(mismatch("read_idx", f"{path} to be readable", error.strerror or error)) from None
    except MemoryError:
        raise DataError(mismatch("read_idx", f"{path} to fit into memory", "more than there is")) from None


def _read(path: Path, file: BinaryIO, size: int, packed: bool) -> np.ndarray:
    """Read header and values of a file of ``size`` bytes, which bound what they can be before any of it is read."""
    magic = _exactly(path, file, 4, "header")
    zeros, code, rank = struct.unpack(">HBB", magic)
    if zeros or code not in _DTYPES or rank == 0:
        raise DataError(
            mismatch("read_idx", f"{path} to start with an IDX magic number (0 0 dtype rank)", magic.hex(" "))
        )
    shape = struct.unpack(f">{rank}I", _exactly(path, file, 4 * rank, "header"))
    dtype = np.dtype(_DTYPES[code])
    count = prod(shape) * dtype.itemsize
    need, capacity = 4 + 4 * rank + count, size * MAX_RATIO if packed else size
    claimed = f"{'x'.join(map(str, shape))} values of {dtype.itemsize} bytes, as its header says"
    if need > capacity:
        found = f"a file that {'can unpack to' if packed else 'is'} at most {capacity:,} bytes"
        raise DataError(mismatch("read_idx", f"{path} to hold {claimed}", found))
    if packed and is_bomb(need, size):
        raise DataError(mismatch("read_idx", f"{path} to hold data", f"{claimed}, packed into {size:,} bytes"))
    values = _exactly(path, file, count, "values")
    if file.read(1):  # also makes gzip compare its checksum
        raise DataError(mismatch("read_idx", f"{path} to end after {count:,} bytes of values", "more bytes"))
    try:
        array = np.frombuffer(values, dtype).reshape(shape)
    except ValueError as error:  # more axes than NumPy has, or huge ones beside a zero
        raise DataError(mismatch("read_idx", f"{path} to hold an array", error)) from None
    return array.astype(dtype.newbyteorder("="), copy=False)


def _exactly(path: Path, file: BinaryIO, count: int, part: str) -> bytearray:
    data = read_pieces(file, count)
    if len(data) < count:
        raise DataError(mismatch("read_idx", f"{path} to hold {count:,} bytes of {part}", f"{len(data):,} (cut off)"))
    return data
