"""The command line as a user meets it: output, files, exit codes, Ctrl-C, resuming, and one-line errors."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_set

import fastconv
from fastconv import config, data
from fastconv.cli import main
from fastconv.training import checkpoint, inference, plots

REAL = config.data_dir()
AVAILABLE = plots.available


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own with a set of 12 + 5 images; no data elsewhere; no pictures, which take seconds."""
    monkeypatch.setattr("fastconv.training.plots.available", lambda: False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTCONV_DATA", raising=False)
    monkeypatch.setenv("FASTCONV_CACHE", str(tmp_path / "cache"))
    write_set(tmp_path / "tiny")


def train(*options: str) -> int:
    return main(["train", "--dataset", "mnist", "--data", "tiny", "--model", "lenet5", "--batch-size", "5", *options])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("fastconv: ")
    return error


# -------------------------------------------------------------------------------------------------- train


def test_train_prints_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "3") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "data: MNIST from tiny (found through --data)"
    assert "61,706 parameters" in lines[1]
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]
    for word in ("test accuracy", "sensitivity", "precision", "F1", "true \\ predicted"):
        assert word in out
    assert err == ""  # no bar where there is no terminal
    folder = Path("runs/mnist-lenet5")
    files = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "checkpoint.safetensors", "history.jsonl", "config.json"} <= files
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert json.loads((folder / "config.json").read_text())["epochs"] == 3


def test_pictures_or_how_to_get_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("--epochs", "1", "--output", "without") == 0
    assert "pip install 'fastconv[plot]'" in capsys.readouterr().out
    assert not list(Path("without").glob("*.png"))
    pytest.importorskip("matplotlib", reason="matplotlib (the plot extra) is not installed")
    monkeypatch.setattr("fastconv.training.plots.available", AVAILABLE)
    assert main(["train", "--dataset", "digits", "--limit", "8", "--model", "lenet5", "--epochs", "1"]) == 0
    pictures = {path.name for path in Path("runs/digits-lenet5").glob("*.png")}
    assert pictures == {"learning_curves.png", "confusion_matrix.png", "worst_mistakes.png"}


def test_quiet_prints_results_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "1", "--quiet") == 0
    out = capsys.readouterr().out
    assert out.startswith("data: MNIST from tiny")
    assert "\ntest accuracy" in out
    assert not re.search(r"^(epoch|training|written|next)", out, re.MULTILINE)


@pytest.mark.parametrize("batch", [(), ("--batch-size", "2000", "--lr", "2.5e-5")], ids=["mini-batch", "full batch"])
def test_the_tutorials_recipe(capsys: pytest.CaptureFixture[str], batch: tuple[str, ...]) -> None:
    options = ["--recipe", "tutorial", "--dataset", "digits", "--epochs", "2", "--dtype", "float64", "--limit", "40"]
    assert main(["train", *options, *batch, "--output", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"2 epochs of {1 if batch else 4} batches" in lines[1]
    assert "half-sse" in lines[1]
    assert "momentum" not in lines[1]
    first, second = (json.loads(line)["train_loss"] for line in Path("run/history.jsonl").read_text().splitlines())
    assert second < first


def test_a_second_run_overwrites_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "1") == train("--epochs", "1", "--seed", "5") == 0
    assert Path("runs/mnist-lenet5-2/model.safetensors").exists()
    for file in ("checkpoint.safetensors", "model.safetensors"):  # either is a run
        assert train("--epochs", "1", "--output", "runs/mnist-lenet5") == 2
        assert "--resume" in capsys.readouterr().err
        Path("runs/mnist-lenet5", file).unlink()


def test_resume_after_the_command_line_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--schedule", "constant", "--quiet")
    assert train("--epochs", "4", "--output", "whole", *options) == 0
    assert train("--epochs", "2", "--output", "parts", *options) == 0
    assert main(["train", "--resume", "--data", "tiny", "--output", "parts", "--epochs", "4"]) == 0
    assert Path("parts/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert len(Path("parts/history.jsonl").read_text().splitlines()) == 4
    capsys.readouterr()
    assert main(["train", "--resume", "--data", "tiny", "--output", "parts"]) == 0  # there is nothing left to do
    assert "test accuracy" in capsys.readouterr().out
    assert Path("parts/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert main(["train", "--resume", "--data", "tiny", "--output", "parts", "--seed", "8"]) == 2
    assert "seed 0, as in the run that is resumed" in capsys.readouterr().err


def command(*options: str, **popen) -> subprocess.Popen:
    """The command line in a process of its own; the package as it was imported here, whatever the folder."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fastconv.__file__).parents[1]), "PYTHONUNBUFFERED": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, **popen}
    return subprocess.Popen([sys.executable, "-m", "fastconv", *options], **streams)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number: int) -> None:
    options = ["--dataset", "mnist", "--data", "tiny", "--model", "lenet5", "--epochs", "1000000"]
    with command("train", *options) as process:
        for line in process.stdout:
            if line.startswith("epoch") and line.split()[1].startswith("3/"):
                process.send_signal(number)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    last = out.splitlines()[-1]
    assert last.startswith("interrupted in epoch ")
    assert last.endswith("fastconv train --resume --output runs/mnist-lenet5")
    assert "Traceback" not in err
    state = checkpoint.load("runs/mnist-lenet5/checkpoint.safetensors", "checkpoint")
    assert len(state["history"]) == state["position"]["epoch"] >= 3


def test_an_interrupt_after_the_last_epoch_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fastconv.training.job._results", interrupt)
        assert train("--epochs", "1", "--output", "the run") == 130
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith("fastconv train --resume --output 'the run'")
    assert not Path("the run/model.safetensors").exists()
    assert main(["train", "--resume", "--output", "the run"]) == 0
    assert Path("the run/model.safetensors").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("options", [("info",), ("train", "--dataset", "digits", "--limit", "9", "--epochs", "1")])
def test_output_to_a_full_disk_is_one_line(options: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full, command(*options, stdout=full) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert "No space left on device" in err


def test_a_full_disk_keeps_the_last_checkpoint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("--epochs", "1", "--schedule", "constant", "--output", "run") == 0
    before = Path("run/checkpoint.safetensors").read_bytes()
    capsys.readouterr()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(["train", "--resume", "--output", "run", "--epochs", "2", "--data", "tiny"]) == 2
    assert "No space left on device" in one_line(capsys)
    assert Path("run/checkpoint.safetensors").read_bytes() == before
    assert checkpoint.load("run/checkpoint.safetensors", "checkpoint")["position"]["epoch"] == 1


@pytest.mark.parametrize(
    "options, reason",
    [
        (["--data", "nowhere", "--dataset", "mnist"], "four MNIST files in nowhere"),
        (["--data", "nowhere"], "no folder for the embedded digits (or another dataset), got nowhere"),
        (["--resume", "--output", "nowhere"], "nowhere"),
        (["--resume"], "train first"),
        (["--config", "missing.toml"], "missing.toml"),
        (["--epochs", "0"], "epochs >= 1, got 0"),
        (["--output-relu", "--model", "lenet5"], "output_relu"),
        (["--output", "file/below"], "file/below"),
        (["--data", "long" * 2000, "--dataset", "mnist"], "File name too long"),
        (["--output", "long" * 2000], "File name too long"),
        (["--data", "~nobody-of-this-name", "--dataset", "mnist"], "a home that is not known"),
        (["--seed", str(2**64)], "seed < 2**63"),
        (["--threads", str(2**40)], "set_num_threads"),
        (["--lr", "1e30", "--loss", "half-sse", "--limit", "50", "--model", "lenet5"], "finite loss"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], options: list[str], reason: str) -> None:
    Path("file").write_text("in the way")
    with np.errstate(all="ignore"):
        assert main(["train", "--dataset", "digits", "--epochs", "1", *options]) == 2
    assert reason in one_line(capsys)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"\xee"])
def test_a_damaged_checkpoint_is_named(capsys: pytest.CaptureFixture[str], damage) -> None:
    assert train("--epochs", "1", "--output", "run") == 0
    capsys.readouterr()
    path = Path("run/checkpoint.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    assert main(["train", "--resume", "--output", "run", "--data", "tiny"]) == 2
    assert "run/checkpoint.safetensors" in one_line(capsys)


@pytest.mark.parametrize(
    "tree", [{}, {"config": 3, "dataset": "mnist"}, {"config": {}}, {"config": {"dataset": "mnist"}, "dataset": "x"}]
)
def test_a_checkpoint_that_holds_no_run_is_named(capsys: pytest.CaptureFixture[str], tree: dict) -> None:
    Path("run").mkdir()
    checkpoint.save("run/checkpoint.safetensors", "checkpoint", tree)
    assert main(["train", "--resume", "--output", "run", "--data", "tiny"]) == 2
    assert "expected" in one_line(capsys)


def test_paths_that_no_system_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["evaluate", "long" * 2000], ["predict", "long" * 2000, "--model", "long" * 2000]):
        assert main(options) == 2
        assert "File name too long" in one_line(capsys)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastconv {fastconv.__version__}\n"


@pytest.mark.parametrize("value", ["0", "-1", "two", "\N{SUPERSCRIPT TWO}", "9" * 5000])
def test_a_wrong_number_of_threads_in_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FASTCONV_NUM_THREADS", value)
    assert main(["info"]) == 2
    assert "FASTCONV_NUM_THREADS: expected a whole number" in one_line(capsys)


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["train", "--epochs", "x"], ["train", "--model", "vgg"], ["predict"]]
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: fastconv" in capsys.readouterr().err


@pytest.mark.parametrize("error, code, word", [(KeyboardInterrupt, 130, "interrupted"), (MemoryError, 2, "memory")])
def test_what_ends_a_job_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type, code: int, word: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(data, "load", fail)
    assert train() == code
    assert word in one_line(capsys)


# ------------------------------------------------------------------------------- evaluate, predict, info


@pytest.fixture
def trained(capsys: pytest.CaptureFixture[str]) -> Path:
    """A network that has seen 300 of the embedded digits."""
    options = [
        "--model", "lenet5", "--limit", "300", "--epochs", "10", "--no-augment", "--lr", "0.05", "--batch-size", "20",
    ]  # fmt: skip
    assert main(["train", "--dataset", "digits", "--output", "run", "--quiet", *options]) == 0
    return Path("run")


def test_evaluate_agrees_with_training_and_predict_reads_pictures(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def accuracy() -> float:
        return float(re.search(r"test accuracy ([\d.]+) %", capsys.readouterr().out)[1])

    said = json.loads((trained / "history.jsonl").read_text().splitlines()[-1])["test_accuracy"]
    assert said > 0.6
    assert main(["evaluate", "run"]) == 0
    assert accuracy() == round(100 * said, 2)
    assert main(["evaluate", "run/model.safetensors", "--dataset", "mnist", "--data", "tiny"]) == 0
    assert accuracy() <= 100

    digits = data.load("digits").train
    chosen = [int(np.flatnonzero(digits.labels == digit)[0]) for digit in range(10)]
    paths = []
    for index in chosen:  # dark ink on a white page, the digit in a corner
        page = np.full((100, 90), 255, np.uint8)
        page[60:88, 5:33] -= digits.images[index]
        paths.append(f"page{index}.npy")
        np.save(paths[-1], page)
    assert main(["predict", *paths, "--model", "run", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["file"] for answer in answers] == paths
    assert all(0.1 <= answer["probability"] <= 1 for answer in answers)
    right = sum(answer["class"] == str(digits.labels[i]) for answer, i in zip(answers, chosen, strict=True))
    assert right >= 7  # a small network after a short training, on digits that it has seen
    assert main(["predict", paths[0], "--model", "run"]) == 0
    assert re.fullmatch(rf"{paths[0]}  \d  \d+\.\d %\n", capsys.readouterr().out)
    assert main(["predict", *paths, "--model", "run", "--output", "told"]) == 0
    rows = [f"{answer['file']},{answer['class']},{answer['probability']}" for answer in answers]
    assert Path("told/predictions.csv").read_text() == "\n".join(["file,class,probability", *rows, ""])


def test_export_writes_what_other_programs_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
    import onnx
    from onnx.reference import ReferenceEvaluator

    assert main(["export", "run"]) == 0
    assert capsys.readouterr().out.endswith("written to run/model.onnx\n")
    assert main(["export", "run/model.safetensors", "--output", "small.onnx", "--opset", "13"]) == 0
    network, about = inference.load_model("run")
    digits = data.load("digits").test.images[:20]
    x = ((digits[:, None] / np.float32(255) - about.mean) / about.std).astype(np.float32)
    for name in ("run/model.onnx", "small.onnx"):
        proto = onnx.load(name)
        facts = {entry.key: entry.value for entry in proto.metadata_props}
        assert json.loads(facts["classes"]) == about.classes
        assert (float(facts["mean"]), float(facts["std"])) == (about.mean, about.std)
        expected = network(x).numpy()
        assert np.abs(ReferenceEvaluator(proto).run(None, {"input": x})[0] - expected).max() < 1e-4
    capsys.readouterr()
    assert main(["export", "run", "--opset", "12"]) == 2
    assert "opset" in one_line(capsys)
    assert main(["export", "run", "--output", "missing/x.onnx"]) == 2
    assert "missing/x.onnx" in one_line(capsys)


def test_predict_names_bad_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--epochs", "1", "--output", "runs/a") == 0
    np.save("blank.npy", np.ones((50, 50)))
    Path("rubbish.npy").write_bytes(b"rubbish")
    for name, reason in (("blank.npy", "a blank image"), ("rubbish.npy", ".npy header"), ("missing.npy", "none there")):
        capsys.readouterr()
        assert main(["predict", name]) == 2  # with the latest model
        error = one_line(capsys)
        assert name in error
        assert reason in error


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "x.npy"], ["evaluate", "nowhere"]])
def test_no_model_says_so(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main(command) == 2
    assert re.search(r"model|nowhere", one_line(capsys))


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_set(tmp_path / "mnist")
    monkeypatch.setenv("FASTCONV_DATA", str(tmp_path))
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["data"] == {
        "mnist": f"{tmp_path}/mnist (FASTCONV_DATA)", "fashion-mnist": None, "digits": "embedded",
    }  # fmt: skip
    assert facts["threads"] >= 1
    assert facts["backends"]["reference"] in ("in use", "available")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^{key} ", out, re.MULTILINE) for key in facts)
    fastconv.show_config()
    assert capsys.readouterr().out == out


# ------------------------------------------------------------------------------------------- the real thing


@pytest.mark.skipif(REAL is None, reason="FASTCONV_DATA is not set")
def test_real_mnist(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dataset", "mnist", "--data", str(REAL), "--model", "lenet5", "--limit", "3000", "--epochs", "1"]
    assert main(["train", *arguments, "--batch-size", "20", "--no-augment", "--quiet"]) == 0
    assert float(re.search(r"test accuracy ([\d.]+) %", capsys.readouterr().out)[1]) > 85
