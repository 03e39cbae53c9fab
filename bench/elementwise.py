"""Operations that memory limits, against PyTorch in the same process and run: normalisation, activations, heads, steps.

    python -m bench.elementwise
    python -m bench.elementwise --operations relu --nets resnet_50

Every operation is verified first against float64, then timed in turn with PyTorch in its two memory formats and with a
copy (``torch.Tensor.copy_``) that reads and writes as many bytes as the operation must: the machine's limit. fastconv
gets channels-last arrays, the form that its own layers hand on. The shapes are in bench/shapes/elementwise.json.
Geometric means by operation are printed, all samples go to bench/results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import fastconv
from fastconv import backends, functional

from . import machine
from .paired import Paired, paired, spread

SHAPES = Path(__file__).parent / "shapes" / "elementwise.json"
BOUND = 1e-5  # relative norm error
FORMATS = ("NCHW", "channels-last")
Sides = dict[str, Callable[[], Any]]
Case = tuple[str, float, Sides]  # name, bytes that must move in units of the array's, callables
aten = torch.ops.aten


def channels_last(a: np.ndarray) -> np.ndarray:
    """Return the same values with channels side by side, in memory of the pool that layers take their results from."""
    made = backends.get("cpu").empty(a.shape, a.dtype)
    made[...] = a
    return made


def as_torch(a: np.ndarray, layout: str) -> torch.Tensor:
    order = {4: torch.channels_last, 5: torch.channels_last_3d}.get(a.ndim, torch.contiguous_format)
    order = order if layout == "channels-last" else torch.contiguous_format
    return torch.from_numpy(a).clone(memory_format=order)  # memory of its own


class Arrays:
    """Arrays of one shape by name, for both sides; PyTorch's in the dtype ``peer``: float64 makes it an oracle."""

    def __init__(self, shape: list[int], peer: type) -> None:
        self.rng = np.random.default_rng(0)
        self.shape, self.peer = tuple(shape), peer
        self.formats = FORMATS if len(shape) > 3 else FORMATS[:1]

    def make(self, shape: tuple[int, ...] = (), positive: bool = False) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        a = self.rng.standard_normal(shape or self.shape, dtype=np.float32)
        a = np.abs(a) + np.float32(0.5) if positive else a
        return channels_last(a) if a.ndim > 1 else a, {f: as_torch(a.astype(self.peer), f) for f in self.formats}

    def sides(self, ours: Callable[[], Any], theirs: Callable[[str], Any]) -> Sides:
        return {"fastconv": ours, **{f: lambda f=f: theirs(f) for f in self.formats}}


def batch_norm(a: Arrays) -> Iterator[Case]:
    c, device = (a.shape[1],), backends.get("cpu")
    (x, tx), (dy, tdy), (w, tw), (b, tb) = a.make(), a.make(), a.make(c), a.make(c)
    (mean, tmean), (var, tvar) = a.make(c), a.make(c, positive=True)
    for training in (True, False):
        yield f"batch norm {'training' if training else 'inference'}", 3 if training else 2, a.sides(
            lambda training=training: functional.batch_norm(x, mean, var, w, b, training),
            lambda f, training=training: torch.nn.functional.batch_norm(
                tx[f], tmean[f], tvar[f], tw[f], tb[f], training
            ),
        )  # fmt: skip
    flat, flat_dy = x.reshape(*x.shape[:2], -1), dy.reshape(*x.shape[:2], -1)
    saved = x.mean((0, *range(2, x.ndim)), dtype="f8"), x.var((0, *range(2, x.ndim)), dtype="f8")
    mean, rstd = saved[0].astype("f4"), (1 / np.sqrt(saved[1] + 1e-5)).astype("f4")
    tmean, trstd = (torch.from_numpy(s.astype(a.peer)) for s in (saved[0], 1 / np.sqrt(saved[1] + 1e-5)))
    yield (
        "batch norm backward",
        5,
        a.sides(
            lambda: device.batch_norm_backward(flat_dy, flat, mean, rstd, w, True),
            lambda f: aten.native_batch_norm_backward(
                tdy[f], tx[f], tw[f], None, None, tmean, trstd, True, 1e-5, [True, True, True]
            ),
        ),
    )


def relu(a: Arrays) -> Iterator[Case]:
    (x, tx), (dy, tdy) = a.make(), a.make()
    yield "ReLU", 2, a.sides(lambda: functional.relu(x), lambda f: torch.relu(tx[f]))
    yield (
        "ReLU backward",
        3,
        a.sides(lambda: functional.relu_backward(dy, x), lambda f: aten.threshold_backward(tdy[f], tx[f], 0)),
    )


def add(a: Arrays) -> Iterator[Case]:
    (x, tx), (y, ty) = a.make(), a.make()
    column = (1, a.shape[1], *[1] * (len(a.shape) - 2))
    b, tb = a.make(column)
    yield "add", 3, a.sides(lambda: functional.add(x, y), lambda f: tx[f] + ty[f])
    yield "add a channel's value", 2, a.sides(lambda: functional.add(x, b), lambda f: tx[f] + tb[f])


def dropout(a: Arrays) -> Iterator[Case]:
    x, tx = a.make()
    mask = backends.get("cpu").dropout_mask(a.shape, 0.5, (1, 2))
    tmask = {f: as_torch(mask, f) for f in a.formats}
    if a.peer is np.float64:  # masks of two generators cannot be compared: ours is given to both
        yield (
            "dropout",
            2.25,
            a.sides(lambda: masked_by_ours(x), lambda f: tx[f] * as_torch(masked_by_ours(np.ones_like(x)), f)),
        )
    else:
        yield (
            "dropout",
            2.25,
            a.sides(lambda: functional.dropout(x, 0.5), lambda f: torch.nn.functional.dropout(tx[f], 0.5)),
        )
    yield (
        "dropout backward",
        2.25,
        a.sides(
            lambda: functional.dropout_backward(x, mask), lambda f: aten.native_dropout_backward(tx[f], tmask[f], 2.0)
        ),
    )


def masked_by_ours(x: np.ndarray) -> np.ndarray:
    """Dropout with the first mask after seeding."""
    fastconv.manual_seed(0)
    return functional.dropout(x, 0.5)


def softmax(a: Arrays) -> Iterator[Case]:
    (x, tx), (dy, tdy) = a.make(), a.make()
    x, dy = np.ascontiguousarray(x), np.ascontiguousarray(dy)
    y = functional.softmax(x, 1)
    ty = {f: t.softmax(1) for f, t in tx.items()}
    yield "softmax", 2, a.sides(lambda: functional.softmax(x, 1), lambda f: tx[f].softmax(1))
    yield (
        "softmax backward",
        3,
        a.sides(
            lambda: functional.softmax_backward(dy, y, 1),
            lambda f: aten._softmax_backward_data(tdy[f], ty[f], 1, ty[f].dtype),
        ),
    )


def cross_entropy(a: Arrays) -> Iterator[Case]:
    x, tx = a.make()
    x = np.ascontiguousarray(x)
    target = a.rng.integers(0, a.shape[1], (a.shape[0], *a.shape[2:]))
    ttarget = torch.from_numpy(target)

    def ours() -> np.ndarray:
        leaf = fastconv.Tensor(x, requires_grad=True)
        functional.cross_entropy(leaf, target).backward()
        return leaf.grad

    def theirs(f: str) -> torch.Tensor:
        leaf = tx[f].detach().requires_grad_()
        torch.nn.functional.cross_entropy(leaf, ttarget).backward()
        return leaf.grad

    yield (
        "cross-entropy",
        2,
        a.sides(
            lambda: functional.cross_entropy(x, target), lambda f: torch.nn.functional.cross_entropy(tx[f], ttarget)
        ),
    )
    yield "cross-entropy and its gradient", 4, a.sides(ours, theirs)


ACTIVATIONS = {"batch_norm": batch_norm, "relu": relu, "add": add, "dropout": dropout}
HEADS = {"softmax": softmax, "cross_entropy": cross_entropy}
OPTIMISERS = {"sgd": ({"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}, 5), "adam": ({"lr": 1e-3}, 7)}
OPERATIONS = (*ACTIVATIONS, *HEADS, *OPTIMISERS)


def step(name: str, shapes: list[list[int]], peer: type) -> Case:
    """One step of an optimiser; PyTorch's in its three implementations."""
    options, passes = OPTIMISERS[name]
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((2, *shape), dtype=np.float32) for shape in shapes]

    ours = [fastconv.nn.Parameter(value[0].copy()) for value in values]
    for parameter, value in zip(ours, values, strict=True):
        parameter.grad = value[1]
    upper = {"sgd": "SGD", "adam": "Adam"}[name]
    optimiser = getattr(fastconv.optim, upper)(ours, **options)
    sides: Sides = {"fastconv": lambda: (optimiser.step(), ours[0].numpy())[1]}
    for kind in ("for-loop", "foreach", "fused"):
        theirs = [torch.nn.Parameter(torch.from_numpy(value[0].astype(peer))) for value in values]
        for parameter, value in zip(theirs, values, strict=True):
            parameter.grad = torch.from_numpy(value[1].astype(peer))
        peer_options = {"foreach": kind == "foreach", "fused": kind == "fused"}
        their_optimiser = getattr(torch.optim, upper)(theirs, **options, **peer_options)
        sides[kind] = lambda o=their_optimiser, p=theirs: (o.step(), p[0].detach())[1]
    return f"{upper} step", passes, sides


def cases(layer: dict[str, Any], operations: list[str], peer: type) -> Iterator[Case]:
    if "parameters" in layer:
        for name in set(OPTIMISERS) & set(operations):
            yield step(name, layer["parameters"], peer)
        return
    table = HEADS if layer["net"] == "head" else ACTIVATIONS
    for name, operation in table.items():
        if name in operations:
            yield from operation(Arrays(layer["shape"], peer))


def copier(count: float) -> Callable[[], Any]:
    """A copy that reads and writes ``count`` bytes together."""
    source = torch.ones(max(1, round(count / 8)))
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def results(value: Any) -> list[np.ndarray]:
    return [np.asarray(v, np.float64) for v in (value if isinstance(value, tuple) else (value,))]


def verify(where: str, sides: Sides) -> float:
    """Return the largest relative error against PyTorch in float64, and raise where it is beyond the bound."""
    peer = next(side for side in sides if side != "fastconv")
    expected, ours = results(sides[peer]()), results(sides["fastconv"]())
    errors = [
        float(np.linalg.norm(o.reshape(e.shape) - e) / max(float(np.linalg.norm(e)), 1e-30))
        for o, e in zip(ours, expected, strict=True)
    ]
    if not max(errors) <= BOUND:
        raise SystemExit(f"elementwise: {where}: the sides differ by {max(errors):.2g}, nothing is timed")
    return max(errors)


def measure(sides: Sides, rounds: int, turn: float) -> Paired:
    """Time all sides; a turn has as many steps as fit into ``turn`` seconds.

    It is longer than the milliseconds that the system may take, after a pause, to give each thread a processor.
    """
    single = paired(sides, 1, 2, 1, 0.0)
    slowest = max(single.median(side) for side in sides)
    steps = max(1, round(min(turn / single.median(single.fastest()), 3 * turn / slowest)))
    return paired(sides, rounds, steps, 2 + steps // 5, 0.02)  # PyTorch's threads spin for some time


def main() -> None:
    run("elementwise", "Operations that memory limits, fastconv and PyTorch in turn.", SHAPES, OPERATIONS, cases)


def run(
    name: str, says: str, shapes: Path, operations: Sequence[str],
    cases: Callable[[dict[str, Any], list[str], type], Iterator[Case]],
) -> None:  # fmt: skip
    """The command line of this script and of its siblings: verify and time the cases of each shape, print and save."""
    parser = argparse.ArgumentParser(description=says)
    parser.add_argument("--operations", nargs="+", choices=operations, default=list(operations))
    parser.add_argument("--nets", nargs="+", help="only the shapes of these networks")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.04, help="seconds a turn")
    machine.add_results_option(parser)
    options = parser.parse_args()
    fastconv.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    layers = json.loads(shapes.read_text(encoding="utf-8"))
    rows = []
    for layer in tqdm([m for m in layers if not options.nets or m["net"] in options.nets], unit="shape"):
        few = {**layer, "shape": [min(2, layer["shape"][0]), *layer["shape"][1:]]} if "shape" in layer else layer
        exact = cases(few, options.operations, np.float64)
        timed = cases(layer, options.operations, np.float32)
        size = sum(map(prod, layer["parameters"])) if "parameters" in layer else prod(layer["shape"])
        for (_, _, oracle), (operation, passes, sides) in zip(exact, timed, strict=True):
            error = verify(f"{layer['net']} {layer['layer']} {operation}", oracle)
            bytes_moved = 4.0 * size * passes
            result = measure({**sides, "copy": copier(bytes_moved)}, options.rounds, options.turn)
            best = result.fastest(*(side for side in sides if side != "fastconv"))
            rows.append({
                "net": layer["net"], "layer": layer["layer"], "operation": operation, "megabytes": bytes_moved / 1e6,
                "error": error, "best_peer": best, "times_as_fast": spread(result.ratios("fastconv", best)),
                "share_of_copy": spread(result.ratios("fastconv", "copy")),
                "gigabytes_per_second": {s: bytes_moved / result.median(s) / 1e9 for s in result.samples},
                "seconds": result.samples,
            })  # fmt: skip
    machine.save(f"{name}_t{options.threads}", {"rows": rows}, options.results)
    report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Print the geometric means of each operation as a Markdown table."""
    print("| operation | shapes | times as fast as the best | least | GB/s | share of a copy's speed | least |")
    print("|---|---|---|---|---|---|---|")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["operation"], []).append(row)
    for operation, members in groups.items():
        best, share = ([row[key]["median"] for row in members] for key in ("times_as_fast", "share_of_copy"))
        speed = geometric_mean(row["gigabytes_per_second"]["fastconv"] for row in members)
        cells = (f"**{geometric_mean(best):.2f}**", f"{min(best):.2f}", f"{speed:.0f}", f"{geometric_mean(share):.2f}")
        print(f"| {operation} | {len(members)} | {' | '.join(cells)} | {min(share):.2f} |")


if __name__ == "__main__":
    main()
