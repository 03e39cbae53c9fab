"""The training loop: one Run holds everything that changes while a network trains, and can be saved after any step.

``Run.state`` after a step and ``Run.restore`` give a run that makes the same steps to the bit, within an epoch too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from .. import functional as F
from .. import models, optim, random
from ..data import Dataset, Loader
from ..errors import ArgumentError, CheckpointError, mismatch
from ..precision import compute
from ..tensor import Tensor, converted, tensor
from . import inference
from .config import Config
from .progress import Progress

_SHIFT = 2  # pixels, each way
_TEST_BATCH = 250


class Run:
    """A network in training: model, optimiser, schedule, batches, and where among them it stands."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        random.manual_seed(config.seed)
        self.config, self.dataset = config, dataset
        self.mean, self.std = (dataset.mean, dataset.std) if config.normalize else (0.0, 1.0)
        scale = {"mean": self.mean, "std": self.std, "dtype": config.dtype}
        shift = _SHIFT if config.augment else 0
        train = dataset.train.first(config.limit)
        self.batches = Loader(train, config.batch_size, shift=shift, seed=config.seed, **scale)
        self.test_batches = Loader(dataset.test, _TEST_BATCH, shuffle=False, **scale)
        self.model = models.create(config.model, **config.model_arguments(len(dataset.classes)))
        self.model.to(config.dtype).to(config.device)
        self.loss = criterion(config.loss, len(dataset.classes))
        self.optimizer = _optimizer(config, self.model.parameters())
        self.schedule = _schedule(config, self.optimizer, len(self.batches))
        self.history: list[dict[str, Any]] = []
        self.epoch = self.batch = 0  # finished epochs, finished batches of the next
        self._start_epoch()
        self.test_outputs: np.ndarray | None = None  # of the last finished epoch of this process

    def _start_epoch(self) -> None:
        self.loss_sum, self.hits, self.seen, self.seconds = 0.0, 0, 0, 0.0

    # ------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Return all that a run of the same Config and data needs to go on from here."""
        return {
            "config": self.config.as_dict(),
            "dataset": self.dataset.name,
            "samples": len(self.batches.split),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": random.get_state(),
            "history": self.history,
            "position": {name: getattr(self, name) for name in _POSITION},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state of another run of the same Config.

        Raises:
            CheckpointError: it belongs to another network or other data.
        """
        here = (self.dataset.name, len(self.batches.split))
        try:
            if (state["dataset"], state["samples"]) != here:
                raise CheckpointError(
                    mismatch("resume", f"{state['samples']} samples of {state['dataset']}", f"{here[1]} of {here[0]}")
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            random.set_state(state["random"])
            self.history = list(state["history"])
            for name in _POSITION:
                setattr(self, name, state["position"][name])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(mismatch("resume", "a checkpoint of this network", error)) from None

    @property
    def images_done(self) -> int:
        """Training images seen since the run began."""
        return self.epoch * len(self.batches.split) + self.seen

    # ----------------------------------------------------------------------------------------- training

    def train(self, progress: Progress, stop: Callable[[], bool], save: Callable[[Run], None]) -> bool:
        """Train to the last epoch, calling ``save`` after each; return False if ``stop`` ended it before, saved too."""
        with compute(self.config.compute):
            while self.epoch < self.config.epochs:
                if not (self._train_epoch(progress, stop) and self._test_epoch(progress, stop)):
                    save(self)
                    return False
                save(self)
        return True

    def step(self, x: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
        """Make one step of gradient descent on a batch; return its loss, and how many it had right before the step."""
        output = self.model(tensor(x, device=self.config.device))
        loss = self.loss(output, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item(), int((output.numpy().argmax(axis=1) == labels).sum())

    def _train_epoch(self, progress: Progress, stop: Callable[[], bool]) -> bool:
        label = f"epoch {self.epoch + 1}/{self.config.epochs}"
        mean = self.config.loss == "cross-entropy"
        self.model.train()
        before, began = self.seconds, time.perf_counter()
        for x, labels in self.batches.epoch(self.epoch, self.batch):
            if stop():
                return False
            loss, hits = self.step(x, labels)
            self._require_finite(loss, f"batch {self.batch + 1}")
            self.batch += 1
            self.seen += len(labels)
            self.hits += hits
            self.loss_sum += loss * len(labels) if mean else loss
            self.seconds = before + time.perf_counter() - began
            progress.step(len(labels), label, self.loss_sum / self.seen, self.hits / self.seen)
        return True

    def _test_epoch(self, progress: Progress, stop: Callable[[], bool]) -> bool:
        from .report import epoch_line

        outputs = inference.outputs(self.model, self.test_batches.epoch(0), stop, self.config.device)
        if outputs is None:
            return False
        self.test_outputs = outputs
        labels = self.dataset.test.labels
        total = self.loss(tensor(outputs), labels).item()
        self._require_finite(total, "on the test images")
        entry = {
            "epoch": self.epoch + 1,
            "train_loss": self.loss_sum / self.seen,
            "train_accuracy": self.hits / self.seen,
            "test_loss": total if self.config.loss == "cross-entropy" else total / len(labels),
            "test_accuracy": float((outputs.argmax(axis=1) == labels).mean()),
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.seen / max(self.seconds, 1e-9), 1),
        }
        self.history.append(entry)
        self.epoch, self.batch = self.epoch + 1, 0
        self._start_epoch()
        progress.line(epoch_line(entry, self.config.epochs))
        return True

    def _require_finite(self, loss: float, where: str) -> None:
        if not np.isfinite(loss):
            found = f"{loss} in epoch {self.epoch + 1}, {where}, at lr {self.config.lr:g}"
            raise ArgumentError(mismatch("train", "a finite loss (a smaller --lr?)", found))


_POSITION = ("epoch", "batch", "loss_sum", "hits", "seen", "seconds")


def criterion(name: str, classes: int) -> Callable[[Tensor, np.ndarray], Tensor]:
    """Return the loss of outputs (N, classes) and labels (N,): mean cross-entropy, or 1/2 sum ||o - t||^2."""
    if name == "cross-entropy":
        return F.cross_entropy

    def half_sse(output: Tensor, labels: np.ndarray) -> Tensor:
        target = converted(np.eye(classes, dtype=output.dtype)[labels], output.device)
        return F.mse_loss(output, target, reduction="sum") * 0.5

    return half_sse


def _optimizer(config: Config, parameters: Any) -> Any:
    if config.optimizer == "sgd":
        return optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )  # fmt: skip
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer]
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay)


def _schedule(config: Config, optimizer: Any, batches: int) -> Any:
    """The learning rate of each step: a rise in a straight line, then what the Config says."""
    from ..optim import lr_scheduler

    total = config.epochs * batches
    rise = min(round(min(config.warmup, config.epochs) * batches), total - 1)
    ends = [rise, total]  # of the parts of the schedule
    if config.schedule == "restart" and rise < batches < total:
        ends.insert(1, batches)
    if config.schedule not in ("constant", "step"):
        parts = [lr_scheduler.CosineAnnealingLR(optimizer, T_max=b - a) for a, b in pairwise(ends)]
    else:  # a constant is a step that never comes
        steps = config.step_size * batches if config.schedule == "step" else 2**62
        parts = [lr_scheduler.StepLR(optimizer, step_size=steps, gamma=config.gamma)]
    if rise:
        parts.insert(0, lr_scheduler.LinearLR(optimizer, start_factor=1 / (rise + 1), total_iters=rise))
    milestones = ends[:-1] if rise else ends[1:-1]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones) if milestones else parts[0]
