"""Data that turn denormal: what a call takes then, beside the same call on ordinary data, in turn.

    python -m bench.denormals

A processor may take a hundred times as long over a float32 below 1.2e-38; kernels that flush such numbers do not. The
data of each case are scaled so that operands, products or both are denormal (the script counts them), in a convolution
in each direction, in pooling, and in a training step of the tutorial network whose activations all are. The bar: at
most 1.2 times as long. Before anything is timed, what comes out must be what it is with denormals taken as zeros, or
exact, or between: below the smallest normal number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv
from fastconv import functional as F
from fastconv import models

from . import machine
from .lenet_step import Fastconv, batch_of
from .paired import paired, spread

BAR = 1.2
TINY = float(np.finfo(np.float32).tiny)
SIDES = ("normal", "denormal")
Pair = dict[str, Callable[[], Any]]


def denormal(a: np.ndarray) -> float:
    """Return the share of values that are denormal."""
    return float(np.mean((a != 0) & (np.abs(a) < TINY)))


def scaled(shape: tuple[int, ...], scale: float, seed: int = 0) -> np.ndarray:
    """Values of one scale, none near zero, so that all are denormal or none is; channels-last."""
    a = np.random.default_rng(seed).uniform(0.5, 1.0, shape) * scale
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a.astype(np.float32), 1, -1)), -1, 1)


def convolution(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], scales: tuple[float, float], **options: Any
) -> tuple[float, dict[str, Pair]]:
    """Return the share of denormal operands, and each direction; ``scales`` are those of activations and weights."""
    calls: dict[str, Pair] = {"forward": {}, "input gradient": {}, "weight gradient": {}}
    share = 0.0
    for side, (scale_x, scale_w) in zip(SIDES, ((1.0, 1.0), scales), strict=True):
        x, w = scaled(x_shape, scale_x), np.ascontiguousarray(scaled(w_shape, scale_w, 1))
        y = F.conv2d(x, w, **options)
        dy = scaled(y.shape, scale_x, 2)
        share = max(denormal(x), denormal(w))
        calls["forward"][side] = lambda x=x, w=w: F.conv2d(x, w, **options)
        for which, name in enumerate(("input gradient", "weight gradient")):
            needs = [which == i for i in range(3)]
            calls[name][side] = lambda dy=dy, x=x, w=w, needs=needs, which=which: F.conv2d_backward(
                dy, x, w, needs=needs, **options
            )[which]
    if scales[0] == 1.0:  # it does not see the weights
        del calls["weight gradient"]
    return share, calls


def lenet(batch: int) -> tuple[float, dict[str, Pair]]:
    """A training step whose rate is 0, so that what is denormal stays so."""
    x, labels = batch_of(batch)
    steps: Pair = {}
    share = 0.0
    for side, scale in zip(SIDES, (1.0, 1e-39), strict=True):
        fastconv.manual_seed(0)
        weights = {name: np.array(value) for name, value in models.create("tutorial").state_dict().items()}
        for name in weights:
            if name.endswith("bias"):
                weights[name] *= scale
        images = (x * scale).astype(np.float32)
        share = denormal(images)
        run = Fastconv(images, labels, weights)
        for group in run.optimizer.param_groups:
            group["lr"] = 0.0
        steps[side] = run.step
    return share, {"step": steps}


def cases(batch: int) -> dict[str, tuple[float, dict[str, Pair]]]:
    denormals, products = (1e-40, 1.0), (1e-20, 1e-20)
    layer = (16, 64, 28, 28), (64, 64, 3, 3)
    return {
        "3x3, denormal activations": convolution(*layer, denormals, padding=1),
        "3x3, denormal weights": convolution(*layer, denormals[::-1], padding=1),
        "3x3, denormal products": convolution(*layer, products, padding=1),
        "3x3 direct, denormal products": convolution(*layer, products, padding=1, exact=True),
        "1x1, denormal activations": convolution((16, 128, 28, 28), (128, 128, 1, 1), denormals),
        "depthwise, denormal activations": convolution(
            (16, 64, 56, 56), (64, 1, 3, 3), denormals, padding=1, groups=64
        ),
        f"LeNet, batch {batch}, denormal activations": lenet(batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Denormal against ordinary data, in turn.")
    parser.add_argument("--batch", type=int, default=64, help="of the training step")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--turn", type=float, default=0.02, help="seconds a turn")
    machine.add_results_option(parser)
    options = parser.parse_args()
    rows = []
    for name, (share, calls) in cases(options.batch).items():
        for direction, sides in calls.items():
            result = sides["denormal"]()
            if isinstance(result, np.ndarray) and not np.all(np.abs(result) < 1e4 * TINY):
                raise SystemExit(f"denormals: {name}, {direction}: not as small as it should be, nothing is timed")
            single = paired(sides, 1, 1, 1, 0.0)
            steps = max(1, round(options.turn / single.median("normal")))
            timed = paired(sides, options.rounds, steps, 2, 0.01)
            rows.append({
                "case": name, "direction": direction, "denormal_operands": share, "seconds": timed.samples,
                "times_as_long": spread(timed.ratios("normal", "denormal")),
            })  # fmt: skip
    machine.save("denormals", {"bar": BAR, "rows": rows}, options.results)
    print("| case | direction | denormal operands | times as long (min, median, max) | |\n|---|---|---|---|---|")
    for row in rows:
        times = row["times_as_long"]
        above = f"above {BAR}" if times["median"] > BAR else ""
        print(f"| {row['case']} | {row['direction']} | {100 * row['denormal_operands']:.0f} % "
              f"| {times['min']:.2f}, **{times['median']:.2f}**, {times['max']:.2f} | {above} |")  # fmt: skip


if __name__ == "__main__":
    main()
