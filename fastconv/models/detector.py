"""A single-shot detector: one look at the image, boxes and classes for each cell of a grid.

After Redmon and Farhadi 2017 (https://arxiv.org/abs/1612.08242): a cell has some anchors (widths and heights in
pixels), and predicts for each: is there an object, where in the cell is its centre, how large is it against the
anchor, which class is it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..arguments import integer, number
from ..detection import Detections, box_iou, nms
from ..errors import ArgumentError, ShapeError, mismatch
from ..nn import functional as F
from ..tensor import Tensor

STRIDE = 16  # pixels a cell
_LARGEST = 8.0  # exp() of more is no size


class GridDetector(nn.Module):
    """(N, in_channels, H, W) -> logits (N, A, 5 + num_classes, H / 16, W / 16), A anchors.

    The 5: object; centre x and y, through a sigmoid, in the cell; logarithms of width and height over the anchor's.
    """

    def __init__(
        self, num_classes: int, anchors: Sequence[tuple[float, float]] = ((24, 24),), in_channels: int = 3,
        width: int = 16, dtype: Any = None,
    ) -> None:  # fmt: skip
        op = "grid_detector"
        self.num_classes = integer(op, "num_classes", num_classes, 1)
        self.anchors = np.array(anchors, np.float64)
        if self.anchors.ndim != 2 or self.anchors.shape[1] != 2 or not (self.anchors > 0).all():
            raise ArgumentError(mismatch(op, "anchors ((width, height), ...) in pixels", repr(anchors)))
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in range(4):
            maps = width << stage
            layers.append(nn.Conv2d(channels, maps, 3, padding=1, bias=False, dtype=dtype))
            layers += [nn.BatchNorm2d(maps, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2)]
            channels = maps
        layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=dtype))
        layers += [nn.BatchNorm2d(channels, dtype=dtype), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Conv2d(channels, len(self.anchors) * (5 + num_classes), 1, dtype=dtype)

    def forward(self, input: Any) -> Any:
        if any(size % STRIDE for size in input.shape[2:]):
            expected = f"height and width that are multiples of {STRIDE}"
            raise ShapeError(mismatch("grid_detector", expected, f"input {tuple(input.shape)}"))
        logits = self.head(self.features(input))
        n, _, rows, columns = logits.shape
        return F.reshape(logits, (n, len(self.anchors), 5 + self.num_classes, rows, columns))

    def targets(self, truth: Sequence[Detections], shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
        """Return what the logits of ``shape`` stand for: (N, A, 6, rows, columns) of object (0 or 1), the four numbers
        of its box, and its class. An object belongs to the cell of its centre and the anchor most like it in shape.

        Raises:
            ArgumentError: an object without area, outside the image, or of no known class.
        """
        n, _, _, rows, columns = shape
        target = np.zeros((n, len(self.anchors), 6, rows, columns), dtype)
        at_origin = np.concatenate([np.zeros_like(self.anchors), self.anchors], 1)
        for i, (boxes, labels, _) in enumerate(truth):
            for box, label in zip(np.asarray(boxes, np.float64), labels, strict=True):
                size, centre = box[2:] - box[:2], (box[:2] + box[2:]) / 2 / STRIDE
                inside = (size > 0).all() and (centre >= 0).all() and (centre < (columns, rows)).all()
                if not inside or not 0 <= label < self.num_classes:
                    raise ArgumentError(
                        mismatch("grid_detector", f"boxes in image {i} and labels below {self.num_classes}",
                                 f"{box.tolist()}, {int(label)}")
                    )  # fmt: skip
                anchor = int(box_iou([[0, 0, *size]], at_origin)[0].argmax())
                column, row = centre.astype(int)
                scale = np.log(size / self.anchors[anchor])
                target[i, anchor, :, row, column] = 1, centre[0] - column, centre[1] - row, *scale, label
        return target

    def loss(self, logits: Tensor, truth: Sequence[Detections], background: float = 0.5) -> Tensor:
        """Return the loss a sample: cross-entropies of object (``background`` weighs the empty cells), centre and
        class, and the squared error of the sizes' logarithms; the last three where there is an object."""
        target = self.targets(truth, logits.shape, logits.data.dtype)
        there = target[:, :, 0]
        n = max(1, logits.shape[0])
        bce = F.binary_cross_entropy_with_logits
        found = bce(logits[:, :, 0], there, np.where(there > 0, 1, background).astype(there.dtype), reduction="sum")
        centre = bce(logits[:, :, 1:3], target[:, :, 1:3], np.repeat(there[:, :, None], 2, 2), reduction="sum")
        scale = ((logits[:, :, 3:5] - target[:, :, 3:5]) * there[:, :, None]) * (logits[:, :, 3:5] - target[:, :, 3:5])
        labels = np.where(there > 0, target[:, :, 5], -100).astype(np.int64)
        classes = F.flatten(logits[:, :, 5:], 0, 1)
        kind = F.cross_entropy(classes, labels.reshape(-1, *labels.shape[2:]), reduction="sum")
        return (found + centre + scale.sum() + kind) / float(n)

    def decode(self, logits: Any, score_threshold: float = 0.5, iou_threshold: float = 0.5) -> list[Detections]:
        """Return what was found in each image, best first: score = probability of an object times that of its class,
        overlaps suppressed class by class."""
        score_threshold = number("grid_detector", "score_threshold", score_threshold, 0, 1)
        raw = np.asarray(Tensor(logits).numpy(), np.float64)
        n, anchors, _, rows, columns = raw.shape
        grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows), indexing="xy"))  # (2, rows, columns)
        centre = (_sigmoid(raw[:, :, 1:3]) + grid) * STRIDE
        size = np.exp(np.minimum(raw[:, :, 3:5], _LARGEST)) * self.anchors[:, :, None, None]
        limit = np.array([columns, rows])[:, None, None] * STRIDE
        boxes = np.concatenate([(centre - size / 2).clip(0, limit), (centre + size / 2).clip(0, limit)], 2)
        classes = np.exp(raw[:, :, 5:] - raw[:, :, 5:].max(2, keepdims=True))
        classes *= _sigmoid(raw[:, :, :1]) / classes.sum(2, keepdims=True)
        boxes = np.moveaxis(boxes, 2, -1).reshape(n, -1, 4)
        classes = np.moveaxis(classes, 2, -1).reshape(n, anchors * rows * columns, -1)
        results = []
        for box, probability in zip(boxes, classes, strict=True):
            labels, scores = probability.argmax(1), probability.max(1)
            strong = np.flatnonzero(scores >= score_threshold)
            kept = strong[nms(box[strong], scores[strong], iou_threshold, labels[strong])]
            results.append(Detections(box[kept], labels[kept], scores[kept]))
        return results


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def grid_detector(num_classes: int, **options: Any) -> GridDetector:
    """Return a single-shot detector for (N, in_channels, H, W), H and W multiples of 16.

    Args:
        options: ``anchors`` (((24, 24),): widths and heights in pixels), ``in_channels`` (3), ``width`` (16: maps of
            the first stage), ``dtype``.
    """
    return GridDetector(num_classes, **options)
