"""The folder of a run: one process at a time trains in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastconv.cli import main
from fastconv.training import folder

pytestmark = pytest.mark.usefixtures("elsewhere")


def train(*options: str) -> int:
    data = ("--dataset", "digits", "--limit", "8", "--model", "logistic_regression", "--epochs", "1", "--quiet")
    return main(["train", *data, "--output", "run", *options])


@pytest.mark.parametrize("options", [(), ("--resume",)], ids=["new", "resumed"])
def test_one_process_at_a_time_trains_in_a_folder(capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    pytest.importorskip("fcntl", reason="this system has no locks of files")
    if options:
        assert train() == 0
    Path("run").mkdir(exist_ok=True)
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    capsys.readouterr()
    with folder.claimed(Path("run"), new=not options):
        assert train(*options) == 2
    assert capsys.readouterr().err.endswith("run for one process alone, got another that trains in it\n")
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    assert train(*options) == 0  # it was let go of
