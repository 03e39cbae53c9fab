"""A training step with a busy neighbour: another process keeps one of the processors that ours may use.

    python -m bench.neighbour --batch 64

The step of bench.lenet_step, ours and PyTorch's (its best of NCHW and channels-last there, fused SGD), first with the
machine to ourselves, then beside a process that computes without a pause, pinned to the first processor. The system
shares that processor out; a step that hands each thread a fixed share of the work waits for the slower one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np
import torch

import fastconv
from fastconv import models

from . import machine
from .lenet_step import Fastconv, Torch, batch_of
from .paired import Paired, paired

BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass\n"


@contextmanager
def neighbour(processor: int) -> Iterator[None]:
    """Keep ``processor`` busy within a ``with`` block."""
    with subprocess.Popen([sys.executable, "-c", BUSY, str(processor)], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()  # it is pinned, and about to spin
            yield
        finally:
            process.kill()


def sides(batch: int) -> dict:
    x, labels = batch_of(batch)
    fastconv.manual_seed(0)
    weights = {name: np.array(value) for name, value in models.create("tutorial").state_dict().items()}
    return {
        "fastconv": Fastconv(x, labels, weights).step,
        "torch": Torch(x, labels, weights, channels_last=batch > 1, fused=True).step,
    }


def slowdown(alone: Paired, beside: Paired, side: str) -> float:
    return median(beside.samples[side]) / median(alone.samples[side])


def main() -> None:
    parser = argparse.ArgumentParser(description="A LeNet training step beside a busy process.")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10, help="timed steps a turn")
    machine.add_results_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(fastconv.get_num_threads())
    steps = sides(options.batch)
    alone = paired(steps, options.rounds, options.steps)
    with neighbour(min(os.sched_getaffinity(0))):
        beside = paired(steps, options.rounds, options.steps)
    record = {"batch": options.batch, "alone": alone.samples, "beside": beside.samples}
    record["slowdown"] = {side: slowdown(alone, beside, side) for side in steps}
    machine.save(f"neighbour_b{options.batch}_t{fastconv.get_num_threads()}", record, options.results)
    print("| side | alone, ms | beside a busy process, ms | times as long |\n|---|---|---|---|")
    for side in steps:
        times = 1e3 * alone.median(side), 1e3 * beside.median(side)
        print(f"| {side} | {times[0]:.2f} | {times[1]:.2f} | {record['slowdown'][side]:.2f} |")


if __name__ == "__main__":
    main()
