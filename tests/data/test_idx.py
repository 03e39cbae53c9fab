"""read_idx: what it reads, and what it refuses: each with the file's name and the reason."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from idx_files import idx_bytes

from fastconv.data import read_idx
from fastconv.errors import DataError

ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.array([-1, 127, -128], np.int8),
    np.array([[1, -300]], np.int16),
    np.array([70000, -5], np.int32),
    np.array([0.5, -1e30], np.float32),
    np.array([[[1e-300]]], np.float64),
    np.zeros((0, 28, 28), np.uint8),
]
GOOD = idx_bytes(ARRAYS[0])


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.dtype.name + str(array.shape))
def test_reads_every_dtype(tmp_path: Path, array: np.ndarray, packed: bool) -> None:
    path = tmp_path / "file"  # gzip is known by its content
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    result = read_idx(path)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert result.flags.writeable
    np.testing.assert_array_equal(result, array)
    assert result.shape == array.shape


BAD = {
    "empty": (b"", "cut off"),
    "magic": (b"\x01" + GOOD[1:], "IDX magic number"),
    "text": (b"<html>not found</html>", "IDX magic number"),
    "dtype": (b"\x00\x00\x0a" + GOOD[3:], "IDX magic number"),
    "rank 0": (b"\x00\x00\x08\x00", "IDX magic number"),
    "header cut": (GOOD[:10], "12 bytes of header, got 6"),
    "values cut": (GOOD[:-1], "2x3x4 values"),
    "too long": (GOOD + b"x", "end after 24 bytes"),
    "65 axes": (struct.pack(">HBB65I", 0, 8, 65, *[1] * 65) + b"x", "an array"),
    "zero by huge": (struct.pack(">HBB3I", 0, 8, 3, 0, 2**32 - 1, 2**32 - 1), "an array"),
    "gz cut": (gzip.compress(GOOD)[:-9], "cut off"),
    "gz garbage after": (gzip.compress(GOOD) + b"garbage", "damaged gzip"),
    "gz values cut": (gzip.compress(GOOD[:-1]), "24 bytes of values, got 23"),
    "gz too long": (gzip.compress(GOOD + bytes(9)), "end after 24 bytes"),
    "gz checksum": (gzip.compress(GOOD)[:-8] + b"\x00\x00\x00\x00" + gzip.compress(GOOD)[-4:], "damaged gzip"),
    "gz header": (b"\x1f\x8b\x07" + bytes(20), "damaged gzip"),
    "gz body": (gzip.compress(GOOD)[:10] + b"\xff" * 20, "damaged gzip"),
}


@pytest.mark.parametrize("data, reason", BAD.values(), ids=BAD.keys())
def test_refuses_damage_and_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "the-file"
    path.write_bytes(data)
    with pytest.raises(DataError, match="the-file") as caught:
        read_idx(path)
    assert reason in str(caught.value)


def test_what_does_not_fit_into_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise MemoryError

    (tmp_path / "bomb").write_bytes(gzip.compress(GOOD))
    monkeypatch.setattr("fastconv.data.idx._exactly", full)
    with pytest.raises(DataError, match="bomb to fit into memory"):
        read_idx(tmp_path / "bomb")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("shape", [(0xFFFFFFFF, 0xFFFFFFFF), (3_000_000_000,)], ids=["2^64", "3e9"])
def test_lying_header_is_refused_before_memory_is_taken(tmp_path: Path, shape: tuple, packed: bool) -> None:
    data = struct.pack(f">HBB{len(shape)}I", 0, 0x08, len(shape), *shape) + bytes(1000)
    path = tmp_path / "liar"
    path.write_bytes(gzip.compress(data) if packed else data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="as its header says"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(GOOD + bytes(100_000_000), 1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="end after 24 bytes"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="directory"):
        read_idx(tmp_path)
