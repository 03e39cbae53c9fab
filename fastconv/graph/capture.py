"""``trace``: run a network on the tracing device, twice with different batches, and say what goes with the batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import backends, random
from ..backends.base import Array, Backend
from ..errors import ArgumentError, GraphError, ShapeError, mismatch
from ..nn import Module
from ..tensor import Tensor, no_grad, operand
from .graph import Graph, Node, Value, mapped, values_in
from .sizes import Differs, common
from .tracing import Traced, TracingBackend


def trace(model: Callable, *inputs: Any, dynamic: bool = True) -> Graph:
    """Return what ``model`` asks of its backend for ``inputs``, as a ``Graph`` that can be read, run and changed.

    The model runs in the mode that it is in, without gradients, on the inputs' values; it must use its arrays through
    fastconv alone. The first axis of every input is the batch: the model runs again with one sample more, and what
    differs shows which sizes go with the batch. Where that fails (an operation a sample, a condition on the batch), the
    graph is ``fixed`` to the batch of its inputs. In training mode batch norm takes the batch's statistics, and the
    graph keeps the dropout masks that it was traced with; neither the running statistics nor the random state change.

    The graph shares the model's arrays: it sees values that are written into them.

    Args:
        model: a Module, or any function of Tensors that returns Tensors, in tuples, lists and dicts if it likes.
        inputs: arrays or Tensors, float32 or float64.
        dynamic: False traces once, and the graph is fixed.

    Raises:
        GraphError: the values of an array were looked at from outside (``.numpy()``, ``item()``, a condition on them),
            or the model returned something that is no Tensor.

    >>> import numpy as np
    >>> from fastconv import nn
    >>> print(trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), np.zeros((1, 1, 4), np.float32)))
    Sequential(%input float32 (N, 1, 4)):
      %0 = reshape(a=%input, shape=(N, 4)) -> float32 (N, 4)                                             # 0
      %1 = linear_forward(x=%0, w=1.weight, b=1.bias, frozen=True, compute='float32') -> float32 (N, 2)  # 1
      return %1
    """
    if not inputs:
        raise ArgumentError(mismatch("trace", "at least one input", "none"))
    arrays = [operand("trace", f"inputs[{i}]", value)[1] for i, value in enumerate(inputs)]
    with unchanged(model):
        graph = once(model, arrays)
    batches = {array.shape[0] if array.ndim else 0 for array in arrays}
    graph.fixed = _why_fixed(batches, dynamic)
    if graph.fixed is None:
        try:
            with unchanged(model):
                _mark(graph, once(model, [_with_one_more(array) for array in arrays]))
        except (Differs, ShapeError) as difference:  # or the model takes no other batch
            graph.fixed = str(difference)
    return graph


@contextmanager
def unchanged(model: Callable) -> Iterator[None]:
    """Put the random streams and the model's buffers back to what they were."""
    streams = random.get_state()
    modules = list(model.modules()) if isinstance(model, Module) else []
    buffers = [(m, name, array, np.array(array)) for m in modules for name, array in m._own("buffer")
               if isinstance(array, np.ndarray)]  # fmt: skip
    try:
        yield
    finally:
        random.set_state(streams)
        for module, name, array, values in buffers:
            if array.flags.writeable:
                array[...] = values
            setattr(module, name, array)


def _why_fixed(batches: set[int], dynamic: bool) -> str | None:
    if not dynamic:
        return "it was traced with dynamic=False"
    if len(batches) > 1:
        return f"its inputs have first axes of {sorted(batches)}"
    return None if batches != {0} else "it was traced with an empty batch"


def _with_one_more(array: Array) -> Array:
    """The batch with its first sample once more."""
    return backends.of(array).cat([array, array[:1]], 0)


def once(model: Callable, arrays: list[Array], real: Backend | None = None) -> Graph:
    """Run the model on the tracing device, over ``real`` or the arrays' own; no size is marked yet."""
    names, modules = _names(model)
    device = TracingBackend(real or backends.of(arrays[0]), names, modules)
    given = [device.input(name, array) for name, array in zip(_parameters(model, len(arrays)), arrays, strict=True)]
    with backends.use(device), no_grad():
        returned = model(*(Tensor(array) for array in given))

    def value(leaf: Any) -> Value | None:
        array = leaf.data if isinstance(leaf, Tensor) else leaf
        if leaf is None:
            return None
        if isinstance(array, Traced) or device.real.owns(array):
            return device.operand(array)
        raise GraphError(mismatch("trace", "a model that returns Tensors", type(leaf).__name__))

    outputs = mapped(returned, value)
    if not any(True for _ in values_in(outputs)):
        raise GraphError(mismatch("trace", "a model that returns Tensors", "none"))
    name = type(model).__name__ if isinstance(model, Module) else getattr(model, "__name__", "function")
    batch = arrays[0].shape[0] if arrays[0].ndim else 0
    return Graph(name, device.nodes, [array.value for array in given], outputs, batch, None)


def _names(model: Callable) -> tuple[dict[int, str], dict[int, str]]:
    """Return names by identity: of the arrays of parameters and buffers, and of modules."""
    if not isinstance(model, Module):
        return {}, {}
    arrays = {id(parameter.data): name for name, parameter in model.named_parameters()}
    arrays.update((id(Tensor(buffer).data), name) for name, buffer in model.named_buffers())
    return arrays, {id(module): name for name, module in model.named_modules()}


def _parameters(model: Callable, count: int) -> list[str]:
    """Names for ``count`` inputs: those of the parameters of ``forward``."""
    try:
        known = inspect.signature(model.forward if isinstance(model, Module) else model).parameters.values()
    except (TypeError, ValueError):  # a callable that does not tell
        known = []
    plain = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [plain[i] if i < len(plain) else f"input{i}" for i in range(count)]


# ---------------------------------------------------------------------------------------------- two traces


def _mark(graph: Graph, other: Graph) -> None:
    """Mark in ``graph`` what differs from the ``other`` batch's.

    Raises:
        Differs: by more than sizes; ``graph`` is as it was.
    """
    n, m = graph.batch, other.batch
    if len(graph.nodes) != len(other.nodes):
        raise Differs(f"{len(graph.nodes)} operations for a batch of {n}, {len(other.nodes)} for one of {m}")
    pair: dict[Value, Value] = dict(zip(graph.inputs, other.inputs, strict=True))
    varying: list[tuple[Node, dict[str, Any]]] = []
    for node, twin in zip(graph.nodes, other.nodes, strict=True):
        if node.verb != twin.verb:
            raise Differs(f"{node.verb} for a batch of {n}, {twin.verb} for one of {m}")
        changed = {}
        for name, value in node.arguments.items():
            ours, theirs = _split(value, pair, twin.arguments[name], node.verb)
            found = common(ours, theirs, n, m)
            if found is not ours:
                changed[name] = found
        varying.append((node, changed))
        pair.update((a, b) for a, b in zip(node.results, twin.results, strict=True) if a and b)
    _split(graph.outputs, pair, other.outputs, "return")
    sizes = {value: _sizes(value, twin, n, m) for value, twin in pair.items()}
    for node, changed in varying:
        node.varying = changed
    for value, found in sizes.items():
        value.sizes = found


def _split(ours: Any, pair: dict[Value, Value], theirs: Any, verb: str) -> tuple[Any, Any]:
    """Return two arguments without their Values, which must be of the same place in both traces."""
    if isinstance(ours, Value) and isinstance(theirs, Value):
        if ours.kind == theirs.kind == "constant" and ours not in pair:
            pair[ours] = theirs
        if pair.get(ours) is not theirs:
            raise Differs(f"operands of {verb}")
        return None, None
    if isinstance(ours, (tuple, list)) and any(True for _ in values_in(ours)):
        if not isinstance(theirs, (tuple, list)) or len(ours) != len(theirs):
            raise Differs(f"operands of {verb}")
        for mine, other in zip(ours, theirs, strict=True):
            _split(mine, pair, other, verb)
        return None, None
    return ours, theirs


def _sizes(value: Value, twin: Value, n: int, m: int) -> tuple:
    found = common(value.shape, twin.shape, n, m)
    if value.kind != "constant" or value.array is twin.array:
        return found
    ours, theirs = (backends.of(v.array).to_numpy(v.array) for v in (value, twin))
    if found is value.shape:
        same = ours.tobytes() == theirs.tobytes()
    else:
        same = ours.size > 0 and bool((ours == ours.flat[0]).all() and (theirs == ours.flat[0]).all())
    if not same:
        raise Differs(f"the constant {value.name}")
    return found
