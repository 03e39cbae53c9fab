"""The passes of planning, in their order. Each is a function of an ``Editor``."""

from . import batch_norm, concatenation, constants, epilogues, views
from .edit import Editor

PASSES = (
    constants.fold,
    views.lower_late,
    epilogues.as_units,
    batch_norm.fold,
    views.lower_late,
    epilogues.sums,
    epilogues.activations,
    epilogues.pools,
    concatenation.in_place,
    constants.drop_dead,
    epilogues.keep_packed,
)

__all__ = ["PASSES", "Editor"]
