"""Data sets: readers, downloads, the embedded digits, mini-batches. ``load(name)`` is the door. No networks here."""

from . import augment
from .choose import NAMES, load
from .dataset import Dataset, Split
from .idx import read_idx
from .images import find_digit, read_grey
from .loader import Loader
from .patches import BalancedPatches, GridPatches, RandomPatches, extract

__all__ = [
    "NAMES", "BalancedPatches", "Dataset", "GridPatches", "Loader", "RandomPatches", "Split", "augment", "extract",
    "find_digit", "load", "read_grey", "read_idx",
]  # fmt: skip
