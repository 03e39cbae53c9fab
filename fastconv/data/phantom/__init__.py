"""A phantom for fetal ultrasound: B-mode pictures of an abdomen, made from a seed, with the truth beside them.

It is a phantom: geometry and physics of a curved probe, with shapes for organs, and no patient's data went into it.
What a network scores on it says how networks compare, not how well they would do in a clinic.
"""

from .anatomy import CLASSES
from .bmode import Scan, scan
from .ellipse import Ellipse
from .patches import Patches, cut, draw_patches

__all__ = ["CLASSES", "Ellipse", "Patches", "Scan", "cut", "draw_patches", "scan"]
