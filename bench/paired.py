"""Paired timing: the sides run in turn, A B C A B C ..., and are compared round by round.

An absolute time does not travel between machines, nor from one minute to the next on a shared one; a ratio taken within
one round does. A turn is a block of several steps, because an engine's idle threads may still spin when the next side
begins: each turn starts with a pause and with steps that are not timed, which also warm the caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Paired:
    """Seconds a step for each side, one entry a round; entry i of every side was taken in the same round."""

    samples: dict[str, list[float]]

    def median(self, side: str) -> float:
        return median(self.samples[side])

    def fastest(self, *sides: str) -> str:
        """Return the one with the smallest median."""
        return min(sides or self.samples, key=self.median)

    def ratios(self, side: str, base: str) -> list[float]:
        """Return how many times as fast as ``base`` the side was, round by round.

        >>> Paired({"a": [1.0, 2.0], "b": [2.0, 3.0]}).ratios("a", "b")
        [2.0, 1.5]
        """
        return [b / a for a, b in zip(self.samples[side], self.samples[base], strict=True)]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return least, median and largest seconds a step."""
        return {side: spread(times) for side, times in self.samples.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Return the least, the median and the largest.

    >>> spread([3.0, 1.0, 2.0])
    {'min': 1.0, 'median': 2.0, 'max': 3.0}
    """
    return {"min": min(values), "median": median(values), "max": max(values)}


def paired(
    sides: Mapping[str, Callable[[], Any]],
    rounds: int = 20,
    steps: int | Mapping[str, int] = 10,
    lead: int = 2,
    settle: float = 0.02,
    before: Callable[[], Any] = lambda: None,
) -> Paired:
    """Time the sides in turn.

    Args:
        sides: a callable for each name, one step a call.
        rounds: how often every side has its turn, after one round that is not counted.
        steps: timed steps a turn, of all sides or of each; a sample is their mean.
        lead: steps before them that are not timed.
        settle: pause before a turn, seconds.
        before: called before each round, the one that is not counted as well.
    """
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        before()
        for name, step in sides.items():
            time.sleep(settle)
            for _ in range(lead):
                step()
            count = steps if isinstance(steps, int) else steps[name]
            began = time.perf_counter()
            for _ in range(count):
                step()
            if turn:
                samples[name].append((time.perf_counter() - began) / count)
    return Paired(samples)


def steps_within(turn: float, sides: Mapping[str, Callable[[], Any]]) -> dict[str, int]:
    """Return how many steps of each side fit into ``turn`` seconds, at least one; each is timed once for that."""
    once = paired(sides, 1, 1, 1, 0.0)
    return {side: max(1, round(turn / once.median(side))) for side in sides}
