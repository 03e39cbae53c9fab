"""Which kernel runs: the candidates of each direction, fastest first, the reference last; each declines for itself.

The choice depends on the geometry, without its batch, and on the numbers' size, so that equal images give equal bits.
Verdicts of a measurement (tuned.py) may name another candidate that does not decline, where the user asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from ...geometry import ConvGeometry
from ..reference import conv as reference
from ..reference.unit import conv_act_forward, conv_moments_forward
from . import bf16_rule, tuned, winograd_rule
from .conv_backward_input import conv_backward_input
from .conv_backward_weight import conv_backward_weight
from .conv_forward import conv_forward
from .dispatch import isa, lanes


class Candidate(NamedTuple):
    """A way to run a verb. ``declines`` returns why it cannot serve a geometry and the size of a number, or nothing."""

    name: str
    run: Callable
    declines: Callable[[ConvGeometry, int], str | None]


def _grouped_declines(geometry: ConvGeometry, itemsize: int) -> str | None:
    if geometry.groups == 1:
        return "one group"
    if winograd_rule.in_vectors(geometry, itemsize):
        return None
    ic, oc, width = geometry.ic // geometry.groups, geometry.oc // geometry.groups, lanes(itemsize)
    return f"{ic} channels in and {oc} out a group, not one group or several in a vector of {width}"


def _never(geometry: ConvGeometry, itemsize: int) -> str | None:
    return None


def _winograd(kernel: Callable) -> Callable:
    def run(*arguments, **options):
        geometry = arguments[-1]
        options["winograd"] = winograd_rule.form_of(geometry).code
        if winograd_rule.in_squares(geometry.whole or geometry):
            options["lanes"] = True
        if kernel is conv_backward_input and winograd_rule.adjoint(geometry.whole or geometry):
            options["adjoint"] = True
        elif kernel is conv_backward_input and winograd_rule.adjoint_by_planes(geometry.whole or geometry):
            options["adjoint"] = options["planes"] = True
        return kernel(*arguments, **options)

    return run


def _specification(*arguments, moments=False, activation=None, **options):
    if moments:
        return conv_moments_forward(*arguments, **options)
    return conv_act_forward(*arguments, activation, **options)


def _candidates(kernel: Callable, specification: Callable, *others: Candidate) -> tuple[Candidate, ...]:
    return (
        Candidate("winograd", _winograd(kernel), partial(winograd_rule.declines, kernel.__name__)),
        *others,
        Candidate("grouped", partial(kernel, lanes=True), _grouped_declines),
        Candidate("bf16", partial(kernel, pairs=True), partial(bf16_rule.declines, kernel.__name__)),
        Candidate("tiles", kernel, _never),
        Candidate("reference", specification, _never),
    )


CANDIDATES = {
    "conv_forward": _candidates(
        conv_forward, _specification, Candidate("lines", partial(conv_forward, lines=True), winograd_rule.lines_decline)
    ),
    "conv_backward_input": _candidates(conv_backward_input, reference.conv_backward_input),
    "conv_backward_weight": _candidates(conv_backward_weight, reference.conv_backward_weight),
}


def choose(verb: str, geometry: ConvGeometry, itemsize: int) -> Callable:
    """Return the first candidate that does not decline; ``itemsize`` is that of the operands, bytes."""
    return _choose(verb, geometry, itemsize, isa())


@lru_cache(maxsize=4096)
def _choose(verb: str, geometry: ConvGeometry, itemsize: int, _isa: str) -> Callable:
    return chosen(verb, geometry, itemsize).run


def chosen(verb: str, geometry: ConvGeometry, itemsize: int) -> Candidate:
    """Return the candidate that runs: the first that does not decline, or a verdict's if it does not either.

    A window of a convolution runs as the whole does.
    """
    geometry = geometry.whole or geometry
    willing = [c for c in CANDIDATES[verb] if c.declines(geometry, itemsize) is None]
    wanted = tuned.choice(verb, geometry, itemsize)
    return next((c for c in willing if c.name == wanted), willing[0])


def follow(verdicts: dict[str, str]) -> None:
    """Let these verdicts decide from now on; none of them, if it is empty."""
    tuned.verdicts = verdicts
    _choose.cache_clear()


def explain(verb: str, geometry: ConvGeometry, dtype: str) -> str:
    """Return one line for ``verb``: the kernel that runs, and why those before it do not."""
    passed = ["not tf32: a number of GPUs"] if geometry.compute == "tf32" else []
    itemsize = np.dtype(dtype).itemsize
    runs = chosen(verb, geometry, itemsize)
    by_verdict = ", tuned" if tuned.choice(verb, geometry, itemsize) == runs.name else ""
    for candidate in CANDIDATES[verb]:
        if candidate is runs:
            why = "; ".join(passed) or "first choice"
            where = f"{isa()}, {dtype}, {geometry.flops / 1e6:.4g} MFLOP{by_verdict}"
            return f"{verb}: {candidate.name} ({where}): {why}"
        reason = candidate.declines(geometry, itemsize)
        if candidate.name != "bf16" or geometry.compute == "bf16":  # where it is not asked for it is not news
            passed.append(f"not {candidate.name}: {reason or 'measured here, it is slower'}")
    raise LookupError(verb)
