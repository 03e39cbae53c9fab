"""Module and Parameter: how layers hold their parameters, buffers and children, and give them names.

A module's parameters and children are simply its attributes, so reading one costs nothing; buffers (arrays that are
state but not trained) are attributes whose names were registered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, CheckpointError, DTypeError, ShapeError, mismatch
from ..tensor import Tensor, converted, copy_aligned
from . import freezing
from .hooks import Handle, Hook, register


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
    _holds_statistics: bool = False  # stays in inference mode, whatever ``train`` says: ``freeze``
    _buffers: Mapping[str, bool] = {}  # name -> whether state_dict holds it
    _optional: Collection[str] = ()  # of those, which a state that is loaded may lack

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. In the place of a Parameter stands another one, or None: anything else is a DTypeError."""
        if value is not None and not isinstance(value, Parameter) and isinstance(vars(self).get(name), Parameter):
            expected = f"{name} to be a Parameter or None ({name}.data takes arrays)"
            raise DTypeError(mismatch(type(self).__name__, expected, type(value).__name__))
        super().__setattr__(name, value)

    # ---------------------------------------------------------------------------------------- what is in it

    def register_buffer(self, name: str, array: Any, persistent: bool = True) -> None:
        """Make ``array`` (or None) an attribute that moves and, if ``persistent``, is saved with the module."""
        self._buffers = {**self._buffers, name: persistent}
        setattr(self, name, array)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Make ``parameter`` an attribute. Raises DTypeError where it is neither a Parameter nor None."""
        if parameter is not None and not isinstance(parameter, Parameter):
            expected = f"{name} to be a Parameter or None (a Parameter is made of an array)"
            raise DTypeError(mismatch(type(self).__name__, expected, type(parameter).__name__))
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

    def get_submodule(self, target: str) -> Module:
        """Return the module of this dotted name; the empty name is this module's own.

        Raises:
            ArgumentError: there is none.
        """
        found = self._named(target)
        if not isinstance(found, Module):
            raise ArgumentError(mismatch("get_submodule", f"the name of a module {self._has()}", repr(target)))
        return found

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter of this dotted name.

        Raises:
            ArgumentError: there is none.
        """
        found = self._named(target)
        if not isinstance(found, Parameter):
            raise ArgumentError(mismatch("get_parameter", f"the name of a parameter {self._has()}", repr(target)))
        return found

    def _named(self, target: str) -> Any:
        """Return what stands under a dotted name, or None."""
        found: Any = self
        for name in target.split(".") if target else ():
            found = vars(found).get(name) if isinstance(found, Module) else None
        return found

    def _has(self) -> str:
        names = ", ".join(name for name, _ in self.named_children())
        return f"below {type(self).__name__} (which has {names or 'no modules'})"

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

        Values are anything that ``np.asarray`` takes, and torch's tensors of bfloat16 or with a gradient. Nothing is
        changed where anything does not fit.

        Raises:
            CheckpointError: shapes or kinds that differ; with ``strict``, names missing or not expected.
        """
        if not isinstance(state_dict, Mapping):
            raise CheckpointError(
                mismatch("load_state_dict", "a mapping of names to arrays", type(state_dict).__name__)
            )
        slots = list(self._slots())
        known = {key for key, *_ in slots}
        missing = [key for key, module, name, _ in slots if key not in state_dict and name not in module._optional]
        unexpected = [key for key in state_dict if key not in known]
        problems = [f"missing {key}" for key in missing] + [f"unexpected {key}" for key in unexpected]
        problems = problems if strict else []
        new = []
        for key, module, name, value in slots:
            if key in state_dict:
                old = Tensor(value)
                try:
                    array = Tensor(_detached(state_dict[key])).numpy()
                except (ShapeError, TypeError, RuntimeError) as error:  # the last two are torch's, of what NumPy lacks
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
        """Set training mode (dropout drops, batch norm takes the batch's statistics) here and below.

        Layers whose statistics ``freeze`` holds stay in inference mode.
        """
        for module in self.modules():
            module.training = mode and not module._holds_statistics
        return self

    def eval(self) -> Module:
        """Set inference mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Set whether every parameter here and below is trained."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def freeze(self, *parts: str | Module, statistics: bool = False) -> Module:
        """Take parts out of training: no gradient of theirs is computed, and no optimiser moves them.

        Layers at the beginning of a network cost no backward pass at all once they are frozen.

        Args:
            parts: names of modules or parameters (``'features'``, ``'conv1.weight'``), or modules of this one. None
                is all of it.
            statistics: also hold the batch norm among them in inference mode, through every ``train()``: it uses its
                running statistics and leaves them as they are. (Else it goes on adapting them in training.)

        Raises:
            ArgumentError: a part that is not in this module.

        >>> from fastconv.nn import Conv2d, Flatten, Linear, ReLU, Sequential
        >>> net = Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(64, 2)).freeze("0")
        >>> [name for name, p in net.named_parameters() if p.requires_grad]
        ['3.weight', '3.bias']
        """
        for part in self._parts("freeze", parts):
            freezing.freeze(part, statistics)
        return self

    def unfreeze(self, *parts: str | Module) -> Module:
        """Undo ``freeze`` for these parts, or for all. Held batch norm gets back the mode of this module.

        Raises:
            ArgumentError: a part that is not in this module.
        """
        for part in self._parts("unfreeze", parts):
            freezing.unfreeze(part, self.training)
        return self

    def _parts(self, op: str, parts: tuple[str | Module, ...]) -> list[Any]:
        """Return the modules and parameters that ``parts`` name."""
        inside = {id(part) for part in (*self.modules(), *self.parameters())}
        found = []
        for part in parts or (self,):
            found.append(self._named(part) if isinstance(part, str) else part)
            if id(found[-1]) not in inside:
                shown = repr(part) if isinstance(part, str) else f"a {type(part).__name__} from elsewhere"
                raise ArgumentError(mismatch(op, f"parts {self._has()}", shown))
        return found

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
        """Move to a device (``'cpu'``, ``'cuda'``) or convert to a dtype, in place; integer buffers stay."""
        for module in self.modules():
            for name, parameter in module._own("parameter"):
                if parameter.grad is not None:
                    parameter.grad = converted(parameter.grad, target)
                _replace(module, name, parameter, converted(parameter.data, target))
            for name, buffer in list(module._own("buffer")):
                if buffer.dtype.kind == "f":
                    _replace(module, name, buffer, converted(buffer, target))
        return self

    def float(self) -> Module:
        """Convert to float32."""
        return self.to("float32")

    def double(self) -> Module:
        """Convert to float64."""
        return self.to("float64")

    # ----------------------------------------------------------------------------------------------- hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Call ``hook(module, args)`` before every forward pass; what it returns, unless None, replaces the arguments.

        Args:
            prepend: call it before the hooks that are there.
            with_kwargs: call ``hook(module, args, kwargs)``, which returns None or ``(args, kwargs)``.

        Returns a handle: ``handle.remove()`` takes the hook away. A layer with hooks does not run as part of a unit.
        """
        return register(self, Hook(hook, with_kwargs), True, prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> Handle:
        """Call ``hook(module, args, output)`` after every forward pass; what it returns, unless None, replaces the
        output.

        Args:
            prepend: call it before the hooks that are there.
            with_kwargs: call ``hook(module, args, kwargs, output)``.
            always_call: call it, with the output None, where an exception leaves the module as well.

        >>> from fastconv.nn import Identity
        >>> module = Identity()
        >>> with module.register_forward_hook(lambda module, args, output: output + 1):
        ...     module(1)
        2
        >>> module(1)
        1
        """
        return register(self, Hook(hook, with_kwargs, always_call), False, prepend)

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


def _detached(value: Any) -> Any:
    """Return a torch tensor as NumPy takes it: without its graph, bfloat16 as float32. Anything else as it is."""
    if isinstance(value, Tensor) or not hasattr(value, "detach"):
        return value
    return value.detach().float() if str(value.dtype) == "torch.bfloat16" else value.detach()


def _replace(module: Module, name: str, value: Any, array: Any) -> None:
    if isinstance(value, Tensor):
        value.data = array
    else:
        setattr(module, name, array)
