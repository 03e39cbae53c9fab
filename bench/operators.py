"""Functions, interpolation, local responses, extremes, copies and products against PyTorch, as bench.elementwise.

    python -m bench.operators
    python -m bench.operators --operations gelu interpolate --nets u_net

fastconv gets both memory formats, in turn: the operation's name says which. The shapes are in
bench/shapes/operators.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastconv
from fastconv import functional

from .elementwise import Arrays, Case, as_torch, channels_last, run

SHAPES = Path(__file__).parent / "shapes" / "operators.json"
FUNCTIONS = ("gelu", "silu", "mish", "hardswish", "elu", "softplus", "exp", "erf", "abs")
MODES = {"nearest": {"scale_factor": 2, "mode": "nearest"}, "bilinear": {"scale_factor": 2, "mode": "bilinear"},
         "bilinear to half": {"scale_factor": 0.5, "mode": "bilinear"}}  # fmt: skip
OPERATIONS = (
    *FUNCTIONS, "pow", "interpolate", "local_response_norm", "amax", "cat", "pad", "group_norm", "max_unpool", "matmul",
)  # fmt: skip


Call = Callable[[Any], Any]


class Formats:
    """One array in each memory format, for both sides, and what to time on it."""

    def __init__(self, arrays: Arrays) -> None:
        self.values = arrays.rng.standard_normal(arrays.shape, dtype=np.float32)
        self.peer = arrays.peer

    def cases(
        self, name: str, passes: float, ours: Callable[[Any], Any], theirs: Callable[[Any], Any]
    ) -> Iterator[Case]:
        for layout in ("NCHW", "channels-last"):
            x = channels_last(self.values) if layout == "channels-last" else self.values
            t = as_torch(self.values.astype(self.peer), layout)
            yield f"{name}, {layout}", passes, {
                "fastconv": lambda x=x: ours(x), layout: lambda t=t: theirs(t)
            }  # fmt: skip

    def gradients(
        self, name: str, passes: float, ours: Callable[[Any], Any], theirs: Callable[[Any], Any]
    ) -> Iterator[Case]:
        """Forward and backward together, through both tapes."""

        def step(x: Any, make: Callable, call: Callable) -> Any:
            leaf = make(x)
            y = call(leaf)
            y.backward(like(y))
            return leaf.grad

        def like(y: Any) -> Any:
            """One dy for both sides, in y's own memory order."""
            key = (type(y), y.dtype, tuple(y.shape), y.stride() if isinstance(y, torch.Tensor) else y.data.strides)
            if key not in kept:
                values = np.random.default_rng(1).standard_normal(y.shape, dtype=np.float32)
                if isinstance(y, torch.Tensor):
                    kept[key] = torch.empty_like(y).copy_(torch.from_numpy(values))
                else:
                    kept[key] = np.empty_like(y.data)
                    kept[key][...] = values
            return kept[key]

        kept: dict = {}
        yield from self.cases(
            f"{name} and its gradient", passes,
            lambda x: step(x, lambda a: fastconv.Tensor(a, requires_grad=True), ours),
            lambda t: step(t, lambda a: a.detach().requires_grad_(), theirs),
        )  # fmt: skip


def operation(name: str, arrays: Arrays) -> Iterator[Case]:
    both, peer = Formats(arrays), torch.nn.functional
    if name in FUNCTIONS:
        ours, theirs = getattr(functional, name), getattr(peer, name, None) or getattr(torch, name)
        yield from both.cases(name, 2, ours, theirs)
        if name in ("gelu", "silu", "hardswish"):
            yield from both.gradients(name, 5, ours, theirs)
    elif name == "pow":
        both.values = np.abs(both.values) + np.float32(0.1)
        ours, theirs = (lambda a, f=f: f.pow(a, 1.7) for f in (functional, torch))
        yield from both.cases("pow 1.7", 2, ours, theirs)
        yield from both.gradients("pow 1.7", 5, ours, theirs)
        yield from both.cases("pow of arrays", 2, lambda a: functional.pow(a, a), lambda t: torch.pow(t, t))
    elif name == "interpolate":
        for mode, options in MODES.items():
            passes = 1 + options["scale_factor"] ** 2
            ours, theirs = (lambda a, f=f, o=options: f.interpolate(a, **o) for f in (functional, peer))
            yield from both.cases(mode, passes, ours, theirs)
            yield from both.gradients(mode, 2 * passes, ours, theirs)
    elif name == "local_response_norm":
        ours, theirs = (lambda a, f=f: f.local_response_norm(a, 5) for f in (functional, peer))
        yield from both.cases(name, 2, ours, theirs)
        yield from both.gradients(name, 5, ours, theirs)
    elif name == "amax":
        yield from both.cases("amax over space", 1, lambda a: functional.amax(a, (2, 3)), lambda t: t.amax((2, 3)))
    elif name == "cat":
        yield from both.cases("cat of channels", 4, lambda a: functional.cat([a, a], 1), lambda t: torch.cat([t, t], 1))
    elif name == "pad":
        for mode in ("constant", "reflect"):
            ours, theirs = (lambda a, f=f, m=mode: f.pad(a, (1, 1, 1, 1), m) for f in (functional, peer))
            yield from both.cases(f"pad {mode}", 2, ours, theirs)
    elif name == "group_norm":
        ours, theirs = (lambda a, f=f: f.group_norm(a, 32) for f in (functional, peer))
        yield from both.cases(name, 3, ours, theirs)
        yield from both.gradients(name, 8, ours, theirs)
    elif name == "max_unpool":
        unpooling = Unpooling(arrays.shape)
        ours, theirs = (lambda a, f=f: unpooling(f, a) for f in (functional, peer))
        yield from both.cases(name, 7, ours, theirs)
        yield from both.gradients(name, 14, ours, theirs)
    elif name == "matmul":  # of channels with channels, a matrix a sample
        ours, theirs = (lambda a, f=f: gram(f, a) for f in (functional, torch))
        yield from both.cases(name, 1, ours, theirs)
        yield from both.gradients(name, 3, ours, theirs)


def gram(module: Any, x: Any) -> Any:
    rows = module.flatten(x, 2)
    return module.matmul(rows, module.transpose(rows, 1, 2))


class Unpooling:
    """max_unpool2d of windows of 2x2, each with a winner drawn by chance."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        h, w = shape[2:]
        rng = np.random.default_rng(2)
        rows, columns = rng.integers(0, 2, (2, *shape))
        self.index = (2 * np.arange(h)[:, None] + rows) * 2 * w + 2 * np.arange(w) + columns
        self.kept: dict = {}

    def __call__(self, module: Any, x: Any) -> Any:
        """Run it with indices in x's own memory order, as pooling gives them."""
        array = x.data if isinstance(x, fastconv.Tensor) else x
        key = (type(array), array.stride() if isinstance(array, torch.Tensor) else array.strides)
        if key not in self.kept and isinstance(array, torch.Tensor):
            self.kept[key] = torch.empty_like(array, dtype=torch.int64).copy_(torch.from_numpy(self.index))
        elif key not in self.kept:
            self.kept[key] = np.empty_like(array, np.int64)
            self.kept[key][...] = self.index
        return module.max_unpool2d(x, self.kept[key], 2)


def cases(layer: dict[str, Any], operations: list[str], peer: type) -> Iterator[Case]:
    for name in operations:
        yield from operation(name, Arrays(layer["shape"], peer))


if __name__ == "__main__":
    run(
        "operators", "Functions of one variable, interpolation, local responses, extremes and copies against PyTorch.",
        SHAPES, OPERATIONS, cases,
    )  # fmt: skip
