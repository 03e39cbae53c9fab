"""Training image classifiers: configuration, loop, checkpoints, metrics, reports. No networks, no data here."""

from .config import Config
from .inference import load_model, save_model
from .metrics import Metrics, confusion_matrix, measure

__all__ = ["Config", "Metrics", "confusion_matrix", "load_model", "measure", "save_model"]
