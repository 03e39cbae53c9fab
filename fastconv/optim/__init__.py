"""Optimisers and learning-rate schedules, named as in ``torch.optim``."""

from . import lr_scheduler
from .groups import parameter_groups
from .optimizer import SGD, Adam, AdamW, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler", "parameter_groups"]
