"""What the second thread brings: the same call at one thread and at more, in turn, in the same process and run.

    python -m bench.scaling
    python -m bench.scaling --nets vgg_19 --threads 2

Convolutions of real networks of at least 50 MFLOP, each direction, a selection spread evenly over each network, and
training steps of the tutorial network. Both must give the same bits before they are timed. The first row is the
machine: a micro-kernel from the nearest cache in one Python thread and in more, without a thread pool; what it falls
short of, others took. The bar is 1.85 times as fast with two threads.

Before each round of several threads a cache line is sent from one processor to another and back. A virtual machine's
processors are moved by its host: for a while they share a last-level cache, for a while they do not, and whatever one
thread reads of another's then takes several times as long. A second table tells these rounds apart.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import fastconv
from fastconv import models
from fastconv.backends.cpu import _lab

from . import machine, peak
from .lenet_step import Fastconv, batch_of
from .paired import Paired, paired, spread
from .versus import SHAPES, Sides, directions, shallow

NETS = ("alexnet", "vgg_19", "resnet_50", "googlenet_v1", "mobilenet_dw", "resnext_grouped", "3d_unet", "3d_i3d")
FLOOR = 50e6  # FLOPs a call: less is dominated by waking threads
BAR = 1.85
round_trips: list[float] = []  # before each turn of several threads


def with_threads(threads: int, call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        if fastconv.get_num_threads() != threads:  # at the first step of a turn, which is not timed
            fastconv.set_num_threads(threads)
            if threads > 1:
                round_trips.append(_lab.round_trip())
        return call()

    return run


def both(threads: int, call: Callable[[], Any]) -> Sides:
    return {"one": with_threads(1, call), "all": with_threads(threads, call)}


def selection(nets: list[str], number: int) -> list[dict[str, Any]]:
    """Return ``number`` layers of each network, evenly spread over its depth."""
    layers = json.loads((SHAPES / "conv.json").read_text(encoding="utf-8"))
    chosen = []
    for net in nets:
        own = [layer for layer in layers if layer["net"] == net]
        places = np.unique(np.linspace(0, len(own) - 1, min(number, len(own))).round().astype(int))
        chosen += [own[place] for place in places]
    return chosen


def convolutions(layer: dict[str, Any], work: float, threads: int) -> Iterator[tuple[str, float, Sides]]:
    for direction, flops, sides in directions("conv", shallow(layer, work), work, torch.float32):
        if flops >= FLOOR:
            yield direction, flops, both(threads, sides["fastconv"])


def verify(where: str, sides: Sides) -> None:
    one, other = (np.asarray(side()) for side in sides.values())
    if not np.array_equal(one, other):
        raise SystemExit(f"scaling: {where}: the bits depend on the number of threads, nothing is timed")


def measure(sides: Sides, rounds: int, turn: float) -> Paired:
    single = paired(sides, 1, 1, 1, 0.0)
    return paired(sides, rounds, max(1, round(turn / single.median("all"))), 2, 0.01)


def lenet(batch: int, threads: int) -> Sides:
    x, labels = batch_of(batch)
    fastconv.manual_seed(0)
    weights = {name: np.array(value) for name, value in models.create("tutorial").state_dict().items()}
    steps = {name: Fastconv(x, labels, weights).step for name in ("one", "all")}
    return {name: with_threads(count, steps[name]) for name, count in (("one", 1), ("all", threads))}


def lenet_losses(sides: Sides) -> None:
    """Three steps of each, compared by their losses' bits."""
    one, other = ([side().item() for _ in range(3)] for side in sides.values())
    if one != other:
        raise SystemExit("scaling: LeNet's bits depend on the number of threads, nothing is timed")


def main() -> None:
    parser = argparse.ArgumentParser(description="One thread against more, in turn.")
    parser.add_argument("--nets", nargs="*", default=NETS, help="networks whose layers are timed")
    parser.add_argument("--layers", type=int, default=4, help="layers of each network")
    parser.add_argument("--batch", type=int, nargs="*", default=[64, 512], help="batch sizes of the tutorial network")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--work", type=float, default=1.0, help="GFLOP a convolution")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=0.03, help="seconds a turn of all threads")
    machine.add_results_option(parser)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def add(about: dict[str, Any], result: Paired) -> None:
        ratios = result.ratios("all", "one")
        rows.append({
            **about, "threads": options.threads, "times_as_fast": spread(ratios), "seconds": result.samples,
            "round_trip_ns": round_trips[-len(ratios):],
        })  # fmt: skip

    limit = {"one": [], "all": []}
    for _ in range(options.rounds):
        for side, count in (("one", 1), ("all", options.threads)):
            limit[side].append(1 / peak.arithmetic(count))
    add({"net": "the machine", "layer": "multiply-adds", "direction": "limit"}, Paired(limit))
    for batch in options.batch:
        sides = lenet(batch, options.threads)
        lenet_losses(sides)
        result = measure(sides, options.rounds, 3 * options.turn)
        add({"net": "lenet_step", "layer": f"batch {batch}", "direction": "step"}, result)
    for layer in tqdm(selection(options.nets, options.layers), unit="layer"):
        for direction, flops, sides in convolutions(layer, 1e9 * options.work, options.threads):
            verify(f"{layer['net']} {layer['layer']} {direction}", sides)
            about = {"net": layer["net"], "layer": layer["layer"], "direction": direction, "flops": flops}
            add(about, measure(sides, options.rounds, options.turn))
    fastconv.set_num_threads(options.threads)
    machine.save(f"scaling_t{options.threads}", {"bar": BAR, "rows": rows}, options.results)
    report(rows, options.threads)


def report(rows: list[dict[str, Any]], threads: int) -> None:
    print(f"| what | direction | times as fast with {threads} threads (min, median, max) | |\n|---|---|---|---|")
    for row in rows:
        times = row["times_as_fast"]
        below = "" if times["median"] >= BAR else f"below {BAR}"
        print(f"| {row['net']} {row['layer']} | {row['direction']} "
              f"| {times['min']:.2f}, **{times['median']:.2f}**, {times['max']:.2f} | {below} |")  # fmt: skip
    print("\n| direction | calls | geometric mean | least | below the bar |\n|---|---|---|---|---|")
    for direction in dict.fromkeys(row["direction"] for row in rows):
        medians = [row["times_as_fast"]["median"] for row in rows if row["direction"] == direction]
        below = sum(median < BAR for median in medians)
        cells = f"**{geometric_mean(medians):.2f}** | {min(medians):.2f} | {below}"
        print(f"| {direction} | {len(medians)} | {cells} |")
    print("\n| direction | rounds whose processors share a cache | geometric mean | other rounds | geometric mean |")
    print("|---|---|---|---|---|")
    for direction in dict.fromkeys(row["direction"] for row in rows):
        cells = [f"{len(ratios)} | {f'{geometric_mean(ratios):.2f}' if ratios else ''}"
                 for ratios in by_distance([row for row in rows if row["direction"] == direction])]  # fmt: skip
        print(f"| {direction} | {' | '.join(cells)} |")


def by_distance(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the ratios of all rounds whose processors shared a cache, and those of the others.

    >>> row = {"seconds": {"one": [2.0, 2.0], "all": [1.0, 2.0]}, "round_trip_ns": [50.0, 330.0]}
    >>> by_distance([row])
    ([2.0], [1.0])
    """
    near, far = [], []
    for row in rows:
        for one, other, trip in zip(row["seconds"]["one"], row["seconds"]["all"], row["round_trip_ns"], strict=False):
            (near if trip <= machine.NEAR else far).append(one / other)
    return near, far


if __name__ == "__main__":
    main()
