"""Weights in files: safetensors in and out, PyTorch's files in. ONNX is in ``fastconv.onnx``."""

from .weights import load, metadata, save

__all__ = ["load", "metadata", "save"]
