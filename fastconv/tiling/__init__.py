"""Networks over volumes that do not fit into memory: tiles, their blending or their exact surroundings, disk to disk."""

from .predict import predict_volume

__all__ = ["predict_volume"]
