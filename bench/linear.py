"""Linear layers of real networks at several batch sizes, each direction, against PyTorch in the same process and run.

    python -m bench.linear
    python -m bench.linear --nets vgg_19 --batch 1 64

Verified first against float64, then timed in turn. The forward pass is a call of the functional beside PyTorch's usual
product. With weights packed beforehand it is what a model of ``fastconv.freeze`` runs for the layer, beside the two
products that PyTorch compiles models to (MKL's and oneDNN's), where its build has them. PyTorch's gradients are the
products that its autograd makes. The layers are in bench/shapes/linear.json.
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
from fastconv import backends, functional

from . import isa, machine
from .paired import paired, spread, steps_within
from .versus import SHAPES, Sides, verify

BATCHES = (1, 4, 16, 64, 256)


def packed(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """PyTorch's products with weights packed beforehand, those that its build has."""
    n, found = len(x), {}
    try:
        mkldnn = torch.ops.mkldnn._reorder_linear_weight(w, n)
        found["torch oneDNN, packed"] = lambda: torch.ops.mkldnn._linear_pointwise(x, mkldnn, b, "none", [], "")
        found["torch oneDNN, packed"]()
    except (AttributeError, NotImplementedError, RuntimeError):
        found.pop("torch oneDNN, packed", None)
    try:
        mkl = torch.ops.mkl._mkl_reorder_linear_weight(w, n)
        found["torch MKL, packed"] = lambda: torch.ops.mkl._mkl_linear(x, mkl, w, b, n)
        found["torch MKL, packed"]()
    except (AttributeError, NotImplementedError, RuntimeError):
        found.pop("torch MKL, packed", None)
    return found


def directions(features: list[int], n: int, peer: type) -> Iterator[tuple[str, Sides]]:
    """Yield each direction's name and a callable for each side; PyTorch computes in ``peer``: float64 is an oracle."""
    inside, outside = features
    rng = np.random.default_rng(0)
    x, w, b, dy = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in ((n, inside), (outside, inside), (outside,), (n, outside))
    )
    tx, tw, tb, tdy = (torch.from_numpy(a.astype(peer)) for a in (x, w, b, dy))
    usual = {"torch": lambda: torch.nn.functional.linear(tx, tw, tb)}
    yield "forward", {"fastconv": lambda: functional.linear(x, w, b), **usual}
    kept: dict = {}
    beforehand = packed(tx, tw, tb) if peer is np.float32 else {}
    frozen = {"fastconv": lambda: backends.get("cpu").linear_forward(x, w, b, kept)}
    yield "forward, packed", {**frozen, **usual, **beforehand}
    theirs = {"input gradient": lambda: tdy.mm(tw), "weight gradient": lambda: tdy.t().mm(tx)}
    for which, (name, product) in enumerate(theirs.items()):
        needs = [which == i for i in range(3)]
        yield name, {
            "fastconv": lambda needs=needs, which=which: functional.linear_backward(dy, x, w, needs=needs)[which],
            "torch": product,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Linear layers of real networks, fastconv and PyTorch in turn.")
    parser.add_argument("--nets", nargs="+", help="only these networks")
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES, help="batch sizes")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.03, help="seconds a turn")
    isa.add_isa_option(parser)
    machine.add_results_option(parser)
    options = parser.parse_args()
    suffix = isa.settle(options.isa)
    fastconv.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    layers = json.loads((SHAPES / "linear.json").read_text(encoding="utf-8"))
    cases = [(m, n) for m in layers if not options.nets or m["net"] in options.nets for n in options.batch]
    rows = []
    for case, n in tqdm(cases, unit="layer"):
        timed = directions(case["features"], n, np.float32)
        for (_, oracle), (direction, sides) in zip(directions(case["features"], n, np.float64), timed, strict=True):
            error = verify(f"{case['net']} {case['layer']} batch {n} {direction}", oracle)
            result = paired(sides, options.rounds, steps_within(options.turn, sides), 1, 0.01)
            best = result.fastest(*(side for side in sides if side != "fastconv"))
            flops = 2 * n * case["features"][0] * case["features"][1]
            rows.append({
                **case, "batch": n, "direction": direction, "error": error, "best_peer": best,
                "giga_per_second": {side: flops / result.median(side) / 1e9 for side in result.samples},
                "times_as_fast": spread(result.ratios("fastconv", best)),
                "times_as_fast_as_torch": spread(result.ratios("fastconv", "torch")), "seconds": result.samples,
            })  # fmt: skip
    machine.save(f"linear_t{options.threads}{suffix}", {"rows": rows}, options.results)
    report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Print each layer's ratios by batch, then geometric means, as Markdown tables."""
    print(
        "| layer | features | batch | direction | fastconv, GFLOP/s | times as fast (min, median, max) as | the best |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        best = row["times_as_fast"]
        speed = f"{row['giga_per_second']['fastconv']:.1f}"
        print(f"| {row['net']} {row['layer']} | {row['features'][0]}, {row['features'][1]} | {row['batch']} "
              f"| {row['direction']} | {speed} | {best['min']:.2f}, **{best['median']:.2f}**, {best['max']:.2f} "
              f"| {row['best_peer']} |")  # fmt: skip
    print("\n| direction | batch | layers | times as fast as the best | least | against torch's usual product |")
    print("|---|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["direction"], str(row["batch"])), []).append(row)
        groups.setdefault((row["direction"], "all"), []).append(row)
    for (direction, batch), members in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1].rjust(5))):
        best = [row["times_as_fast"]["median"] for row in members]
        usual = [row["times_as_fast_as_torch"]["median"] for row in members]
        print(f"| {direction} | {batch} | {len(members)} | **{geometric_mean(best):.2f}** | {min(best):.2f} "
              f"| {geometric_mean(usual):.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
