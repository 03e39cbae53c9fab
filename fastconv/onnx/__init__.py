"""ONNX, the exchange format of networks (https://onnx.ai): files in, and files out.

``load`` turns a file into a model that runs and can be trained, ``export`` a model into a file; ``Backend`` is what
ONNX's own test runner drives. The package ``onnx`` (extra ``onnx``) is imported when one of them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {"OnnxModel": "model", "export": "export_model", "load": "model", "operators": "registry"}

__all__ = ["Backend", "OnnxModel", "export", "load", "operators"]


def __getattr__(name: str) -> Any:
    if name == "Backend":
        return import_module("fastconv.onnx.backend").backend_class()
    if name in _NAMES:
        return getattr(import_module(f"fastconv.onnx.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
