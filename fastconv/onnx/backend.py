"""ONNX's backend interface over fastconv, which ``onnx.backend.test.BackendTest`` and other tools drive."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ..errors import DeviceError, OperatorError, mismatch
from ..tensor import no_grad
from .files import need_onnx
from .model import OnnxModel, load
from .values import host


class Prepared:
    """A model that is ready to run: what ``Backend.prepare`` returns.

    Attributes:
        model: the OnnxModel.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.model = model

    def run(self, inputs: Any, **options: Any) -> tuple[np.ndarray, ...]:
        """Return the outputs, as NumPy arrays, for ``inputs``: an array, a sequence of them, or a mapping by name."""
        if isinstance(inputs, Mapping):
            arguments, named = (), inputs
        else:
            arguments, named = (inputs,) if isinstance(inputs, np.ndarray) else tuple(inputs), {}
        with no_grad():
            results = self.model(*arguments, **named)
        return tuple(host(value) for value in (results if isinstance(results, tuple) else (results,)))


@cache
def backend_class() -> type:
    """Return the class ``Backend``, made at its first use since its base is in the package onnx."""
    onnx = need_onnx()
    import onnx.backend.base as interface

    class Backend(interface.Backend):
        """fastconv behind ONNX's backend interface: ``Backend.prepare(model).run(inputs)``."""

        @classmethod
        def is_compatible(cls, model: Any, device: str = "CPU", **options: Any) -> bool:
            """Whether every operator of the model is there."""
            try:
                load(model)
            except OperatorError:
                return False
            return True

        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> Prepared:
            """Return the model, loaded, on the device."""
            if not cls.supports_device(device):
                raise DeviceError(mismatch("onnx.Backend", "device CPU", device))
            return Prepared(load(model))

        @classmethod
        def run_node(
            cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **options: Any
        ) -> tuple[np.ndarray, ...]:
            """Return the outputs of a single node."""
            super().run_node(node, inputs, device, outputs_info, **options)
            helper = onnx.helper
            opset = options.get("opset_version", onnx.defs.onnx_opset_version())
            given = dict(zip(filter(None, node.input), inputs, strict=True))
            described = [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), None)
                for name, value in given.items()
            ]
            outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
            graph = helper.make_graph([node], "node", described, outputs)
            proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
            model = OnnxModel(proto, "the node", checked=True)  # a model must say its outputs' types; a node does not
            return Prepared(model).run({name: np.asarray(value) for name, value in given.items()})

        @classmethod
        def supports_device(cls, device: str) -> bool:
            """Whether there is a device ``CPU``, ``CUDA`` or ``CUDA:1``: the first alone."""
            return device.split(":")[0] == "CPU"

    Backend.__module__, Backend.__qualname__ = "fastconv.onnx", "Backend"
    return Backend
