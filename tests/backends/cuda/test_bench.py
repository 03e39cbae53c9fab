"""The measuring script for GPUs, tried in the simulator: every group, verification, and the files that it writes."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from fastconv.errors import DeviceError

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
    assert table[4].startswith(f"| {groups[0]} |")


@pytest.fixture
def script(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(TREE))
    return importlib.import_module("bench.gpu")


@pytest.fixture
def case(script, simulated):
    """A bench, and what makes a case on it of our side."""
    bench = script.Bench("cpu", 100, "float32")
    x, ours = bench.pair(10)
    return bench, lambda call: script.Case("elements", "a case", 80, True, lambda: call(bench.backend, ours), lambda: x)


def test_what_is_wrong_is_told_and_not_timed(script, case):
    bench, made = case
    entry = script.measured(bench, made(lambda backend, x: backend.scale(x, 1.001)), 1e-6, 1)
    assert entry["wrong"] == f"wrong by {entry['error']:.3g}"
    assert 5e-4 < entry["error"] < 2e-3
    assert "ours" not in entry
    assert list(script.lines("a device", [entry]))[-1] == f"| elements | a case | {entry['wrong']} | | |"


def test_a_case_that_fails_does_not_cost_the_others(script, case, monkeypatch):
    bench, made = case
    good, bad = made(lambda backend, x: backend.scale(x, 1.0)), made(lambda backend, x: backend.scale(None, 1.0))

    def unmade():
        yield good
        raise MemoryError("no room for a layer's arrays")

    layers = [lambda: iter([good, bad]), unmade, lambda: iter([good])]
    monkeypatch.setitem(script.GROUPS, "elements", lambda bench: iter(layers))
    entries, ended = script.group_measured(bench, "elements", 1e-6, 1, float("inf"))
    wrong = [entry.get("wrong", "").partition(":")[0] for entry in entries]
    assert wrong == ["", "AttributeError", "", "MemoryError", ""]
    assert ended is None
    said = list(script.summary("elements", entries, 1e9, ended))
    assert said[0].startswith("elements      5 cases, 2 wrong; against PyTorch ")
    assert said[1].startswith("  wrong: a case: AttributeError: ")
    assert "| elements | arrays | MemoryError: no room for a layer's arrays | | |" in script.lines("a device", entries)
    entries, ended = script.group_measured(bench, "elements", 1e-6, 1, 0.0)
    assert (len(entries), ended) == (1, "time is up")
    assert list(script.summary("elements", [], 1e9, "why")) == ["elements      0 cases, 0 wrong; not all: why"]


def test_an_unusable_device_is_left_to_a_new_process_that_adds_to_the_results(script, simulated, monkeypatch, tmp_path):
    class Replaced(BaseException):
        pass

    def replace(program, arguments):
        raise Replaced(arguments)

    small = ["--torch", "cpu", "--work", "100", "--least", "1e-6", "--rounds", "1", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu", "--no-tests", *small, "pool", "conv", "optimiser"])
    monkeypatch.setattr(script, "usable", lambda bench: False)
    monkeypatch.setattr(script.os, "execv", replace)
    with pytest.raises(Replaced) as caught:
        script.main()
    arguments = caught.value.args[0]
    assert arguments[:5] == [sys.executable, "-m", "bench.gpu", "--no-tests", "--resume"]
    assert arguments[-2:] == ["pool", "optimiser"]
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments[3:-2], "--torch", "cpu", "optimiser"])
    script.main()
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert {case["group"] for case in result["cases"]} == {"conv", "optimiser"}
    assert result["ended"] == {"conv": None, "optimiser": None}


def test_a_run_that_takes_too_long_is_interrupted_and_heard(script):
    talk = "import sys, time; print('begun', flush=True); time.sleep(60)"
    code, said = script._run_for([sys.executable, "-c", talk], 1.0)
    assert code == "stopped after 1 s"
    assert said.startswith("begun")
    assert "KeyboardInterrupt" in said
    assert script._run_for([sys.executable, "-c", "print('done'); raise SystemExit(3)"], 60) == (3, "done\n")
    assert script._run_for(["/nowhere/to/be/found"], 1)[0] == "not started"


def test_results_go_where_they_can(script, tmp_path, capsys):
    assert script.writable(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "file").touch()
    other = script.writable(tmp_path / "file")
    assert other.is_dir()
    assert f"results go to {other}" in capsys.readouterr().out
    other.rmdir()


def test_what_is_missing_is_one_sentence(script, simulated, monkeypatch):
    def missing(*arguments):
        raise DeviceError("cuda: expected an NVIDIA driver, got none")

    monkeypatch.setattr(script, "Bench", missing)
    with pytest.raises(SystemExit, match=r"bench.gpu: expected a GPU .*, got DeviceError: cuda: expected an NVIDIA"):
        script.ready("cpu", 100, "float32")


def test_a_tree_that_is_not_built_leaves_the_package_to_an_installation(tmp_path):
    """As ``pip install .`` leaves it: ``python -m bench.x`` in the tree finds the installed package."""
    tree, installed = tmp_path / "tree", tmp_path / "installed"
    for folder in (tree / "bench", tree / "fastconv", installed / "fastconv"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    shutil.copy(TREE / "bench" / "__init__.py", tree / "bench")
    (tree / "bench" / "where.py").write_text("import fastconv\nprint(fastconv.__file__)\n")
    command, environment = [sys.executable, "-m", "bench.where"], {**os.environ, "PYTHONPATH": str(installed)}
    for found in (installed, tree):
        run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
        assert Path(run.stdout.strip()).parents[1] == found
        built = tree / "fastconv" / "backends" / "cpu"
        built.mkdir(parents=True, exist_ok=True)
        (built / f"dispatch{EXTENSION_SUFFIXES[0]}").touch()
