"""Training or inference for a while: every module has its own mode again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .module import Module


@contextmanager
def in_mode(model: Any, training: bool) -> Iterator[None]:
    """Within the block ``model`` is in training or inference mode; a function that is no Module has none.

    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with in_mode(net, False):
    ...     print([module.training for module in net.modules()])
    [False, False, False]
    >>> [module.training for module in net.modules()]
    [True, True, False]
    """
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, Module) else []
    try:
        if modes:
            model.train(training)
        yield
    finally:
        for module, before in modes:
            module.training = before
