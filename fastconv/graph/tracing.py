"""How a network becomes a graph: it runs once on a device that writes down what it is asked for.

The device's arrays are ``Traced`` objects. Whatever meets them is a verb of the backend, so nothing is overlooked; a
NumPy array that a verb meets is a constant, because a Traced array gives its values to nobody outside.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends.base import Array, Backend
from ..backends.base.elements import Elements
from ..backends.base.layers import Layers
from ..errors import GraphError, mismatch
from ..geometry import ConvGeometry
from .graph import Node, Value

_UNTRACED = {"accumulate", "steppable", "sgd_step", "adam_step", "move_towards"}  # they write, or return no array
_COMPOSED = {"conv_moments_forward"}  # traced as the verbs that they stand for


class Traced:
    """An array of the tracing device: a Value, and the values behind it."""

    __slots__ = ("array", "tracer", "value")
    __array_ufunc__ = None

    def __init__(self, tracer: TracingBackend, value: Value, array: Array) -> None:
        self.tracer, self.value, self.array = tracer, value, array

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    itemsize = property(lambda self: self.array.itemsize)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> Traced:
        self.tracer.check_plain("index", key)
        return self.tracer.record("index", {"x": self, "key": key}, self.array[key])

    def astype(self, dtype: Any, copy: bool = True) -> Traced:
        return self.tracer.record("cast", {"x": self, "dtype": np.dtype(dtype)}, self.array.astype(dtype, copy=copy))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise self.tracer.escape("NumPy")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # NumPy and others ask for their protocols
        raise self.tracer.escape(f"the attribute {name!r} of an array")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise self.tracer.escape("an assignment to a part of an array")

    def __bool__(self) -> bool:
        raise self.tracer.escape("a condition on values")


class TracingBackend(Backend):
    """A device that has another one do everything, and records it."""

    name = "tracing"

    def __init__(self, real: Backend, names: Mapping[int, str], modules: Mapping[int, str]) -> None:
        """``names``: of parameters and buffers, by the identity of their arrays; ``modules``: of modules, by theirs."""
        self.real, self._names, self._modules = real, names, modules
        self.nodes: list[Node] = []
        self._constants: dict[int, Value] = {}  # by identity; a Value keeps its array alive, so no other one has it
        self._results = 0

    # -------------------------------------------------------------------------------------- arrays

    def owns(self, array: object) -> bool:
        return isinstance(array, Traced) and array.tracer is self

    def from_numpy(self, array: Any) -> Array:
        return array if isinstance(array, Traced) else self.real.from_numpy(array)

    def to_numpy(self, array: Array) -> Any:
        if isinstance(array, Traced):
            raise self.escape("NumPy")
        return self.real.to_numpy(array)

    def usable(self, operands: Sequence[object]) -> bool:
        return self.real.usable([_bare(operand) for operand in operands])

    def may_share_memory(self, a: Array, b: Array) -> bool:
        return self.real.may_share_memory(_bare(a), _bare(b))

    def all_within(self, array: Array, low: int, high: int) -> bool:
        return self.real.all_within(_bare(array), low, high)

    def move_towards(self, running: Array, batch: Array, share: float, factor: float) -> None:
        """Nothing: a trace leaves the model's statistics alone, and a graph has no state."""

    def conv_moments_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, frozen: bool | dict = False
    ) -> tuple[Array]:
        """The convolution alone: batch norm finds the moments out itself, so that both verbs have their modules."""
        return (self.conv_forward(x, w, b, geometry, frozen),)

    # --------------------------------------------------------------------------------------- record

    def input(self, name: str, array: Array) -> Traced:
        """Return the network's next input."""
        return Traced(self, Value("input", name, array.shape, array.dtype), array)

    def constant(self, array: Array) -> Value:
        """Return the Value of an array that is not the result of a node."""
        value = self._constants.get(id(array))
        if value is None:
            name = self._names.get(id(array), f"constant{len(self._constants)}")
            value = self._constants[id(array)] = Value("constant", name, array.shape, array.dtype, array)
        return value

    def record(self, verb: str, arguments: dict[str, Any], returned: Any) -> Any:
        """Add a node; return what the verb returned, with its arrays as this device's."""
        many = isinstance(returned, tuple)
        traced = [self._result(one) for one in (returned if many else (returned,))]
        values = [one.value if isinstance(one, Traced) else None for one in traced]
        arguments = {name: self.operand(value) for name, value in arguments.items()}
        self.nodes.append(Node(verb, arguments, values, self.where()))
        return tuple(traced) if many else traced[0]

    def operand(self, given: Any) -> Any:
        """Return an argument with Values in place of arrays."""
        if isinstance(given, Traced):
            return given.value
        if isinstance(given, np.ndarray) or self.real.owns(given):
            return self.constant(given)
        if isinstance(given, (tuple, list)):
            return type(given)([self.operand(entry) for entry in given])
        return given

    def _result(self, array: Any) -> Any:
        if not (isinstance(array, np.ndarray) or self.real.owns(array)):
            return array
        self._results += 1
        return Traced(self, Value("result", str(self._results - 1), array.shape, array.dtype), array)

    def where(self) -> str:
        """The name of the innermost module that is at work."""
        frame = sys._getframe(1)
        while frame is not None:
            name = self._modules.get(id(frame.f_locals.get("self")))
            if name is not None:
                return name
            frame = frame.f_back
        return ""

    def escape(self, to: str) -> GraphError:
        name = self.where()
        where = f" in module {name!r}" if name else ""
        return GraphError(mismatch("trace", f"operations of fastconv on the network's arrays{where}", to))

    def check_plain(self, op: str, key: Any) -> None:
        """Refuse an index by values, which is no view."""
        for entry in key if isinstance(key, tuple) else (key,):
            if not (entry is None or entry is ... or isinstance(entry, (int, np.integer, slice))):
                raise self.escape(f"{op} by {type(entry).__name__}")


def _bare(operand: Any) -> Any:
    return operand.array if isinstance(operand, Traced) else operand


def _deep_bare(given: Any) -> Any:
    if isinstance(given, (tuple, list)):
        return type(given)([_deep_bare(entry) for entry in given])
    return _bare(given)


def _recording(verb: str, contract: Callable) -> Callable:
    signature = inspect.signature(contract)

    def method(self: TracingBackend, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = {name: value for name, value in bound.arguments.items() if name != "self"}
        real = getattr(self.real, verb)(*map(_deep_bare, args), **{k: _deep_bare(v) for k, v in kwargs.items()})
        return self.record(verb, given, real)

    method.__name__, method.__doc__ = verb, contract.__doc__
    return method


_CONTRACTS = {
    verb: contract for part in (Layers, Elements) for verb, contract in vars(part).items()
    if not verb.startswith("_") and verb not in _UNTRACED | _COMPOSED
}  # fmt: skip
VERBS = tuple(_CONTRACTS)
for _verb, _contract in _CONTRACTS.items():
    setattr(TracingBackend, _verb, _recording(_verb, _contract))
