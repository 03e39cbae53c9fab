"""Demographic columns as numbers: standardised, or a place for each category, by what the training set has."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import DataError, mismatch

_GAPS = {"", "na", "n/a", "nan", "null", "none", "?"}
_MOST = 32  # categories; more of them are names or notes


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers (``categories`` empty) with its mean and deviation, or of categories with their shares.

    >>> age = fit("age", ["40", "60"], ["t.csv row 2", "t.csv row 3"])
    >>> age.encode("70", "t.csv row 4", "refuse")
    [2.0]
    >>> fit("sex", ["f", "m", "f"], ["t.csv row 2"] * 3).encode("m", "t.csv row 5", "refuse")
    [0.0, 1.0]
    """

    name: str
    mean: float = 0.0
    deviation: float = 1.0
    categories: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers ``encode`` returns."""
        return len(self.categories) or 1

    def encode(self, text: str, where: str, missing: str) -> list[float]:
        """Return the numbers for a cell; a gap is refused, or what the training set has on average.

        A category that the training set lacks is none of its places: zeros.

        Raises:
            DataError: a gap with ``missing="refuse"``, or text in a column of numbers; the message has ``where``.
        """
        if is_gap(text):
            if missing != "mean":
                wanted = f"{where} to have a value in column {self.name!r} (or --missing mean)"
                raise DataError(mismatch("data", wanted, repr(text) if text else "an empty cell"))
            return list(self.shares) or [0.0]
        if self.categories:
            return [float(text == category) for category in self.categories]
        value = _number(text)
        if value is None:
            raise DataError(mismatch("data", f"{where} to have a finite number in column {self.name!r}", repr(text)))
        return [(value - self.mean) / self.deviation]

    def plain(self) -> dict[str, Any]:
        """Return it as plain values: ``Column(**plain)`` is equal."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def restore(plain: dict[str, Any]) -> Column:
    """Return the column of which ``plain`` tells.

    >>> restore(Column("age", 50.0, 10.0).plain()) == Column("age", 50.0, 10.0)
    True
    """
    return Column(**{key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()})


def fit(name: str, texts: Sequence[str], where: Sequence[str]) -> Column:
    """Return the column that the training set's cells make: of numbers where all that are no gaps are.

    Warns of categories where nine cells of ten are numbers: the others may be slips.

    Raises:
        DataError: nothing but gaps, a number that is not finite, or more categories than a network can learn from.
    """
    known = [text for text in texts if not is_gap(text)]
    if not known:
        raise DataError(mismatch("data", f"values in column {name!r} of the training cases", f"gaps, as in {where[0]}"))
    numbers = [_number(text) for text in known]
    floats = None not in map(_float, known)
    if floats and None in numbers and set(numbers) != {None}:  # "inf" beside "sup" is a category
        endless = next(i for i, text in enumerate(texts) if not is_gap(text) and _number(text) is None)
        wanted = f"{where[endless]} to have a finite number in column {name!r}"
        raise DataError(mismatch("data", wanted, repr(texts[endless])))
    if None not in numbers:
        if min(numbers) == max(numbers):  # a mean that is rounded would leave a deviation of its error
            return Column(name, numbers[0])
        mean = math.fsum(numbers) / len(numbers)
        deviation = math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / len(numbers))
        return Column(name, mean, deviation if deviation > 0 else 1.0)
    counts = Counter(known)
    odd = next(i for i, text in enumerate(texts) if not is_gap(text) and _number(text) is None)
    if len(counts) > _MOST:
        wanted = f"numbers or at most {_MOST} categories in column {name!r} (or --columns without it)"
        raise DataError(mismatch("data", wanted, f"{len(counts)} texts, {texts[odd]!r} in {where[odd]}"))
    if 10 * numbers.count(None) <= len(known):
        wanted = f"{where[odd]} to have a number in column {name!r}, as most rows"
        warnings.warn(f"{mismatch('data', wanted, repr(texts[odd]))}; it is taken for categories", stacklevel=2)
    names = tuple(sorted(counts))
    return Column(name, categories=names, shares=tuple(counts[n] / len(known) for n in names))


def is_gap(text: str) -> bool:
    """Whether a cell says that nothing is known.

    >>> is_gap("NA"), is_gap("0")
    (True, False)
    """
    return text.strip().lower() in _GAPS


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number(text: str) -> float | None:
    value = _float(text)
    return value if value is not None and math.isfinite(value) else None
