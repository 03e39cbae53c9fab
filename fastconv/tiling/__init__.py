"""Networks over volumes that do not fit into memory: tiles, blended or with all that they see, disk to disk."""

from .predict import predict_volume

__all__ = ["predict_volume"]
