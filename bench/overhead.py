"""What a training step costs besides arithmetic: the tutorial network with every layer shrunk to size 1, batch 1.

    python -m bench.overhead

The same calls as a step of the tutorial network (ten layers, cross-entropy, backward pass, SGD with momentum over eight
parameters) on arrays of one to sixteen numbers: all that is left is Python, the frames around the kernels and the
allocation of arrays. PyTorch's step on the same network stands beside it. Then what a parallel region costs that has
nothing to do: while the other threads still look for work, and after they went to sleep.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

import fastconv
from fastconv import functional, nn, optim
from fastconv.backends.cpu import runtime

from . import machine
from .paired import paired, spread

SGD = {"lr": 0.01, "momentum": 0.9}
GAPS = (0.0, 5e-6, 10e-6, 50e-6, 1e-3)  # seconds between parallel regions


def layers(library: Any) -> Any:
    """The layers of the tutorial network, each as small as can be, of torch.nn or of fastconv.nn."""
    return library.Sequential(
        library.Conv2d(1, 1, 1), library.ReLU(), library.MaxPool2d(2), library.Conv2d(1, 1, 1), library.ReLU(),
        library.MaxPool2d(2), library.Flatten(), library.Linear(1, 1), library.ReLU(), library.Linear(1, 1),
    )  # fmt: skip


class Step:
    """Our side, whole or in its parts."""

    def __init__(self) -> None:
        self.x, self.labels = fastconv.tensor(np.ones((1, 1, 4, 4), np.float32)), np.zeros(1, np.int64)
        self.model = layers(nn)
        self.optimizer = optim.SGD(self.model.parameters(), **SGD)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(self.x), self.labels).backward()
        self.optimizer.step()

    def parts(self, steps: int) -> dict[str, float]:
        """Return the median microseconds of each part."""
        taken: dict[str, list[float]] = {"zero_grad": [], "forward": [], "loss": [], "backward": [], "optimiser": []}

        def timed(name: str, call: Callable, *arguments: Any) -> Any:
            began = time.perf_counter()
            result = call(*arguments)
            taken[name].append(time.perf_counter() - began)
            return result

        for _ in range(steps):
            timed("zero_grad", self.optimizer.zero_grad)
            y = timed("forward", self.model, self.x)
            loss = timed("loss", functional.cross_entropy, y, self.labels)
            timed("backward", loss.backward)
            timed("optimiser", self.optimizer.step)
        return {name: 1e6 * median(times) for name, times in taken.items()}


def torch_step() -> Callable[[], None]:
    x, labels, model = torch.ones(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64), layers(torch.nn)
    optimizer = torch.optim.SGD(model.parameters(), fused=True, **SGD)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def regions(rounds: int = 300) -> dict[str, float]:
    """Return the median microseconds of a parallel region of two tasks that do nothing, by the gap before it."""
    result = {}
    for gap in GAPS:
        taken = []
        for _ in range(rounds):
            until = time.perf_counter() + gap
            while time.perf_counter() < until:
                pass
            began = time.perf_counter()
            runtime._empty_regions(2, 1)
            taken.append(time.perf_counter() - began)
        result[f"{1e6 * gap:g} us"] = 1e6 * median(taken)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step without arithmetic.")
    parser.add_argument("--rounds", type=int, default=20)
    machine.add_results_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(fastconv.get_num_threads())
    ours = Step()
    result = paired({"fastconv": ours, "torch": torch_step()}, options.rounds, steps=200, lead=50)
    ratio = spread(result.ratios("fastconv", "torch"))
    parts, gaps = ours.parts(2000), regions()
    record = {"times_as_fast": ratio, "summary": result.summary(), "parts_us": parts, "region_us": gaps}
    machine.save("overhead", {**record, "seconds": result.samples}, options.results)
    print(f"a step: {1e6 * result.median('fastconv'):.1f} us, PyTorch {1e6 * result.median('torch'):.1f} us, "
          f"{ratio['median']:.2f} times as fast")  # fmt: skip
    print("parts, us: " + ", ".join(f"{name} {value:.1f}" for name, value in parts.items()))
    print("an empty parallel region, us, by the pause before it: "
          + ", ".join(f"{gap}: {value:.2f}" for gap, value in gaps.items()))  # fmt: skip


if __name__ == "__main__":
    main()
