"""The user's own data: what is found in folders and tables, how it is divided, and what columns become."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fastconv.data.cases import Case, find
from fastconv.data.cases.columns import fit
from fastconv.data.cases.split import split
from fastconv.errors import DataError


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ------------------------------------------------------------------------------------------------ folders


def test_a_folder_a_class() -> None:
    touch("set/cat/2.png", "set/cat/1.JPG", "set/dog/patient7/x.nii.gz", "set/dog/note.txt", "set/.git/x.png")
    touch("set/cat/.hidden.png", "set/README.png.md")
    found = find("set").cases
    assert [(c.name, c.target, c.part) for c in found] == [
        ("cat/1.JPG", "cat", None), ("cat/2.png", "cat", None), ("dog/patient7/x.nii.gz", "dog", None),
    ]  # fmt: skip


def test_parts_around_the_classes() -> None:
    touch("set/Train/a/1.png", "set/validation/a/1.png", "set/test/b/1.png", "set/other/x.png")
    assert [(c.name, c.part) for c in find("set").cases] == [
        ("Train/a/1.png", "train"), ("validation/a/1.png", "val"), ("test/b/1.png", "test"),
    ]  # fmt: skip


def test_images_and_masks_are_paired_by_name() -> None:
    touch("set/images/a.b.nii.gz", "set/images/c.png", "set/masks/c.npy", "set/masks/a.b.nii")
    found = find("set", "segment").cases
    assert [(c.name, Path(c.target).name) for c in found] == [
        ("images/a.b.nii.gz", "a.b.nii"),
        ("images/c.png", "c.npy"),
    ]


@pytest.mark.parametrize("files, task, reason", [
    ((), "classify", "a folder, a .csv or an .npz set, got none there"),
    (("set/x.txt",), "classify", "a folder a class in set, with images or volumes, got none there"),
    (("set/a/1.png", "set/b/x.txt"), "classify", "images or volumes in set/b, got none there"),
    (("set/images/1.png", "set/images/2.png", "set/labels/1.png"), "segment",
     "a mask for set/images/2.png, got none called 2 in set/labels"),
    (("set/images/1.png", "set/labels/1.png", "set/labels/3.png"), "segment",
     "an image for set/labels/3.png, got none called 3 in set/images"),
    (("set/images/1.png", "set/images/1.npy", "set/labels/1.png"), "segment",
     "one file called 1, got set/images/1.npy"),
    (("set/images/1.png",), "segment", "images or volumes in set/labels, got none there"),
])  # fmt: skip
def test_what_is_missing_is_named(files: tuple[str, ...], task: str, reason: str) -> None:
    touch(*files)
    with pytest.raises(DataError) as caught:
        find("set", task)
    assert reason in str(caught.value)


# ------------------------------------------------------------------------------------------------- tables


def table(text: str, name: str = "cases.csv", encoding: str = "utf-8") -> Path:
    touch("1.png", "x/2.png", "3.png", "m.png")
    Path(name).write_bytes(text.encode(encoding))
    return Path(name)


def test_a_table() -> None:
    path = table('Path, Label ,age,"Sex",split,patient\n1.png,a, 40 ,f,train,p1\n"x/2.png",b,,m,Validation,p2\n\n')
    listing = find(path)
    first, second = listing.cases
    assert listing.columns == ("age", "sex")
    assert (first.name, first.target, first.part, first.group, first.values) == (
        "1.png",
        "a",
        "train",
        "p1",
        ("40", "f"),
    )
    assert (second.part, second.values, second.where) == ("val", ("", "m"), "cases.csv row 3, x/2.png")
    assert find(path, columns=["AGE"]).columns == ("age",)
    assert find(path, columns=[]).columns == ()
    assert find(path, group_column="sex").cases[0].group == "f"
    assert find(table("\ufeffimage,mask\n1.png,m.png\n"), "segment").cases[0].target == Path("m.png")


@pytest.mark.parametrize("text, reason", [
    ("", "cases.csv to begin with the names of its columns, got an empty file"),
    ("path,label,path\n", "got 'path' twice"),
    ("path,,label\n", "got a column without one"),
    ("path,label\n", "rows below the header of cases.csv, got none"),
    ("name,label\n1.png,a\n", "a column 'path' (or 'image') (or 'file') in cases.csv, got name, label"),
    ("path,diagnosis\n1.png,a\n", "a column 'label' (or 'class') in cases.csv"),
    ("path,label\n1.png,a\n3.png\n", "cases.csv row 3 to have 2 cells, got 1"),
    ("path,label\n1.png,a,b\n", "cases.csv row 2 to have 2 cells, got 3"),
    ("path,label\n1.png,\n", "cases.csv row 2 to have a label, got an empty cell"),
    ("path,label,patient\n1.png,a,\n", "cases.csv row 2 to have a patient, got an empty cell"),
    ("path,label\n1.png,a\n9.png,b\n", "cases.csv row 3: a file 9.png, got none there"),
    ("path,label\n1.png,a\n./x/../1.png,b\n", "each path once in cases.csv, got x/../1.png in rows 2 and 3"),
    ("path,label,split\n1.png,a,dev\n", "cases.csv row 2 to have split train, val or test, got 'dev'"),
    ('path,label\n"1.png,a\n', "cases.csv to be a CSV file in UTF-8"),
])  # fmt: skip
def test_a_bad_table_is_named_by_row(text: str, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        find(table(text))
    assert reason in str(caught.value)


def test_a_table_in_another_encoding_and_an_unknown_column() -> None:
    with pytest.raises(DataError, match=r"cases\.csv to be a CSV file in UTF-8"):
        find(table("path,label\n1.png,ä\n", encoding="latin-1"))
    with pytest.raises(DataError, match=r"a column 'height' in cases\.csv, got path, label"):
        find(table("path,label\n1.png,a\n"), columns=["height"])
    with pytest.raises(DataError, match=r"a column 'subject' in cases\.csv"):
        find(table("path,label\n1.png,a\n"), group_column="subject")


# ------------------------------------------------------------------------------------------------ columns


def test_columns_by_the_training_sets_statistics() -> None:
    age = fit("age", ["10", "", "30"], ["r"] * 3)
    assert (age.mean, age.deviation, age.width) == (20, 10, 1)
    assert age.encode("35", "r", "refuse") == [1.5]
    assert age.encode("NA", "r", "mean") == [0.0]
    sex = fit("sex", ["f", "m", "f", "?", "f"], ["r"] * 5)
    assert sex.encode("m", "r", "refuse") == [0, 1]
    assert sex.encode("x", "r", "refuse") == [0, 0]  # unknown to the training set
    assert sex.encode("", "r", "mean") == [0.75, 0.25]
    assert fit("c", ["5", "5"], ["r"] * 2).encode("5", "r", "refuse") == [0.0]  # constant: no division by 0


def test_gaps_and_texts_that_do_not_fit_are_named() -> None:
    age = fit("age", ["10", "30"], ["r"] * 2)
    for text, reason in (
        ("", "t row 4 to have a value in column 'age' .*got an empty cell"), ("n/a", "got 'n/a'"),
        ("old", "t row 4 to have a finite number in column 'age', got 'old'"), ("inf", "finite"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=reason):
            age.encode(text, "t row 4", "refuse")
    with pytest.raises(DataError, match="t row 3 to have a finite number in column 'age', got '-inf'"):
        fit("age", ["10", "-inf"], ["t row 2", "t row 3"])  # and not two categories
    assert fit("lobe", ["inf", "sup"], ["r"] * 2).categories == ("inf", "sup")
    with pytest.raises(DataError, match="values in column 'age' of the training cases, got gaps, as in t row 2"):
        fit("age", ["", "?"], ["t row 2", "t row 3"])
    with pytest.raises(DataError, match=r"at most 32 categories in column 'note'.*40 texts, 'n0' in t row 0"):
        fit("note", [f"n{i}" for i in range(40)], [f"t row {i}" for i in range(40)])


# -------------------------------------------------------------------------------------------------- split


def cases(labels: str, groups: list[int] | None = None, parts: list[str] | None = None) -> list[Case]:
    return [
        Case(str(i), Path(str(i)), f"row {i}", label, parts[i] if parts else None, str(groups[i]) if groups else None)
        for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_a_split_keeps_the_shares_of_the_classes(seed: int) -> None:
    divided = split(cases("a" * 60 + "b" * 30 + "c" * 10), (0.1, 0.2), seed)
    count = Counter((case.part, case.target) for case in divided)
    assert [count[part, label] for part in ("train", "val", "test") for label in "abc"] == [
        42,
        21,
        7,
        6,
        3,
        1,
        12,
        6,
        2,
    ]
    assert [case.name for case in divided] == [str(i) for i in range(100)]
    assert split(cases("a" * 60 + "b" * 30 + "c" * 10), (0.1, 0.2), seed) == divided
    assert split(cases("a" * 60 + "b" * 30 + "c" * 10), (0.1, 0.2), seed + 1) != divided


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_in_two_parts(seed: int) -> None:
    draw = np.random.default_rng(seed)
    groups = draw.integers(0, 60, 300).tolist()
    labels = "".join("ab"[int(group % 3 == 0)] for group in groups)
    divided = split(cases(labels, groups), (0.15, 0.15), seed)
    parts: dict[str, set] = {}
    for case in divided:
        parts.setdefault(case.group, set()).add(case.part)
    assert all(len(found) == 1 for found in parts.values())
    count = Counter((case.part, case.target) for case in divided)
    for label in "ab":
        total = labels.count(label)
        for part, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(count[part, label] / total - share) < 0.06


def test_small_sets_are_trained_and_tested_on() -> None:
    for labels in ("ab" * 3, "abc" * 2, "a" * 9 + "bb"):
        divided = split(cases(labels), (0.15, 0.15), 0)
        assert {case.target for case in divided if case.part == "train"} == set(labels)
        assert any(case.part == "test" for case in divided)
    without_val = split(cases("ab" * 20), (0.0, 0.25), 0)
    assert Counter(case.part for case in without_val) == {"train": 30, "test": 10}


def test_parts_that_contradict_are_named() -> None:
    with pytest.raises(DataError, match="a part for every case or for none, got one for row 0, none for row 1"):
        split([*cases("a", parts=["train"]), *cases("ab")[1:]], (0.1, 0.1), 0)
    with pytest.raises(DataError, match="'7' in one split, got train in row 0, test in row 2"):
        split(cases("aba", [7, 8, 7], ["train", "train", "test"]), (0.1, 0.1), 0)
    with pytest.raises(DataError, match="cases to train on"):
        split(cases("ab", parts=["test", "test"]), (0.1, 0.1), 0)
    with pytest.raises(DataError, match="cases to test on"):
        split(cases("ab", [1, 1]), (0.15, 0.15), 0)
    given = cases("ab", parts=["train", "val"])
    with pytest.raises(DataError, match="cases to test on"):
        split(cases("ab", parts=["train", "train"]), (0.1, 0.1), 0)
    assert split(given, (0.1, 0.0), 0) == given
