"""Convolution and pooling layers of real networks, against PyTorch in the same process and run.

    python -m bench.versus conv --nets vgg_19 resnet_50
    python -m bench.versus conv --compute bf16
    python -m bench.versus pool
    python -m bench.versus conv --isa avx2

Every layer and direction is verified first, on one image (a volume's corner) against float64, then timed in turn with
PyTorch in its two memory formats, at the same number of threads; the batch is scaled to a given amount of work, and a
volume that is more work than that by far is cut in depth. fastconv gets channels-last arrays in memory of its own pool,
as its layers hand them on, PyTorch arrays of its own allocator: both start at a cache line, where NumPy's do not. As no
gradient of plain arrays is taken, our forward pass finds the weights packed from the call before.
In the compute mode bf16 PyTorch gets arrays of bfloat16, and our side float32 arrays as ever.
Pooling is timed as training runs it: both sides record the forward pass and keep what the gradient needs; in the same
rounds runs a copy of as many bytes as the layer reads and writes. The shapes are in bench/shapes. Geometric means by
group are printed, all samples go to bench/results, those of volumes alone under a name with _3d, of groups alone with
_grouped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import fastconv
from fastconv import functional

from . import isa, machine
from .elementwise import channels_last, copier
from .paired import paired, spread, steps_within

SHAPES = Path(__file__).parent / "shapes"
BOUND = 1e-5  # relative norm error
BFLOAT16 = 1e-2  # and where operands are rounded
CORNER = 14  # voxels an axis
FORMATS = {"NCHW": torch.contiguous_format, "channels-last": None}  # None: of the rank
Sides = dict[str, Callable[[], Any]]


def as_torch(a: np.ndarray, layout: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    last = torch.channels_last_3d if a.ndim == 5 else torch.channels_last
    return torch.from_numpy(a).to(dtype, copy=True, memory_format=FORMATS[layout] or last)  # memory of its own


def directions(kind: str, layer: dict[str, Any], work: float, peer: torch.dtype) -> Iterator[tuple[str, float, Sides]]:
    """Yield each direction's name, its amount of work (FLOPs or bytes), and a callable for each side.

    PyTorch computes in the dtype ``peer``: float64 makes it an oracle.
    """
    yield from {"conv": conv, "pool": pool}[kind](layer, work, peer)


def corner(layer: dict[str, Any], size: int) -> dict[str, Any]:
    """Return the layer with the axes of a volume cut to ``size``: float64 takes PyTorch minutes on a large one."""
    return layer if len(layer["input"]) < 3 else {**layer, "input": [min(axis, size) for axis in layer["input"]]}


def shallow(layer: dict[str, Any], work: float) -> dict[str, Any]:
    """Return a convolution layer with a volume's depth halved until an image is at most eight times ``work``."""
    depth, *plane = layer["input"]
    per_voxel = 2 * prod(layer["channels"]) * prod(layer["kernel"]) / prod(layer["stride"])
    while len(plane) == 2 and depth > 12 and depth * prod(plane) * per_voxel > 8 * work:
        depth //= 2
    return {**layer, "input": [depth, *plane]}


def conv(layer: dict[str, Any], flops: float, peer: torch.dtype) -> Iterator[tuple[str, float, Sides]]:
    rank, (ic, oc) = len(layer["input"]), layer["channels"]
    options = {name: layer[name] for name in ("stride", "padding", "groups")}
    rng = np.random.default_rng(0)
    w = rng.standard_normal((oc, ic // layer["groups"], *layer["kernel"]), dtype=np.float32)
    forward = getattr(functional, f"conv{rank}d")
    one = forward(np.zeros((1, ic, *layer["input"]), np.float32), w, **options)
    per_image = 2 * one.size * prod(w.shape[1:])
    n = max(1, round(flops / per_image))
    x = rng.standard_normal((n, ic, *layer["input"]), dtype=np.float32)
    dy = rng.standard_normal((n, *one.shape[1:]), dtype=np.float32)
    cx, cdy = channels_last(x), channels_last(dy)
    backward = getattr(functional, f"conv{rank}d_backward")
    torch_forward = getattr(torch.nn.functional, f"conv{rank}d")
    tensors = {layout: [as_torch(a, layout, peer) for a in (x, w, dy)] for layout in FORMATS}

    def gradient(layout: str, which: int) -> Callable[[], Any]:
        tx, tw, tdy = tensors[layout]
        mask = [which == i for i in range(3)]
        common = (layer["stride"], layer["padding"], [1] * rank, False, [0] * rank, layer["groups"], mask)
        return lambda: torch.ops.aten.convolution_backward(tdy, tx, tw, None, *common)[which]

    yield "forward", n * per_image, {
        "fastconv": lambda: forward(cx, w, **options),
        **{f: lambda f=f: torch_forward(*tensors[f][:2], **options) for f in FORMATS},
    }  # fmt: skip
    for which, name in enumerate(("input gradient", "weight gradient")):
        needs = [which == i for i in range(3)]
        yield name, n * per_image, {
            "fastconv": lambda needs=needs, which=which: backward(cdy, cx, w, **options, needs=needs)[which],
            **{f: gradient(f, which) for f in FORMATS},
        }  # fmt: skip


def pool(layer: dict[str, Any], work: float, peer: torch.dtype) -> Iterator[tuple[str, float, Sides]]:
    rank = len(layer["input"])
    options = {"kernel_size": layer["kernel"], "stride": layer["stride"], "padding": layer["padding"]}
    size = layer["channels"] * prod(layer["input"])
    n = max(1, round(work / 4 / size))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, layer["channels"], *layer["input"]), dtype=np.float32)
    cx = channels_last(x)
    inputs = {layout: as_torch(x, layout, peer) for layout in FORMATS}
    for kind in ("max", "avg"):
        ours, theirs = (getattr(m, f"{kind}_pool{rank}d") for m in (functional, torch.nn.functional))
        leaf = fastconv.Tensor(cx, requires_grad=True)
        leaves = {layout: a.detach().requires_grad_() for layout, a in inputs.items()}
        y = ours(leaf, **options)
        bytes_moved = 4 * n * size + y.data.nbytes
        yield f"{kind} forward", bytes_moved, {
            "fastconv": lambda ours=ours, leaf=leaf: ours(leaf, **options),
            **{f: lambda theirs=theirs, a=a: theirs(a, **options) for f, a in leaves.items()},
        }  # fmt: skip
        dy = rng.standard_normal(y.shape, dtype=np.float32)
        cdy = channels_last(dy)
        yield f"{kind} backward", bytes_moved, {
            "fastconv": lambda y=y, leaf=leaf, cdy=cdy: gradient(y, leaf, cdy),
            **{f: torch_gradient(theirs(a, **options), a, as_torch(dy, f, peer)) for f, a in leaves.items()},
        }  # fmt: skip


def gradient(y: fastconv.Tensor, leaf: fastconv.Tensor, dy: np.ndarray) -> np.ndarray:
    """Walk the tape, as torch.autograd.grad does."""
    leaf.grad = None
    y.backward(dy, retain_graph=True)
    return leaf.grad


def torch_gradient(y: torch.Tensor, leaf: torch.Tensor, dy: torch.Tensor) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(y, leaf, dy, retain_graph=True)[0]


def as_array(result: Any) -> np.ndarray:
    """The array of a side's result, a Tensor of either side or an array."""
    return np.asarray(result.detach() if isinstance(result, torch.Tensor) else result)


def verify(where: str, sides: Sides, bound: float = BOUND) -> float:
    """Return the relative error against PyTorch in float64, and raise where it is beyond the bound."""
    peer = next(side for side in sides if side != "fastconv")
    ours, expected = as_array(sides["fastconv"]()), as_array(sides[peer]())
    error = float(np.linalg.norm(ours - expected) / max(float(np.linalg.norm(expected)), 1e-30))
    if not error <= bound:
        raise SystemExit(f"versus: {where}: the sides differ by {error:.2g}, nothing is timed")
    return error


def main() -> None:
    parser = argparse.ArgumentParser(description="Layers of real networks, fastconv and PyTorch in turn.")
    parser.add_argument("kind", choices=("conv", "pool"))
    parser.add_argument("--nets", nargs="+", help="only these networks")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--work", type=float, help="GFLOP a convolution, or GB a pooling (default: 1, 0.02)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.03, help="seconds a turn")
    isa.add_isa_option(parser)
    parser.add_argument("--compute", choices=("float32", "bf16"), default="float32", help="numbers that are multiplied")
    machine.add_results_option(parser)
    options = parser.parse_args()
    suffix = isa.settle(options.isa)
    fastconv.set_num_threads(options.threads)
    fastconv.compute(options.compute)
    torch.set_num_threads(options.threads)
    layers = json.loads((SHAPES / f"{options.kind}.json").read_text(encoding="utf-8"))
    layers = [layer for layer in layers if not options.nets or layer["net"] in options.nets]
    work = 1e9 * (options.work or {"conv": 1.0, "pool": 0.02}[options.kind])
    peer, bound = (torch.float32, BOUND) if options.compute == "float32" else (torch.bfloat16, BFLOAT16)
    rows = []
    for layer in tqdm(layers, unit="layer"):
        small = layer
        if options.kind == "conv":
            layer, small = shallow(layer, work), corner(layer, CORNER)
        exact = directions(options.kind, small, 0, torch.float64)  # one image
        timed = directions(options.kind, layer, work, peer)
        for (_, _, oracle), (direction, amount, sides) in zip(exact, timed, strict=True):
            error = verify(f"{layer['net']} {layer['layer']} {direction}", oracle, bound)
            copy = {"copy": copier(amount)} if options.kind == "pool" else {}
            sides = {**sides, **copy}
            result = paired(sides, options.rounds, steps_within(options.turn, sides), 1, 0.01)
            best = result.fastest(*FORMATS)
            rows.append({
                "net": layer["net"], "layer": layer["layer"], "rank": len(layer["input"]), "direction": direction,
                "input": layer["input"],
                "depthwise": layer.get("groups", 1) > 1 and layer["groups"] == layer["channels"][0], "error": error,
                "giga_per_second": {side: amount / result.median(side) / 1e9 for side in result.samples},
                "best_peer": best, "times_as_fast": spread(result.ratios("fastconv", best)),
                "times_as_fast_as_NCHW": spread(result.ratios("fastconv", "NCHW")),
                **{f"share_of_{name}": spread(result.ratios("fastconv", name)) for name in copy},
                "seconds": result.samples,
            })  # fmt: skip
    mode = "" if options.compute == "float32" else f"_{options.compute}"
    name = f"versus_{options.kind}{part(layers)}_t{options.threads}{mode}{suffix}"
    machine.save(name, {"work": work, "rows": rows}, options.results)
    report(rows)


def part(layers: list[dict[str, Any]]) -> str:
    """Say which layers these are, where they are of one sort, for the name of the result.

    >>> part([{"input": [8, 8, 8]}]), part([{"input": [8, 8], "groups": 4}]), part([{"input": [8]}, {"input": [8, 8]}])
    ('_3d', '_grouped', '')
    """
    if all(len(layer["input"]) == 3 for layer in layers):
        return "_3d"
    return "_grouped" if all(layer.get("groups", 1) > 1 for layer in layers) else ""


def report(rows: list[dict[str, Any]]) -> None:
    """Print the geometric means of each group as a Markdown table."""
    print("| group | direction | layers | fastconv, G/s | against the best | least | against NCHW | of copy | least |")
    print("|---|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        group = "depthwise" if row["depthwise"] else f"{row['rank']}-D"
        groups.setdefault((group, row["direction"]), []).append(row)
    for (group, direction), members in groups.items():
        best = [row["times_as_fast"]["median"] for row in members]
        nchw = [row["times_as_fast_as_NCHW"]["median"] for row in members]
        speed = geometric_mean(row["giga_per_second"]["fastconv"] for row in members)
        share = [row["share_of_copy"]["median"] for row in members if "share_of_copy" in row]
        cells = [f"{speed:.0f}", f"**{geometric_mean(best):.2f}**", f"{min(best):.2f}", f"{geometric_mean(nchw):.2f}"]
        cells += [f"{geometric_mean(share):.2f}", f"{min(share):.2f}"] if share else ["", ""]
        print(f"| {group} | {direction} | {len(members)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
