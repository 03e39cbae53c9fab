"""The roofline of convolution layers, a picture: GFLOP/s against operations a byte, under the machine's limits.

    python -m bench.roofline
    python -m bench.roofline --versus bench/results/versus_conv_t2.json --peak bench/results/peak.json

The points are those of a result of `bench.versus conv`. An array's bytes count once, input, weights and output of a
direction, however often they are read: as if caches held what is used again. The roof is measured now (see bench.peak),
or taken from a result of that. A point above the roof ran by Winograd's algorithm, which needs fewer operations than
the sum that is counted, or in a cache. Printed beside the share of the roof: how many times as fast as PyTorch we are,
and would be if every layer under the roof were at it, which is the most that kernels of the direct sum can reach. Needs
matplotlib.
"""

from __future__ import annotations

import argparse
import json
from math import prod
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from fastconv.geometry import conv_geometry

from . import machine, peak

MARKERS = {"forward": "o", "input gradient": "^", "weight gradient": "s"}


def operations_a_byte(layer: dict[str, Any], work: float) -> float:
    """Return the FLOPs of a direction for each byte of its three arrays, at the batch that bench.versus gives it."""
    rank, (ic, oc) = len(layer["input"]), layer["channels"]
    weight = (oc, ic // layer["groups"], *layer["kernel"])
    options = {name: tuple(layer[name]) for name in ("stride", "padding")}
    one = conv_geometry(f"conv{rank}d", rank, (1, ic, *layer["input"]), weight, groups=layer["groups"], **options)
    n = max(1, round(work / one.flops))
    return n * one.flops / (4 * (n * (prod(one.input_shape) + prod(one.output_shape)) + prod(weight)))


def points(result: dict[str, Any], layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each row of a result its operations a byte, its GFLOP/s, and what it is."""
    known = {(layer["net"], layer["layer"]): layer for layer in layers}
    found = []
    for row in result["rows"]:
        layer = {**known[row["net"], row["layer"]], "input": row["input"]}  # a volume may have been cut in depth
        found.append({
            "net": row["net"], "layer": row["layer"], "direction": row["direction"],
            "x": operations_a_byte(layer, result["work"]), "y": row["giga_per_second"]["fastconv"],
            "peer": row["giga_per_second"][row["best_peer"]],
        })  # fmt: skip
    return found


def draw(found: list[dict[str, Any]], limit: dict[str, float], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    low, high = 0.7 * min(p["x"] for p in found), 1.4 * max(p["x"] for p in found)
    ridge = limit["gflops"] / limit["gigabytes"]
    corners = [low, *([ridge] if low < ridge < high else []), high]
    axes.plot(corners, [min(limit["gflops"], limit["gigabytes"] * x) for x in corners], color="black",
              label=f"measured: {limit['gflops']:.0f} GFLOP/s, copy {limit['gigabytes']:.0f} GB/s")  # fmt: skip
    colours = pyplot.get_cmap("tab10")
    for i, net in enumerate(dict.fromkeys(p["net"] for p in found)):
        for direction, marker in MARKERS.items():
            own = [p for p in found if p["net"] == net and p["direction"] == direction]
            axes.scatter([p["x"] for p in own], [p["y"] for p in own], s=16, marker=marker, color=colours(i % 10),
                         alpha=0.75, label=net if direction == "forward" else None)  # fmt: skip
    for direction, marker in MARKERS.items():
        axes.scatter([], [], s=16, marker=marker, color="grey", label=direction)
    axes.set(xscale="log", yscale="log", xlim=(low, high), xlabel="operations a byte", ylabel="GFLOP/s", title=title)
    axes.grid(True, which="both", linewidth=0.3)
    axes.legend(fontsize=8, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="The roofline of convolution layers, as a picture.")
    parser.add_argument("--versus", type=Path, default=machine.RESULTS / "versus_conv_t2.json", help="the points")
    parser.add_argument("--peak", type=Path, help="a result of bench.peak (default: measure now)")
    parser.add_argument("--output", type=Path, help="the picture (default: roofline.png in --results)")
    machine.add_results_option(parser)
    options = parser.parse_args()
    result = json.loads(options.versus.read_text(encoding="utf-8"))
    layers = json.loads((Path(__file__).parent / "shapes" / "conv.json").read_text(encoding="utf-8"))
    found, threads = points(result, layers), str(result["machine"]["threads"])
    if options.peak:
        limit = json.loads(options.peak.read_text(encoding="utf-8"))["limits"][threads]
    else:
        limit = peak.measure(int(threads))
    about = result["machine"]
    title = f"Convolutions on {about['cpu']}, {about['isa']}, {threads} threads"
    path = options.output or options.results / "roofline.png"
    draw(found, limit, title, path)
    print(f"{path}\n\n| direction | layers | share of the roof: median | least | most | times as fast | at the roof |")
    print("|---|---|---|---|---|---|---|")
    for direction in MARKERS:
        own = [p for p in found if p["direction"] == direction]
        roofs = [min(limit["gflops"], limit["gigabytes"] * p["x"]) for p in own]
        shares = [p["y"] / roof for p, roof in zip(own, roofs, strict=True)]
        if shares:
            now = geometric_mean(p["y"] / p["peer"] for p in own)
            most = geometric_mean(max(p["y"], roof) / p["peer"] for p, roof in zip(own, roofs, strict=True))
            print(f"| {direction} | {len(own)} | **{median(shares):.2f}** | {min(shares):.2f} | {max(shares):.2f} "
                  f"| {now:.2f} | {most:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
