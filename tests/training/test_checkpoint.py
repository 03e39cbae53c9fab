"""Checkpoints: any tree comes back, damage is named, a failing write loses nothing."""

from __future__ import annotations

import errno
import json
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest

from fastconv.data.files import write_atomic
from fastconv.errors import CheckpointError
from fastconv.interop import safetensors
from fastconv.training import checkpoint

TREE = {
    "model": {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.steps": np.array(7, np.int64)},
    "optimizer": {"state": {0: {"buffer": np.zeros((0, 3))}, 1: {}}, "groups": [{"betas": (0.9, 0.999), "p": [0]}]},
    "text": "ä", "none": None, "flag": True, "rate": 0.1, "count": 2**63, "nan": float("inf"), "empty": [], "": {},
}  # fmt: skip


def equal(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "the.safetensors", "checkpoint", TREE)
    return tmp_path / "the.safetensors"


def test_a_tree_comes_back_as_it_was(path: Path) -> None:
    tree = checkpoint.load(path, "checkpoint")
    assert equal(tree, TREE)
    tree["model"]["a.weight"][:] = 0  # arrays are writable


def test_equal_trees_are_equal_files(path: Path) -> None:
    before = path.read_bytes()
    checkpoint.save(path, "checkpoint", TREE)
    assert path.read_bytes() == before


def test_transposed_arrays_are_stored_by_value(path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3).T
    checkpoint.save(path, "checkpoint", {"a": array, "b": array[::-1]})
    tree = checkpoint.load(path, "checkpoint")
    np.testing.assert_array_equal(tree["a"], array)
    np.testing.assert_array_equal(tree["b"], array[::-1])


def test_the_file_is_ordinary_safetensors(path: Path) -> None:
    from safetensors.numpy import load_file

    assert set(load_file(path)) == {"model.a.weight", "model.a.steps", "optimizer.state.0.buffer"}


def test_every_truncation_is_an_error(path: Path) -> None:
    data = path.read_bytes()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"the\.safetensors"):
            checkpoint.load(path, "checkpoint")


def test_every_flipped_byte_is_an_error_or_means_nothing(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(len(data)):
        data[place] ^= 0x10
        path.write_bytes(data)
        try:
            assert equal(checkpoint.load(path, "checkpoint"), TREE)  # a blank of the header's padding, say
        except CheckpointError as error:
            assert "the.safetensors" in str(error)  # noqa: PT017
        data[place] ^= 0x10
    assert bytes(data[-8:]) != bytes(8)
    data[-1] ^= 1  # the arrays themselves: always an error
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.load(path, "checkpoint")


def _header(value: object) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text


def _signed(tree: object) -> bytes:
    """A file of ours whose checksum holds and whose tree is none."""
    strings = {"fastconv": json.dumps({"kind": "checkpoint", "tree": tree})}
    return _header({"__metadata__": {**strings, safetensors.CHECKSUM: safetensors._digest({}, strings)}})


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"\x80\x04N.", bytes(100), b"\xff" * 100, _header({}), _header({"__metadata__": {}}),
        _header({"__metadata__": {"fastconv": "{}"}}), _header({"__metadata__": {"fastconv": "[]"}}),
        _header({"__metadata__": {"fastconv": "nonsense"}}),
        _header({"__metadata__": {"fastconv": '{"kind": "checkpoint", "tree": {"$array": "x"}}'}}),
        _header({"__metadata__": {"fastconv": '{"kind": "checkpoint", "tree": {"$dict": []}}'}}),
        _header({"a": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 1 << 62]}}),
        _header({"__metadata__": {"fastconv": "[" * 100_000}}), struct.pack("<Q", 1 << 62) + bytes(100),
        _signed([1, 2]), _signed({"$array": "x", "$tuple": []}), _signed({"$array": "x"}), _signed({"$mark": 3}),
        _signed({"$dict": [[["a list"], 2]]}), _signed(json.loads("[" * 900 + "]" * 900)),
    ],
)  # fmt: skip
def test_foreign_files_are_named(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"the\.safetensors"):
        checkpoint.load(path, "checkpoint")


def test_files_of_another_kind_or_no_file(path: Path) -> None:
    with pytest.raises(CheckpointError, match="to hold a model, got a checkpoint"):
        checkpoint.load(path, "model")
    with pytest.raises(CheckpointError, match="nowhere"):
        checkpoint.load(path.with_name("nowhere"), "model")
    with pytest.raises(CheckpointError, match="directory"):
        checkpoint.load(path.parent, "model")


def test_a_file_too_large_for_memory_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", full)
    with pytest.raises(CheckpointError, match=r"the\.safetensors to fit into memory"):
        checkpoint.load(path, "checkpoint")


def test_what_cannot_be_stored_is_named(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.b to be an array or a plain value, got object"):
        checkpoint.save(path, "checkpoint", {"a": {"b": object()}})


# -------------------------------------------------------------------------------------------- failing writes


def _fails_and_keeps(path: Path, reason: str) -> None:
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"the\.safetensors") as caught:
        checkpoint.save(path, "checkpoint", TREE)
    assert reason in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "call, code", [("fsync", errno.ENOSPC), ("replace", errno.ENOSPC), ("open", errno.EACCES), ("open", errno.EROFS)]
)
def test_a_failing_system_call_keeps_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    _fails_and_keeps(path, os.strerror(code))


def test_a_write_that_the_system_cuts_off_keeps_the_old_file(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        _fails_and_keeps(path, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_keeps_the_old_file(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        _fails_and_keeps(path, "Permission denied")
    finally:
        path.parent.chmod(0o700)


def test_a_folder_in_the_way_and_a_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "missing" / "file"):
        with pytest.raises(CheckpointError, match=path.name):
            checkpoint.save(path, "checkpoint", TREE)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
