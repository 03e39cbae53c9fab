"""The division of the user's cases: that names decide it and not their order, and which parts suffice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv.data.cases import Case, find, load
from fastconv.data.cases.split import split
from fastconv.errors import ArgumentError, DataError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


@pytest.mark.parametrize("grouped", [False, True])
def test_cases_in_any_order_are_divided_alike(grouped: bool) -> None:
    draw = np.random.default_rng(0)
    labels = draw.choice(list("abc"), 60)
    groups = draw.integers(0, 25, 60)
    cases = [
        Case(f"{i}.png", Path(f"{i}.png"), f"row {i}", str(labels[i]), None, f"p{groups[i]}" if grouped else None)
        for i in range(60)
    ]
    wanted = {case.name: case.part for case in split(cases, (0.15, 0.15), 3)}
    for _ in range(5):
        shuffled = [cases[i] for i in draw.permutation(60)]
        divided = split(shuffled, (0.15, 0.15), 3)
        assert [case.name for case in divided] == [case.name for case in shuffled]
        assert {case.name: case.part for case in divided} == wanted


@pytest.mark.parametrize("names", [("test",), ("val", "Testing"), ("validation",)])
def test_parts_alone_need_no_training_folder(names: tuple[str, ...]) -> None:
    touch(*(f"set/{name}/{label}/1.png" for name in names for label in "ab"), "set/.git/x.png", "set/notes.txt")
    parts = {"test": "test", "val": "val", "Testing": "test", "validation": "val"}
    assert [(c.target, c.part) for c in find("set").cases] == [(label, parts[name]) for name in names for label in "ab"]


def test_classes_may_have_the_names_of_parts() -> None:
    touch("set/test/1.png", "set/testing/2.png", "set/control/3.png")
    assert {c.target: c.part for c in find("set").cases} == {"test": None, "testing": None, "control": None}


def test_two_folders_of_one_part_are_refused() -> None:
    touch("set/train/a/1.png", "set/val/a/2.png", "set/valid/a/3.png")
    with pytest.raises(DataError, match="one folder of cases to val, got set/val and set/valid"):
        find("set")


@pytest.mark.parametrize("other, needed", [("val", None), ("test", None), (None, "test")])
def test_training_cases_and_others_to_watch_or_test_suffice(other: str | None, needed: str | None) -> None:
    cases = [Case(f"{i}", Path(f"{i}"), f"row {i}", "ab"[i % 2], ("train", other or "train")[i // 2]) for i in range(4)]
    if needed:
        with pytest.raises(DataError, match=f"cases to {needed} on"):
            split(cases, (0.15, 0.15), 0)
    else:
        assert split(cases, (0.15, 0.15), 0) == cases


@pytest.mark.parametrize("name", ["PatientID", "Patient ID", "patient-id", "subject_id", "Subject"])
def test_patients_are_known_by_many_names(name: str) -> None:
    touch("1.png", "2.png")
    Path("cases.csv").write_text(f"path,label,{name},age\n1.png,a,p1,40\n2.png,b,p2,50\n")
    listing = find("cases.csv")
    assert [case.group for case in listing.cases] == ["p1", "p2"]
    assert listing.columns == ("age",)
    assert find("cases.csv", group_column="age").columns == ()  # patients are no numbers to learn from


def test_new_cases_need_no_patient() -> None:
    touch("1.png")
    Path("cases.csv").write_text("path,patient\n1.png,\n")
    assert [case.name for case in find("cases.csv", None).cases] == ["1.png"]
    Path("cases.csv").write_text("path,label,patient\n1.png,a,\n")
    with pytest.raises(DataError, match="row 2 to have a patient, got an empty cell"):
        find("cases.csv")


def test_a_seed_beyond_64_bits_is_refused() -> None:
    touch("set/a/1.png", "set/b/1.png")
    with pytest.raises(ArgumentError, match=r"load: expected seed <= 18446744073709551615, got 18446744073709551616"):
        load("set", seed=2**64)
