"""The training loop: one Run holds everything that changes while a network trains, and can be saved after any step.

``Run.state`` after a step and ``Run.restore`` give a run that makes the same steps to the bit, within an epoch too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from .. import optim, random
from ..data import Dataset
from ..data.cases import CaseSet
from ..errors import ArgumentError, CheckpointError, mismatch
from ..precision import compute
from ..tensor import tensor
from . import inference, networks
from .config import Config
from .problem import pose
from .progress import Progress
from .stepping import Stepper


class Run:
    """A network in training: model, optimiser, schedule, batches, and where among them it stands."""

    def __init__(self, config: Config, dataset: Dataset | CaseSet) -> None:
        random.manual_seed(config.seed)
        self.problem = problem = pose(config, dataset)
        self.config, self.dataset, self.task = problem.config, dataset, problem.task
        config = self.config
        self.mean, self.std = problem.mean, problem.std
        self.batches, self.test_batches = problem.batches, problem.check_batches
        self.model = networks.create(config.model, problem.arguments, config.dtype)
        if isinstance(dataset, CaseSet):
            inputs = networks.example(dataset.frame, problem.multiple, config.dtype)
            networks.require_fit(config.model, self.model, inputs)
        self.model.to(config.device)
        self.optimizer = _optimizer(config, self.model.parameters())
        self.stepper = Stepper(self.model, self.optimizer, self.task, config.device)
        self.schedule = _schedule(config, self.optimizer, len(self.batches))
        self.history: list[dict[str, Any]] = []
        self.epoch = self.batch = 0  # finished epochs, finished batches of the next
        self._start_epoch()
        self.test_outputs: np.ndarray | None = None  # of the last finished epoch of this process

    def _start_epoch(self) -> None:
        self.loss_sum, self.hits, self.seen, self.seconds = 0.0, 0, 0, 0.0  # hits: the sum of the scores

    # ------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Return all that a run of the same Config and data needs to go on from here."""
        return {
            "config": self.config.as_dict(),
            "dataset": self.problem.name,
            "samples": self.batches.count,
            "fingerprint": self.problem.fingerprint,
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
        name, count, fingerprint = self.problem.name, self.batches.count, self.problem.fingerprint
        try:
            if state["samples"] != count or (fingerprint is None and state["dataset"] != name):
                wanted = f"{state['samples']} samples of {state['dataset']}"
                raise CheckpointError(mismatch("resume", wanted, f"{count} of {name}"))
            if state.get("fingerprint") != fingerprint:
                wanted = f"the data of {state['dataset']} as they were when the run began"
                raise CheckpointError(mismatch("resume", wanted, "other files, labels or options of reading them"))
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
        return self.epoch * self.batches.count + self.seen

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

    def step(self, x: Any, target: np.ndarray) -> tuple[float, float]:
        """Make one step of gradient descent on a batch; return its loss, and the sum of its scores before the step.

        Args:
            x: the network's input, or a tuple of them.
        """
        loss, output = self.stepper(x, target)
        self.schedule.step()
        return loss, self.task.tally(output, target)

    def _train_epoch(self, progress: Progress, stop: Callable[[], bool]) -> bool:
        label = f"epoch {self.epoch + 1}/{self.config.epochs}"
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
            self.loss_sum += loss * len(labels) if self.task.is_mean else loss
            self.seconds = before + time.perf_counter() - began
            progress.step(len(labels), label, self.loss_sum / self.seen, self.hits / self.seen)
        return True

    def _test_epoch(self, progress: Progress, stop: Callable[[], bool]) -> bool:
        from .report import epoch_line

        part, score = self.problem.part, self.task.score
        total, right, kept = 0.0, 0.0, []
        for output, target in inference.results(self.model, self.test_batches.epoch(0), self.config.device):
            if stop():
                return False
            loss = self.task.loss(tensor(output), target).item()
            total += loss * len(target) if self.task.is_mean else loss
            right += self.task.tally(output, target)
            kept.append(self.task.kept(output))
        self._require_finite(total, f"on the {part} images")
        self.test_outputs = np.concatenate(kept)
        entry = {
            "epoch": self.epoch + 1,
            "train_loss": self.loss_sum / self.seen,
            f"train_{score}": self.hits / self.seen,
            f"{part}_loss": total / self.test_batches.count,
            f"{part}_{score}": right / self.test_batches.count,
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
