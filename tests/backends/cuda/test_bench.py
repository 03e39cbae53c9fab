"""The measuring script for GPUs, tried in the simulator: every group, verification, and the files that it writes."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(not (TREE / "bench" / "gpu.py").is_file(), reason="the source tree is not here")


@pytest.mark.parametrize("compute", ["float32", "tf32"])
def test_the_script_measures_every_group(simulated, tmp_path, monkeypatch, capsys, compute):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(TREE))
    script = importlib.import_module("bench.gpu")
    groups = list(script.GROUPS) if compute == "float32" else ["conv"]
    small = ["--no-tests", "--torch", "cpu", "--work", "100", "--least", "1e-6", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["gpu", *small, "--compute", compute, "--results", str(tmp_path), *groups])
    script.main()
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[: len(groups)]] == groups
    assert "wrong:" not in said
    name = "gpu" if compute == "float32" else "gpu_tf32"
    cases = json.loads((tmp_path / f"{name}.json").read_text())["cases"]
    assert {case["group"] for case in cases} == set(groups)
    assert all(case["ours"] and case["ratio"] > 0 for case in cases)
    table = (tmp_path / f"{name}.md").read_text().splitlines()
    assert len(table) == len(cases) + 4
    assert table[4].startswith("| conv |")


def test_what_is_wrong_is_told_and_not_timed(simulated, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(TREE))
    script = importlib.import_module("bench.gpu")
    bench = script.Bench("cpu", 100, "float32")
    x, ours = bench.pair(10)
    case = script.Case("elements", "off by a little", 80, True, lambda: bench.backend.scale(ours, 1.001), lambda: x)
    entry = script.measured(bench, case, 1e-6, 1)
    assert entry["wrong"]
    assert 5e-4 < entry["error"] < 2e-3
    assert "ours" not in entry
    assert (
        list(script.lines("a device", [entry]))[-1]
        == f"| elements | off by a little | wrong by {entry['error']:.3g} | | |"
    )
