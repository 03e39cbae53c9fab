"""The loop: it learns, repeats to the bit, and goes on to the bit from wherever it was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv import data, models, nn
from fastconv.data import Dataset
from fastconv.errors import ArgumentError, CheckpointError
from fastconv.training import Config, checkpoint, inference
from fastconv.training.loop import Run
from fastconv.training.progress import Progress
from fastconv.training.task import Classify


@pytest.fixture(scope="module")
def few() -> Dataset:
    digits = data.load("digits")
    return Dataset("digits", digits.train.first(22), digits.test.first(9), digits.classes, digits.mean, digits.std)


@pytest.fixture(autouse=True)
def with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """`lenet5` is a small network that has every kind of state: parameters, buffers, dropout masks."""

    def small(num_classes: int = 10) -> nn.Module:
        layers = [nn.Conv2d(1, 3, 5, stride=4), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)]
        return nn.Sequential(*layers, nn.Linear(108, num_classes))

    monkeypatch.setitem(models._MODELS, "lenet5", small)


def configuration(**options) -> Config:
    return Config(**{"model": "lenet5", "batch_size": 5, "epochs": 4, "seed": 11, **options})


def go(run: Run, steps: int | None = None, path: Path | None = None) -> bool:
    """Train until done, or until ``stop`` was asked ``steps`` times."""
    asked = iter(range(10**9))

    def save(now: Run) -> None:
        if path:
            checkpoint.save(path, "checkpoint", now.state())

    return run.train(Progress(1, quiet=True), lambda: steps is not None and next(asked) >= steps, save)


def model_bytes(run: Run, path: Path) -> bytes:
    about = inference.about(run.config, run.dataset, run.mean, run.std)
    inference.save_model(path, run.model, about)
    return path.read_bytes()


def history(run: Run) -> list[dict]:
    """Without the clock."""
    return [{k: v for k, v in entry.items() if k not in ("seconds", "images_per_second")} for entry in run.history]


OPTIMISERS = {
    "sgd": {}, "plain": {"momentum": 0.0, "schedule": "constant", "warmup": 0.0}, "adam": {"optimizer": "adam"},
    "adamw, step": {"optimizer": "adamw", "schedule": "step", "step_size": 1}, "float64": {"dtype": "float64"},
    "restart": {"schedule": "restart"}, "half-sse": {"loss": "half-sse", "lr": 1e-3}, "bf16": {"compute": "bf16"},
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIMISERS.values(), ids=OPTIMISERS.keys())
def test_resumed_equals_uninterrupted(tmp_path: Path, few: Dataset, options: dict) -> None:
    """5 steps an epoch and a test batch each: stopped before a first step, within an epoch, at its end, at the test."""
    whole = Run(configuration(**options), few)
    assert go(whole)
    wanted = model_bytes(whole, tmp_path / "whole")
    for steps in (0, 3, 5, 6, 8, 14, 23):
        path = tmp_path / f"{steps}.safetensors"
        assert not go(Run(configuration(**options), few), steps, path)
        resumed = Run(configuration(**options), few)
        resumed.restore(checkpoint.load(path, "checkpoint"))
        assert go(resumed)
        assert model_bytes(resumed, tmp_path / "resumed") == wanted
        assert history(resumed) == history(whole)


def rates(few: Dataset, **options) -> list[float]:
    """The learning rate of each step of a run of 5 steps an epoch."""
    run = Run(configuration(lr=1.0, **options), few)
    found = []
    for _ in range(5 * run.config.epochs):
        found += run.schedule.get_last_lr()
        run.schedule.step()
    return found


def test_the_restarted_schedule_is_one_cosine_after_the_other(few: Dataset) -> None:
    def cosine(steps: int) -> list[float]:
        return [(1 + np.cos(np.pi * i / steps)) / 2 for i in range(steps)]

    restart = {"schedule": "restart"}
    np.testing.assert_allclose(rates(few, epochs=3, warmup=0.0, **restart), cosine(5) + cosine(10), atol=1e-12)
    np.testing.assert_allclose(rates(few, epochs=2, warmup=0.4, **restart), [1 / 3, 2 / 3, *cosine(3), *cosine(5)])
    assert rates(few, epochs=1, **restart) == rates(few, epochs=1, schedule="cosine") == rates(few, epochs=1)
    assert rates(few, epochs=3, warmup=1.0, **restart) == rates(few, epochs=3, warmup=1.0, schedule="cosine")


def test_two_epochs_and_two_more_equal_four(tmp_path: Path, few: Dataset) -> None:
    constant = {"schedule": "constant"}
    first = Run(configuration(epochs=2, **constant), few)
    assert go(first, path=tmp_path / "two")
    second = Run(configuration(epochs=4, **constant), few)
    second.restore(checkpoint.load(tmp_path / "two", "checkpoint"))
    assert go(second)
    whole = Run(configuration(epochs=4, **constant), few)
    assert go(whole)
    assert model_bytes(second, tmp_path / "a") == model_bytes(whole, tmp_path / "b")


def test_a_seed_repeats_and_another_does_not(tmp_path: Path, few: Dataset) -> None:
    results = []
    for seed in (1, 1, 2):
        run = Run(configuration(seed=seed, epochs=1), few)
        go(run)
        results.append(model_bytes(run, tmp_path / "model"))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_it_learns(few: Dataset) -> None:
    run = Run(configuration(epochs=30, augment=False, lr=0.05), few)
    go(run)
    assert run.history[-1]["train_loss"] < 0.2 * run.history[0]["train_loss"]


def test_history_says_what_happened(few: Dataset) -> None:
    run = Run(configuration(augment=False), few)
    go(run)
    assert [entry["epoch"] for entry in run.history] == [1, 2, 3, 4]
    last = run.history[-1]
    outputs = inference.outputs(run.model, run.test_batches.epoch(0))
    assert last["test_accuracy"] == (outputs.argmax(1) == few.test.labels).mean()
    exponential = np.exp(outputs - outputs.max(1, keepdims=True))
    chosen = exponential[np.arange(len(outputs)), few.test.labels] / exponential.sum(1)
    assert last["test_loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
    assert last["lr"] == pytest.approx(0, abs=1e-4)
    assert run.history[0]["lr"] > 10 * last["lr"]


def test_half_sse_is_what_it_says() -> None:
    from fastconv import tensor

    output = np.array([[0.5, 2.0], [1.0, -1.0]])
    value = Classify("half-sse", 2).loss(tensor(output, requires_grad=True), np.array([1, 0]))
    assert value.item() == pytest.approx(0.5 * (0.25 + 1 + 0 + 1))


def test_a_diverging_run_says_so(few: Dataset) -> None:
    message = r"finite loss \(a smaller --lr\?\), got (nan|inf) in epoch \d, batch \d, at lr 1e\+30"
    with np.errstate(all="ignore"), pytest.raises(ArgumentError, match=message):
        go(Run(configuration(lr=1e30, loss="half-sse"), few))


def test_a_checkpoint_of_another_network_or_data_is_refused(tmp_path: Path, few: Dataset) -> None:
    go(Run(configuration(epochs=1), few), path=tmp_path / "a")
    state = checkpoint.load(tmp_path / "a", "checkpoint")
    for change in ({"dataset": "mnist"}, {"samples": 21}, {"model": {}}, {"position": {}}, {"optimizer": {}}):
        with pytest.raises(CheckpointError):
            Run(configuration(), few).restore({**state, **change})
    state.pop("history")
    with pytest.raises(CheckpointError, match="history"):
        Run(configuration(), few).restore(state)


def test_a_model_file_predicts_the_same(tmp_path: Path, few: Dataset) -> None:
    run = Run(configuration(epochs=1), few)
    go(run)
    model_bytes(run, tmp_path / "model.safetensors")
    model, about = inference.load_model(tmp_path)
    assert not model.training
    assert (about.dataset, about.mean, about.classes) == ("digits", few.mean, list(few.classes))
    again = inference.outputs(model, run.test_batches.epoch(0))
    np.testing.assert_array_equal(again, run.test_outputs)
    from safetensors.numpy import load_file

    assert set(load_file(tmp_path / "model.safetensors")) == set(run.model.state_dict())


def test_a_model_file_that_does_not_fit_its_network(tmp_path: Path, few: Dataset) -> None:
    run = Run(configuration(epochs=1), few)
    description = {name: getattr(inference.about(run.config, few, 0, 1), name) for name in inference.About.__slots__}
    state = run.model.state_dict()
    name = next(iter(state))
    for tree in (
        {"": {}, "about": description},
        {"": state},
        {"": state, "about": {}},
        {"": state, "about": {**description, "model": "resnet"}},
        {"": {**state, name: np.zeros(3, np.float32)}, "about": description},
    ):
        checkpoint.save(tmp_path / "model.safetensors", "model", tree)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            inference.load_model(tmp_path)


@pytest.mark.parametrize("loss", ["cross-entropy", "half-sse"])
def test_probabilities_are(loss: str) -> None:
    probability = inference.probabilities(np.array([[1e4, 0, -1e4], [0, 0, 0], [-1, -1, -1.0]]), loss)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-12)
    assert probability.min() >= 0
    np.testing.assert_allclose(probability[1:], 1 / 3, rtol=1e-12)
