"""Verdicts: which candidate of plan.py was fastest on this machine, for single geometries. Read here, made in tuning.

They count only where the user asks: by ``fastconv.tuning.load`` or FASTCONV_TUNED. A file holds entries of machines; an
entry counts for the version, instruction set and processor that it was measured with. A verdict names its geometry
without the batch, and knows no threads: so equal images still give equal bits for any number of either.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

from ... import config
from ...geometry import ConvGeometry
from .dispatch import isa

FORMAT = 1
_FIELDS = tuple(field.name for field in fields(ConvGeometry) if field.init and field.name != "n")

verdicts: dict[str, str] | None = None  # candidates by key; None: FASTCONV_TUNED was not looked at yet


def machine() -> dict[str, str]:
    """Return what an entry must name to count here."""
    from ... import __version__

    return {"fastconv": __version__, "isa": isa(), "processor": config.processor()}


def key(verb: str, geometry: ConvGeometry, itemsize: int) -> str:
    """Return how a file names a verb on a geometry, of any batch."""
    values = ((name, getattr(geometry, name)) for name in _FIELDS)
    parts = (f"{name} {'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in values)
    return f"{verb}, {8 * itemsize} bits, {', '.join(parts)}"


def choice(verb: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """Return the name of the candidate that a verdict wants; None where there is none."""
    global verdicts
    if verdicts is None:
        path = config.tuned()
        verdicts = read(path) if path else {}
    return verdicts.get(key(verb, geometry, itemsize)) if verdicts else None


def read(path: Path) -> dict[str, str]:
    """Return the verdicts in a file that count here; warn, and return none, where it is damaged, foreign or missing."""
    try:
        entry = next((e for e in entries(path) if e["machine"] == machine()), None)
    except (OSError, ValueError) as error:
        warnings.warn(f"tuned verdicts are not used: {path}: {error}", RuntimeWarning, stacklevel=2)
        return {}
    if entry is None:
        text = f"tuned verdicts are not used: {path} has none for this version, instruction set and processor"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return {}
    return {name: verdict["choice"] for name, verdict in entry["verdicts"].items()}


def entries(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file.

    Raises:
        OSError: it cannot be read. ValueError: it is no file of verdicts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, not {FORMAT}")
        for entry in content["entries"]:
            named = [*entry["machine"].values(), *(v["choice"] for v in entry["verdicts"].values())]
            if not all(isinstance(name, str) for name in named):
                raise ValueError("a name that is none")
        return list(content["entries"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no file of verdicts ({type(error).__name__}: {error})") from None
