"""What ``Module.freeze`` does to a parameter, or to a module and all below it."""

from __future__ import annotations

from typing import Any


def freeze(part: Any, statistics: bool) -> None:
    """Ask for no gradients any more, and forget those that are there: an optimiser would still take them."""
    for parameter in _parameters(part):
        parameter.requires_grad, parameter.grad = False, None
    for module in _modules(part) if statistics else ():
        if "running_mean" in module._buffers:
            module.training, module._holds_statistics = False, True


def unfreeze(part: Any, training: bool) -> None:
    """Ask for gradients again; layers that were held in inference mode get the mode ``training``."""
    for parameter in _parameters(part):
        parameter.requires_grad = True
    for module in _modules(part):
        if module._holds_statistics:
            module.training, module._holds_statistics = training, False


def _parameters(part: Any) -> Any:
    return part.parameters() if hasattr(part, "parameters") else (part,)


def _modules(part: Any) -> Any:
    return part.modules() if hasattr(part, "modules") else ()
