"""A whole training step of large networks, against PyTorch in the same process and run.

    python -m bench.networks --nets resnet50 --batch 16 --rounds 3

A step is forward pass, cross-entropy (GoogLeNet: with its auxiliary classifiers), backward pass and SGD with momentum,
through the public API of both. The peer is torchvision's network of the same name with the same weights, in the better
of NCHW and channels-last, at the same number of threads; dropout is off on both sides. Before anything is timed, the
loss, the outputs and all gradients of a small batch must agree. --profile says where our own time goes instead.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

import fastconv
from fastconv import backends, functional, init, models, nn, optim

from . import machine
from .paired import paired, spread

NETS = ("resnet50", "googlenet", "vgg16", "densenet121")
SGD = {"lr": 0.01, "momentum": 0.9}
AUXILIARY = 0.3  # the weight of GoogLeNet's other losses
_DECLARED: list[Any] = []  # a library's declarations live as long as it does
LOSS, GRADIENTS = 1e-4, 5e-2  # relative errors of float32 against float64


def zoo() -> Any:
    """Return torchvision.models. Its networks are plain Python: where its compiled operators do not load (a build for
    another PyTorch), declarations stand in for those that its import refers to."""
    try:
        return importlib.import_module("torchvision").models
    except RuntimeError:
        _DECLARED.append(torch.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms"):
            _DECLARED[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision").models


def batch_of(size: int, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 3, edge, edge) and labels (N,)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((size, 3, edge, edge), dtype=np.float32), rng.integers(0, 1000, size)


def total(cross_entropy: Callable, outputs: Any, labels: Any) -> Any:
    """Return the loss of the outputs, one or several."""
    if not isinstance(outputs, tuple):
        return cross_entropy(outputs, labels)
    first, *others = outputs
    return cross_entropy(first, labels) + sum(cross_entropy(other, labels) for other in others) * AUXILIARY


class Fastconv:
    """Our side."""

    def __init__(self, name: str, weights: dict[str, np.ndarray]) -> None:
        with init.skip():
            self.model = models.create(name)
        self.model.load_state_dict(weights)
        for layer in self.model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        self.optimizer = optim.SGD(self.model.parameters(), **SGD)

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> Any:
        self.optimizer.zero_grad()
        loss = total(functional.cross_entropy, self.model(fastconv.tensor(x)), labels)
        loss.backward()
        return loss

    def stepper(self, x: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
        def step() -> None:
            self.gradients(x, labels)
            self.optimizer.step()

        return step

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: p.grad for name, p in self.model.named_parameters()}


class Torch:
    """PyTorch's side, in one memory format."""

    def __init__(self, name: str, weights: dict[str, np.ndarray], channels_last: bool) -> None:
        options = {"init_weights": False} if name in ("googlenet", "vgg16") else {}
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = zoo().get_model(name, weights=None, **options)
        self.model.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in weights.items()})
        self.model.to(memory_format=self.layout)
        for layer in self.model.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
        self.optimizer = torch.optim.SGD(self.model.parameters(), **SGD)

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> Any:
        self.optimizer.zero_grad()
        images = torch.from_numpy(x).to(memory_format=self.layout)
        loss = total(torch.nn.functional.cross_entropy, self.model(images), torch.from_numpy(labels))
        loss.backward()
        return loss

    stepper = Fastconv.stepper

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: p.grad.numpy() for name, p in self.model.named_parameters()}


def weights_of(name: str) -> dict[str, np.ndarray]:
    fastconv.manual_seed(0)
    return {key: np.array(value) for key, value in models.create(name).state_dict().items()}


def verify(name: str, weights: dict[str, np.ndarray], edge: int) -> dict[str, float]:
    """Compare loss and gradients of a small batch with PyTorch's in float64; raise where ours are off.

    Near-ties fall to one side or the other, and batch norm carries rounding on: PyTorch's own float32 gradients of
    ResNet-50 are 1 to 2.3 % off by chance, batch by batch, ours 1.7 to 2.6. PyTorch's errors are kept beside ours.
    """
    x, labels = batch_of(4, edge)
    exact = Torch(name, weights, False)
    exact.model.double()
    loss, expected = exact.gradients(x.astype(np.float64), labels).item(), exact.arrays()
    size = sum(float(np.sum(g**2)) for g in expected.values())
    errors = {}
    for side, step in {"": Fastconv(name, weights), " of torch": Torch(name, weights, False)}.items():
        errors["loss" + side] = abs(step.gradients(x, labels).item() - loss) / abs(loss)
        off = sum(float(np.sum((g - expected[key]) ** 2)) for key, g in step.arrays().items())
        errors["gradients" + side] = (off / size) ** 0.5
    if errors["loss"] > LOSS or errors["gradients"] > GRADIENTS:
        raise SystemExit(f"networks: {name}: the sides differ, nothing is timed: {errors}")
    return errors


class Clock(type(backends.get("cpu"))):  # type: ignore[misc]
    """The compiled backend, and the time that each verb takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)


def _timed(name: str, verb: Callable) -> Callable:
    def method(self: Clock, *arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        result = verb(self, *arguments, **options)
        geometry = next((a for a in arguments if hasattr(a, "kernel")), None)
        key = name if geometry is None else f"{name} {'x'.join(map(str, geometry.kernel[1:]))}"
        self.seconds[key] += time.perf_counter() - began
        self.calls[key] += 1
        return result

    return method


def _clocked_verbs() -> None:
    for base in reversed(Clock.__mro__[1:]):
        for name, value in vars(base).items():
            static = isinstance(value, staticmethod)
            if name.startswith("_") or not (static or callable(value)) or name in ("usable", "reshape", "owns"):
                continue
            verb = (lambda f: lambda self, *a, **k: f(*a, **k))(value.__func__) if static else value
            setattr(Clock, name, _timed(name, verb))


def profile(name: str, weights: dict[str, np.ndarray], batch: int, edge: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of our step and of each verb in it, a number a round, and how often it is called."""
    _clocked_verbs()
    side = Fastconv(name, weights)
    step = side.stepper(*batch_of(batch, edge))
    step()
    whole, verbs = [], []
    for _ in range(rounds):
        clock = Clock()
        with backends.use(clock):
            began = time.perf_counter()
            step()
            whole.append(time.perf_counter() - began)
        verbs.append(clock)
    names = sorted(clock.seconds, key=lambda key: -median(each.seconds[key] for each in verbs))
    return {
        "network": name, "batch": batch, "edge": edge, "step": whole, "calls": dict(clock.calls),
        "seconds": {key: [each.seconds[key] for each in verbs] for key in names},
    }  # fmt: skip


def print_profile(record: dict[str, Any]) -> None:
    whole = median(record["step"])
    print(f"{record['network']}, batch {record['batch']}: {1e3 * whole:.0f} ms")
    for key, samples in list(record["seconds"].items())[:24]:
        share = median(samples)
        print(f"{1e3 * share:8.1f} ms {100 * share / whole:5.1f} %  {record['calls'][key]:4d}  {key}")


def compare(name: str, batch: int, edge: int, rounds: int) -> dict[str, Any]:
    """Verify and time both sides."""
    weights = weights_of(name)
    errors = verify(name, weights, min(edge, 96))
    gc.collect()
    data = batch_of(batch, edge)
    sides = {
        "fastconv": Fastconv(name, weights).stepper(*data),
        "torch NCHW": Torch(name, weights, False).stepper(*data),
        "torch channels-last": Torch(name, weights, True).stepper(*data),
    }
    result = paired(sides, rounds, 1, 0)
    best = result.fastest("torch NCHW", "torch channels-last")
    return {
        "network": name, "batch": batch, "edge": edge, "best_peer": best, "summary": result.summary(),
        "times_as_fast": spread(result.ratios("fastconv", best)), "relative_errors": errors, "seconds": result.samples,
    }  # fmt: skip


def label(name: str, options: argparse.Namespace) -> str:
    return f"{name}_b{options.batch}_e{options.edge}_t{options.threads}"


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step of large networks, fastconv and PyTorch in turn.")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--edge", type=int, default=224, help="pixels of an image's side")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="time our verbs, without a peer")
    machine.add_results_option(parser)
    options = parser.parse_args()
    fastconv.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    if options.profile:
        for name in options.nets:
            record = profile(name, weights_of(name), options.batch, options.edge, options.rounds)
            record["threads"] = options.threads
            machine.save(f"networks_profile_{label(name, options)}", record, options.results)
            print_profile(record)
        return
    print("| network | batch | edge | fastconv, ms | PyTorch, ms | its best | times as fast (min, median, max) |")
    print("|---|---|---|---|---|---|---|")
    for name in options.nets:
        record = compare(name, options.batch, options.edge, options.rounds) | {"threads": options.threads}
        machine.save(f"networks_{label(name, options)}", record, options.results)
        ratio, summary = record["times_as_fast"], record["summary"]
        print(
            f"| {name} | {options.batch} | {options.edge} | {1e3 * summary['fastconv']['median']:.0f} "
            f"| {1e3 * summary[record['best_peer']]['median']:.0f} | {record['best_peer']} "
            f"| {ratio['min']:.2f}, **{ratio['median']:.2f}**, {ratio['max']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
