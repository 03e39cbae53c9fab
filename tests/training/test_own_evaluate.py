"""Evaluating a network on its own data after they changed, and on data without cases to test on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_files import class_folders, pairs, save, scene

from fastconv.cli import main
from fastconv.training import results

pytest.importorskip("PIL", reason="Pillow (the images extra) is not installed")


pytestmark = pytest.mark.usefixtures("elsewhere")


def train(place: object) -> None:
    assert main(["train", "--data", str(place), "--epochs", "1", "--output", "run", "--quiet"]) == 0


@pytest.mark.parametrize("more", [[], ["--data", "./set"]])
def test_own_data_that_changed_are_refused(capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    class_folders(Path("set"), 5)
    train("set")
    save(Path("set/a/late.png"), scene(99, (12, 10), False)[0])
    capsys.readouterr()
    assert main(["evaluate", "run", *more]) == 2
    error = capsys.readouterr().err
    assert "set as it was when the network was trained (its split is not known otherwise)" in error
    assert "got cases added, removed or relabelled" in error
    Path("set/a/late.png").unlink()
    assert main(["evaluate", "run", *more]) == 0


def test_own_data_that_changed_but_name_a_split_are_tested_on(capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "test"):
        class_folders(Path("set", part), 3)
    train("set")
    save(Path("set/test/a/late.png"), scene(99, (12, 10), False)[0])
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    assert "data: 7 cases" in capsys.readouterr().out


def test_data_without_cases_to_test_on_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(Path("set"), 5)
    train("set")
    Path("some.csv").write_text("path,label,split\nset/a/a0.png,a,train\nset/b/b0.png,b,train\n")
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", "some.csv"]) == 2
    assert "cases in some.csv to test on, got a split that has training cases alone" in capsys.readouterr().err


def test_a_data_set_of_digits_is_not_for_a_network_of_own_data(capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(Path("set"), 5)
    train("set")
    capsys.readouterr()
    assert main(["evaluate", "run", "--dataset", "digits"]) == 2
    wanted = "fastconv: evaluate: expected data at data PATH for a network trained on own data, got dataset digits\n"
    assert capsys.readouterr().err == wanted
    assert main(["evaluate", "run", "--dataset", "auto"]) == 0


def test_each_mask_is_held_against_its_truth_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, overlaps = [], results.overlaps
    monkeypatch.setattr(results, "overlaps", lambda *given: counted.append(1) or overlaps(*given))
    pairs(Path("set"), 6)
    options = ("--task", "segment", "--width", "2", "--epochs", "1", "--output", "run", "--quiet")
    assert main(["train", "--data", "set", *options]) == 0
    assert len(counted) == 1  # test cases
    assert len(json.loads(Path("run/predictions.json").read_text())) == 1
