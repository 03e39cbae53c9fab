"""Training on the user's own data by the command line: what it learns, writes, resumes, and says of new images."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from own_files import class_folders, pairs, save, scene, table

from fastconv.cli import main
from fastconv.data import cases
from fastconv.training import checkpoint, config, inference, own, plots
from fastconv.training.loop import Run
from fastconv.training.progress import Progress

AVAILABLE = plots.available
pytest.importorskip("PIL", reason="Pillow (the images extra) is not installed")


pytestmark = pytest.mark.usefixtures("elsewhere")


def train(*options: object, code: int = 0) -> None:
    assert main(["train", *map(str, options)]) == code


def metrics(run: str = "run") -> dict:
    return json.loads(Path(run, "metrics.json").read_text())


def test_class_folders_are_learnt_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(Path("set"), 14)
    train("--data", "set", "--epochs", 4, "--output", "run", "--batch-size", 4)
    out = capsys.readouterr().out
    assert out.startswith("data: 28 cases, 2 classes, 12x10 from set: 20 train, 4 val, 4 test\n")
    assert "cifar_net" in out
    assert re.search(r"epoch 4/4 .* val 100\.00 %", out)
    found = metrics()
    assert (found["part"], found["samples"]) == ("test", 4)
    assert found["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert set(found["mean"]) == {"sensitivity", "specificity", "precision", "f1", "auc"}
    assert found["confusion"] == [[2, 0], [0, 2]]
    answers = json.loads(Path("run/predictions.json").read_text())
    assert [answer["class"] for answer in answers] == [answer["true"] for answer in answers]

    assert main(["evaluate", "run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("data: 4 cases")  # those that were not trained on
    assert "accuracy 1.0000" in out
    for i in range(4):
        save(Path(f"new{i}.png"), scene(900 + i, (12, 10), bool(i % 2))[0])
    assert main(["predict", *(f"new{i}.png" for i in range(4)), "--json"]) == 2  # there is none under runs/
    capsys.readouterr()
    assert main(["predict", *(f"new{i}.png" for i in range(4)), "--json", "--model", "run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [answer["class"] for answer in told] == ["a", "b", "a", "b"]
    assert all(abs(sum(answer["probabilities"].values()) - 1) < 1e-3 for answer in told)
    assert main(["predict", "new1.png", "--model", "run"]) == 0
    assert re.fullmatch(r"new1\.png  b  \d+\.\d %\n", capsys.readouterr().out)
    given = ["predict", *(f"new{i}.png" for i in range(4)), "--model", "run", "--output", "found/here"]
    assert main(given) == 0
    with open("found/here/predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{name: str(answer[name]) for name in ("file", "class", "probability")} for answer in told]
    capsys.readouterr()
    assert main(given) == 2  # nothing is overwritten
    assert "found/here/predictions.csv to be free" in capsys.readouterr().err


def test_other_data_are_all_tested_on(capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(Path("set"))
    train("--data", "set", "--epochs", 1, "--output", "run", "--quiet")
    class_folders(Path("other"), 3)
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", "other"]) == 0
    assert capsys.readouterr().out.startswith("data: 6 cases, 2 classes, 12x10 from other: 6 test\n")
    Path("set").rename("moved")
    assert main(["evaluate", "run", "--data", "moved"]) == 0  # the same data elsewhere: their test cases
    assert "from moved: 2 test" in capsys.readouterr().out
    Path("some.csv").write_text("path,label,split\nother/a/a0.png,a,test\nother/b/b0.png,b,train\n")
    assert main(["evaluate", "run", "--data", "some.csv"]) == 0  # with its own split
    assert "data: 1 cases, 2 classes" in capsys.readouterr().out
    Path("other/a").rename("other/c")
    assert main(["evaluate", "run", "--data", "other"]) == 2
    assert "of a class of a, b, got 'c'" in capsys.readouterr().err


def test_ages_are_joined_to_what_the_network_sees(capsys: pytest.CaptureFixture[str]) -> None:
    path = table(Path("set"), 32)
    train("--data", path, "--epochs", 60, "--output", "run", "--quiet", "--width", 8, "--lr", 0.005)
    assert metrics()["accuracy"]["value"] == 1.0
    assert metrics()["resampled"].endswith("groups of cases")
    parts = {name: [c.group for c in part.cases] for name, part in load(path).parts.items()}
    assert not set(parts["train"]) & set(parts["test"])
    assert not set(parts["train"]) & set(parts["val"])
    capsys.readouterr()
    assert main(["predict", "set/x/0.png", "--model", "run"]) == 2
    assert "a .csv with the columns path, age, sex" in capsys.readouterr().err
    Path("new.csv").write_text("path,sex,age\nset/x/0.png,f,71\nset/x/1.png,f,31\n")
    assert main(["predict", "new.csv", "--model", "run", "--json"]) == 0
    assert [answer["class"] for answer in json.loads(capsys.readouterr().out)] == ["b", "a"]
    assert main(["evaluate", "run"]) == 0
    Path("new.csv").write_text("path,sex,age\nset/x/0.png,f,\n")
    assert main(["predict", "new.csv", "--model", "run"]) == 2
    assert "new.csv row 2, set/x/0.png to have a value in column 'age'" in capsys.readouterr().err


def load(path: Path) -> cases.CaseSet:
    return own.load(own_config(path), lambda line: None)


def own_config(path: object, **options: object) -> config.Config:
    explicit = {"data": str(path), **options}
    return config.make(explicit, suited=own.suited(explicit))


SEGMENT = ("--task", "segment", "--width", 4, "--batch-size", 2, "--lr", 0.01, "--quiet", "--output", "run")


def test_masks_are_learnt_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    pairs(Path("set"), 14, value=255)
    train("--data", "set", "--epochs", 6, *SEGMENT)
    found = metrics()
    assert list(found["classes"]) == ["0", "255"]
    assert 0.8 < found["mean"]["dice"]["low"] <= found["mean"]["dice"]["value"] <= found["mean"]["dice"]["high"] <= 1
    each = [answer["dice"]["255"] for answer in json.loads(Path("run/predictions.json").read_text())]
    assert found["mean"]["dice"]["value"] == pytest.approx(np.mean(each))
    image, mask = scene(901, (21, 17), True)  # of another size: the network goes with it
    save(Path("new.png"), image)
    capsys.readouterr()
    assert main(["predict", "new.png", "--model", "run"]) == 0
    assert re.fullmatch(r"new\.png  new_mask\.png  0 \d+\.\d %, 255 \d+\.\d %\n", capsys.readouterr().out)
    from PIL import Image

    written = np.array(Image.open("new_mask.png"))
    assert written.shape == (21, 17)
    assert set(np.unique(written)) == {0, 255}
    assert 2 * (mask * (written > 0)).sum() / (mask.sum() + (written > 0).sum()) > 0.7
    assert main(["predict", "new.png", "--model", "run"]) == 2  # nothing is overwritten
    assert "new_mask.png" in capsys.readouterr().err
    assert main(["predict", "new.png", "--model", "run", "--output", "masks"]) == 0
    assert np.array_equal(np.array(Image.open("masks/new_mask.png")), written)


def test_volumes_keep_their_affine() -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel (the medical extra) is not installed")
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    rows = ["image,mask,split"]
    for i, part in enumerate(["train"] * 6 + ["test"] * 2):
        image, mask = scene(i, (11, 9, 8), True)
        for name, array in (("image", image), ("mask", mask)):
            nibabel.save(nibabel.Nifti1Image(array, affine), f"{name}{i}.nii.gz")
        rows.append(f"image{i}.nii.gz,mask{i}.nii.gz,{part}")
    Path("cases.csv").write_text("\n".join(rows))
    train("--data", "cases.csv", "--epochs", 6, "--augment", *SEGMENT)
    assert metrics()["mean"]["dice"]["value"] > 0.6
    assert main(["predict", "image0.nii.gz", "--model", "run", "--output", "out"]) == 0
    written = nibabel.load("out/image0_mask.nii.gz")
    np.testing.assert_array_equal(written.affine, affine)
    assert written.shape == (11, 9, 8)
    first = np.asarray(written.dataobj)
    assert set(np.unique(first)) == {0, 1}
    turned = nibabel.as_closest_canonical(nibabel.load("image0.nii.gz"))  # other axes in the file, the same patient
    nibabel.save(turned, "turned.nii")
    assert main(["predict", "turned.nii", "--model", "run"]) == 0
    again = nibabel.load("turned_mask.nii")
    np.testing.assert_array_equal(again.affine, turned.affine)
    np.testing.assert_array_equal(np.asarray(nibabel.as_closest_canonical(written).dataobj), np.asarray(again.dataobj))


def test_volumes_in_folders_with_parts_and_another_size() -> None:
    for part, count in (("train", 6), ("val", 2), ("test", 2)):
        class_folders(Path("set", part), count, (9, 11, 10), ".npy")
    train("--data", "set", "--size", 8, 8, 9, "--epochs", 5, "--width", 4, "--lr", 0.01, "--quiet", "--output", "run")
    assert metrics()["samples"] == 4
    kept = json.loads(Path("run/config.json").read_text())
    assert (kept["model"], kept["size"], kept["dataset"]) == ("volume_classifier", [8, 8, 9], "own")


def test_an_archive_of_medmnist() -> None:
    arrays = {}
    for part, count in (("train", 12), ("val", 2), ("test", 4)):
        images = [scene(i, (12, 12), bool(i % 2))[0] for i in range(count)]
        arrays |= {f"{part}_images": np.stack(images), f"{part}_labels": np.arange(count)[:, None] % 2}
    np.savez("tiny.npz", **arrays)
    train("--data", "tiny.npz", "--epochs", 1, "--model", "lenet5", "--size", 28, 28, "--output", "run", "--quiet")
    assert metrics()["samples"] == 4


# --------------------------------------------------------------------------------------------- to the bit


@pytest.mark.parametrize("task, more", [
    ("classify", {}), ("classify", {"augment": True, "model": "volume_classifier", "width": 4}),
    ("segment", {"width": 4, "augment": True}), ("segment", {"width": 4, "loss": "cross-entropy", "dtype": "float64"}),
])  # fmt: skip
def test_resumed_equals_uninterrupted(tmp_path: Path, task: str, more: dict) -> None:
    """3 steps an epoch and a batch to watch: stopped within an epoch and in its check."""
    (class_folders if task == "classify" else pairs)(Path("set"), 5 if task == "classify" else 9)
    options = own_config("set", task=task, epochs=3, batch_size=3, val_share=0.1, test_share=0.1, **more)

    def go(run: Run, steps: int | None = None) -> bool:
        asked = iter(range(10**9))
        return run.train(
            Progress(1, quiet=True), lambda: steps is not None and next(asked) >= steps,
            lambda now: checkpoint.save(tmp_path / "state", "checkpoint", now.state()),
        )  # fmt: skip

    def result(run: Run) -> bytes:
        inference.save_model(tmp_path / "model", run.model, run.problem.about())
        return (tmp_path / "model").read_bytes()

    whole = Run(options, own.load(options, lambda line: None))
    assert go(whole)
    wanted = result(whole)
    for steps in (1, len(whole.batches), 2 * len(whole.batches) + 2):
        assert not go(Run(options, own.load(options, lambda line: None)), steps)
        resumed = Run(options, own.load(options, lambda line: None))
        resumed.restore(checkpoint.load(tmp_path / "state", "checkpoint"))
        assert go(resumed)
        assert result(resumed) == wanted


def test_changed_data_are_not_resumed_on(capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(Path("set"))
    options = ("--schedule", "constant", "--output", "run", "--quiet")
    train("--data", "set", "--epochs", 1, *options)
    Path("set").rename("moved")
    train("--resume", "--output", "run", "--epochs", 2, "--data", "moved")
    Path("moved").rename("set")
    capsys.readouterr()
    save(Path("set/a/a3.png"), scene(99, (12, 10), False)[0])
    train("--resume", "--output", "run", "--epochs", 3, "--data", "set", code=2)
    assert "data of moved as they were when the run began" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize("options, reason", [
    (["--model", "unet2d"], "a model to classify, got 'unet2d'"),
    (["--model", "r3d_18"], "a model for 2-D images, got 'r3d_18'"),
    (["--model", "lenet5"], "a model for images of 1 x 12 x 10 (or another --size), got lenet5"),
    (["--model", "cifar_net", "--width", "8"], "a model whose --width can be chosen"),
    (["--size", "8"], "size of 2 numbers"),
    (["--size"], ".png, got none"),
    (["--size", "8", "0"], "size >= 1"),
    (["--loss", "dice"], "loss cross-entropy or half-sse to classify"),
    (["--task", "segment"], "images or volumes in set/images, got none there"),
    (["--columns", "age"], "a .csv for columns"),
    (["--group-column", "patient"], "a .csv for group_column"),
    (["--val-share", "0.6", "--test-share", "0.5"], "below 1 together"),
    (["--classes", "no", "yes"], "classes with task segment"),
    (["--dataset", "digits"], "own data at data PATH alone"),
    (["--dataset", "own", "--data", "nowhere"], "a folder, a .csv or an .npz nowhere, got none there"),
])  # fmt: skip
def test_errors_are_one_line_and_leave_nothing(
    capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    class_folders(Path("set"), 4)
    more = ["--missing", "mean"] if "digits" in options else []
    train("--data", "set", "--epochs", 1, *options, *more, code=2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error
    assert not Path("runs").exists()


@pytest.mark.parametrize("line, reason", [
    ({"line4": "x/2.png,b,p1,,f"}, "set/cases.csv row 4, set/x/2.png to have a value in column 'age'"),
    ({"line4": "x/77.png,b,p1,30,f"}, "set/cases.csv row 4: a file set/x/77.png, got none there"),
    ({"line1": "path,finding,patient,age,sex"}, "a column 'label'"),
    ({f"line{i}": "" for i in range(2, 18)}, "rows below the header of set/cases.csv"),
])  # fmt: skip
def test_bad_tables_are_one_line_and_leave_nothing(capsys: pytest.CaptureFixture[str], line: dict, reason: str) -> None:
    train("--data", table(Path("set"), **line), "--epochs", 1, code=2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error
    assert not Path("runs").exists()


def test_gaps_can_be_filled() -> None:
    train("--data", table(Path("set"), line4="x/2.png,b,p1,,"), "--missing", "mean", "--epochs", 1, "--quiet")
    assert Path("runs/cases-volume_classifier/metrics.json").exists()


def test_a_grey_set_and_a_network_for_colours() -> None:
    class_folders(Path("set"), 5, (33, 32))
    options = own_config("set", model="nin_cifar", size=[32, 32])
    run = Run(options, own.load(options, lambda line: None))
    x, _ = next(run.batches.epoch(0))
    assert x.shape == (6, 3, 32, 32)
    np.testing.assert_array_equal(x[:, 0], x[:, 2])


def test_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (the plot extra) is not installed")
    monkeypatch.setattr("fastconv.training.plots.available", AVAILABLE)
    class_folders(Path("set"), 4)
    train("--data", "set", "--epochs", 1, "--output", "run", "--quiet")
    names = {"learning_curves", "confusion_matrix", "roc", "worst_mistakes"}
    assert {path.stem for path in Path("run").glob("*.png")} == names
    pairs(Path("volumes"), 6, (8, 9, 10), ".npy")
    train("--data", "volumes", "--task", "segment", "--epochs", 1, "--output", "seg", "--width", 2, "--quiet")
    assert {path.stem for path in Path("seg").glob("*.png")} == {"learning_curves", "overlays"}


def test_export_has_the_frame(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is missing")
    class_folders(Path("set"), 4)
    train("--data", "set", "--epochs", 1, "--output", "run", "--quiet")
    assert main(["export", "run"]) == 0
    facts = {entry.key: entry.value for entry in onnx.load("run/model.onnx").metadata_props}
    assert json.loads(facts["frame"])["classes"] == ["a", "b"]
