"""Looking into a network: what its layers cost, and what they see."""

from .features import features
from .summary import Row, Summary, summary

__all__ = ["Row", "Summary", "features", "summary"]
