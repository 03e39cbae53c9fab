"""Data sets: readers, downloads, the embedded digits, mini-batches. ``load(name)`` is the door. No networks here."""

from .choose import NAMES, load
from .dataset import Dataset, Split
from .idx import read_idx
from .images import find_digit, read_grey
from .loader import Loader

__all__ = ["NAMES", "Dataset", "Loader", "Split", "find_digit", "load", "read_grey", "read_idx"]
