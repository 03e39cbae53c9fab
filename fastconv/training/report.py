"""Results as text: the table of metrics, the confusion matrix, one line an epoch. Pictures are in plots.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .metrics import Metrics


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


def epoch_line(entry: dict, epochs: int) -> str:
    """Return one epoch of the history as a line."""
    width = len(str(epochs))
    return (
        f"epoch {entry['epoch']:>{width}}/{epochs}  loss {entry['train_loss']:.4f}  "
        f"train {100 * entry['train_accuracy']:6.2f} %  test {100 * entry['test_accuracy']:6.2f} %  "
        f"{entry['images_per_second']:,.0f} images/s  {entry['seconds']:.1f} s"
    )


def _with_mean(values: np.ndarray) -> list[float]:
    return [*values, float(np.mean(values))]


def _align(rows: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
