"""The results of a network on the user's cases: metrics.json, tables, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.cases import CaseBatches, CaseSet
from ..data.cases.case import Case
from ..nn import Module
from . import folder, inference, overlays, plots, report, scores
from .inference import About
from .metrics import measure
from .task import Segment, overlaps

_PICTURES = 12  # overlays


class Answers(NamedTuple):
    """The probabilities (N, classes) of a part's cases; or their masks (N, *size) of classes, which may be larger than
    the cases' behind, and the Dice coefficients (N, classes) of these."""

    values: np.ndarray
    dice: np.ndarray | None = None


class Views:
    """The cases of a part as pictures: item i is (H, W), or (H, W, 3) in colour, in 0..1; of a volume its middle."""

    def __init__(self, data: CaseSet, part: str) -> None:
        self.data, self.part = data, part

    def __getitem__(self, index: int) -> np.ndarray:
        image = self.data.sample(self.part, int(index)).image
        return overlays.view(image)


def answers(model: Module, batches: CaseBatches, about: About, device: str = "cpu") -> Answers:
    """Return what a network says of the cases in batches, in their order."""
    if batches.data.frame.task == "segment":
        kept = Segment("cross-entropy", len(about.classes)).kept
        masks = inference.outputs(model, batches.epoch(0), device=device, kept=kept)
        return Answers(masks, _dice(batches.data, batches.part, masks))
    return Answers(inference.probabilities(inference.outputs(model, batches.epoch(0), device=device), about.loss))


def summarise(data: CaseSet, part: str, found: Answers) -> dict[str, Any]:
    """Return the figures of what ``answers`` found, as metrics.json has them."""
    cases, classes = data.parts[part], data.classes
    if found.dice is not None:
        result = scores.segmentation(found.dice, classes, cases.groups())
    else:
        result = scores.classification(cases.labels, found.values, classes, cases.groups())
    return {"data": data.name, "part": part, **result}


def _dice(data: CaseSet, part: str, masks: np.ndarray) -> np.ndarray:
    rows = []
    for i, mask in enumerate(masks):
        true = data.sample(part, i).mask
        rows.append(overlaps(true, mask[tuple(map(slice, true.shape))], len(data.classes)))
    return np.array(rows)


def show(summary: dict[str, Any], data: CaseSet, part: str, found: Answers) -> None:
    """Print the figures."""
    resampled = f"{100 * summary['confidence']:g} % intervals from {summary['resamples']:,} resamples"
    print(f"\n{part}: {summary['samples']:,} cases of {data.name}; {resampled} of {summary['resampled']}\n")
    print(report.interval_table(summary), flush=True)
    if data.frame.task == "classify":
        metrics = measure(data.parts[part].labels, found.values.argmax(axis=1), len(data.classes))
        print("\n" + report.confusion_table(metrics, data.classes), flush=True)


def write(place: Path, summary: dict[str, Any], data: CaseSet, part: str, found: Answers) -> None:
    """Write metrics.json, predictions.json (what was said of each case), and the pictures where there is matplotlib."""
    folder.write_json(place / "metrics.json", summary)
    folder.write_json(place / "predictions.json", _answers(data, part, found))
    if not plots.available():
        return
    views, (values, dice) = Views(data, part), found
    if dice is not None:
        overlays.draw(data, part, values, dice, place / "overlays.png", _PICTURES)
        return
    labels, classes = data.parts[part].labels, data.classes
    metrics = measure(labels, values.argmax(axis=1), len(classes))
    plots.confusion(metrics, classes, place / "confusion_matrix.png")
    plots.roc_curves(labels, values, classes, place / "roc.png")
    plots.worst_mistakes(views, labels, values, classes, place / "worst_mistakes.png", cmap="gray", vmax=1)


def _answers(data: CaseSet, part: str, found: Answers) -> list[dict[str, Any]]:
    cases: list[Case] = data.parts[part].cases
    if found.dice is not None:
        named = [
            {n: None if np.isnan(v) else float(v) for n, v in zip(data.classes, row, strict=True)} for row in found.dice
        ]
        return [{"case": case.name, "dice": row} for case, row in zip(cases, named, strict=True)]
    return [
        {
            "case": case.name, "true": case.target, "class": data.classes[int(row.argmax())],
            "probabilities": dict(zip(data.classes, map(float, row), strict=True)),
        }
        for case, row in zip(cases, found.values, strict=True)
    ]  # fmt: skip
