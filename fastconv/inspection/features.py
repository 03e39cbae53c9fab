"""Intermediate maps: what any layers of a network make of an input."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from ..errors import ArgumentError, mismatch
from ..nn import Module
from ..tensor import Tensor
from .quiet import undisturbed


def features(model: Module, inputs: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return what the layers called ``names`` put out for an input, as NumPy arrays by name.

    The model runs once, in inference mode and without gradients, and is left as it was. Names are those of
    ``model.named_modules()``; the empty one is the model. A layer that returns several arrays has a tuple of them, one
    that is called several times what it returned last.

    Args:
        inputs: an array (or Tensor) as the model takes it, batch included; a tuple of them where it takes several.

    Raises:
        ArgumentError: a name that no layer has, or a layer that did not run.

    >>> import numpy as np
    >>> from fastconv import models
    >>> maps = features(models.create("tutorial"), np.zeros((1, 1, 28, 28), np.float32), ["p2", "f5"])
    >>> {name: array.shape for name, array in maps.items()}
    {'p2': (1, 32, 12, 12), 'f5': (1, 256)}
    """
    names = [names] if isinstance(names, str) else list(names)
    layers = {name: _layer(model, name) for name in names}
    found: dict[int, Any] = {}

    def keep(module: Module, args: tuple, output: Any) -> None:
        found[id(module)] = _plain(output)

    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        for module in set(layers.values()):
            stack.enter_context(module.register_forward_hook(keep))
        model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    silent = [name for name in names if id(layers[name]) not in found]
    if silent:
        raise ArgumentError(mismatch("features", "layers that run in inference", ", ".join(silent)))
    return {name: found[id(layers[name])] for name in names}


def _layer(model: Module, name: str) -> Module:
    try:
        return model.get_submodule(name)
    except ArgumentError:
        known = ", ".join(known for known, _ in model.named_modules() if known)
        raise ArgumentError(mismatch("features", f"names of layers ({known})", repr(name))) from None


def _plain(output: Any) -> Any:
    """Return NumPy arrays for Tensors, in the same nesting."""
    if isinstance(output, (tuple, list)):
        return tuple(_plain(entry) for entry in output)
    if isinstance(output, dict):
        return {key: _plain(entry) for key, entry in output.items()}
    return output.numpy() if isinstance(output, Tensor) else output
