"""Patches of the phantom lie where they should, and a set of them is balanced; ellipses measure what they should."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest

from fastconv.data import phantom
from fastconv.data.phantom import Ellipse
from fastconv.errors import ArgumentError, ShapeError


def ramp(rows: float, columns: float, direction: tuple[float, float]) -> phantom.Scan:
    """A picture that grows linearly, with sound travelling one way everywhere."""
    row, column = np.indices((64, 64))
    image = np.rint(rows * row + columns * column).astype(np.uint8)
    ways = np.broadcast_to(np.array(direction, np.float32)[:, None, None], (2, 64, 64))
    return phantom.Scan(image, np.ones((64, 64), np.uint8), ways, Ellipse(32, 32, 10, 8), 1.0)


def test_a_patch_is_the_pixels_around_its_centre():
    scan = phantom.scan(0, 96)
    (patch,) = phantom.cut(scan, np.array([[40, 50]]), 8)
    np.testing.assert_array_equal(patch[0], scan.image[36:44, 46:54].astype(np.float32) / 255)
    corner = phantom.cut(scan, np.array([[0, 95]]), 8)[0, 0]
    np.testing.assert_array_equal(corner[4:, :5], scan.image[:4, 91:].astype(np.float32) / 255)
    assert not corner[:4].any()
    assert phantom.cut(scan, np.zeros((0, 2), int), 8).shape == (0, 1, 8, 8)
    assert phantom.cut(scan, np.zeros((0, 2), int), 8, along=True).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("direction, turns", [((1, 0), 0), ((0, 1), 3), ((-1, 0), 2), ((0, -1), 1)])
def test_a_turned_patch_has_the_sound_come_from_above(direction, turns):
    scan = ramp(3, 1, direction)
    where = np.array([[30, 33]])
    turned, straight = (phantom.cut(scan, where, 9 - 1, along)[0, 0] for along in (True, False))
    # The centre is pixel (4, 4) of 8, so what is left after a turn about it are the seven around it.
    np.testing.assert_allclose(turned[1:, 1:], np.rot90(straight[1:, 1:], turns), atol=1e-6)


def test_along_the_beam_the_ramp_runs_down():
    """A picture that gets brighter along a slanted beam gets brighter downwards, and only so, in a turned patch."""
    direction = np.cos(0.7), np.sin(0.7)
    scan = ramp(2.5 * direction[0], 2.5 * direction[1], direction)
    patch = phantom.cut(scan, np.array([[30, 30]]), 16, along=True)[0, 0] * 255
    np.testing.assert_allclose(np.diff(patch, axis=0).mean(), 2.5, atol=0.1)
    np.testing.assert_allclose(np.diff(patch, axis=1).mean(), 0, atol=0.1)


def test_a_set_is_balanced_and_says_which_phantom_each_patch_is_of():
    few = phantom.draw_patches([5, 6, 7], 50, 16)
    assert np.bincount(few.labels).tolist() == [13, 13, 12, 12]
    assert few.images.shape == few.along.shape == (50, 1, 16, 16)
    assert few.images.dtype == few.along.dtype == few.direction.dtype == np.float32
    assert few.labels.dtype == few.seeds.dtype == np.int64
    assert set(few.seeds.tolist()) == {5, 6, 7}
    np.testing.assert_allclose(np.hypot(*few.direction.T), 1, rtol=1e-6)
    again = phantom.draw_patches([5, 6, 7], 50, 16)
    np.testing.assert_array_equal(few.images, again.images)
    # Each patch is of its phantom, at a place of its class, as it lies and as sound runs there.
    scan = phantom.scan(6)
    of_six = np.flatnonzero(few.seeds == 6)
    for index in of_six[:4]:
        windows = np.lib.stride_tricks.sliding_window_view(scan.image, (16, 16))
        target = np.rint(few.images[index, 0] * 255).astype(np.uint8)
        hits = np.argwhere((windows[:, :, 8, 8] == target[8, 8]) & (windows[:, :, 0, 0] == target[0, 0]))
        same = [hit + 8 for hit in hits if np.array_equal(windows[tuple(hit)], target)]
        assert [tuple(p) for p in same if scan.labels[tuple(p)] == 2 + few.labels[index]]
        assert any(np.array_equal(scan.direction[:, p[0], p[1]], few.direction[index]) for p in same)


def test_upright_pictures_have_the_probe_on_top():
    few = phantom.draw_patches([5], 8, 16, turn=0.0)
    assert (few.direction[:, 0] > np.cos(0.6)).all()
    anyhow = phantom.draw_patches(range(6), 48, 16)
    assert (anyhow.direction[:, 0] < 0).any()


def test_ellipses_measure():
    assert Ellipse(1, 2, 5, 5).circumference == pytest.approx(10 * pi, rel=1e-12)
    t = np.linspace(0, 2 * pi, 20001)
    for a, b in ((5, 4), (9, 3.1), (3, 9)):
        shape = Ellipse(-3, 7, a, b, 0.8)
        x, y = shape.at(t)
        assert shape.circumference == pytest.approx(np.hypot(np.diff(x), np.diff(y)).sum(), rel=1e-6)
        np.testing.assert_allclose(shape.surface(x, y)[0], 0, atol=1e-9)
        further = shape.at(t, 1.001)
        distance, right, down = shape.surface(*further)
        assert (distance > 0).all()
        np.testing.assert_allclose(np.hypot(right, down), 1, rtol=1e-9)
        # first order: stepping back along the normal by the distance leads onto the outline
        np.testing.assert_allclose(shape.surface(further[0] - distance * right, further[1] - distance * down)[0], 0,
                                   atol=1e-4)  # fmt: skip
    moved = Ellipse(1, 2, 5, 3, 0.2).moved(0.5, 10, 20, 2)
    assert (moved.a, moved.b, moved.angle) == (10, 6, 0.7)
    x, y = Ellipse(1, 2, 5, 3, 0.2).at(t)
    c, s = 2 * np.cos(0.5), 2 * np.sin(0.5)
    np.testing.assert_allclose(moved.surface(c * x - s * y + 10, s * x + c * y + 20)[0], 0, atol=1e-9)
    assert Ellipse(0, 0, 0, 0).circumference == 0


@pytest.mark.parametrize("call, message", [
    (lambda: phantom.scan(-1), "seed >= 0"),
    (lambda: phantom.scan(0, 16), "size >= 32"),
    (lambda: phantom.scan(0, 64, "up"), "turn to be a number"),
    (lambda: phantom.scan(0, 64, np.inf), "turn in"),
    (lambda: phantom.draw_patches([], 8), "seeds of one phantom"),
    (lambda: phantom.draw_patches([0], 3), "count >= 4"),
    (lambda: phantom.draw_patches([0], 8, margin=-1), "margin >= 0"),
    (lambda: phantom.draw_patches([0], 10**6, 2), "whose phantoms show"),
    (lambda: phantom.cut(phantom.scan(0, 64), np.zeros((1, 2), int), 7), "an even size"),
    (lambda: phantom.cut(phantom.scan(0, 64), np.zeros((1, 2)), 8), "centres of integers"),
    (lambda: phantom.cut(phantom.scan(0, 64), np.array([[0, 64]]), 8), "centres in"),
    (lambda: Ellipse(0, 0, -1, 2), "a in"),
])  # fmt: skip
def test_arguments_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_centres_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"centres \(N, 2\)"):
        phantom.cut(phantom.scan(0, 64), np.zeros(2, int), 8)
