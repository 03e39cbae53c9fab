"""The user's own data: class folders, tables, images with masks, volumes, MedMNIST. ``load`` is the door."""

from .batches import CaseBatches
from .case import Case
from .dataset import Cases, CaseSet, load
from .find import find
from .frame import Frame

__all__ = ["Case", "CaseBatches", "CaseSet", "Cases", "Frame", "find", "load"]
