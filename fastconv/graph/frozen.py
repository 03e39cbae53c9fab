"""``freeze``: a network planned ahead for inference."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from .. import backends
from ..errors import ArgumentError, mismatch
from ..nn import Module
from ..tensor import Tensor, copy_aligned, operand
from .capture import trace
from .graph import Graph, Node
from .passes import PASSES, Editor

_MOST_PLANS = 16


class FrozenModel:
    """A network whose weights are constants: call it with arrays. ``freeze`` makes one.

    >>> from fastconv import freeze, nn
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> frozen = freeze(net, np.zeros((1, 3, 8, 8), np.float32))
    >>> [node.verb for node in frozen.graph().nodes]
    ['reshape', 'conv_act_forward', 'reshape']
    >>> frozen(np.zeros((5, 3, 16, 16), np.float32)).shape
    (5, 8, 14, 14)
    """

    def __init__(self, model: Callable) -> None:
        self._model = _own_copy(model)
        self._plans: dict[tuple, Graph] = {}  # by the inputs' shapes
        self._kept: dict[tuple, Any] = {}  # folded weights, and those that were packed

    def __call__(self, *inputs: Any) -> Any:
        """Return what the model returns, with arrays for Tensors; shapes that are new are planned first.

        Raises:
            GraphError: the model cannot be traced. Otherwise as the model.
        """
        return self.graph(*inputs)(*inputs)

    def graph(self, *inputs: Any) -> Graph:
        """Return the plan for inputs of these shapes; without inputs, that of the example."""
        if not inputs:
            return next(iter(self._plans.values()))
        arrays = [operand("freeze", f"inputs[{i}]", value)[1] for i, value in enumerate(inputs)]
        shapes = tuple([(array.shape, array.dtype.char) for array in arrays])
        plan = self._plans.get(shapes)
        if plan is None:
            plan = self._same_but_batch(shapes) or planned(trace(self._model, *arrays), arrays, self._kept)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.pop(list(self._plans)[1])  # the example stays
            self._plans[shapes] = plan
        return plan

    def _same_but_batch(self, shapes: tuple) -> Graph | None:
        """Return a plan that differs in the batch alone."""
        for known, plan in self._plans.items():
            rest = [[(shape[1:], kind) for shape, kind in key] for key in (known, shapes)]
            if plan.fixed is None and rest[0] == rest[1] and len({shape[:1] for shape, _ in shapes}) == 1:
                return plan
        return None

    def profile(self, *inputs: Any, runs: int = 10) -> list[tuple[Node, float]]:
        """Return each node of the plan with the median seconds that it took; see ``Graph.profile``."""
        return self.graph(*inputs).profile(*inputs, runs=runs)

    def __repr__(self) -> str:
        return f"FrozenModel({type(self._model).__name__}, {len(self._plans)} plans)"


def freeze(model: Callable, *example_inputs: Any) -> FrozenModel:
    """Return ``model`` planned ahead for inference: the same outputs, within rounding, sooner.

    Batch norm goes into the convolution before it; ReLU, the sum of a residual block and max-pools without overlap are
    part of the convolution that precedes them; concatenated maps are written where they will lie; weights are packed
    once. The plan is for the shapes of the inputs but for the batch; other shapes are planned when they come.

    The weights are those of now: what happens to ``model`` afterwards does not matter.

    Args:
        model: a Module in inference mode (``eval()``), or a function of Tensors, whose arrays must then stay as they
            are.
        example_inputs: arrays or Tensors of the shapes to plan for first.

    Raises:
        ArgumentError: a Module in training mode, or no inputs. GraphError: a model that ``trace`` cannot follow.
    """
    if isinstance(model, Module) and any(module.training for module in model.modules()):
        raise ArgumentError(mismatch("freeze", "a model in inference mode (model.eval())", "one in training mode"))
    if not example_inputs:
        raise ArgumentError(mismatch("freeze", "at least one example input", "none"))
    frozen = FrozenModel(model)
    frozen.graph(*example_inputs)
    return frozen


def planned(graph: Graph, inputs: list[Any], kept: dict[tuple, Any] | None = None) -> Graph:
    """Plan a graph for the device of its inputs, in place, and return it."""
    edit = Editor(graph, backends.of(inputs[0]), kept)
    for run in PASSES:
        run(edit)
    for number, value in enumerate(value for node in graph.nodes for value in node.results if value is not None):
        value.name = str(number)
    graph.changed()
    return graph


def _own_copy(model: Callable) -> Callable:
    """Return a copy of a Module with arrays of its own."""
    if not isinstance(model, Module):
        return model
    held = [p.data for p in model.parameters()] + [Tensor(b).data for b in model.buffers()]
    return deepcopy(model, {id(array): copy_aligned(array) for array in held if isinstance(array, np.ndarray)})
