"""Boxes: overlaps, suppression, average precision by hand and by brute force; the detector finds what it was shown."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import models, optim
from fastconv.detection import Detections, average_precision, box_iou, mean_average_precision, nms
from fastconv.errors import ArgumentError, ShapeError

coordinate = st.integers(0, 12)
boxes_of = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=8).map(
    lambda rows: np.array([[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in rows])
)


def pixels(box):
    return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}


@given(boxes_of, boxes_of)
def test_iou_counts_pixels(a, b):
    expected = [[len(pixels(p) & pixels(q)) / len(pixels(p) | pixels(q)) for q in b] for p in a]
    np.testing.assert_allclose(box_iou(a, b), expected, rtol=1e-12)


@given(boxes_of, st.floats(0, 0.9), st.data())
@settings(max_examples=60)
def test_nms_keeps_the_best_and_only_those_apart(boxes, threshold, data):
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(boxes), max_size=len(boxes)))) / 5
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(boxes), max_size=len(boxes))))
    kept = nms(boxes, scores, threshold, labels)
    assert (np.diff(scores[kept]) <= 0).all()
    rivals = (box_iou(boxes, boxes) > threshold) & (labels[:, None] == labels)
    assert not np.triu(rivals[np.ix_(kept, kept)], 1).any()
    for i in set(range(len(boxes))) - set(kept.tolist()):  # each that went lost to one that stayed
        assert any(rivals[i, j] and scores[j] >= scores[i] for j in kept)


def test_average_precision_by_hand():
    # hits at ranks 1 and 3 of 2 objects: precisions 1 and 2/3, each over half of the recall
    assert average_precision([0.9, 0.8, 0.7], [True, False, True], 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision([], [], 3) == 0
    assert np.isnan(average_precision([], [], 0))


def test_map_counts_each_object_once():
    truth = [Detections(np.array([[0, 0, 4, 4], [6, 6, 9, 9]]), np.array([0, 1]))]
    twice = Detections(
        np.array([[0, 0, 4, 4], [0, 0, 4, 3], [6, 6, 9, 9]]), np.array([0, 0, 1]), np.array([0.9, 0.95, 0.1])
    )
    mean, each = mean_average_precision([twice], truth, 3)
    # class 0: the better score overlaps by 3/4 and takes the object; the exact box comes second and is wrong
    np.testing.assert_allclose(each, [1, 1, np.nan])
    assert mean == 1
    strict, each = mean_average_precision([twice], truth, 3, iou_threshold=0.8)
    np.testing.assert_allclose(each, [0.5, 1, np.nan])
    assert strict == 0.75


def test_boxes_that_are_none():
    with pytest.raises(ShapeError, match=r"box_iou: expected boxes1 \(M, 4\), got shape \(1, 3\)"):
        box_iou([[0, 0, 1]], [[0, 0, 1, 1]])
    with pytest.raises(ArgumentError, match="x1 >= x0"):
        nms([[2, 0, 1, 1]], [1])
    with pytest.raises(ShapeError, match=r"scores \(1,\)"):
        nms([[0, 0, 1, 1]], [1, 2])


def scene(rng):
    """An image with a bright square or a dark bar, and where it is."""
    image = 0.1 * rng.standard_normal((1, 64, 64)).astype(np.float32)
    kind = int(rng.integers(2))
    width, height = ((16, 16), (30, 8))[kind]
    x, y = rng.integers(0, 64 - width), rng.integers(0, 64 - height)
    image[:, y : y + height, x : x + width] += (1, -1)[kind]
    return image, Detections(np.array([[x, y, x + width, y + height]], float), np.array([kind]))


def test_targets_and_decoding_are_inverse():
    net = models.grid_detector(3, anchors=((16, 16), (30, 8)), in_channels=1, width=2)
    truth = [
        Detections(np.array([[3.0, 5, 19, 21], [30, 40, 60, 47]]), np.array([2, 0])),
        Detections(np.zeros((0, 4)), np.array([], int)),
    ]
    target = net.targets(truth, (2, 2, 8, 4, 4), np.float64)
    logits = np.zeros((2, 2, 8, 4, 4))
    logits[:, :, 0] = np.where(target[:, :, 0] > 0, 9, -9)
    logits[:, :, 1:3] = np.log(target[:, :, 1:3] / (1 - target[:, :, 1:3]) + 1e-300)
    logits[:, :, 3:5] = target[:, :, 3:5]
    for label in range(3):
        logits[:, :, 5 + label] = 20 * (target[:, :, 5] == label)
    first, second = net.decode(logits)
    order = np.argsort(first.boxes[:, 0])
    np.testing.assert_allclose(first.boxes[order], truth[0].boxes, atol=1e-9)
    assert first.labels[order].tolist() == [2, 0]
    assert len(second.boxes) == 0
    with pytest.raises(ArgumentError, match="boxes in image 0 and labels below 3"):
        net.targets([Detections(np.array([[0.0, 0, 4, 4]]), np.array([3]))], (1, 2, 8, 4, 4))
    with pytest.raises(ShapeError, match="multiples of 16"):
        net(np.zeros((1, 1, 64, 60), np.float32))


def test_the_loss_is_that_of_its_definition_in_torch():
    t = oracle.torch()
    rng = np.random.default_rng(4)
    net = models.grid_detector(3, anchors=((16, 16), (30, 8)), in_channels=1, width=2)
    truth = [
        Detections(np.array([[3.0, 5, 19, 21], [30, 40, 60, 47]]), np.array([2, 0])),
        Detections(np.array([[0.0, 0, 64, 64]]), np.array([1])),
    ]
    raw = rng.standard_normal((2, 2, 8, 4, 4))
    logits, theirs = fastconv.tensor(raw, requires_grad=True), t.tensor(raw, requires_grad=True)
    loss = net.loss(logits, truth, background=0.25)
    loss.backward()

    target = t.from_numpy(net.targets(truth, raw.shape, np.float64))
    there = target[:, :, 0] == 1
    assert there.sum() == 3
    f = t.nn.functional
    bce = f.binary_cross_entropy_with_logits(theirs[:, :, 0], there.double(), reduction="none")
    cells, wanted = theirs.permute(0, 1, 3, 4, 2)[there], target.permute(0, 1, 3, 4, 2)[there]  # (3, 8), (3, 6)
    expected = bce[there].sum() + 0.25 * bce[~there].sum()
    expected = expected + f.binary_cross_entropy_with_logits(cells[:, 1:3], wanted[:, 1:3], reduction="sum")
    expected = expected + ((cells[:, 3:5] - wanted[:, 3:5]) ** 2).sum()
    expected = (expected + f.cross_entropy(cells[:, 5:], wanted[:, 5].long(), reduction="sum")) / 2
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    oracle.assert_close(logits.grad, theirs.grad.numpy(), 1e-12)


def test_the_detector_learns_two_shapes():
    fastconv.manual_seed(0)
    rng = np.random.default_rng(0)
    net = models.grid_detector(2, anchors=((16, 16), (30, 8)), in_channels=1, width=8)
    optimiser = optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(100):
        images, truth = zip(*(scene(rng) for _ in range(16)), strict=True)
        optimiser.zero_grad()
        net.loss(net(np.stack(images)), truth).backward()
        optimiser.step()
    images, truth = zip(*(scene(rng) for _ in range(40)), strict=True)
    with fastconv.no_grad():
        found = net.eval().decode(net(np.stack(images)))
    assert mean_average_precision(found, truth, 2)[0] > 0.8
