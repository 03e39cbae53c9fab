"""The division of the user's cases: that names decide it and not their order, and which parts suffice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv.data.cases import Case, find
from fastconv.data.cases.split import split
from fastconv.errors import DataError


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
