"""Config: every option of a training run, once. The command line, config.json and checkpoints are made from it."""

from __future__ import annotations

import argparse
import sys
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .. import models
from ..config import COMPUTE
from ..data import NAMES
from ..errors import ArgumentError, mismatch
from ..precision import compute_mode

OWN = "own"  # the data set at --data that is none of those with a name
DATASETS = (*NAMES, OWN)
TASKS = ("classify", "segment")

RECIPES: dict[str, dict[str, Any]] = {
    # The lecture's own: a ReLU output, E = 1/2 sum ||o - t||^2 over 2,000 samples, W <- W - eta dE/dW, pixels 0..1.
    "tutorial": {
        "model": "tutorial", "output_relu": True, "loss": "half-sse", "optimizer": "sgd", "momentum": 0.0,
        "weight_decay": 0.0, "schedule": "constant", "warmup": 0.0, "augment": False, "normalize": False, "limit": 2000,
        "batch_size": 10, "epochs": 20,
    },
}  # fmt: skip
_RATES = {  # learning rates that suit optimiser and loss; half-sse sums over the batch, cross-entropy averages
    ("sgd", "cross-entropy"): 0.05,
    ("sgd", "half-sse"): 0.005,
    ("adam", "cross-entropy"): 0.001,
    ("sgd", "dice"): 0.05,
    ("adam", "half-sse"): 0.001,
    ("adam", "dice"): 0.001,
    ("adamw", "cross-entropy"): 0.001,
    ("adamw", "half-sse"): 0.001,
    ("adamw", "dice"): 0.001,
}


# What suits the user's own data, by task; what is said explicitly wins.
BY_TASK: dict[str, dict[str, Any]] = {
    "classify": {"batch_size": 16, "optimizer": "adamw", "augment": False},
    "segment": {"batch_size": 4, "optimizer": "adamw", "augment": False, "loss": "dice"},
}


def _option(
    default: Any,
    text: str,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    many: type | None = None,
) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices, "least": least, "many": many})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The options of a run. Values are checked when one is made.

    Raises:
        ArgumentError: a value that the option does not take.

    >>> Config().lr
    0.05
    >>> Config(optimizer="lbfgs")
    Traceback (most recent call last):
        ...
    fastconv.errors.ArgumentError: train: expected optimizer to be one of sgd, adam, adamw, got 'lbfgs'
    """

    model: str | None = _option(
        None,
        "network (default: the tutorial's for digits; for own data a small residual network, one that joins numbers to "
        "what it sees, or a U-Net)",
        tuple(models.names()),
    )
    dataset: str = _option("auto", "auto: what is at --data; without it MNIST, or else the embedded digits", DATASETS)
    data: str | None = _option(
        None,
        "folder with MNIST's files; or your own data: a folder of a folder a class, or of images and labels; a .csv; "
        "an .npz of MedMNIST (default: FASTCONV_DATA, the cache, a download)",
    )
    task: str = _option("classify", "own data: tell classes of images, or of their pixels", TASKS)
    size: list | None = _option(  # noqa: RUF009
        None, "own data: H W, or the sizes along a volume's axes, that images are resampled to", least=1, many=int
    )
    columns: list | None = _option(  # noqa: RUF009
        None, "own data: the demographic columns of a .csv (default: all without another role)", many=str
    )
    group_column: str | None = _option(
        None, "own data: the column of a .csv whose equal values stay in one split (default: patient, if there)"
    )
    missing: str = _option("refuse", "own data: gaps in demographic columns", ("refuse", "mean"))
    classes: list | None = _option(  # noqa: RUF009
        None, "own data: names of the classes 0, 1, ... of masks (default: the values in the training masks)", many=str
    )
    val_share: float = _option(0.15, "own data: share to watch the training on, where the data name no split", least=0)
    test_share: float = _option(0.15, "own data: share to test on, where the data name no split", least=0)
    width: int | None = _option(None, "own data: maps of the first stage, of networks that have a choice", least=1)
    epochs: int | None = _option(
        None,
        "passes over the training set (default: 3 for MNIST, 10 for Fashion-MNIST, 40 for the embedded digits, 30 for "
        "own data)",
        least=1,
    )
    batch_size: int = _option(64, "samples a step; of own data 16, with masks 4", least=1)
    lr: float | None = _option(None, "learning rate (default: one that suits optimiser and loss)", least=0)
    schedule: str | None = _option(
        None,
        "how the learning rate falls; restart: in a cosine over the first epoch, then anew over the rest "
        "(default: restart for MNIST, else cosine)",
        ("constant", "step", "cosine", "restart"),
    )
    warmup: float = _option(0.25, "epochs over which the learning rate rises at the start", least=0)
    step_size: int = _option(3, "epochs between the drops of --schedule step", least=1)
    gamma: float = _option(0.1, "what --schedule step multiplies the learning rate with", least=0)
    optimizer: str = _option("sgd", "optimiser; of own data adamw", ("sgd", "adam", "adamw"))
    momentum: float = _option(0.9, "momentum of sgd (Nesterov's), 0 for plain gradient descent", least=0)
    weight_decay: float = _option(5e-4, "weight decay", least=0)
    loss: str = _option(
        "cross-entropy",
        "loss; half-sse is 1/2 sum ||o - t||^2, dice is cross-entropy + 1 - Dice, for masks",
        ("cross-entropy", "half-sse", "dice"),
    )
    output_relu: bool = _option(False, "a ReLU on the tutorial network's output too")
    augment: bool = _option(
        True, "shift training digits by up to 2 pixels (default); turn, scale and brighten own images (default: not)"
    )
    normalize: bool = _option(True, "subtract the training set's mean pixel and divide by its deviation")
    limit: int | None = _option(None, "use only the first so many training samples", least=1)
    seed: int = _option(0, "seed of weights, order and shifts: the same seed, the same bits", least=0)
    dtype: str = _option("float32", "arithmetic", ("float32", "float64"))
    compute: str = _option(compute_mode(), "numbers that float32 operands are multiplied in", COMPUTE)
    device: str = _option("cpu", "where the network is trained", ("cpu", "cuda"))
    threads: int | None = _option(None, "threads (default: as many as this process may use)", least=1)
    output: str | None = _option(None, "folder for the results (default: a new one, runs/DATA-MODEL)")
    quiet: bool = _option(False, "print results only")

    def __post_init__(self) -> None:
        for spec in fields(self):
            _check(spec.name, getattr(self, spec.name), _kind(spec.name)[0], **spec.metadata)
        if self.momentum >= 1:
            raise ArgumentError(mismatch("train", "momentum below 1", self.momentum))
        if self.output_relu and self.model not in (None, "tutorial"):
            raise ArgumentError(mismatch("train", "model 'tutorial' with output_relu", repr(self.model)))
        if self.val_share + self.test_share >= 1:
            found = f"{self.val_share:g} + {self.test_share:g}"
            raise ArgumentError(mismatch("train", "val_share and test_share below 1 together", found))
        if self.lr is None:
            object.__setattr__(self, "lr", _RATES[self.optimizer, self.loss])

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return asdict(self)


# What suits a data set, where nothing else is asked for. An epoch of the embedded digits has only 23 batches. MNIST is
# learnt to 99 % in the first epoch if the rate falls to nothing in it; the epochs after the restart bring the rest.
BY_DATASET: dict[str, dict[str, Any]] = {
    "mnist": {"epochs": 3, "schedule": "restart", "model": "tutorial"},
    "fashion-mnist": {"epochs": 10, "schedule": "cosine", "model": "tutorial"},
    "digits": {"epochs": 40, "schedule": "cosine", "model": "tutorial"},
    OWN: {"epochs": 30, "schedule": "cosine"},
}


def completed(config: Config, dataset: str) -> Config:
    """Return the Config with the options that are still open as they suit the data set."""
    return replace(config, **{k: v for k, v in BY_DATASET[dataset].items() if getattr(config, k) is None})


# What a resumed run may change: nothing of it changes the bits of the steps already made.
_FREE = ("data", "epochs", "threads", "output", "quiet")


def make(explicit: dict[str, Any], recipe: str | None = None, suited: dict[str, Any] | None = None) -> Config:
    """Return a Config: defaults, over them what is ``suited``, the recipe, and over it what was said explicitly.

    Raises:
        ArgumentError: an unknown option or recipe, or a value that does not fit.
    """
    if recipe is not None and recipe not in RECIPES:
        raise ArgumentError(mismatch("train", f"recipe to be one of {', '.join(RECIPES)}", repr(recipe)))
    options = {**(suited or {}), **RECIPES.get(recipe or "", {}), **explicit}
    unknown = sorted(set(options) - {spec.name for spec in fields(Config)})
    if unknown:
        raise ArgumentError(mismatch("train", "options that exist", ", ".join(unknown)))
    return Config(**options)


def resumed(saved: dict[str, Any], explicit: dict[str, Any], recipe: str | None = None) -> Config:
    """Return a checkpoint's Config, with those explicit options that a resumed run may change.

    Raises:
        ArgumentError: an explicit option differs from the checkpoint's and would break "the same bits".
    """
    wanted = {**RECIPES.get(recipe or "", {}), **explicit}
    before = make(saved)
    for name, value in wanted.items():
        kept = getattr(before, name)
        if name in _FREE or value == kept or (name == "dataset" and value == "auto"):
            continue
        raise ArgumentError(mismatch("train", f"{name} {kept!r}, as in the run that is resumed", repr(value)))
    after = replace(before, **{name: value for name, value in wanted.items() if name in _FREE})
    if after.epochs != before.epochs and before.schedule not in ("constant", "step"):
        laid_out = f"epochs {before.epochs}, for which the {before.schedule or 'cosine'} schedule was laid out"
        raise ArgumentError(mismatch("train", laid_out, after.epochs))
    return after


def from_toml(path: str | Path) -> dict[str, Any]:
    """Return the options in a TOML file, keys as on the command line with - or _.

    Raises:
        ArgumentError: the file is missing or no TOML.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ArgumentError(mismatch("train", f"a TOML file {path}", error)) from None
    return {key.replace("-", "_"): value for key, value in table.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option a field; what the user does not give stays out of the namespace."""
    for spec in fields(Config):
        kind, optional = _kind(spec.name)
        text = spec.metadata["help"]
        if not optional and kind is not bool:
            text += f" (default: {spec.default})"
        flag = "--" + spec.name.replace("_", "-")
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        else:
            choices, many = spec.metadata["choices"], spec.metadata["many"]
            metavar = _METAVARS.get(spec.name, {int: "N", float: "X", str: "NAME"}[many or kind])
            parser.add_argument(
                flag, type=many or kind, nargs="*" if many else None, choices=choices,
                metavar=None if choices and spec.name != "model" else metavar, default=argparse.SUPPRESS, help=text,
            )  # fmt: skip


def _kind(name: str) -> tuple[type, bool]:
    """A field's type, and whether it may be None."""
    hint = _HINTS[name]
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return kinds[0], len(get_args(hint)) > 1


_HINTS = get_type_hints(Config)
_METAVARS = {"data": "PATH", "output": "PATH", "model": "NAME"}


def _check(
    name: str, value: Any, kind: type, *, help: str, choices: tuple[str, ...] | None, least: float | None,
    many: type | None, bits: int = 63,
) -> None:  # fmt: skip
    if value is None and _kind(name)[1]:
        return
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ArgumentError(mismatch("train", f"{name} of type {kind.__name__}", repr(value)))
    if choices and value not in choices:
        raise ArgumentError(mismatch("train", f"{name} to be one of {', '.join(choices)}", repr(value)))
    if many is not None:
        for item in value:
            _check(name, item, many, help=help, choices=None, least=least, many=None, bits=31)
    elif least is not None:
        if value > (sys.float_info.max if kind is float else 2**bits - 1):
            raise ArgumentError(mismatch("train", f"{name} finite" if kind is float else f"{name} < 2**{bits}", value))
        if not value >= least:
            raise ArgumentError(mismatch("train", f"{name} >= {least}", value))
