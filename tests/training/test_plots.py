"""The pictures of a run: they are written, whatever the metrics, and whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fastconv.errors import DataError
from fastconv.training import measure, plots

pytest.importorskip("matplotlib", reason="matplotlib (the plot extra) is not installed")

ENTRY = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}


@pytest.mark.parametrize("predicted", [[0, 1, 2], [1, 1, 2], [1, 2, 0]], ids=["no mistake", "one", "all"])
def test_every_picture_is_a_png(tmp_path: Path, predicted: list[int]) -> None:
    true, classes = np.arange(3), ("0", "a long name", "2")
    plots.learning_curves([ENTRY], tmp_path / "a.png")
    plots.confusion(measure(true, np.array(predicted), 3), classes, tmp_path / "b.png")
    images = np.zeros((3, 28, 28), np.uint8)
    plots.worst_mistakes(images, true, np.eye(3)[predicted], classes, tmp_path / "c.png")
    assert all((tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in "abc")


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"curves\.png to be writable, got No space left on device"):
            plots.learning_curves([ENTRY], path)
    assert path.read_bytes() == b"old"
    plots.learning_curves([ENTRY], path)
    assert path.read_bytes().startswith(b"\x89PNG")
