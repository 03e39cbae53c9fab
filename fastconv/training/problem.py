"""A data set as a run sees it: its batches, the task, and the network for them. Digits here, the user's cases there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..data import Batches, Dataset, Loader
from ..data.cases import CaseBatches, CaseSet
from . import augmentation, inference, networks
from .config import OWN, Config, completed
from .inference import About
from .task import Classify, Segment

_TEST_BATCH = 250
_SHIFT = 2  # pixels, each way


class Problem:
    """What a run needs of its data.

    Attributes:
        name: of the data set; classes: their names.
        task: loss and score.
        batches: to train on; check_batches: of the part that each epoch ends with; part: its name, 'val' or 'test'.
        arguments: of the network ``config.model``.
        config: with nothing left open.
        fingerprint: of the data's content; None where the name says enough.
    """

    config: Config
    name: str
    classes: tuple[str, ...]
    task: Classify
    batches: Batches
    check_batches: Batches
    part: str
    arguments: dict[str, Any]
    fingerprint: str | None = None

    def about(self) -> About:
        """Return what a file of the network says of it."""
        raise NotImplementedError


class DigitsProblem(Problem):
    """MNIST and its like; the test images end each epoch."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.config = config = completed(config, dataset.name)
        self.name, self.classes, self.part = dataset.name, dataset.classes, "test"
        self.dataset = dataset
        self.task = Classify(config.loss, len(dataset.classes))
        self.mean, self.std = (dataset.mean, dataset.std) if config.normalize else (0.0, 1.0)
        scale: dict[str, Any] = {"mean": self.mean, "std": self.std, "dtype": config.dtype}
        shift = _SHIFT if config.augment else 0
        train = dataset.train.first(config.limit)
        self.batches = Loader(train, config.batch_size, shift=shift, seed=config.seed, **scale)
        self.check_batches = Loader(dataset.test, _TEST_BATCH, shuffle=False, **scale)
        self.arguments = inference.arguments(config, len(dataset.classes))

    def about(self) -> About:
        return inference.about(self.config, self.dataset, self.mean, self.std)


class CaseProblem(Problem):
    """The user's own cases; those to watch end each epoch, where there are any."""

    mean, std = 0.0, 1.0  # the frame has its own

    def __init__(self, config: Config, data: CaseSet) -> None:
        frame = data.frame
        if not config.normalize:
            frame = frame.fitted(mean=(0.0,) * frame.channels, std=(1.0,) * frame.channels)
        config = replace(completed(config, OWN), model=config.model or networks.default(frame))
        self.arguments, data.frame, self.multiple = networks.arguments(config.model, frame, config.width)
        self.config, self.data = config, data
        self.name, self.classes, self.fingerprint = data.name, data.classes, data.fingerprint
        self.part = "val" if "val" in data.parts else "test"
        self.task = {"classify": Classify, "segment": Segment}[config.task](config.loss, len(data.classes))
        augment = augmentation.pipeline(config.seed) if config.augment else None
        self.batches = CaseBatches(
            data, "train", config.batch_size, multiple=self.multiple, seed=config.seed, dtype=config.dtype,
            limit=config.limit, augment=augment,
        )  # fmt: skip
        self.check_batches = self.part_batches(self.part)

    def part_batches(self, part: str) -> CaseBatches:
        """Return the batches of a part in the order of its cases."""
        size, dtype = self.config.batch_size, self.config.dtype
        return CaseBatches(self.data, part, size, multiple=self.multiple, shuffle=False, dtype=dtype)

    def about(self) -> About:
        config = self.config
        kept = {name: getattr(config, name) for name in ("data", "seed", "group_column", "val_share", "test_share")}
        return About(
            model=config.model, arguments=self.arguments, dataset=self.name, classes=list(self.classes),
            mean=0.0, std=1.0, loss=config.loss, dtype=config.dtype,
            own={"frame": self.data.frame.plain(), "multiple": self.multiple, "listing": self.data.listing, **kept},
        )  # fmt: skip


def pose(config: Config, data: Dataset | CaseSet) -> DigitsProblem | CaseProblem:
    """Return the problem that a data set poses.

    Raises:
        ArgumentError: a loss or network that does not fit the data.
    """
    return CaseProblem(config, data) if isinstance(data, CaseSet) else DigitsProblem(config, data)
