"""fastconv: a CNN engine for people who hold NumPy arrays.

The public names. Tensor and the functionals come with the package; everything else is loaded at its first use.
"""

from importlib import import_module
from typing import Any

from . import functional
from .tensor import Tensor, is_grad_enabled, no_grad, tensor  # the function takes the module's place as an attribute

__version__ = "0.1.0"

_MODULES = (
    "backends", "boost", "config", "data", "detection", "errors", "geometry", "graph", "init", "inspection", "interop",
    "models", "nn", "onnx", "optim", "plots", "random", "rbm", "sklearn", "training", "tuning",
)  # fmt: skip
_NAMES = {
    "Parameter": "nn",
    "freeze": "graph",
    "get_num_threads": "backends.cpu.runtime",
    "set_num_threads": "backends.cpu.runtime",
    "compute": "precision",
    "compute_mode": "precision",
    "empty_cache": "backends.cpu.runtime",
    "explain": "functional.explain",
    "features": "inspection.features",
    "load": "interop.weights",
    "manual_seed": "random",
    "predict_volume": "tiling",
    "save": "interop.weights",
    "show_config": "info",
    "summary": "inspection.summary",
    "trace": "graph",
    "tune": "tuning",
}

__all__ = ["Tensor", "functional", "is_grad_enabled", "no_grad", "tensor", *_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
