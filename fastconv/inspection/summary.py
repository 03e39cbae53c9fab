"""A network as a table: layers, shapes, parameters, multiply-adds and memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backends, nn
from ..arguments import integer
from ..errors import ArgumentError, DeviceError, mismatch
from ..nn import Module
from ..tensor import Tensor
from . import table
from .meter import metered
from .quiet import arrays_in, undisturbed


@dataclass
class Row:
    """A layer. Its figures are its own: those of modules below it stand in their rows."""

    name: str  # dotted; the network itself has none
    type: str
    outputs: list[tuple[int, ...]] = field(default_factory=list)  # of its last call
    parameters: int = 0
    trainable: int = 0  # those of them that are trained
    parameter_bytes: int = 0
    multiply_adds: int = 0
    output_bytes: int = 0  # of arrays that it made; views and arrays passed on are none
    calls: int = 0
    ran: bool = False  # it, or a module below it
    unit: int = 0  # layers of the same number run as one where none has hooks; 0: runs by itself

    @property
    def depth(self) -> int:
        """How many modules it is in."""
        return self.name.count(".") + 1 if self.name else 0


@dataclass
class Summary:
    """``rows`` in the order of ``named_modules``, and their sums. As a str it is a table."""

    rows: list[Row]
    inputs: list[tuple[int, ...]]
    input_bytes: int

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        return sum(row.trainable for row in self.rows)

    @property
    def parameter_bytes(self) -> int:
        return sum(row.parameter_bytes for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiplications and additions of convolutions and matrix products, a pair counted once, biases not."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def flops(self) -> int:
        """Twice the multiply-adds."""
        return 2 * self.multiply_adds

    @property
    def output_bytes(self) -> int:
        return sum(row.output_bytes for row in self.rows)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise ArgumentError(mismatch("summary", "the name of a row", repr(name)))

    def __str__(self) -> str:
        return table.text(self)

    __repr__ = __str__


def summary(model: Module, inputs: Any, depth: int | None = None) -> Summary:
    """Return what each layer of a network puts out and costs, for one forward pass in inference mode.

    Multiply-adds are those of convolutions and matrix products, in layers or in functionals, as papers give them
    (VGG-16: 15.5 thousand million; ``flops`` is twice that). They are counted, not computed: activations are those of
    zeros. The model is left as it was: mode, running statistics, random streams, hooks.

    Args:
        inputs: the shape of the input, batch included; or an array or Tensor; or a list or tuple of these, where the
            model takes several. For a shape, the dtype is that of the first parameter.
        depth: rows of modules that lie deeper are added to those above them: 1 shows children alone, 0 one row.

    Raises:
        DeviceError: a model that is not on the CPU.
        ArgumentError: ``inputs`` or ``depth`` that are none of these.

    >>> from fastconv.nn import Conv2d, MaxPool2d, ReLU, Sequential
    >>> net = Sequential(Conv2d(1, 4, 3), ReLU(), MaxPool2d(2), Conv2d(4, 10, 3))
    >>> summary(net, (1, 1, 8, 8))
    layer  type        output          parameters  multiply-adds  output memory  unit
    ---------------------------------------------------------------------------------
           Sequential  1 x 10 x 1 x 1
    0      Conv2d      1 x 4 x 6 x 6           40          1,296          576 B     1
    1      ReLU        1 x 4 x 6 x 6                                      576 B     1
    2      MaxPool2d   1 x 4 x 3 x 3                                      144 B     1
    3      Conv2d      1 x 10 x 1 x 1         370            360           40 B
    ---------------------------------------------------------------------------------
    input: 1 x 1 x 8 x 8 (256 B)
    parameters: 410 (1.6 KB)
    multiply-adds: 1,656 (3,312 FLOPs)
    outputs: 1.3 KB
    """
    if depth is not None:
        integer("summary", "depth", depth, 0)
    parameters = list(model.parameters())
    for parameter in parameters:
        if parameter.device != "cpu":
            raise DeviceError(mismatch("summary", "a model on 'cpu'", repr(parameter.device)))
    arrays = _inputs(inputs, parameters[0].dtype if parameters else np.float32)
    observer = _Observer(model)
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        stack.enter_context(backends.use(metered(backends.for_numpy(), observer.count)))
        for module in model.modules():
            stack.enter_context(module.register_forward_pre_hook(observer.enter, prepend=True, with_kwargs=True))
            stack.enter_context(module.register_forward_hook(observer.leave, always_call=True))
        model(*arrays)
    rows = list(observer.rows.values())
    ran = {name for row in rows if row.calls for name in _upwards(row.name)}
    for row in rows:
        row.ran = row.name in ran
    used = [array for value in arrays for array in arrays_in(value)]
    shapes = [tuple(array.shape) for array in used]
    return Summary(rows if depth is None else _merged(rows, depth), shapes, sum(array.nbytes for array in used))


def _inputs(inputs: Any, dtype: Any) -> list[Any]:
    """Return the model's arguments."""
    if isinstance(inputs, (np.ndarray, Tensor)):
        return [inputs]
    if isinstance(inputs, Sequence) and inputs and not isinstance(inputs, str):
        if all(isinstance(size, (int, np.integer)) for size in inputs):
            return [np.zeros([integer("summary", "sizes", size, 0) for size in inputs], dtype)]
        return [array for entry in inputs for array in _inputs(entry, dtype)]
    raise ArgumentError(mismatch("summary", "inputs to be a shape, an array, or a list of these", repr(inputs)))


class _Observer:
    """Rows, filled in while the model runs."""

    def __init__(self, model: Module) -> None:
        self.rows = {id(module): Row(name, type(module).__name__) for name, module in model.named_modules()}
        self._below: list[list[weakref.ref]] = [[]]  # of each module that is running: arrays that were counted in it
        self._running: list[Row] = []
        seen = set()
        for module in model.modules():
            row = self.rows[id(module)]
            for value in vars(module).values():
                if isinstance(value, nn.Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    row.parameters += value.size
                    row.trainable += value.size if value.requires_grad else 0
                    row.parameter_bytes += value.data.nbytes
        sequences = [module for module in model.modules() if type(module).forward is nn.Sequential.forward]
        units = [(sequence, names) for sequence in sequences for names in nn.units(sequence)]
        for number, (sequence, names) in enumerate(units, 1):
            for name in names:
                self.rows[id(getattr(sequence, name))].unit = number

    def count(self, multiply_adds: int) -> None:
        self._running[-1].multiply_adds += multiply_adds

    def enter(self, module: Module, args: tuple, kwargs: dict) -> None:
        self._running.append(self.rows[id(module)])
        given = [array for array in arrays_in((args, kwargs)) if isinstance(array, np.ndarray)]
        self._below.append([weakref.ref(array) for array in given])

    def leave(self, module: Module, args: tuple, output: Any) -> None:
        row = self._running.pop()
        known = [array for array in (reference() for reference in self._below.pop()) if array is not None]
        outputs = list(arrays_in(output))
        for array in outputs:
            if not any(np.may_share_memory(array, other) for other in known):
                row.output_bytes += array.nbytes
                known.append(array)
        row.calls += 1
        row.outputs = [tuple(array.shape) for array in outputs]
        self._below[-1] += [weakref.ref(array) for array in outputs]


def _upwards(name: str) -> list[str]:
    """'a.b' -> 'a.b', 'a', ''."""
    return [name, *_upwards(name.rpartition(".")[0])] if name else [""]


def _merged(rows: list[Row], depth: int) -> list[Row]:
    """Return the rows down to ``depth``; each has the figures of those below it that are left out."""
    kept = {row.name: row for row in rows if row.depth <= depth}
    for row in rows:
        if row.depth > depth:
            above = kept[".".join(row.name.split(".")[:depth])]
            for figure in ("parameters", "trainable", "parameter_bytes", "multiply_adds", "output_bytes"):
                setattr(above, figure, getattr(above, figure) + getattr(row, figure))
    return list(kept.values())
