"""Learning-rate schedules: torch's names, as closed forms of the number of steps taken.

A closed form needs no history: resuming sets a number, and the rates are the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import cos, pi
from typing import Any

from ..arguments import integer, number
from ..errors import ArgumentError, CheckpointError, mismatch
from .optimizer import Optimizer


class LRScheduler:
    """Base: sets each group's lr to what ``rate(base, epoch)`` says, at construction and at each ``step()``."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(mismatch(type(self).__name__, "optimizer to be one", type(optimizer).__name__))
        self.optimizer = optimizer
        self.last_epoch = 0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._set()

    def rate(self, base: float, epoch: int) -> float:
        """Return the learning rate after ``epoch`` steps for a group that started with ``base``."""
        raise NotImplementedError

    def step(self) -> None:
        """Count one step and set the rates."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """Return the groups' rates."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _set(self) -> None:
        if len(self.optimizer.param_groups) != len(self.base_lrs):
            expected = (
                f"as many groups as it was made for, {len(self.base_lrs)} (a new schedule knows those added since)"
            )
            raise ArgumentError(mismatch(type(self).__name__, expected, len(self.optimizer.param_groups)))
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.rate(base, self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the schedule stands; its options are the constructor's."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state of a schedule with the same options."""
        try:
            last_epoch, base_lrs = int(state_dict["last_epoch"]), [float(lr) for lr in state_dict["base_lrs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(mismatch(type(self).__name__, "'last_epoch' and 'base_lrs'", repr(error))) from None
        if len(base_lrs) != len(self.base_lrs):
            raise CheckpointError(mismatch(type(self).__name__, f"{len(self.base_lrs)} base_lrs", len(base_lrs)))
        self.last_epoch, self.base_lrs = last_epoch, base_lrs
        self._set()


class LambdaLR(LRScheduler):
    """The base rate times ``lr_lambda(epoch)``."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return base * self.lr_lambda(epoch)


class StepLR(LRScheduler):
    """The base rate times ``gamma`` for every ``step_size`` steps taken."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = integer("StepLR", "step_size", step_size, 1), number("StepLR", "gamma", gamma)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return base * self.gamma ** (epoch // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the base rate to ``eta_min`` in ``T_max`` steps (Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1608.03983)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = integer("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = number("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * epoch / self.T_max)) / 2


class LinearLR(LRScheduler):
    """A warm-up: the base rate times a factor that goes straight from ``start_factor`` to ``end_factor``."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if not 0 < number("LinearLR", "start_factor", start_factor) <= 1:
            raise ArgumentError(mismatch("LinearLR", "start_factor in (0, 1]", start_factor))
        number("LinearLR", "end_factor", end_factor, 0, 1)
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = integer("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        share = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class SequentialLR(LRScheduler):
    """Schedules one after the other: the next begins, from its own start, at each of the ``milestones``.

    >>> from fastconv import nn, optim
    >>> sgd = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> warm_up, cosine = LinearLR(sgd, 0.5, total_iters=2), CosineAnnealingLR(sgd, T_max=2)
    >>> schedule = SequentialLR(sgd, [warm_up, cosine], milestones=[2])
    >>> rates = []
    >>> for _ in range(5):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5, 0.0]
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(set(milestones)):
            expected = f"{len(schedulers) - 1} increasing milestones for {len(schedulers)} schedulers"
            raise ArgumentError(mismatch("SequentialLR", expected, list(milestones)))
        if any(scheduler.optimizer is not optimizer for scheduler in schedulers):
            raise ArgumentError(mismatch("SequentialLR", "schedulers of the same optimizer", "another's"))
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int) -> float:
        number = sum(epoch >= milestone for milestone in self.milestones)
        start = self.milestones[number - 1] if number else 0
        return self.schedulers[number].rate(base, epoch - start)
