"""A whole training step of the tutorial network, against PyTorch in the same process and run.

    python -m bench.lenet_step --batch 64 --threads 2
    python -m bench.lenet_step --batch 1 --jax

A step is forward pass, cross-entropy, backward pass and SGD with momentum, through the public API of both. PyTorch has
its best of NCHW and channels-last, each with its default and its fused optimiser, at the same number of threads;
--jax adds a jit-compiled step of JAX, where it is installed. Before anything is timed all must agree, from the same
weights: loss, every gradient, every parameter after the step, with direct kernels and with Winograd; there without the
few images of which a near-tie of a pool falls to different sides. With FASTCONV_EXACT=1 our side does without Winograd.
With --compute bf16 both sides may multiply bfloat16 numbers: our side in its compute mode, PyTorch under autocast. They
round in different places, and near-ties of the pools fall to different sides; so each is compared with a step in
float64, and our side must not be further from it than PyTorch is.
Before each round a cache line is sent from one processor to another and back; where their distance changed
(bench.scaling says how), the rounds of each are printed apart.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import numpy as np
import torch

import fastconv
from fastconv import config, functional, models, optim
from fastconv.backends.cpu import _lab

from . import isa, jax_lenet, machine
from .jax_lenet import Jax
from .paired import Paired, paired, spread, steps_within

SGD = {"lr": 0.01, "momentum": 0.9}
BOUND = 1e-3  # relative norm error, float32 against float32,
ALIKE = 1e-4  # and of images for which both sides decide alike
JAX = "jax jit"
BFLOAT16 = 1.25  # our error against float64 over PyTorch's, both sides in bfloat16
FEWEST = 0.9  # of the images, that both sides must decide alike


def batch_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 1, 28, 28) and labels (N,)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((size, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, size)


def torch_net() -> torch.nn.Sequential:
    """The network of fastconv.models.tutorial_net, with its names."""
    nn = torch.nn
    layers = {
        "c1": nn.Conv2d(1, 32, 5), "relu1": nn.ReLU(), "p2": nn.MaxPool2d(2),
        "c3": nn.Conv2d(32, 64, 5), "relu3": nn.ReLU(), "p4": nn.MaxPool2d(2),
        "flatten": nn.Flatten(), "f5": nn.Linear(1024, 256), "relu5": nn.ReLU(), "f6": nn.Linear(256, 10),
    }  # fmt: skip
    return nn.Sequential(OrderedDict(layers))


class Fastconv:
    """Our side."""

    def __init__(
        self, x: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray],
        exact: bool | None = None, compute: str = "float32",
    ) -> None:  # fmt: skip
        self.compute = compute
        self.x, self.labels = fastconv.tensor(x), labels
        self.model = models.create("tutorial")
        self.model.c1.exact = self.model.c3.exact = exact
        self.model.load_state_dict(weights)
        self.optimizer = optim.SGD(self.model.parameters(), **SGD)

    def step(self) -> Any:
        self.optimizer.zero_grad()
        with fastconv.compute(self.compute):
            loss = functional.cross_entropy(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def arrays(self) -> dict[str, np.ndarray]:
        """Gradients and parameters by name."""
        named = dict(self.model.named_parameters())
        return {f"d{k}": p.grad for k, p in named.items()} | {k: p.numpy() for k, p in named.items()}


class Torch:
    """PyTorch's side, in one memory format and with one of its optimisers."""

    def __init__(
        self, x: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray], channels_last: bool,
        fused: bool, compute: str = "float32",
    ) -> None:  # fmt: skip
        self.compute = compute
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.x = torch.from_numpy(x).to(memory_format=layout)
        self.labels = torch.from_numpy(labels)
        self.model = torch_net().to(self.x.dtype)
        self.model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
        self.model.to(memory_format=layout)
        self.optimizer = torch.optim.SGD(self.model.parameters(), fused=fused, **SGD)

    def step(self) -> Any:
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.compute == "bf16"):
            loss = torch.nn.functional.cross_entropy(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def arrays(self) -> dict[str, np.ndarray]:
        named = dict(self.model.named_parameters())
        gradients = {f"d{name}": p.grad.numpy() for name, p in named.items()}
        return gradients | {name: p.detach().numpy() for name, p in named.items()}


def decisions(x: Any, weights: dict[str, Any], verbs: Any) -> list[np.ndarray]:
    """Return which inputs of the network's pools win, and the signs of its hidden units: (N, ...) each."""
    found = []
    for layer in ("c1", "c3"):
        x = verbs.relu(verbs.conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
        x, index = verbs.max_pool2d(x, 2, return_indices=True)
        found.append(np.where(np.asarray(x) > 0, np.asarray(index), -1))
    return [*found, np.asarray(verbs.linear(x.reshape(len(x), -1), weights["f5.weight"], weights["f5.bias"])) > 0]


def decided_alike(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return for which images both sides decide alike, and raise where these are few: near-ties are rare."""
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    sides = decisions(x, weights, functional), decisions(torch.from_numpy(x), tensors, torch.nn.functional)
    alike = np.ones(len(x), bool)
    for a, b in zip(*sides, strict=True):
        alike &= (a == b).reshape(len(x), -1).all(axis=1)
    if alike.mean() < FEWEST:
        raise SystemExit(f"lenet_step: the sides decide otherwise for {(~alike).sum()} of {len(x)} images")
    return alike


def verify(ours: Fastconv, theirs: Any, bound: float) -> dict[str, float]:
    """Make one step on both sides; return the relative errors, and raise where one is beyond the bound."""
    errors = differences(ours, theirs)
    wrong = {name: error for name, error in errors.items() if not error <= bound}
    if wrong:
        raise SystemExit(f"lenet_step: the sides differ, nothing is timed: {wrong}")
    return errors


def differences(ours: Any, theirs: Any) -> dict[str, float]:
    """Make one step on both sides; return the relative errors of the loss and, by name, in the norm, of all arrays."""
    losses = ours.step().item(), getattr(theirs, "check", theirs.step)().item()
    errors = {"loss": abs(losses[0] - losses[1]) / abs(losses[1])}
    expected = theirs.arrays()
    for name, array in ours.arrays().items():
        errors[name] = float(np.linalg.norm(array - expected[name]) / np.linalg.norm(expected[name]))
    return errors


def verify_rounded(ours: Fastconv, theirs: tuple, layout: tuple[bool, bool]) -> dict[str, float]:
    """Return our errors against a step in float64; raise where they are beyond ``BFLOAT16`` times PyTorch's."""
    x, labels, weights = theirs
    double = x.astype(np.float64), labels, {name: value.astype(np.float64) for name, value in weights.items()}
    found = differences(ours, Torch(*double, *layout))
    allowed = differences(Torch(*theirs, *layout, "bf16"), Torch(*double, *layout))
    wrong = {name: (error, allowed[name]) for name, error in found.items() if not error <= BFLOAT16 * allowed[name]}
    if wrong.pop("loss", (0, 0))[0] > BOUND or wrong:
        raise SystemExit(f"lenet_step: our side is further from float64 than PyTorch, nothing is timed: {wrong}")
    return found


def compare(
    batch: int, rounds: int, turn: float, compute: str, jax: bool = False
) -> tuple[Paired, dict[str, int], dict[str, float], list[float]]:
    """Verify and time all sides at one batch size; return the times, each side's steps a turn, our errors, and for each
    round how many nanoseconds a cache line takes from one processor to another and back."""
    x, labels = batch_of(batch)
    fastconv.manual_seed(0)
    weights = {name: np.array(value) for name, value in models.create("tutorial").state_dict().items()}
    sides: dict[str, Any] = {"fastconv": Fastconv(x, labels, weights, compute=compute)}
    errors: dict[str, float] = {}
    same = decided_alike(x, weights) if compute == "float32" else np.ones(batch, bool)
    alike = x[same], labels[same], weights
    for channels_last, fused in product((False, True), (False, True)):
        name = f"torch {'channels-last' if channels_last else 'NCHW'}{', fused SGD' if fused else ''}"
        layout = channels_last, fused
        sides[name] = Torch(x, labels, weights, *layout, compute)
        if compute == "bf16":
            found = verify_rounded(Fastconv(x, labels, weights, None, compute), (x, labels, weights), layout)
        else:
            verify(Fastconv(x, labels, weights, True), Torch(x, labels, weights, *layout), BOUND)
            found = verify(Fastconv(*alike), Torch(*alike, *layout), ALIKE)
        errors = {key: max(value, errors.get(key, 0.0)) for key, value in found.items()}
    if jax:
        sides[JAX] = Jax(x, labels, weights, **SGD)
        verify(Fastconv(x, labels, weights, exact=True), Jax(x, labels, weights, **SGD), BOUND)
    callables: dict[str, Callable[[], Any]] = {name: side.step for name, side in sides.items()}
    steps, trips = steps_within(turn, callables), list[float]()
    several = fastconv.get_num_threads() > 1
    result = paired(callables, rounds, steps, before=lambda: trips.append(_lab.round_trip() if several else 0.0))
    return result, steps, errors, trips[1:]


def by_distance(ratios: list[float], trips: list[float]) -> dict[str, list[float]]:
    """Return the ratios of rounds whose processors shared a cache as they began, and of the others.

    >>> by_distance([6.0, 5.0], [50.0, 330.0])
    {'shared': [6.0], 'not shared': [5.0]}
    """
    found: dict[str, list[float]] = {"shared": [], "not shared": []}
    for ratio, trip in zip(ratios, trips, strict=True):
        found["shared" if trip <= machine.NEAR else "not shared"].append(ratio)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="A LeNet training step, fastconv and PyTorch in turn.")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="batch sizes")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--turn", type=float, default=0.2, help="seconds of timed steps a turn, the same for each side")
    parser.add_argument("--jax", action="store_true", help="compare with JAX too, where it is installed")
    isa.add_isa_option(parser)
    parser.add_argument("--compute", choices=config.COMPUTE, default="float32", help="numbers that are multiplied")
    machine.add_results_option(parser)
    options = parser.parse_args()
    suffix = isa.settle(options.isa)
    fastconv.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    if options.jax and not jax_lenet.available():
        print(jax_lenet.MISSING)
        options.jax = False
    print("| batch | threads | fastconv, ms | images/s | PyTorch, ms | its best | times as fast (min, median, max) |")
    print("|---|---|---|---|---|---|---|")
    for batch in options.batch:
        result, steps, errors, trips = compare(batch, options.rounds, options.turn, options.compute, options.jax)
        best = result.fastest(*(name for name in result.samples if name.startswith("torch")))
        ratios = result.ratios("fastconv", best)
        ratio = spread(ratios)
        record = {
            "batch": batch, "threads": options.threads, "steps_a_turn": steps, "best_peer": best,
            "times_as_fast": ratio, "summary": result.summary(), "relative_errors": errors, "seconds": result.samples,
            "round_trip_ns": trips,
        }  # fmt: skip
        if options.jax:
            record["times_as_fast_as_jax"] = spread(result.ratios("fastconv", JAX))
        kind = ("_exact" if config.exact() else "") + ("" if options.compute == "float32" else f"_{options.compute}")
        machine.save(f"lenet_step_b{batch}_t{options.threads}{kind}{suffix}", record, options.results)
        ours, theirs = result.median("fastconv"), result.median(best)
        print(
            f"| {batch} | {options.threads} | {1e3 * ours:.2f} | {batch / ours:,.0f} | {1e3 * theirs:.2f} | {best} "
            f"| {ratio['min']:.2f}, **{ratio['median']:.2f}**, {ratio['max']:.2f} |"
        )
        for cache, some in by_distance(ratios, trips).items():
            if 0 < len(some) < len(trips):
                print(f"| {batch} | cache {cache} | | | | {len(some)} rounds | {median(some):.2f} |")
        if options.jax:
            ratio = record["times_as_fast_as_jax"]
            print(f"| {batch} | | | | {1e3 * result.median(JAX):.2f} | {JAX} "
                  f"| {ratio['min']:.2f}, **{ratio['median']:.2f}**, {ratio['max']:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
