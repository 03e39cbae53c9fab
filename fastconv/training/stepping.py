"""One step of gradient descent: as usual, or on a device that can, as the replay of a step that was captured.

A replay starts on the device what the captured step started. What that step changed on the host is done again here: the
counters of batch norm and of dropout masks, and the optimiser's, so that a run that replays and one that does not have
the same state, to the bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import backends, random
from ..tensor import Tensor
from . import inference
from .task import Classify

_MOST = 4  # graphs of as many shapes are kept
_BEFORE = 2  # steps as usual, in which kernels are compiled, and an optimiser makes its state


class Captured(NamedTuple):
    """A graph, and what the host does besides."""

    graph: Any
    known: list[Any]  # the arrays of its key, whose ids no others may have
    masks: int  # keys of dropout masks
    counters: list[tuple[np.ndarray, Any]]  # buffers on the host, and what a step adds to them
    gradients: list[tuple[Tensor, Any]]


class Stepper:
    """Makes steps of a model and an optimiser on batches; the task has the loss, and what that takes to a device."""

    def __init__(self, model: Any, optimizer: Any, task: Classify, device: str) -> None:
        self.model, self.optimizer, self.task, self.device = model, optimizer, task, device
        self._seen: dict[Any, int] = {}
        self._captured: dict[Any, Captured | None] = {}

    def __call__(self, x: Any, labels: np.ndarray) -> tuple[float, np.ndarray]:
        """Make one step on an input, or a tuple of them; return the loss and the outputs before it."""
        loss, output = self._step(x, labels)
        return loss.item(), output.numpy()

    def _step(self, x: Any, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        if self.device == "cpu" or not self._repeatable():
            return self._as_usual(x, labels)
        arrays = [*x] if isinstance(x, tuple) else [x]
        target = self.task.taken(labels, arrays[0].dtype)
        if target is None:
            return self._as_usual(x, labels)
        arrays.append(target)
        key = self._key(arrays)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= _BEFORE:
            return self._as_usual(x, labels)
        if key not in self._captured:
            return self._capture(key, x, labels, arrays)
        found = self._captured[key]
        return self._as_usual(x, labels) if found is None else self._replay(found, arrays)

    def _as_usual(self, x: Any, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        output = self.model(*inference.inputs(x, self.device))
        loss = self.task.loss(output, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, output

    # ---------------------------------------------------------------------------------------------- graphs

    def _key(self, batch: list[np.ndarray]) -> Any:
        """Return what must be the same for a replay: shapes, and the arrays that the graph knows by their addresses."""
        shapes = tuple((array.shape, array.dtype) for array in batch)
        return shapes, self.model.training, tuple(map(id, self._known()))

    def _known(self) -> list[Any]:
        parameters = [p.data for group in self.optimizer.param_groups for p in group["params"]]
        states = [v for entry in self.optimizer.state.values() for v in entry.values() if hasattr(v, "shape")]
        return [*parameters, *self.model.buffers(), *states]

    def _repeatable(self) -> bool:
        """Whether no layer gives its kernels numbers that the host works out anew in each step."""
        averaging = (m for m in self.model.modules() if getattr(m, "num_batches_tracked", None) is not None)
        return all(module.momentum is not None for module in averaging)

    def _capture(self, key: Any, x: Any, labels: np.ndarray, arrays: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        before, counters = random.get_state(), self._counters()
        counts = [counter.copy() for counter in counters]
        steps = [(entry, entry["step"]) for entry in self.optimizer.state.values() if "step" in entry]
        gradients = [(p, p.grad) for group in self.optimizer.param_groups for p in group["params"]]
        graph = backends.get(self.device).captured(lambda: self._as_usual(x, labels), arrays)
        if graph is None:
            self._captured[key] = None
            random.set_state(before)
            for counter, count in zip(counters, counts, strict=True):
                counter[...] = count
            for entry, step in steps:
                entry["step"] = step
            for parameter, gradient in gradients:
                parameter.grad = gradient
            return self._as_usual(x, labels)
        others = {k: v for k, v in self._captured.items() if k[1:] == key[1:]}  # not those of arrays since replaced
        self._captured = dict([*others.items()][1 - _MOST :])
        self._captured[key] = Captured(
            graph,
            self._known(),
            random.get_state()["masks"] - before["masks"],
            [(counter, counter - count) for counter, count in zip(counters, counts, strict=True)],
            [(p, p.grad) for p, _ in gradients],
        )
        return graph.result

    def _counters(self) -> list[np.ndarray]:
        return [buffer for buffer in self.model.buffers() if isinstance(buffer, np.ndarray)]

    def _replay(self, found: Captured, arrays: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        for parameter, gradient in found.gradients:
            parameter.grad = gradient
        keys = [random.dropout_key() for _ in range(found.masks)]
        result = found.graph(arrays, keys, self.optimizer.step)
        for counter, added in found.counters:
            counter += added
        return result
