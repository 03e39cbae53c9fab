"""The results of a network on the user's cases: metrics.json, tables, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.cases import CaseBatches, CaseSet
from ..data.cases.case import Case
from ..nn import Module
from . import folder, inference, overlays, plots, report, scores
from .inference import About
from .metrics import measure
from .task import Segment, overlaps

_PICTURES = 12  # overlays


class Views:
    """The cases of a part as pictures: item i is (H, W), or (H, W, 3) in colour, in 0..1; of a volume its middle."""

    def __init__(self, data: CaseSet, part: str) -> None:
        self.data, self.part = data, part

    def __getitem__(self, index: int) -> np.ndarray:
        image = self.data.sample(self.part, int(index)).image
        return overlays.view(image)


def answers(model: Module, batches: CaseBatches, about: About, device: str = "cpu") -> np.ndarray:
    """Return the probabilities (N, classes) of a part's cases, or their masks (N, *size) of classes."""
    if batches.data.frame.task == "segment":
        kept = Segment("cross-entropy", len(about.classes)).kept
        return inference.outputs(model, batches.epoch(0), device=device, kept=kept)
    return inference.probabilities(inference.outputs(model, batches.epoch(0), device=device), about.loss)


def summarise(data: CaseSet, part: str, found: np.ndarray) -> dict[str, Any]:
    """Return the figures of what ``answers`` found, as metrics.json has them."""
    cases, classes = data.parts[part], data.classes
    if data.frame.task == "segment":
        result = scores.segmentation(dice(data, part, found), classes, cases.groups())
    else:
        result = scores.classification(cases.labels, found, classes, cases.groups())
    return {"data": data.name, "part": part, **result}


def dice(data: CaseSet, part: str, found: np.ndarray) -> np.ndarray:
    """Return the Dice coefficients (N, classes) of masks (N, *size), which may be larger than the cases' behind."""
    rows = []
    for i, mask in enumerate(found):
        true = data.sample(part, i).mask
        rows.append(overlaps(true, mask[tuple(map(slice, true.shape))], len(data.classes)))
    return np.array(rows)


def show(summary: dict[str, Any], data: CaseSet, part: str, found: np.ndarray) -> None:
    """Print the figures."""
    resampled = f"{100 * summary['confidence']:g} % intervals from {summary['resamples']:,} resamples"
    print(f"\n{part}: {summary['samples']:,} cases of {data.name}; {resampled} of {summary['resampled']}\n")
    print(report.interval_table(summary), flush=True)
    if data.frame.task == "classify":
        metrics = measure(data.parts[part].labels, found.argmax(axis=1), len(data.classes))
        print("\n" + report.confusion_table(metrics, data.classes), flush=True)


def write(place: Path, summary: dict[str, Any], data: CaseSet, part: str, found: np.ndarray) -> None:
    """Write metrics.json, predictions.json (what was said of each case), and the pictures where there is matplotlib."""
    folder.write_json(place / "metrics.json", summary)
    folder.write_json(place / "predictions.json", _answers(data, part, found))
    if not plots.available():
        return
    views = Views(data, part)
    if data.frame.task == "segment":
        rank = dice(data, part, found)
        overlays.draw(data, part, found, rank, place / "overlays.png", _PICTURES)
        return
    labels, classes = data.parts[part].labels, data.classes
    metrics = measure(labels, found.argmax(axis=1), len(classes))
    plots.confusion(metrics, classes, place / "confusion_matrix.png")
    plots.roc_curves(labels, found, classes, place / "roc.png")
    plots.worst_mistakes(views, labels, found, classes, place / "worst_mistakes.png", cmap="gray", vmax=1)


def _answers(data: CaseSet, part: str, found: np.ndarray) -> list[dict[str, Any]]:
    cases: list[Case] = data.parts[part].cases
    if data.frame.task == "segment":
        rows = dice(data, part, found)
        named = [{n: None if np.isnan(v) else float(v) for n, v in zip(data.classes, row, strict=True)} for row in rows]
        return [{"case": case.name, "dice": row} for case, row in zip(cases, named, strict=True)]
    return [
        {
            "case": case.name, "true": case.target, "class": data.classes[int(row.argmax())],
            "probabilities": dict(zip(data.classes, map(float, row), strict=True)),
        }
        for case, row in zip(cases, found, strict=True)
    ]  # fmt: skip
