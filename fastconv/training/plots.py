"""Results as pictures, where matplotlib is installed: learning curves, the confusion matrix, the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..plots import HINT as HINT  # the job asks this module
from ..plots import available as available
from ..plots import figure, write
from .metrics import Metrics
from .report import watched
from .roc import roc_auc, roc_curve

_ROWS, _COLUMNS = 4, 6


def learning_curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss and score over the epochs."""
    drawn = figure(9, 3.6)
    epochs = [entry["epoch"] for entry in history]
    score, check = watched(history[-1])
    for place, what in ((1, "loss"), (2, score)):
        axes = drawn.add_subplot(1, 2, place)
        for part in ("train", check):
            axes.plot(epochs, [entry[f"{part}_{what}"] for entry in history], marker="o", markersize=3, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.grid(alpha=0.3)
        axes.legend()
    write(drawn, path)


def confusion(metrics: Metrics, classes: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix; colour is the share of the true class."""
    drawn = figure(7, 6.2)
    axes = drawn.add_subplot()
    share = metrics.confusion / np.maximum(metrics.support[:, None], 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(metrics.confusion):
        if count:
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 2 else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"accuracy {100 * metrics.accuracy:.2f} %")
    write(drawn, path)


def roc_curves(true: np.ndarray, probability: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Draw the ROC curve of each class against all others; of two classes, of the second alone."""
    drawn = figure(5.4, 5)
    axes = drawn.add_subplot()
    for k in range(len(classes)) if len(classes) > 2 else (1,):
        if 0 < (true == k).sum() < len(true):
            false_positive, true_positive, _ = roc_curve(true == k, probability[:, k])
            area = roc_auc(true == k, probability[:, k])
            axes.plot(false_positive, true_positive, label=f"{classes[k]}  {area:.3f}")
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle=":")
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(title="area under the curve", fontsize=8)
    write(drawn, path)


def worst_mistakes(
    images: Any, true: np.ndarray, probability: np.ndarray, classes: Sequence[str], path: Path,
    cmap: str = "gray_r", vmax: float = 255,
) -> None:  # fmt: skip
    """Draw the wrong predictions in which the network was surest. ``images[i]`` is (H, W) of 0 to ``vmax``, or (H, W,
    3) of 0 to 1; probability is (N, classes)."""
    predicted = probability.argmax(axis=1)
    surest = probability.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    wrong = wrong[np.argsort(-surest[wrong], kind="stable")][: _ROWS * _COLUMNS]
    drawn = figure(9, 7)
    drawn.suptitle("worst mistakes: predicted (probability), true" if wrong.size else "no mistakes")
    for place, index in enumerate(wrong):
        axes = drawn.add_subplot(_ROWS, _COLUMNS, place + 1)
        axes.imshow(images[index], cmap=cmap, vmin=0, vmax=vmax)
        axes.set_axis_off()
        guess = f"{classes[predicted[index]]} ({100 * surest[index]:.0f} %)"
        axes.set_title(f"{guess}, {classes[true[index]]}", fontsize=8)
    write(drawn, path)
