"""Config: checked values, the command line made from it, recipes, files, and what a resumed run may change."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from fastconv.errors import ArgumentError
from fastconv.training import Config, config


def parse(*arguments: str) -> dict:
    parser = argparse.ArgumentParser()
    config.add_arguments(parser)
    return vars(parser.parse_args(arguments))


def test_what_is_not_given_is_not_there() -> None:
    assert parse() == {}
    assert parse("--epochs", "3", "--no-augment", "--lr", "1e-3") == {"epochs": 3, "augment": False, "lr": 1e-3}


def test_every_field_is_an_option_of_its_type() -> None:
    for spec in fields(Config):
        flag = "--" + spec.name.replace("_", "-")
        kind, _ = config._kind(spec.name)
        given = parse(flag) if kind is bool else parse(flag, (spec.metadata["choices"] or ("1",))[-1])
        assert list(given) == [spec.name]
        assert type(given[spec.name]) is kind


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0}, {"epochs": 1.5}, {"epochs": True}, {"batch_size": 0}, {"batch_size": None}, {"lr": -1.0},
        {"lr": float("nan")}, {"lr": float("inf")}, {"momentum": 1.0}, {"seed": -1}, {"limit": 0}, {"threads": 0},
        {"seed": 2**63}, {"dtype": "float16"}, {"model": "resnet"}, {"optimizer": "SGD"}, {"loss": "mse"},
        {"schedule": ""}, {"dataset": "cifar"}, {"device": "tpu"}, {"augment": 1}, {"data": 3},
        {"output_relu": True, "model": "lenet5"}, {"epochs": 10**400}, {"lr": 10**400}, {"size": [4, 2**31]},
    ],
    ids=lambda bad: str(bad)[:40],
)  # fmt: skip
def test_bad_values_are_named(bad: dict) -> None:
    with pytest.raises(ArgumentError, match=f"train: expected .*{next(iter(bad))}"):
        Config(**bad)


def test_explicit_options_win_over_the_recipe() -> None:
    made = config.make({"epochs": 2, "lr": 0.5}, "tutorial")
    assert (made.epochs, made.lr, made.loss, made.output_relu, made.momentum) == (2, 0.5, "half-sse", True, 0.0)
    assert (made.limit, made.augment, made.schedule) == (2000, False, "constant")
    with pytest.raises(ArgumentError, match="recipe"):
        config.make({}, "cake")
    with pytest.raises(ArgumentError, match=r"epoch$"):
        config.make({"epoch": 2})


def test_what_is_open_is_completed_for_the_data_set() -> None:
    assert {*config.BY_DATASET, "auto"} == set(config.DATASETS)
    made = config.completed(Config(), "mnist")
    assert (made.epochs, made.schedule) == (3, "restart")
    made = config.completed(Config(epochs=7, schedule="step"), "mnist")
    assert (made.epochs, made.schedule) == (7, "step")


def test_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('batch-size = 32\nmodel = "lenet5"\naugment = false\n')
    assert config.make(config.from_toml(path)) == Config(batch_size=32, model="lenet5", augment=False)
    for table in ('epochs = "3"', "[train]\nepochs = 3", 'recipe = "tutorial"'):
        path.write_text(table)
        with pytest.raises(ArgumentError, match=r"train: expected .*(epochs of type int|options that exist)"):
            config.make(config.from_toml(path))
    path.write_text("epochs = " + "[" * 5000)
    with pytest.raises(ArgumentError, match=path.name):
        config.from_toml(path)
    path.write_text("batch-size = ")
    for bad in (path, tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ArgumentError, match=bad.name):
            config.from_toml(bad)


def test_what_a_resumed_run_may_change() -> None:
    saved = Config(schedule="constant", epochs=4, seed=3).as_dict()
    assert config.resumed(saved, {"epochs": 9, "threads": 1}).epochs == 9
    assert config.resumed(saved, {"seed": 3, "dataset": "auto"}).seed == 3
    for change in ({"seed": 4}, {"lr": 0.5}, {"model": "lenet5"}):
        with pytest.raises(ArgumentError, match=f"{next(iter(change))} .* as in the run that is resumed"):
            config.resumed(saved, change)
    with pytest.raises(ArgumentError, match="cosine"):
        config.resumed(Config(epochs=4).as_dict(), {"epochs": 9})
    with pytest.raises(ArgumentError, match="restart"):
        config.resumed(Config(epochs=4, schedule="restart").as_dict(), {"epochs": 9})
