"""Data sets: readers, downloads, the embedded digits, mini-batches; medical volumes; augmentation and patches.
``load(name)`` and ``read_volume(path)`` are the doors, ``cases.load(path)`` that for your own. No networks here."""

from . import augment
from .choose import NAMES, load
from .dataset import Dataset, Split
from .dicom import read_dicom_series
from .idx import read_idx
from .images import find_digit, read_grey
from .loader import Batches, Loader
from .nifti import NiftiFile, open_nifti, read_nifti
from .nifti_write import NiftiWriter, write_nifti
from .patches import BalancedPatches, GridPatches, RandomPatches, extract
from .read import read_volume
from .volume import Volume, check_pair, reorient, same_geometry, stack

__all__ = [
    "NAMES", "BalancedPatches", "Batches", "Dataset", "GridPatches", "Loader", "NiftiFile", "NiftiWriter",
    "RandomPatches", "Split", "Volume", "augment", "check_pair", "extract", "find_digit", "load", "open_nifti",
    "read_dicom_series", "read_grey", "read_idx", "read_nifti", "read_volume", "reorient", "same_geometry", "stack",
    "write_nifti",
]  # fmt: skip
