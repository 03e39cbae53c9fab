"""Archives of arrays: what is sound is read, what is not is refused by name, and before memory is given to it."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastconv.data.npz import read_npy, read_npz
from fastconv.errors import DataError


def header(shape: tuple[int, ...], dtype: str = "<u2") -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    return head.getvalue()


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def refused(path: Path, match: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match) as caught:
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "<f8", "?"])
def test_what_numpy_writes_is_read(tmp_path: Path, save: object, dtype: str) -> None:
    arrays = {
        "a": np.arange(24).reshape(2, 3, 4).astype(dtype),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)),
        "empty": np.zeros((0, 3), dtype),
        "scalar": np.array(1, dtype),
    }
    save(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "?"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 4)])
def test_single_arrays(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    found = read_npy(tmp_path / "a.npy")
    assert (found.shape, found.dtype) == (shape, array.dtype.newbyteorder("="))
    np.testing.assert_array_equal(found, array)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes() + b"x")
    with pytest.raises(DataError, match="bytes of values"):
        read_npy(tmp_path / "a.npy")


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "expected a file")


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"\x93NUMPY" + bytes(100))
    refused(tmp_path / "x.npz", "intact")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(1000))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / "x.npz", "intact")


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.arange(50))
    data = (tmp_path / "x.npz").read_bytes()
    noticed = 0
    for place in range(len(data)):
        (tmp_path / "x.npz").write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        try:
            found = read_npz(tmp_path / "x.npz")
        except DataError:
            noticed += 1
        else:
            assert all(np.array_equal(array, np.arange(50)) for array in found.values())
    assert noticed > len(data) // 2


def test_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.array([{}], object))
    refused(tmp_path / "x.npz", "hold numbers")


def test_a_header_that_claims_more_than_is_there(tmp_path: Path) -> None:
    refused(archive(tmp_path / "x.npz", a=header((1 << 40,)) + bytes(64)), "bytes of values")
    refused(archive(tmp_path / "y.npz", a=header((3, 1 << 62, 1 << 62)) + bytes(64)), "bytes of values")
    refused(archive(tmp_path / "z.npz", a=header((-1, -32)) + bytes(64)), "bytes of values")


def test_a_header_that_is_none(tmp_path: Path) -> None:
    refused(archive(tmp_path / "x.npz", a=b"not an array"), "header")
    refused(archive(tmp_path / "y.npz", a=b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535), "header")
    refused(archive(tmp_path / "z.npz", a=b"\x93NUMPY\x01\x00\x06\x00" + b"{'a': "), "header")


def test_a_bomb(tmp_path: Path) -> None:
    count = 100 << 20
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file,
        file.open("a.npy", "w") as member,
    ):
        member.write(header((count,), "|u1"))
        for _ in range(100):
            member.write(bytes(1 << 20))
    refused(tmp_path / "x.npz", "hold data")


def test_a_directory_that_lies(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", a=header((10,)) + bytes(20))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (1 << 31).to_bytes(4, "little")  # the size when unpacked
    path.write_bytes(data)
    refused(path, "hold data")


def test_the_limit(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(1000), b=np.zeros(1000))
    with pytest.raises(DataError, match="at most"):
        read_npz(tmp_path / "x.npz", max_bytes=15_000)
