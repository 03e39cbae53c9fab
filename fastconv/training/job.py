"""The jobs of the command line, from options to printed results: train, evaluate, predict, export. cli.py parses."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..data import Dataset, Loader
from ..data.cases.frame import restored
from ..data.images import SIZE
from ..errors import ArgumentError, CheckpointError, DataError, mismatch
from ..nn import Module
from . import checkpoint, folder, inference, networks, own, plots, report
from .config import OWN, make, resumed
from .loop import Run
from .metrics import measure
from .progress import Progress, Stop


def train(explicit: dict[str, Any], recipe: str | None = None, resume: bool = False) -> bool:
    """Train as the options say, or go on with a run; print and write the results. Return False if it was interrupted.

    Raises:
        FastconvError: options, data, checkpoint or output folder are not usable; the message says which and why.
    """
    saved = _saved(explicit.get("output")) if resume else None
    state, place = saved or (None, None)
    if state:
        config = resumed(state["config"], explicit, recipe)
    else:
        config = make(explicit, recipe, own.suited(explicit))
    _set_threads(config.threads)
    if config.dataset == OWN:
        run = Run(config, own.load(config, _say))
    else:
        run = Run(config, data.load(state["dataset"] if state else config.dataset, config.data, say=_say))
    config = run.config
    if state:
        run.restore(state)
    else:
        place = folder.create(config.output, f"{run.problem.name}-{config.model}")
    with folder.claimed(place, new=not state):
        return _trained(run, place, bool(state))


def _trained(run: Run, place: Path, going_on: bool) -> bool:
    """Train in a folder that is ours; write and print the results. Return False if it was interrupted."""
    config = run.config
    folder.write_json(place / "config.json", config.as_dict())
    again = f"To go on:  fastconv train --resume --output {shlex.quote(str(place))}"
    try:
        with (
            Progress(config.epochs * run.batches.count, run.images_done, quiet=config.quiet) as progress,
            Stop() as stop,
        ):
            progress.line(_describe(run, place, going_on))
            done = run.train(progress, stop, lambda now: _save(now, place))
        if done:
            (own.finish if config.dataset == OWN else _results)(run, place)
            _point(run, place)
            return True
        where = f"epoch {run.epoch + 1}" + (f", batch {run.batch}" if run.batch else "")
        _say(f"interrupted in {where}; saved. {again}")
    except KeyboardInterrupt:  # the second Ctrl-C, or one after the last epoch
        if not (place / folder.CHECKPOINT_FILE).exists():
            raise
        _say(f"interrupted at once; the last checkpoint stands. {again}")
    return False


def evaluate(model: str | None, dataset: str | None, source: str | None, threads: int | None = None) -> None:
    """Print the results of a trained model on the test images of a data set (that which it was trained on, if None).

    Raises:
        FastconvError: model or data are not usable.
    """
    _set_threads(threads)
    network, about = inference.load_model(model or folder.latest(folder.MODEL_FILE))
    if about.own:
        if dataset not in (None, "auto"):
            wanted = "data at data PATH for a network trained on own data"
            raise ArgumentError(mismatch("evaluate", wanted, f"dataset {dataset}"))
        return own.evaluate(network, about, source, _say)
    images = data.load(dataset or about.dataset, source, say=_say)
    batches = Loader(images.test, 250, mean=about.mean, std=about.std, shuffle=False, dtype=about.dtype)
    _print_metrics(inference.outputs(network, batches.epoch(0)), images, about.classes)


def predict(paths: Sequence[str], model: str | None, output: str | None = None) -> list[dict[str, Any]]:
    """Return for each image file its path, the predicted class and its probability; of a network for masks, what
    ``own.predict`` says. Into the folder ``output`` go masks, or classes and probabilities as predictions.csv.

    Raises:
        FastconvError: the model is not usable, a file is no image or blank, or the folder has a predictions.csv; the
            message names it.
    """
    network, about = inference.load_model(model or folder.latest(folder.MODEL_FILE))
    if about.own and restored(about.own["frame"]).task == "segment":
        return own.predict(network, about, paths, output)
    target = Path(output) / folder.ANSWERS_FILE if output else None
    if target and target.exists():
        wanted = f"{target} to be free (--output FOLDER elsewhere)"
        raise DataError(mismatch("predict", wanted, "a file of that name"))
    answers = own.predict(network, about, paths, None) if about.own else _digits(network, about, paths)
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.write_answers(target, answers)
    return answers


def _digits(network: Module, about: inference.About, paths: Sequence[str]) -> list[dict[str, Any]]:
    digits = np.stack([data.find_digit(data.read_grey(path), str(path)) for path in paths])
    batches = Loader(
        data.Split(digits, np.zeros(len(digits), np.int64)), 250, mean=about.mean, std=about.std, shuffle=False,
        dtype=about.dtype,
    )  # fmt: skip
    probability = inference.probabilities(inference.outputs(network, batches.epoch(0)), about.loss)
    best = probability.argmax(axis=1)
    return [
        {"file": str(path), "class": about.classes[index], "probability": round(float(row[index]), 4)}
        for path, index, row in zip(paths, best, probability, strict=True)
    ]


def export(model: str | None, output: str | None, opset: int) -> Path:
    """Write a trained model as a file of ONNX, beside the model where there is no ``output``; return its path.

    It takes images as the network does: of digits (N, 1, 28, 28), pixels of 0 to 1, minus ``mean``, over ``std``. The
    file's metadata has these numbers and the classes; for the user's own data in ``frame``, as JSON.

    Raises:
        FastconvError: the model is not usable, the file cannot be written, or the package onnx is missing.
    """
    from .. import onnx

    path = Path(model or folder.latest(folder.MODEL_FILE))
    network, about = inference.load_model(path)
    target = Path(output) if output else (path if path.is_dir() else path.parent) / "model.onnx"
    facts = {
        "model": about.model, "dataset": about.dataset, "classes": json.dumps(about.classes), "mean": repr(about.mean),
        "std": repr(about.std),
    }  # fmt: skip
    example: Any = np.zeros((1, 1, SIZE, SIZE), about.dtype)
    if about.own:
        facts["frame"] = json.dumps(about.own["frame"])
        example = networks.example(restored(about.own["frame"]), about.own["multiple"], about.dtype)
    onnx.export(network, example, target, opset, metadata=facts)
    return target


def _saved(output: str | None) -> tuple[dict[str, Any], Path]:
    path = Path(output) / folder.CHECKPOINT_FILE if output else folder.latest(folder.CHECKPOINT_FILE)
    state = checkpoint.load(path, "checkpoint")
    if not (isinstance(state.get("config"), dict) and isinstance(state.get("dataset"), str)):
        raise CheckpointError(mismatch("resume", f"{path} to hold a run", "none"))
    return state, path.parent


def _save(run: Run, place: Path) -> None:
    checkpoint.save(place / folder.CHECKPOINT_FILE, "checkpoint", run.state())
    folder.write_lines(place / "history.jsonl", run.history)


def _results(run: Run, place: Path) -> None:
    """Write the model and the pictures, print the metrics."""
    config, dataset = run.config, run.dataset
    about = run.problem.about()
    inference.save_model(place / folder.MODEL_FILE, run.model, about)
    output = run.test_outputs
    if output is None:  # resumed when it was finished already
        output = inference.outputs(run.model, run.test_batches.epoch(0))
    metrics = _print_metrics(output, dataset, dataset.classes)
    if plots.available():
        plots.learning_curves(run.history, place / "learning_curves.png")
        plots.confusion(metrics, dataset.classes, place / "confusion_matrix.png")
        probability = inference.probabilities(output, config.loss)
        worst = place / "worst_mistakes.png"
        plots.worst_mistakes(dataset.test.images, dataset.test.labels, probability, dataset.classes, worst)


def _point(run: Run, place: Path) -> None:
    """Say what was written, and what to do with it."""
    if not run.config.quiet:
        print(f"\nwritten to {place}: {', '.join(sorted(path.name for path in place.iterdir()))}")
        if not plots.available():
            print(plots.HINT)
        print(f"next: fastconv evaluate {place}   or   fastconv predict IMAGE --model {place}")


def _print_metrics(output: np.ndarray, dataset: Dataset, classes: Sequence[str]) -> Any:
    labels = dataset.test.labels
    metrics = measure(labels, output.argmax(axis=1), len(classes))
    print(f"\ntest accuracy {100 * metrics.accuracy:.2f} % on {len(labels):,} images of {dataset.name}\n")
    print(report.metrics_table(metrics, classes), end="\n\n")
    print(report.confusion_table(metrics, classes), flush=True)
    return metrics


def _describe(run: Run, place: Path, going_on: bool) -> str:
    config = run.config
    parameters = sum(parameter.data.size for parameter in run.model.parameters())
    momentum = f", momentum {config.momentum:g}" if config.optimizer == "sgd" and config.momentum else ""
    epochs = f"{config.epochs} epoch{'s' * (config.epochs > 1)}"
    return (
        f"{'resumed' if going_on else 'training'}: {config.model} ({parameters:,} parameters), "
        f"{run.batches.count:,} training and {run.test_batches.count:,} {run.problem.part} images, {epochs} of "
        f"{len(run.batches):,} batches; {config.optimizer}, lr {config.lr:g}{momentum}, {config.schedule}, "
        f"{config.loss}, {config.dtype}, seed {config.seed}; to {place}"
    )


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import fastconv

        fastconv.set_num_threads(threads)


def _say(line: str) -> None:
    print(line, flush=True)
