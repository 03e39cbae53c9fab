"""Networks as graphs: what they ask of their backend, written down, read, run, and planned ahead for inference."""

from .capture import trace
from .frozen import FrozenModel, freeze
from .graph import Graph, Node, Value
from .outline import outline
from .sizes import Resized, Times

__all__ = ["FrozenModel", "Graph", "Node", "Resized", "Times", "Value", "freeze", "outline", "trace"]
