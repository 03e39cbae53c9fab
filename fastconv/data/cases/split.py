"""Which case is trained on, watched and tested: as the data say, else by a seed, the same share of each class, and
nobody in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...errors import DataError, mismatch
from ..philox import SPLIT, words
from .case import PARTS, Case

_ORDER = (0, 2, 1)  # who is served first where parts want a case equally: train, test, val


def split(cases: Sequence[Case], shares: tuple[float, float], seed: int) -> list[Case]:
    """Return the cases, each with a part: ``shares`` go to val and test, the rest to train.

    Cases of a group stay together. Where the cases have parts already, these stand.

    Raises:
        DataError: parts for some cases alone, a group in two parts, or no case left for training or testing.

    >>> cases = [Case(str(i), None, str(i), "ab"[i % 2]) for i in range(20)]
    >>> [sum(case.part == part for case in split(cases, (0.1, 0.2), 0)) for part in PARTS]
    [14, 2, 4]
    """
    given = [case.part is not None for case in cases]
    if any(given) and not all(given):
        one, other = cases[given.index(True)], cases[given.index(False)]
        raise DataError(
            mismatch("data", "a part for every case or for none", f"one for {one.where}, none for {other.where}")
        )
    if all(given):
        _require_apart(cases)
        parts = [case.part for case in cases]
    else:
        parts = _assign(cases, (1 - sum(shares), *shares), seed)
    for part, needed in (("train", True), ("test", "val" not in parts or (shares[1] > 0 and not all(given)))):
        if needed and part not in parts:
            wanted = f"cases to {part} on (more of them, or other shares of --val-share and --test-share)"
            raise DataError(mismatch("data", wanted, f"{len(cases)} cases, none of them for it"))
    return [replace(case, part=part) for case, part in zip(cases, parts, strict=True)]


def _require_apart(cases: Sequence[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        before = seen.setdefault(case.group, case) if case.group is not None else case
        if before.part != case.part:
            found = f"{before.part} in {before.where}, {case.part} in {case.where}"
            raise DataError(mismatch("data", f"{case.group!r} in one split", found))


def _assign(cases: Sequence[Case], shares: tuple[float, ...], seed: int) -> list[str]:
    """Give groups out one by one, the largest first, each to the part that it brings nearest to its quotas.

    A part's quotas are a share of all cases and of each class; the distance is the sum of squares over the quota.
    Names decide, not the order in which cases come: a table that is sorted anew is divided as it was.
    """
    labels = [case.target if isinstance(case.target, str) else "" for case in cases]
    index = {label: i for i, label in enumerate(sorted(set(labels)))}
    groups: dict[object, list[int]] = {}
    for i in sorted(range(len(cases)), key=lambda i: cases[i].name):
        groups.setdefault(i if cases[i].group is None else cases[i].group, []).append(i)
    members = list(groups.values())
    shuffled = np.argsort(words(seed, SPLIT, 0, 0).random_raw(len(members)), kind="stable")
    order = sorted(shuffled, key=lambda g: -len(members[g]))
    counts = np.zeros(len(index) + 1)  # of each class, then of all
    for label in labels:
        counts[[index[label], -1]] += 1
    quota = np.outer(shares, counts)  # (parts, classes + 1)
    open_parts = [part for part in _ORDER if shares[part] > 0]
    have, parts = np.zeros_like(quota), [""] * len(cases)
    for group in order:
        adds = np.zeros_like(counts)
        for i in members[group]:
            adds[[index[labels[i]], -1]] += 1
        touched = adds > 0
        grown, wanted, now = adds[touched], quota[:, touched], have[:, touched]
        cost = {p: float(((2 * (now[p] - wanted[p]) + grown) * grown / wanted[p]).sum()) for p in open_parts}
        best = min(open_parts, key=cost.__getitem__)
        have[best] += adds
        for i in members[group]:
            parts[i] = PARTS[best]
    return parts
