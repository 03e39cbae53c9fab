"""Module and Parameter: how layers hold their parameters, buffers and children, and give them names.

A module's parameters and children are simply its attributes, so reading one costs nothing; buffers (arrays that are
state but not trained) are attributes whose names were registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import CheckpointError, DTypeError, ShapeError, mismatch
from ..tensor import Tensor, converted, copy_aligned


class Parameter(Tensor):
    """A Tensor that is trained: it requires a gradient, and Module finds it among its attributes."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and networks. Override ``forward``; call the module.

    >>> class Affine(Module):
    ...     def __init__(self):
    ...         self.weight = Parameter(np.ones(2, np.float32))
    ...     def forward(self, x):
    ...         return self.weight * x
    >>> model = Affine()
    >>> [name for name, _ in model.named_parameters()], model(np.float32([1, 2])).requires_grad
    (['weight'], True)
    """

    training: bool = True
    _buffers: Mapping[str, bool] = {}  # name -> whether state_dict holds it

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # ---------------------------------------------------------------------------------------- what is in it

    def register_buffer(self, name: str, array: Any, persistent: bool = True) -> None:
        """Make ``array`` (or None) an attribute that moves and, if ``persistent``, is saved with the module."""
        self._buffers = {**self._buffers, name: persistent}
        setattr(self, name, array)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Make ``parameter`` an attribute."""
        setattr(self, name, parameter)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules among the attributes, in the order in which they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all below it, each once, with dotted names."""
        return self._named_modules(prefix, set())

    def _named_modules(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child._named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _own(self, kind: str) -> Iterator[tuple[str, Any]]:
        if kind == "parameter":
            yield from ((name, value) for name, value in vars(self).items() if isinstance(value, Parameter))
        else:
            yield from ((name, getattr(self, name)) for name in self._buffers if getattr(self, name) is not None)

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter once, with its dotted name; a shared one under its first name."""
        seen = set()
        for module_name, module in self.named_modules(prefix):
            for name, value in module._own("parameter"):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield f"{module_name}.{name}" if module_name else name, value

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield every buffer that is not None, with its dotted name."""
        for module_name, module in self.named_modules(prefix):
            for name, value in module._own("buffer"):
                yield f"{module_name}.{name}" if module_name else name, value

    def buffers(self) -> Iterator[Any]:
        return (buffer for _, buffer in self.named_buffers())

    def num_parameters(self, trainable_only: bool = False) -> int:
        """Return the number of numbers in all parameters."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable_only)

    # ----------------------------------------------------------------------------------------------- state

    def _slots(self, prefix: str = "") -> Iterator[tuple[str, Module, str, Any]]:
        """Yield (key, module, attribute, value) of everything that is saved, in torch's order."""
        for name, value in self._own("parameter"):
            yield prefix + name, self, name, value
        for name, value in self._own("buffer"):
            if self._buffers[name]:
                yield prefix + name, self, name, value
        for name, child in self.named_children():
            yield from child._slots(f"{prefix}{name}.")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and persistent buffers, as NumPy arrays by dotted name.

        Copies, unlike torch's references: training on does not change a state that was taken.
        """
        return {key: np.array(Tensor(value).numpy(), order="C") for key, _, _, value in self._slots()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values by name into parameters and buffers, in their dtypes and on their devices.

        Values are anything that ``np.asarray`` takes. Nothing is changed where anything does not fit.

        Raises:
            CheckpointError: shapes or kinds that differ; with ``strict``, names missing or not expected.
        """
        if not isinstance(state_dict, Mapping):
            raise CheckpointError(
                mismatch("load_state_dict", "a mapping of names to arrays", type(state_dict).__name__)
            )
        slots = list(self._slots())
        known = {key for key, *_ in slots}
        missing = [key for key, *_ in slots if key not in state_dict]
        unexpected = [key for key in state_dict if key not in known]
        problems = [f"missing {key}" for key in missing] + [f"unexpected {key}" for key in unexpected]
        problems = problems if strict else []
        new = []
        for key, module, name, value in slots:
            if key in state_dict:
                old = Tensor(value)
                try:
                    array = Tensor(state_dict[key]).numpy()
                except (DTypeError, ShapeError) as error:
                    problems.append(f"{key}: {error}")
                    continue
                if array.shape != old.shape:
                    problems.append(f"{key} of shape {array.shape} in place of {old.shape}")
                elif not np.can_cast(array.dtype, old.dtype, "same_kind"):
                    problems.append(f"{key} of dtype {array.dtype} in place of {old.dtype}")
                else:
                    new.append((module, name, value, copy_aligned(array, old.dtype)))
        if problems:
            expected = f"the {len(slots)} names and shapes of {type(self).__name__}"
            raise CheckpointError(f"load_state_dict: expected {expected}, got\n  " + "\n  ".join(problems))
        for module, name, value, array in new:
            _replace(module, name, value, converted(array, Tensor(value).device))
        return IncompatibleKeys(missing, unexpected)

    # ----------------------------------------------------------------------------------------------- modes

    def train(self, mode: bool = True) -> Module:
        """Set training mode (dropout drops, batch norm takes the batch's statistics) here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Set inference mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze or unfreeze every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call ``function`` on every module, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, target: Any) -> Module:
        """Move to a device (``'cpu'``, ...) or convert to a dtype, in place; integer buffers keep their dtype."""
        to_device = isinstance(target, str) and target not in ("float32", "float64")
        for module in self.modules():
            for name, parameter in module._own("parameter"):
                if parameter.grad is not None:
                    parameter.grad = converted(parameter.grad, target)
                _replace(module, name, parameter, converted(parameter.data, target))
            for name, buffer in list(module._own("buffer")):
                if to_device or buffer.dtype.kind == "f":
                    _replace(module, name, buffer, converted(buffer, target))
        return self

    def float(self) -> Module:
        """Convert to float32."""
        return self.to("float32")

    def double(self) -> Module:
        """Convert to float64."""
        return self.to("float64")

    # ------------------------------------------------------------------------------------------------ text

    def extra_repr(self) -> str:
        """Return the options to show between the parentheses."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}({extra}\n  " + "\n  ".join(children) + "\n)"


def _replace(module: Module, name: str, value: Any, array: Any) -> None:
    if isinstance(value, Tensor):
        value.data = array
    else:
        setattr(module, name, array)
