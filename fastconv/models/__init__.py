"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, mismatch
from ..nn import Module
from .lenet import lenet5, tutorial_net

_MODELS: dict[str, Callable[..., Module]] = {"tutorial": tutorial_net, "lenet5": lenet5}


def names() -> list[str]:
    """Return what ``create`` knows."""
    return sorted(_MODELS)


def create(name: str, **options: Any) -> Module:
    """Return a new network.

    >>> create("tutorial").num_parameters()
    317066
    """
    if name not in _MODELS:
        raise ArgumentError(mismatch("create", f"a model of {', '.join(names())}", repr(name)))
    return _MODELS[name](**options)


__all__ = ["create", "lenet5", "names", "tutorial_net"]
