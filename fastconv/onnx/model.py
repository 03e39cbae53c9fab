"""OnnxModel: a graph of ONNX as a Module. ``load`` makes one.

While it is loaded each node becomes a step: a function of values (registry.py), and which values it takes, makes and
lets go. What depends on constants alone is computed there and then. A call walks the steps in the file's order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, DataError, OperatorError, ShapeError, mismatch
from ..nn import Module, Parameter
from ..tensor import Tensor, copy_aligned
from .files import DOMAINS, OP, check, need_onnx, read_model
from .registry import Node, Operator, make_node, table, tensor_values
from .values import is_float


@dataclass(slots=True)
class _Step:
    run: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    where: str
    modal: bool
    done: tuple[str, ...] = ()  # values that no later step takes


@dataclass(slots=True)
class _Input:
    name: str
    rank: int | None


class OnnxModel(Module):
    """A network read from a file of ONNX; see ``load``.

    Attributes:
        input_names, output_names: in the order in which ``forward`` takes and gives values.
        opset: the version of ONNX' operators that the file was written for.
        training: None until ``train`` or ``eval`` is called: batch normalisation and dropout do as the file says.
    """

    def __init__(self, proto: Any, name: str = "the model", checked: bool = False) -> None:
        self.training = None  # type: ignore[assignment]
        self.opset = max((entry.version for entry in proto.opset_import if entry.domain in DOMAINS), default=0)
        found = [_resolved(node, i, self.opset) for i, node in enumerate(proto.graph.node)]
        _refuse_missing(found)
        if not checked:
            check(proto, name)
        self._attributes: dict[str, str] = {}  # of parameters, buffers and floating constants: the graph's name -> ours
        self._constants: dict[str, np.ndarray] = {}  # integers and the like
        initial = {t.name: tensor_values(t, f"{OP}: {t.name} in {name}") for t in proto.graph.initializer}
        self._inputs = [_described(value) for value in proto.graph.input if value.name not in initial]
        self.input_names = [value.name for value in self._inputs]
        self.output_names = [value.name for value in proto.graph.output]
        nodes = _made(found, initial)
        self._place(initial, [(node, entry) for node, entry, _ in nodes])
        self._steps = self._unfolded(nodes)
        self._let_go()

    # ------------------------------------------------------------------------------------------- loading

    def _place(self, initial: dict[str, np.ndarray], nodes: Sequence[tuple[Node, Operator]]) -> None:
        """Make initializers parameters, buffers or constants, as their uses say; what nobody uses is left out.

        A number without axes is a constant: eps, a scale, an exponent; no layer has such a parameter.
        """
        state, trained, used = set(), set(self.output_names), set(self.output_names)
        for node, entry in nodes:
            for i, value in enumerate(node.inputs):
                used.add(value)
                if i in entry.state:
                    state.add(value)
                elif i not in entry.options:
                    trained.add(value)
        for value, array in initial.items():
            if value not in used:
                continue
            if not is_float(array):
                self._constants[value] = array
            elif value in state:
                self.register_buffer(self._attribute(value), copy_aligned(array))
            elif value in trained and array.ndim:
                self.register_parameter(self._attribute(value), Parameter(copy_aligned(array)))
            else:
                self._keep(value, array)

    def _attribute(self, value: str) -> str:
        """Return an attribute's name for a graph's: the same, unless Module has one of that name."""
        name = value
        while hasattr(self, name):
            name += "_"
        self._attributes[value] = name
        return name

    def _keep(self, value: str, array: Any) -> None:
        """Keep a constant; a floating one moves with the model."""
        if is_float(array):
            self.register_buffer(self._attribute(value), array.data if isinstance(array, Tensor) else array, False)
        else:
            self._constants[value] = array

    def _unfolded(self, nodes: Iterable[tuple[Node, Operator, Callable]]) -> list[_Step]:
        """Return the steps that a call must take; the others are taken here."""
        fixed = {value for value in self._attributes if not isinstance(self._value(value), Parameter)}
        fixed |= {"", *self._constants}
        fixed -= {value for node, entry, _ in nodes for i, value in enumerate(node.inputs) if i in entry.state}
        steps = []
        for node, entry, run in nodes:
            step = _Step(run, tuple(node.inputs), tuple(node.outputs), node.where, entry.modal)
            if entry.modal or not fixed.issuperset(node.inputs):
                steps.append(step)
                continue
            values = {value: self._value(value) for value in node.inputs}
            self._take(step, values)
            for output in filter(None, node.outputs):
                self._keep(output, values[output])
                fixed.add(output)
        return steps

    def _value(self, name: str) -> Any:
        if name in self._attributes:
            return getattr(self, self._attributes[name])
        return self._constants[name] if name else None

    def _let_go(self) -> None:
        """Note after which step each value that steps make is not needed any more."""
        alive = set(self.output_names)
        for step in reversed(self._steps):
            names = {name for name in (*step.inputs, *step.outputs) if name}
            step.done = tuple(sorted(names - alive))
            alive |= names

    # ------------------------------------------------------------------------------------------- running

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the graph's output, or a tuple where there are several.

        Args:
            inputs: the graph's inputs in its order; or ``named``: by name.

        Raises:
            ArgumentError: inputs that are missing, unknown or given twice. ShapeError: one of another rank.
            Whatever an operation raises; its notes name the node.
        """
        values: dict[str, Any] = {"": None, **self._constants}
        held = vars(self)
        for value, name in self._attributes.items():
            values[value] = held[name]
        values.update(self._bound(inputs, named))
        for step in self._steps:
            self._take(step, values)
            for value in step.done:
                del values[value]
        results = tuple(values[name] for name in self.output_names)
        return results[0] if len(results) == 1 else results

    def _bound(self, inputs: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
        bound = dict(zip(self.input_names, inputs, strict=False))
        wrong = [name for name in named if name not in self.input_names or name in bound]
        bound |= named
        if wrong or len(inputs) > len(self.input_names) or len(bound) < len(self.input_names):
            given = f"{len(inputs)} and {sorted(named)}" if named else len(inputs)
            raise ArgumentError(mismatch(type(self).__name__, f"inputs {self.input_names}, each once", given))
        for entry in self._inputs:
            value = bound[entry.name]
            value = bound[entry.name] = value if hasattr(value, "dtype") else Tensor(value).data
            if entry.rank is not None and len(value.shape) != entry.rank:
                expected = f"input {entry.name!r} of {entry.rank} axes"
                raise ShapeError(mismatch(type(self).__name__, expected, f"shape {tuple(value.shape)}"))
        return bound

    def _take(self, step: _Step, values: dict[str, Any]) -> None:
        mode = {"training": self.training} if step.modal else {}
        try:
            results = step.run(*[values[name] for name in step.inputs], **mode)
        except Exception as error:
            error.add_note(f"in {step.where}")
            raise
        if len(step.outputs) == 1 and not isinstance(results, tuple):
            values[step.outputs[0]] = results
            return
        results = results if isinstance(results, tuple) else (results,)
        if len(results) < len(step.outputs):
            raise OperatorError(mismatch(step.where, f"at most {len(results)} outputs", len(step.outputs)))
        values.update((name, result) for name, result in zip(step.outputs, results, strict=False) if name)

    def extra_repr(self) -> str:
        return f"{self.input_names} -> {self.output_names}, {len(self._steps)} steps, opset {self.opset}"


def load(source: Any) -> OnnxModel:
    """Return the network in a file of ONNX as a Module, to be called, trained, saved and moved like any other.

    Floating initializers become parameters under their names in the graph (batch normalisation's running statistics
    become buffers; options such as the bounds of Clip, and numbers without axes, stay constants), so ``state_dict``,
    optimisers and freezing work as usual. Until ``train`` or ``eval`` is called, batch normalisation and dropout do as
    the file says. Shapes may be unknown: nothing is fixed but the ranks of the inputs.

    ::

        model = fastconv.onnx.load("resnet50.onnx")
        scores = model(images)                         # images: (N, 3, 224, 224), an array or a Tensor

    Args:
        source: a path, external data beside it, or an ``onnx.ModelProto``. Opsets 6 and later.

    Raises:
        OperatorError: operators that fastconv does not have, all of them by name.
        DataError: a file that is missing, damaged or not a valid model.
        ImportError: the package onnx is missing.
    """
    return OnnxModel(*read_model(source))


# ------------------------------------------------------------------------------------------ what is in a graph


def _resolved(proto: Any, index: int, opset: int) -> tuple[Any, Operator | None, int, str]:
    """Return a node, its operator (None: we have none of it), the version of its definition, how messages name it."""
    defs = need_onnx().defs
    name = proto.name or next(filter(None, proto.output), f"number {index}")
    where = f"{proto.op_type} node {name!r}"
    entry = table().get(proto.op_type) if proto.domain in DOMAINS else None
    since = 0
    if entry is not None:
        try:
            since = defs.get_schema(proto.op_type, opset, "").since_version
        except defs.SchemaError:
            entry = None
    if entry is None or not entry.first <= since <= entry.last:
        domain = proto.domain or "ai.onnx"
        known = "" if entry is None else f" (as defined in {since}; known: {entry.first} to {entry.last})"
        return proto, None, since, f"{proto.op_type} of domain {domain}, opset {opset}{known}, in node {name!r}"
    return proto, entry, since, where


def _refuse_missing(found: Sequence[tuple]) -> None:
    missing = [where for _, entry, _, where in found if entry is None]
    if missing:
        raise OperatorError(mismatch(OP, "operators that fastconv has", "\n  " + "\n  ".join(missing)))


def _made(found: Sequence[tuple], initial: Collection[str]) -> list[tuple[Node, Operator, Callable]]:
    """Return nodes with what runs for them.

    Raises:
        OperatorError: attributes that have no counterpart, all of them.
    """
    made, problems = [], []
    for proto, entry, since, where in found:
        try:
            node = make_node(proto, since, where, initial)
            made.append((node, entry, entry.make(node)))
        except OperatorError as error:
            problems.append(str(error))
    if problems:
        raise OperatorError("\n".join(problems))
    return made


def _described(value: Any) -> _Input:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise DataError(mismatch(OP, f"input {value.name!r} to be a tensor", kind))
    tensor = value.type.tensor_type
    return _Input(value.name, len(tensor.shape.dim) if tensor.HasField("shape") else None)
