"""Networks as graphs: what they ask of their backend, written down, read, run, and planned ahead for inference."""

from .capture import trace
from .graph import Graph, Node, Value
from .sizes import Resized, Times

__all__ = ["Graph", "Node", "Resized", "Times", "Value", "trace"]
