"""Writing a file so that a crash, a full disk or a power cut leaves the old one or the new one, never half of one; and
reading one that may claim more than it holds."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_RATIO = 1032  # deflate: a match of 258 bytes can cost as little as 2 bits
_CHUNK = 1 << 20
_EMPTY = 500  # times its packed size: more is an archive of nothing


def is_bomb(unpacked: int, packed: int, least: int = 64 << 20) -> bool:
    """Whether a claim of ``unpacked`` bytes in ``packed`` of deflate is a lie, or a bomb: ``least`` bytes or more, and
    nothing in them."""
    return unpacked > packed * MAX_RATIO or (unpacked > least and unpacked > packed * _EMPTY)


class HonestFile(io.FileIO):
    """A file, open for reading, that is never asked for more than it has: a claimed length alone costs no memory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._size = os.fstat(self.fileno()).st_size

    def read(self, count: int | None = -1) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if count is None or count < 0 else min(count, left)) or b""


def read_pieces(file: BinaryIO, count: int) -> bytearray:
    """Return the next ``count`` bytes, or what there is: memory grows with what is there, not with what was claimed."""
    data = bytearray()
    while len(data) < count and (piece := file.read(min(_CHUNK, count - len(data)))):
        data += piece
    return data


def copy_pieces(source: BinaryIO, target: BinaryIO, count: int) -> int:
    """Copy the next ``count`` bytes, or what there is, a piece at a time; return how many."""
    left = count
    while left and (piece := source.read(min(_CHUNK, left))):
        target.write(piece)
        left -= len(piece)
    return count - left


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to write, which takes the place of ``path`` when the block ends: a temporary file beside it, flushed
    to the disk, then renamed. Where the block raises, what stood at ``path`` is untouched and nothing else is left.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.bin") as file:
    ...         _ = file.write(b"abc")
    ...     (Path(folder) / "a.bin").read_bytes()
    b'abc'
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 is for secrets
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def write_atomic(path: str | os.PathLike[str], *parts: bytes | memoryview) -> None:
    """Write ``parts``, one after the other, to ``path``, as ``replacing`` does.

    Raises:
        OSError: the write failed (disk full, no permission, ...). What stood at ``path`` is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(Path(folder) / "a.bin", b"abc")
    ...     (Path(folder) / "a.bin").read_bytes()
    b'abc'
    """
    with replacing(path) as file:
        file.writelines(parts)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable; some file systems (and Windows) cannot, and then it is skipped."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
