"""The measuring script for GPUs, tried in the simulator: every group, verification, and the files that it writes."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastconv import config
from fastconv.backends.cuda import kernel_cache, launch, recorder
from fastconv.errors import DeviceError

TREE = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(not (TREE / "bench" / "gpu.py").is_file(), reason="the source tree is not here")


SMALL = ["--no-tests", "--torch", "cpu", "--work", "100", "--least", "1e-6", "--rounds", "1"]
TOLD = ("device", "entry", "ended", "unfit")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(TREE))
    return importlib.import_module("bench.gpu")


@pytest.fixture
def watch(script):
    return importlib.import_module("bench.gpu_watch")


@pytest.fixture
def measure(script):
    pytest.importorskip("torch")
    return importlib.import_module("bench.gpu_measure")


def work_of(watch, group, until=float("inf")):
    return watch.Work(group, 0, until, "cpu", 100, "float32", 1e-6, 1)


@pytest.mark.parametrize("compute", ["float32", "tf32"])
def test_the_script_measures_every_group(simulated, script, measure, tmp_path, monkeypatch, capsys, compute):
    """In this process, for speed."""
    groups = list(script.SHARES) if compute == "float32" else ["conv"]
    monkeypatch.setattr(sys, "argv", ["gpu", *SMALL, "--compute", compute, "--results", str(tmp_path), *groups])
    monkeypatch.setattr(script, "watched", lambda work, *_: (s for s in measure.main(work) if s[0] in TOLD))
    script.main()
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[: len(groups)]] == groups
    assert "wrong:" not in said
    name = "gpu" if compute == "float32" else "gpu_tf32"
    result = json.loads((tmp_path / f"{name}.json").read_text())
    cases = result["cases"]
    assert result["device"] == "numba's simulator"
    assert result["ended"] == dict.fromkeys(groups)
    assert {case["group"] for case in cases} == set(groups)
    assert all(case["ours"] and case["ratio"] > 0 for case in cases)
    table = (tmp_path / f"{name}.md").read_text().splitlines()
    assert len(table) == len(cases) + 4
    assert table[4].startswith(f"| {groups[0]} |")


def test_a_group_is_measured_by_a_process_of_its_own(simulated, script, measure, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", *SMALL, "--results", str(tmp_path), "optimiser"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    script.main()
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["ended"] == {"optimiser": None}
    assert all(case["ours"] for case in result["cases"])
    assert result["copy"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "gpu.json")


# What a process tells that starts with layer 0, 2, 3, 4: it hangs, it dies, its device is broken, it comes to the end.
PROGRAM = """
import json, os, sys, time
from multiprocessing.connection import Connection
work = json.loads(sys.argv[1])
speak = Connection(work["speak"], readable=False)
def tell(*steps):
    for kind, value in steps:
        speak.send((kind, {"group": "pool", "name": value} if kind == "entry" else value))
tell(("device", {"device": "a device"}))
if work["skip"] == 0:
    tell(("layer", 0), ("case", "a"), ("entry", "a"), ("layer", 1), ("case", "b"), ("entry", "b"), ("case", "b too"))
    time.sleep(600)
elif work["skip"] == 2:
    tell(("layer", 2), ("case", "c"))
    os._exit(3)
elif work["skip"] == 3:
    tell(("layer", 3), ("broken", "Error: a fault"))
else:
    tell(("layer", 4), ("case", "e"), ("entry", "e"), ("ended", None))
"""


def test_after_a_process_that_hangs_or_dies_another_goes_on(script, watch, monkeypatch, tmp_path):
    monkeypatch.setattr(watch, "MEASURE", (sys.executable, "-c", PROGRAM))
    steps = list(watch.watched(work_of(watch, "pool"), 5.0, float("inf")))
    assert [kind for kind, _ in steps].count("device") == 4
    entries = [value for kind, value in steps if kind == "entry"]
    assert [(entry["name"], entry.get("wrong")) for entry in entries] == [
        ("a", None), ("b", None), ("b too", "killed: silent for 5 s"), ("c", "the process ended with code 3"),
        ("arrays", "Error: a fault"), ("e", None),
    ]  # fmt: skip
    assert steps[-1] == ("ended", None)
    results, saved = script.Results(tmp_path, "float32"), []
    results.known |= {"copy": 1.0}
    monkeypatch.setattr(script, "watched", lambda *_: iter(steps))
    monkeypatch.setattr(script.Results, "save", lambda self: saved.append(len(self.known["cases"])))
    script.measure(work_of(watch, "pool"), 3.0, float("inf"), results)
    assert saved == [0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert results.known["device"] == "a device"
    assert len(list(script.summary("pool", results.of("pool"), 1.0, None))) == 1 + 3


def test_nothing_outlasts_the_time(watch, monkeypatch):
    monkeypatch.setattr(watch, "MEASURE", (sys.executable, "-c", PROGRAM))
    began = time.monotonic()
    steps = list(watch.watched(work_of(watch, "pool", began + 2), 300.0, began + 3))
    assert steps[-2][1]["wrong"] == "killed: time was up"
    assert steps[-1] == ("ended", "time is up")
    assert time.monotonic() - began < 60


def test_a_group_whose_processes_do_not_begin_is_given_up(watch, monkeypatch):
    monkeypatch.setattr(watch, "MEASURE", (sys.executable, "-c", "raise SystemExit(5)"))
    entry, ended = watch.watched(work_of(watch, "pool"), 60.0, float("inf"))
    assert entry[1] == {"group": "pool", "name": "start", "amount": 0, "wrong": "the process ended with code 5"}
    assert ended == ("ended", "the process ended with code 5")


@pytest.fixture
def case(measure, simulated):
    """A bench, and what makes a case on it of our side."""
    bench = measure.Bench("cpu", 100, "float32")
    x, ours = bench.pair(10)
    made = measure.Case
    return bench, lambda call: made("elements", "a case", 80, True, lambda: call(bench.backend, ours), lambda: x)


def test_what_is_wrong_is_told_and_not_timed(script, measure, case):
    bench, made = case
    entry = measure.measured(bench, made(lambda backend, x: backend.scale(x, 1.001)), 1e-6, 1)
    assert entry["wrong"] == f"wrong by {entry['error']:.3g}"
    assert 5e-4 < entry["error"] < 2e-3
    assert "ours" not in entry
    assert list(script.lines("a device", [entry]))[-1] == f"| elements | a case | {entry['wrong']} | | |"


def test_another_way_of_ours_is_verified_and_timed_too(script, measure, case):
    bench, made = case
    both = made(lambda backend, x: backend.scale(x, 1.0))
    right, wrong = (made(lambda backend, x, by=by: backend.scale(x, by)).ours for by in (1.0, 1.001))
    entry = measure.measured(bench, both._replace(others={"mma.sync": right}), 1e-6, 2)
    assert entry["against mma.sync"] == min(entry["mma.sync"]) / min(entry["ours"]) > 0
    assert "; wgmma against mma.sync " in next(script.summary("elements", [entry], 1e9, None))
    entry = measure.measured(bench, both._replace(others={"mma.sync": wrong}), 1e-6, 2)
    assert entry["wrong"].startswith("mma.sync wrong by 0.001")


def test_convolutions_are_compared_with_mma_sync_where_they_run_by_wgmma(measure, simulated, monkeypatch):
    cases = measure.gpu_cases
    layer = cases.gpu_layers.listed("conv.json")[0] | {"channels": [2, 2], "groups": 1}
    layer["input"] = [k + 2 for k in layer["kernel"]]
    seen = []
    bench = measure.Bench("cpu", 1e5, "bf16")
    monkeypatch.setattr(bench, "layers", lambda file: [layer])
    for cores in ("mma.sync", "wgmma"):
        bench.cores = cores
        (each,) = cases.conv(bench)
        seen.append([list(case.others) for case in each()])
    assert seen == [[[]] * 3, [["mma.sync"]] * 3]
    monkeypatch.setenv("FASTCONV_WGMMA", "1")
    assert not cases.by_mma_sync(config.wgmma)
    assert config.wgmma()
    monkeypatch.delenv("FASTCONV_WGMMA")
    assert not cases.by_mma_sync(config.wgmma)
    assert "FASTCONV_WGMMA" not in os.environ


def test_a_case_that_fails_does_not_cost_the_others(script, watch, measure, case, monkeypatch):
    bench, made = case
    good, bad = made(lambda backend, x: backend.scale(x, 1.0)), made(lambda backend, x: backend.scale(None, 1.0))

    def unmade():
        yield good
        raise MemoryError("no room for a layer's arrays")

    layers = [lambda: iter([good, bad]), unmade, lambda: iter([good])]
    monkeypatch.setattr(measure.gpu_cases, "elements", lambda bench: iter(layers))
    steps = list(measure.steps(bench, work_of(watch, "elements")))
    assert [value for kind, value in steps if kind == "layer"] == [0, 1, 2]
    assert steps[-1] == ("ended", None)
    entries = [value for kind, value in steps if kind == "entry"]
    wrong = [entry.get("wrong", "").partition(":")[0] for entry in entries]
    assert wrong == ["", "AttributeError", "", "MemoryError", ""]
    said = list(script.summary("elements", entries, 1e9, None))
    assert said[0].startswith("elements      5 cases, 2 wrong; against PyTorch ")
    assert said[1].startswith("  wrong: a case: AttributeError: ")
    assert "| elements | arrays | MemoryError: no room for a layer's arrays | | |" in script.lines("a device", entries)
    assert list(script.summary("elements", [], 1e9, "why")) == ["elements      0 cases, 0 wrong; not all: why"]
    later = list(measure.steps(bench, work_of(watch, "elements")._replace(skip=2)))
    assert [kind for kind, _ in later] == ["layer", "case", "entry", "ended"]
    assert later[0] == ("layer", 2)
    assert list(measure.steps(bench, work_of(watch, "elements", 0.0))) == [("ended", "time is up")]


def test_an_unusable_device_wants_another_process(watch, measure, case, monkeypatch):
    bench, made = case
    layers = [lambda: iter([made(lambda backend, x: backend.scale(None, 1.0))]), lambda: iter([])]
    monkeypatch.setattr(measure.gpu_cases, "elements", lambda bench: iter(layers))

    def fault():
        raise DeviceError("an illegal address")

    monkeypatch.setattr(bench, "wait", fault)
    steps = list(measure.steps(bench, work_of(watch, "elements")))
    assert [kind for kind, _ in steps] == ["layer", "case", "entry", "broken"]
    assert steps[-1][1] == "DeviceError: an illegal address"


@pytest.fixture(params=[signal.SIG_IGN, signal.default_int_handler], ids=["in the background", "before a user"])
def interrupts(request):
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_a_run_that_takes_too_long_is_interrupted_and_heard(watch):
    talk = "import sys, time; print('begun', flush=True); time.sleep(60)"
    code, said = watch.run_for([sys.executable, "-c", talk], 1.0)
    assert code == "stopped after 1 s"
    assert said.startswith("begun")
    assert "KeyboardInterrupt" in said
    assert watch.run_for([sys.executable, "-c", "print('done'); raise SystemExit(3)"], 60) == (3, "done\n")
    assert watch.run_for(["/nowhere/to/be/found"], 1)[0] == "not started"


def test_results_go_where_they_can(script, tmp_path, capsys):
    assert script.writable(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "file").touch()
    other = script.writable(tmp_path / "file")
    assert other.is_dir()
    assert f"results go to {other}" in capsys.readouterr().out
    other.rmdir()


def test_what_is_missing_is_one_sentence(script, watch, measure, simulated, monkeypatch, tmp_path):
    def missing(*arguments):
        raise DeviceError("cuda: expected an NVIDIA driver, got none")

    monkeypatch.setattr(measure, "Bench", missing)
    monkeypatch.setattr(script, "watched", lambda work, *_: measure.main(work))
    results = script.Results(tmp_path, "float32")
    with pytest.raises(SystemExit, match=r"bench.gpu: expected a GPU .*, got DeviceError: cuda: expected an NVIDIA"):
        script.measure(work_of(watch, "pool"), 60.0, float("inf"), results)
    results.known["cases"].append({"group": "conv", "name": "a case", "wrong": "why"})
    script.measure(work_of(watch, "pool"), 60.0, float("inf"), results)
    assert results.known["ended"]["pool"].startswith("expected a GPU that compiles")


def test_kernels_are_compiled_ahead(script, monkeypatch, tmp_path):
    """One of each direction, for a device that is not there; they lie where the device would look for them."""
    if find_spec("numba_cuda") is None or recorder.ptxas() is None or config.cuda_simulated():
        pytest.skip("numba-cuda and ptxas are needed, and no simulator: [cuda13]")
    ahead = importlib.import_module("bench.gpu_kernels")
    layer = {"channels": [16, 16], "input": [8, 8], "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "groups": 1}
    with launch.use(recorder.Recorder()):
        found = ahead.recorded([layer], 1e6, "bf16", [2])
    names = {launched.name for launched in found}
    assert {"product.product", "conv_backward_weight.sum_parts", "loss.nll", "pool.maximum_gradient"} <= names
    monkeypatch.setattr(ahead, "KERNELS", [pair for pair in found.items() if pair[0].name == "loss.nll"])
    monkeypatch.setenv("FASTCONV_CACHE", str(tmp_path))
    assert ahead.build(0, (9, 0))
    assert not ahead.build(0, (9, 0))
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    launched = ahead.KERNELS[0][0]
    name = kernel_cache.digest(kernel_cache.identity(launched.name, launched.key), launched.types)
    assert file == kernel_cache.places(name, (9, 0))[-1]
    assert kernel_cache.unpacked(file.read_bytes())[1][:4] == b"\x7fELF"


@pytest.mark.parametrize("sanitizer", [False, True])
def test_a_quarter_of_the_tests_time_is_the_sanitizers_where_there_is_one(script, monkeypatch, tmp_path, sanitizer):
    started = []
    monkeypatch.setattr(script, "run_for", lambda command, seconds: started.append((command, seconds)) or (0, "said"))
    found = script.tests(sanitizer, 100.0, tmp_path)
    assert list(found) == ["tests", "compute-sanitizer"][: 1 + sanitizer]
    assert [seconds for _, seconds in started] == ([75.0, 25.0] if sanitizer else [100.0])
    assert all("--gpu" in command for command, _ in started)
    assert [command[0] for command, _ in started[1:]] == ["compute-sanitizer"][:sanitizer]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"gpu_{name}.txt" for name in found)
    assert all((TREE / part).exists() for command, _ in started for part in command if part.startswith("tests/"))


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
