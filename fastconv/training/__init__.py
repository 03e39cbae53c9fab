"""Training: ``fit`` for any network and arrays; the trainer of image classifiers with its configuration, checkpoints,
metrics and reports. No networks, no data here."""

from .config import Config
from .fit import fit, predict, probabilities
from .inference import load_model, save_model
from .medmnist_result import read_medmnist, save_medmnist
from .metrics import Metrics, confusion_matrix, measure
from .roc import dice, medmnist_scores, roc_auc, roc_auc_interval, roc_curve

__all__ = [
    "Config", "Metrics", "confusion_matrix", "dice", "fit", "load_model", "measure", "medmnist_scores", "predict",
    "probabilities", "read_medmnist", "roc_auc", "roc_auc_interval", "roc_curve", "save_medmnist", "save_model",
]  # fmt: skip
