"""Boxes: overlap, non-maximum suppression, average precision. NumPy arrays; a box is (x0, y0, x1, y1), x1 > x0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .arguments import number
from .errors import ArgumentError, ShapeError, mismatch


class Detections(NamedTuple):
    """What was found in one image, or what is there (``scores`` None): M objects."""

    boxes: np.ndarray  # (M, 4) in pixels
    labels: np.ndarray  # (M,) int64
    scores: np.ndarray | None = None  # (M,) in [0, 1]


def _boxes(op: str, name: str, boxes: Any) -> np.ndarray:
    array = np.asarray(boxes, np.float64)
    array = array.reshape(0, 4) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise ShapeError(mismatch(op, f"{name} (M, 4)", f"shape {array.shape}"))
    if not (array[:, 2:] >= array[:, :2]).all():
        raise ArgumentError(mismatch(op, f"{name} (x0, y0, x1, y1) with x1 >= x0 and y1 >= y0", "one that is not"))
    return array


def box_iou(boxes1: Any, boxes2: Any) -> np.ndarray:
    """Return the intersection over union of each of ``boxes1`` (M, 4) with each of ``boxes2`` (K, 4): (M, K).

    Two boxes without area have 0.

    >>> box_iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]]).round(3)
    array([[1.   , 0.333, 0.   ]])
    """
    a, b = _boxes("box_iou", "boxes1", boxes1)[:, None], _boxes("box_iou", "boxes2", boxes2)[None]
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = overlap.clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def nms(boxes: Any, scores: Any, iou_threshold: float = 0.5, labels: Any = None) -> np.ndarray:
    """Return the indices of the boxes that stay, best score first: each suppresses those that overlap it by more than
    ``iou_threshold``; with ``labels``, of its own class alone. Equal scores stay in their order.

    >>> nms([[0, 0, 2, 2], [0, 0, 2, 2.1], [4, 4, 5, 5]], [0.8, 0.9, 0.1])
    array([1, 2])
    """
    op = "nms"
    boxes, scores = _boxes(op, "boxes", boxes), np.asarray(scores, np.float64)
    iou_threshold = number(op, "iou_threshold", iou_threshold, 0, 1)
    if scores.shape != (len(boxes),):
        raise ShapeError(mismatch(op, f"scores ({len(boxes)},)", f"shape {scores.shape}"))
    labels = np.zeros(len(boxes), int) if labels is None else np.asarray(labels)
    left = np.argsort(-scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        suppressed = box_iou(boxes[[best]], boxes[left])[0] > iou_threshold
        left = left[~suppressed | (labels[left] != labels[best])]
    return np.array(kept, np.int64)


def average_precision(scores: Any, correct: Any, num_objects: int) -> float:
    """Return the area under the precision-recall curve, precision made monotone (Pascal VOC since 2010).

    Args:
        scores: (M,) of all detections; correct: (M,) bool; num_objects: how many there were to find.

    Returns NaN where there was nothing to find.
    """
    if not num_objects:
        return float("nan")
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    hits = np.cumsum(np.asarray(correct, bool)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0], hits / num_objects])
    return float((np.diff(recall) * precision).sum())


def mean_average_precision(
    found: Sequence[Detections], truth: Sequence[Detections], num_classes: int, iou_threshold: float = 0.5
) -> tuple[float, np.ndarray]:
    """Return the mean over classes, and the average precision of each (NaN where no image has it).

    In each image a detection, best score first, is correct if the object of its class that it overlaps most, by at
    least ``iou_threshold``, was not found before (Everingham et al. 2010, https://doi.org/10.1007/s11263-009-0275-4).

    >>> there = [Detections(np.array([[0.0, 0, 4, 4]]), np.array([1]))]
    >>> seen = [Detections(np.array([[0.0, 0, 4, 3]]), np.array([1]), np.array([0.7]))]
    >>> mean_average_precision(seen, there, 2)[0]
    1.0
    """
    op = "mean_average_precision"
    if len(found) != len(truth):
        raise ArgumentError(mismatch(op, f"found for each of {len(truth)} images", len(found)))
    precisions = np.full(num_classes, np.nan)
    for label in range(num_classes):
        scores: list[float] = []
        correct: list[bool] = []
        objects = 0
        for seen, there in zip(found, truth, strict=True):
            if seen.scores is None:
                raise ArgumentError(mismatch(op, "found with scores", None))
            boxes = np.asarray(there.boxes).reshape(-1, 4)[np.asarray(there.labels) == label]
            objects += len(boxes)
            mine = np.flatnonzero(np.asarray(seen.labels) == label)
            mine = mine[np.argsort(-np.asarray(seen.scores)[mine], kind="stable")]
            free = np.ones(len(boxes), bool)
            for overlap, index in zip(box_iou(np.asarray(seen.boxes)[mine], boxes), mine, strict=True):
                best = int(overlap.argmax()) if len(boxes) else -1
                hit = best >= 0 and overlap[best] >= iou_threshold and bool(free[best])
                if hit:
                    free[best] = False
                scores.append(float(seen.scores[index]))
                correct.append(hit)
        precisions[label] = average_precision(scores, correct, objects)
    known = precisions[~np.isnan(precisions)]
    return float(known.mean()) if known.size else float("nan"), precisions
