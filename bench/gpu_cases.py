"""What bench.gpu measures: pairs of calls, of this package and of PyTorch, that do the same with the same numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import prod
from random import Random
from typing import Any, NamedTuple

import torch

import fastconv
from fastconv import backends, optim
from fastconv.backends.cuda import tiles
from fastconv.geometry import pool_geometry

from . import gpu_layers

BOUNDS = {"float32": 1e-4, "tf32": 2e-3, "bf16": 2e-2}  # relative norm error


class Case(NamedTuple):
    """Something that both sides do; ``amount`` in FLOPs, or in bytes where memory is the limit. ``others`` are ways in
    which our side can do it too, by name."""

    group: str
    name: str
    amount: float
    bytes_bound: bool
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    others: dict[str, Callable[[], Any]] = {}  # noqa: RUF012


class Bench:
    """Both sides' arrays, and how they are waited for."""

    def __init__(self, where: str, work: float, compute: str) -> None:
        self.compute, self.bound = compute, BOUNDS[compute]
        self.where, self.work, self.backend = where, work, backends.get("cuda")
        self.cores = tiles.cores(compute)  # by which our side multiplies, now that the device was asked
        self.generator = torch.Generator(where).manual_seed(0)

    def pair(self, *shape: int) -> tuple[torch.Tensor, Any]:
        """Return random numbers as PyTorch's and as ours, the same memory."""
        values = torch.randn(*shape, device=self.where, generator=self.generator)
        return values, self.backend.from_dlpack(values)

    def layers(self, file: str) -> Iterator[dict[str, Any]]:
        """Yield what a file of bench/shapes lists, shuffled, so that a part of it is a sample of it; small where the
        script itself is tried, and only a few."""
        found = gpu_layers.listed(file)
        for layer in Random(0).sample(found, len(found)) if self.where == "cuda" else found[::40]:
            self.empty_caches()
            if self.where != "cuda":
                layer |= {key: [min(size, 4) for size in layer[key]] for key in ("shape",) if key in layer}
                if "kernel" in layer:
                    channels, groups = layer["channels"], layer.get("groups", 1)
                    layer["channels"] = [2 * groups] * 2 if isinstance(channels, list) else 2
                    layer["input"] = [k + 2 for k in layer["kernel"]]
            yield layer

    def empty_caches(self) -> None:
        """Let go of memory that either side keeps: the other could not have it."""
        self.backend.empty_cache()
        if self.where == "cuda":
            torch.cuda.empty_cache()

    def wait(self) -> None:
        self.backend.synchronize()
        if self.where == "cuda":
            torch.cuda.synchronize()

    def error(self, ours: Any, theirs: torch.Tensor) -> float:
        self.wait()
        difference = torch.from_dlpack(ours).double().reshape(-1) - theirs.detach().double().reshape(-1)
        return float(difference.norm() / theirs.detach().double().norm().clamp_min(1e-30))

    def seconds(self, call: Callable[[], Any], least: float) -> float:
        """Return the time of a call, the mean over as many as take ``least`` seconds."""
        count = 1
        while True:
            self.wait()
            began = time.perf_counter()
            for _ in range(count):
                call()
            self.wait()
            taken = time.perf_counter() - began
            if taken >= least:
                return taken / count
            count = max(count + 1, int(count * min(10.0, 1.2 * least / max(taken, 1e-9))))


def for_each(items: Callable[[Bench], Iterable[Any]]) -> Callable:
    """Make of the cases of an item a group: a call for each item that returns its cases. One that fails, be it while
    its arrays are made, does not cost the others."""

    def group_of(cases: Callable[[Bench, Any], Iterator[Case]]) -> Callable[[Bench], Iterator[Callable]]:
        return lambda bench: (partial(cases, bench, item) for item in items(bench))

    return group_of


def by_mma_sync(call: Callable[[], Any]) -> Any:
    """Call what multiplies on tensor cores without ``wgmma``."""
    before = os.environ.get("FASTCONV_WGMMA")
    os.environ["FASTCONV_WGMMA"] = "0"
    try:
        return call()
    finally:
        del os.environ["FASTCONV_WGMMA"]
        if before is not None:
            os.environ["FASTCONV_WGMMA"] = before


def _conv_gradient(which: int, dy: Any, x: Any, w: Any, *options: Any) -> torch.Tensor:
    mask = [which == i for i in range(3)]
    return torch.ops.aten.convolution_backward(dy, x, w, None, *options, mask)[which]


@for_each(lambda bench: bench.layers("conv.json"))
def conv(bench: Bench, layer: dict[str, Any]) -> Iterator[Case]:
    b, rank, (ic, oc), groups = bench.backend, len(layer["input"]), layer["channels"], layer["groups"]
    if (g := gpu_layers.convolution(layer, bench.work, bench.compute)) is None:
        return
    options, n = {name: layer[name] for name in ("stride", "padding", "groups")}, g.n
    (x, our_x), (w, our_w) = bench.pair(n, ic, *layer["input"]), bench.pair(oc, ic // groups, *layer["kernel"])
    dy, our_dy = bench.pair(n, oc, *g.output[3 - rank :])
    our_x, our_w = our_x.reshape(g.input_shape), our_w.reshape(g.weight_shape)
    our_dy, name = our_dy.reshape(g.output_shape), f"{layer['net']} {layer['layer']}"
    if bench.compute == "bf16":
        x, w, dy = (a.bfloat16() for a in (x, w, dy))
    forward = getattr(torch.nn.functional, f"conv{rank}d")
    common = layer["stride"], layer["padding"], [1] * rank, False, [0] * rank, groups
    for what, ours, theirs in (
        ("forward", partial(b.conv_forward, our_x, our_w, None, g), partial(forward, x, w, **options)),
        ("input gradient", partial(b.conv_backward_input, our_dy, our_w, None, g),
         partial(_conv_gradient, 0, dy, x, w, *common)),
        ("weight gradient", partial(b.conv_backward_weight, our_dy, our_x, g),
         partial(_conv_gradient, 1, dy, x, w, *common)),
    ):  # fmt: skip
        others = {"mma.sync": partial(by_mma_sync, ours)} if bench.cores == "wgmma" else {}
        yield Case("conv", f"{name} {what}", g.flops, False, ours, theirs, others)


def _first(call: Callable) -> Any:
    """The first of what ``call`` returns, or all of it."""
    result = call()
    return result[0] if isinstance(result, tuple) else result


def _gradient(y: torch.Tensor, leaf: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(y, leaf, dy, retain_graph=True)[0]


@for_each(lambda bench: bench.layers("pool.json"))
def pool(bench: Bench, layer: dict[str, Any]) -> Iterator[Case]:
    rank, channels = len(layer["input"]), layer["channels"]
    options = {"kernel_size": layer["kernel"], "stride": layer["stride"], "padding": layer["padding"]}
    n = max(1, round(bench.work / 100 / channels / prod(layer["input"])))
    g = pool_geometry("pool", rank, (n, channels, *layer["input"]), **options)
    x, ours = bench.pair(n, channels, *layer["input"])
    leaf, ours = x.clone().requires_grad_(), ours.reshape(g.input_shape)
    dy, our_dy = bench.pair(n, channels, *g.output[3 - rank :])
    our_dy, name = our_dy.reshape(g.output_shape), f"{layer['net']} {layer['layer']}"
    moved = 4 * (x.numel() + dy.numel())
    for kind in ("max", "avg"):
        theirs = partial(getattr(torch.nn.functional, f"{kind}_pool{rank}d"), **options)
        forward = partial(getattr(bench.backend, f"{kind}_pool_forward"), ours, g)
        backward = getattr(bench.backend, f"{kind}_pool_backward")
        kept = (forward()[1],) if kind == "max" else ()
        yield Case("pool", f"{name} {kind}", moved, True, partial(_first, forward), partial(theirs, x))
        yield Case("pool", f"{name} {kind} gradient", moved, True, partial(backward, our_dy, *kept, g),
                   partial(_gradient, theirs(leaf), leaf, dy))  # fmt: skip


def _shapes(bench: Bench) -> Iterator[tuple[str, tuple[int, ...]]]:
    for entry in bench.layers("elementwise.json"):
        shape = entry.get("shape", ())
        if len(shape) > 2:
            scale = max(1, round(bench.work / 100 / prod(shape)))
            yield f"{entry['net']} {entry['layer']}", (shape[0] * scale, *shape[1:])


@for_each(_shapes)
def norm(bench: Bench, layer: tuple[str, tuple[int, ...]]) -> Iterator[Case]:
    b, f, (name, shape) = bench.backend, torch.nn.functional, layer
    (x, ours), (dy, our_dy) = bench.pair(*shape), bench.pair(*shape)
    (w, our_w), (s, our_s) = bench.pair(shape[1]), bench.pair(shape[1])
    ours, our_dy = (a.reshape((shape[0], shape[1], prod(shape[2:]))) for a in (ours, our_dy))
    leaf = x.clone().requires_grad_()
    y = f.batch_norm(leaf, None, None, w, s, True)

    def forward(ours=ours, our_w=our_w, our_s=our_s) -> Any:
        mean, variance = b.batch_norm_statistics(ours)
        return b.batch_norm_forward(ours, mean, b.reciprocal_root(variance, 1e-5), our_w, our_s)

    mean, variance = b.batch_norm_statistics(ours)
    rstd = b.reciprocal_root(variance, 1e-5)
    yield Case("norm", f"{name} batch norm", 12 * x.numel(), True, forward,
               lambda x=x, w=w, s=s: f.batch_norm(x, None, None, w, s, True))  # fmt: skip
    yield Case(
        "norm", f"{name} batch norm gradient", 20 * x.numel(), True,
        lambda a=(our_dy, ours, mean, rstd, our_w): b.batch_norm_backward(*a, True)[0],
        lambda y=y, leaf=leaf, dy=dy: torch.autograd.grad(y, leaf, dy, retain_graph=True)[0],
    )  # fmt: skip


@for_each(_shapes)
def elements(bench: Bench, layer: tuple[str, tuple[int, ...]]) -> Iterator[Case]:
    b, (name, shape) = bench.backend, layer
    (x, ours), (z, our_z) = bench.pair(*shape), bench.pair(*shape)
    n = x.numel()
    yield Case("elements", f"{name} scale", 8 * n, True, lambda a=ours: b.scale(a, 2.0), lambda x=x: x * 2.0)
    yield Case("elements", f"{name} relu", 8 * n, True, lambda a=ours: b.relu_forward(a), lambda x=x: x.relu())
    yield Case("elements", f"{name} add", 12 * n, True, lambda a=ours, c=our_z: b.add(a, c),
               lambda x=x, z=z: x + z)  # fmt: skip
    yield Case("elements", f"{name} gelu", 8 * n, True, lambda a=ours: b.pointwise_forward("gelu", a),
               lambda x=x: torch.nn.functional.gelu(x))  # fmt: skip
    yield Case("elements", f"{name} sum", 4 * n, True, lambda a=ours: b.sum(a), lambda x=x: x.sum())


def _parameters(bench: Bench) -> Iterator[dict[str, Any]]:
    for entry in gpu_layers.listed("elementwise.json"):
        if entry.get("parameters"):
            yield entry


@for_each(_parameters)
def optimiser(bench: Bench, entry: dict[str, Any]) -> Iterator[Case]:
    shapes = entry["parameters"]
    if bench.where != "cuda":
        shapes = [[min(size, 3) for size in shape] for shape in shapes[:3]]
    for kind, moved in (("SGD", 20), ("Adam", 28)):
        options = {"lr": 1e-3, **({"momentum": 0.9} if kind == "SGD" else {})}
        theirs = [torch.zeros(*shape, device=bench.where, requires_grad=True) for shape in shapes]
        ours = [fastconv.Tensor(bench.backend.from_dlpack(p.detach().clone()), requires_grad=True) for p in theirs]
        for p, q in zip(ours, theirs, strict=True):
            q.grad, p.grad = bench.pair(*q.shape)
        their_step = getattr(torch.optim, kind)(theirs, **options).step
        our_step = getattr(optim, kind)(ours, **options).step
        amount = moved * sum(map(prod, shapes))
        name = f"{entry['net']} {entry['layer']} {kind}"
        yield Case(
            "optimiser", name, amount, True, lambda step=our_step, p=ours: (step(), p[0].data)[1],
            lambda step=their_step, p=theirs: (step(), p[0])[1],
        )  # fmt: skip


@for_each(lambda bench: gpu_layers.LENET_BATCHES if bench.where == "cuda" else (1,))
def lenet(bench: Bench, batch: int) -> Iterator[Case]:
    sizes = gpu_layers.LENET if bench.where == "cuda" else gpu_layers.SMALL_LENET
    layers, edge = gpu_layers.lenet_layers(*sizes), sizes[2]
    x, our_x = bench.pair(batch, 1, edge, edge)
    labels = torch.randint(0, 10, (batch,), device=bench.where, generator=bench.generator)
    theirs = torch.nn.Sequential(*(getattr(torch.nn, kind)(*rest) for kind, *rest in layers)).to(bench.where)
    ours = gpu_layers.lenet(*sizes)
    ours.load_state_dict({key: value.cpu().numpy() for key, value in theirs.state_dict().items()})
    ours.to("cuda")
    name, us = f"training step, batch {batch}", gpu_layers.replayed(bench.backend, ours, our_x, labels.cpu().numpy())
    yield Case("lenet", f"{name}, eager", batch, False, us, _their_step(theirs, x, labels))
    if bench.where == "cuda":
        yield Case("lenet", f"{name}, graph", batch, False, us, _their_graph(theirs, x, labels))


def _their_step(model: Any, x: torch.Tensor, labels: torch.Tensor) -> Callable[[], Any]:
    stepper = torch.optim.SGD(model.parameters(), lr=0.0)

    def step() -> Any:
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        return loss

    return step


def _their_graph(model: Any, x: torch.Tensor, labels: torch.Tensor) -> Callable[[], Any]:
    """Return PyTorch's step in channels-last, replayed from a graph of its own."""
    step = _their_step(model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last), labels)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Any:
        graph.replay()
        return loss

    return replay
