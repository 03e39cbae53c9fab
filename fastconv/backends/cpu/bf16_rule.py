"""When a convolution in the compute mode bf16 multiplies bfloat16 numbers: where that is faster than float32.

The mode allows rounded operands, it does not ask for them: kernels of float32 are more precise, and run where they are
as fast. The rule knows shape and options alone, not which instruction set runs: all round alike.
"""

from __future__ import annotations

from math import prod

from ...geometry import ConvGeometry
from . import winograd_rule

# Channels a group, in and out. One has no neighbour for a pair; a weight gradient needs them for its register tile.
FEWEST = {"conv_forward": 2, "conv_backward_input": 2, "conv_backward_weight": 8}
MOST_TAPS = 4096  # weights are packed as float32 first, which takes twice the memory of a panel


def declines(verb: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """Return why bfloat16 cannot or should not serve, or None."""
    if geometry.compute != "bf16":
        return f"compute mode {geometry.compute}"
    if itemsize != 4:
        return "float64 keeps its precision"
    channels = min(geometry.ic, geometry.oc) // geometry.groups
    if channels < FEWEST[verb]:
        return f"{channels} channels a group, fewer than {FEWEST[verb]}"
    if prod(geometry.kernel) > MOST_TAPS:
        return f"{prod(geometry.kernel)} kernel positions, more than {MOST_TAPS}"
    if winograd_rule.declines(verb, geometry, itemsize) is None:
        return "Winograd in float32 saves more"
    return None
