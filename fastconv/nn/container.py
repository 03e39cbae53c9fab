"""Modules that hold modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ArgumentError, mismatch
from .fusion import run_steps
from .module import Module


def _module(op: str, value: Any) -> Module:
    if not isinstance(value, Module):
        raise ArgumentError(mismatch(op, "modules", type(value).__name__))
    return value


class _Numbered(Module):
    """Children by position: attributes '0', '1', ..."""

    def _items(self) -> list[Module]:
        return list(self.children())

    def append(self, module: Module) -> _Numbered:
        """Add a module at the end."""
        setattr(self, str(len(self)), _module(type(self).__name__, module))
        return self

    def extend(self, modules: Iterable[Module]) -> _Numbered:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items())

    def __getitem__(self, index: int | slice) -> Any:
        items = self._items()
        return type(self)(dict(list(self.named_children())[index])) if isinstance(index, slice) else items[index]


class Sequential(_Numbered):
    """Modules called one after the other. Takes modules, or one dict of them by name.

    A convolution, a ReLU and a max-pool without overlap run as one (``functional.conv_unit``), and so do batch norm or
    a linear layer and a ReLU: see ``nn.units``.

    >>> Sequential(Module(), Module())
    Sequential(
      (0): Module()
      (1): Module()
    )
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = modules[0].items()
        else:
            named = ((str(i), module) for i, module in enumerate(modules))
        for name, module in named:
            if hasattr(type(self), name) or name in ("", "training", "_buffers") or "." in name:
                raise ArgumentError(mismatch("Sequential", "names without dots that no attribute has", repr(name)))
            setattr(self, name, _module("Sequential", module))

    def forward(self, input: Any) -> Any:
        return run_steps([value for value in vars(self).values() if isinstance(value, Module)], input)


class ModuleList(_Numbered):
    """A list of modules whose parameters are found. It is not callable: index it, or loop over it."""

    def __init__(self, modules: Iterable[Module] | Mapping[str, Module] = ()) -> None:
        self.extend(modules.values() if isinstance(modules, Mapping) else modules)


class ModuleDict(Module):
    """A dict of modules whose parameters are found. It is not callable: index it, or loop over it."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        for name, module in (modules or {}).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if hasattr(type(self), name) or "." in name or not name:
            raise ArgumentError(mismatch("ModuleDict", "names without dots that no attribute has", repr(name)))
        setattr(self, name, _module("ModuleDict", module))

    def __getitem__(self, name: str) -> Module:
        return dict(self.named_children())[name]

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __len__(self) -> int:
        return len(dict(self.named_children()))

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.named_children()))

    def __contains__(self, name: str) -> bool:
        return name in dict(self.named_children())

    def keys(self) -> Iterable[str]:
        return dict(self.named_children()).keys()

    def values(self) -> Iterable[Module]:
        return dict(self.named_children()).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return dict(self.named_children()).items()
