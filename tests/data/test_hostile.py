"""Hostile files are refused by name, with less than 64 MB of memory and a second of work: asserted from outside, in a
process whose address space may not grow by more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nibabel")
pytest.importorskip("pydicom")
pytest.importorskip("resource")
pytest.importorskip("PIL")

import dicoms
import hostile
from PIL import Image

from fastconv.data import NiftiWriter, open_nifti, read_nifti, read_volume, write_nifti
from fastconv.errors import DataError

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell what it uses")
HARMLESS = {"text.png", "length.dcm", "other-length.dcm", "extension.nii"}  # where the lie is, nobody looks


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    folder = tmp_path_factory.mktemp("hostile")
    good = folder / "good"
    good.mkdir()
    data = np.zeros((4, 4, 4), np.float32)
    for name in ("a.nii", "a.nii.gz"):
        write_nifti(good / name, data)
    np.save(good / "a.npy", data)
    np.savez_compressed(good / "a.npz", data)
    (good / "a.idx.gz").write_bytes(hostile.gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 8])))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(good / "a.png")
    rle = dicoms.one(good / "a.dcm", data[0].astype("i2"), (0, 0, 0), SliceThickness=1)
    packed = dicoms.pydicom.dcmread(rle)
    packed.compress(dicoms.pydicom.uid.RLELossless, generate_instance_uid=False)
    packed.save_as(rle)
    paths = [str(path) for path in hostile.write(folder)]
    command = [sys.executable, hostile.__file__, ":".join(map(str, sorted(good.iterdir()))), *paths]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [path for path, *_ in found] == paths
    return {Path(path).name: (message, seconds) for path, message, seconds in found}


def test_every_one_is_refused_by_name(answers: dict[str, tuple[str, float]]) -> None:
    wrong = {
        name: message
        for name, (message, _) in answers.items()
        if "expected" not in message or f"/{name}" not in message or "fit into memory" in message
    }
    assert not {name: message for name, message in wrong.items() if name not in HARMLESS}
    assert all(message == "read" for name, message in wrong.items() if name in HARMLESS)


def test_none_takes_a_second_of_work(answers: dict[str, tuple[str, float]]) -> None:
    assert not {name: seconds for name, (_, seconds) in answers.items() if seconds > 1}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "slice.dcm", "frames.dcm"])
def test_damaged_bytes_are_noticed_or_harmless(tmp_path: Path, name: str) -> None:
    """Whatever the damage does, it is a volume or an error with the file's name."""
    if name.startswith("a."):
        write_nifti(tmp_path / name, np.arange(64, dtype=np.float32).reshape(4, 4, 4))
    elif name == "slice.dcm":
        dicoms.one(tmp_path / name, np.zeros((4, 4), "i2"), (0, 0, 0), SliceThickness=1, RescaleSlope=2)
    else:
        dicoms.enhanced(tmp_path / name, np.zeros((5, 4, 4), "i2"), [0, 1, 2, 3, 4])
    whole, draw, messages = (tmp_path / name).read_bytes(), np.random.default_rng(0), []
    for _ in range(250):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), 3):
            damaged[place] = draw.choice([0, 1, 0x7F, 0x80, 0xFF])
        (tmp_path / name).write_bytes(damaged)
        try:
            read_volume(tmp_path / name, nan="keep")
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert not [message for message in messages if str(tmp_path / name) not in message]


def test_a_mask_as_good_as_empty_is_no_bomb_and_costs_a_window(tmp_path: Path) -> None:
    """67 MB that pack into a thousandth: written and read by windows with 8 MB at most, and whole."""
    shape, mark = (512, 512, 256), (slice(100, 130), slice(7, 9), slice(200, 203))
    tracemalloc.start()
    try:
        with NiftiWriter(tmp_path / "mask.nii.gz", shape, np.uint8) as writer:
            writer.write(mark, np.ones((30, 2, 3), np.uint8))
        assert (tmp_path / "mask.nii.gz").stat().st_size * 200 < 512 * 512 * 256
        with open_nifti(tmp_path / "mask.nii.gz") as file:
            assert file.read(mark).all()
            assert not file.read((slice(0, 64), slice(9, 73), slice(190, 256))).any()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert read_nifti(tmp_path / "mask.nii.gz").data.sum() == 180
