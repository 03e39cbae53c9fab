"""Results as text: the table of metrics, the confusion matrix, one line an epoch. Pictures are in plots.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .metrics import Metrics

_TITLES = {"f1": "F1", "auc": "AUC", "dice": "Dice"}


def metrics_table(metrics: Metrics, classes: Sequence[str]) -> str:
    """Return sensitivity, precision and F1 of each class and their means, aligned.

    >>> from fastconv.training.metrics import measure
    >>> print(metrics_table(measure(np.array([0, 1, 1]), np.array([0, 1, 0]), 2), ["cat", "dog"]))
    class  sensitivity  precision      F1  samples
    cat       100.00 %    50.00 %  0.6667        1
    dog        50.00 %   100.00 %  0.6667        2
    mean       75.00 %    75.00 %  0.6667        3
    """
    rows = [
        (name, f"{100 * s:.2f} %", f"{100 * p:.2f} %", f"{f:.4f}", f"{n:,}")
        for name, s, p, f, n in zip(
            [*classes, "mean"],
            _with_mean(metrics.sensitivity), _with_mean(metrics.precision), _with_mean(metrics.f1),
            [*metrics.support, metrics.support.sum()],
            strict=True,
        )
    ]  # fmt: skip
    return _align([("class", "sensitivity", "precision", "F1", "samples"), *rows])


def confusion_table(metrics: Metrics, classes: Sequence[str]) -> str:
    r"""Return the confusion matrix, a row a true class, a column a predicted one; zeros as dots.

    >>> from fastconv.training.metrics import measure
    >>> print(confusion_table(measure(np.array([0, 1, 1]), np.array([0, 1, 0]), 2), ["cat", "dog"]))
    true \ predicted  cat  dog
    cat                 1    .
    dog                 1    1
    """
    header = ("true \\ predicted", *(name[:8] for name in classes))
    rows = [(name, *(str(n) if n else "." for n in row)) for name, row in zip(classes, metrics.confusion, strict=True)]
    return _align([header, *rows])


def interval_table(summary: dict[str, Any]) -> str:
    """Return the figures of each class in a summary of ``scores``, and their means, with their intervals.

    >>> from fastconv.training.scores import segmentation
    >>> print(interval_table(segmentation(np.array([[1.0, 0.5], [1.0, 0.5]]), ["none", "lesion"])))
    class   Dice                    cases
    none    1.0000 (1.0000-1.0000)      2
    lesion  0.5000 (0.5000-0.5000)      2
    mean    0.5000 (0.5000-0.5000)      2
    """
    rows = [*summary["classes"].items(), ("mean", summary["mean"])]
    names = list(summary["mean"])
    count = "cases" if names == ["dice"] else "samples"
    header = ("class", *(_TITLES.get(name, name) for name in names), count)
    body = [
        (label, *(_interval(row[n]) for n in names), f"{row.get(count, summary['samples']):,}") for label, row in rows
    ]
    table = _align([header, *body], left=len(names) + 1)
    accuracy = summary.get("accuracy")
    return f"accuracy {_interval(accuracy)}\n\n{table}" if accuracy else table


def _interval(value: dict[str, float | None]) -> str:
    if value["value"] is None:
        return "-"
    ends = "-".join("?" if value[end] is None else f"{value[end]:.4f}" for end in ("low", "high"))
    return f"{value['value']:.4f} ({ends})"


def epoch_line(entry: dict, epochs: int) -> str:
    """Return one epoch of the history as a line."""
    width = len(str(epochs))
    score, part = watched(entry)
    return (
        f"epoch {entry['epoch']:>{width}}/{epochs}  loss {entry['train_loss']:.4f}  "
        f"train {100 * entry[f'train_{score}']:6.2f} %  {part} {100 * entry[f'{part}_{score}']:6.2f} %  "
        f"{entry['images_per_second']:,.0f} images/s  {entry['seconds']:.1f} s"
    )


def watched(entry: dict) -> tuple[str, str]:
    """Return the score in an entry of the history, 'accuracy' or 'dice', and the part beside 'train', 'val' or 'test'.

    >>> watched({"train_dice": 0.5, "train_loss": 1.0, "val_dice": 0.4, "val_loss": 1.1})
    ('dice', 'val')
    """
    return "dice" if "train_dice" in entry else "accuracy", "val" if "val_loss" in entry else "test"


def _with_mean(values: np.ndarray) -> list[float]:
    return [*values, float(np.mean(values))]


def _align(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The first columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
