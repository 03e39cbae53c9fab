"""The phantom: what the pictures' truth says agrees with geometry, echoes have the statistics of speckle, patches lie
where they should, and a seed is all it takes."""

from __future__ import annotations

from functools import cache
from math import pi

import numpy as np
import pytest

from fastconv.data import phantom
from fastconv.data.phantom import CLASSES, anatomy, bmode, scanner

SEEDS = (0, 3, 11)
OUTSIDE, TISSUE, FLUID, STOMACH, VEIN, SHADOW = range(len(CLASSES))


@cache
def picture(seed: int, turn: float | None = None) -> phantom.Scan:
    return phantom.scan(seed, 192, turn)


def test_a_seed_gives_the_same_bits_and_another_seed_another_body():
    again = phantom.scan(3, 192)
    for name in ("image", "labels", "direction"):
        np.testing.assert_array_equal(getattr(again, name), getattr(picture(3), name))
    assert again.abdomen == picture(3).abdomen
    assert picture(0).abdomen != picture(3).abdomen
    assert (picture(0).image != picture(3).image).mean() > 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_agree_with_the_outline_of_the_abdomen(seed):
    scan = picture(seed)
    rows, columns = np.indices(scan.labels.shape)
    distance = scan.abdomen.surface(columns, rows)[0]
    assert (distance[scan.labels == FLUID] > -1).all()  # a pixel is that of the nearest sample
    for organ in (STOMACH, VEIN):
        assert (scan.labels == organ).any()
        assert (distance[scan.labels == organ] < 0).all()
    assert not scan.image[~scan.sector].any()
    assert scan.image.dtype == scan.labels.dtype == np.uint8
    assert 0.25 < scan.sector.mean() < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_fluids_and_shadows_are_dark_and_the_outline_is_bright_where_it_faces_the_probe(seed):
    scan = picture(seed)
    mean = {label: scan.image[scan.labels == label].mean() for label in (TISSUE, FLUID, STOMACH, VEIN, SHADOW)}
    assert all(mean[label] < 0.8 * mean[TISSUE] for label in (FLUID, STOMACH, VEIN, SHADOW))
    assert mean[FLUID] < min(mean[TISSUE], mean[VEIN]) / 1.5
    t = np.linspace(0, 2 * pi, 720)
    x, y = scan.abdomen.at(t)
    _, right, down = scan.abdomen.surface(x, y)
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (row >= 0) & (column >= 0) & (row < 192) & (column < 192)
    row, column, right, down = row[inside], column[inside], right[inside], down[inside]
    towards = scan.direction[:, row, column]
    facing = (np.abs(down * towards[0] + right * towards[1]) > 0.95) & (scan.labels[row, column] != SHADOW)
    facing &= scan.sector[row, column]
    assert facing.sum() > 20
    assert scan.image[row, column][facing].mean() > 1.2 * mean[TISSUE]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shadow_goes_on_along_the_beam_to_the_end_of_the_sector(seed):
    scan = picture(seed)
    rows, columns = np.nonzero(scan.labels == SHADOW)
    assert len(rows) > 100
    down, right = scan.direction[:, rows, columns]
    bones = 0
    for reach in (5, 15, 40):
        there = np.rint([rows + reach * down, columns + reach * right]).astype(int)
        within = ((there >= 0) & (there < 192)).all(0)
        labels = scan.labels[tuple(there[:, within])]
        labels = labels[labels != OUTSIDE]
        assert (labels == SHADOW).mean() > 0.85  # the rest: bones farther on, and rounding at its edges
        bones += len(labels)
    assert bones
    # Against the beam it ends: at the bone that throws it.
    back = np.rint([rows - 60 * down, columns - 60 * right]).astype(int)
    assert (scan.labels[tuple(np.clip(back, 0, 191))] != SHADOW).mean() > 0.1


def test_directions_are_unit_vectors_from_one_point_whatever_the_turn():
    for turn in (0.0, 1.0, -2.5):
        scan = picture(0, turn)
        np.testing.assert_allclose(np.hypot(*scan.direction), 1, rtol=1e-6)
        rows, columns = np.indices(scan.labels.shape)
        down, right = scan.direction.astype(np.float64)
        # Every ray passes through the probe's centre: cross((row, column) - centre, direction) = 0.
        lines = np.stack([right.ravel(), -down.ravel()], 1)
        known = (rows * right - columns * down).ravel()
        centre, residual, rank, _ = np.linalg.lstsq(lines, known, rcond=None)
        assert rank == 2
        assert residual[0] / known.size < 1e-8
        middle = (scan.labels.shape[0] - 1) / 2
        towards = np.array([middle, middle]) - centre
        np.testing.assert_allclose(towards / np.hypot(*towards), [np.cos(turn), -np.sin(turn)], atol=1e-6)


def test_a_turn_moves_the_picture_and_nothing_else():
    upright, quarter = picture(3, 0.0), picture(3, pi / 2)  # clockwise: up goes to the right
    turned = np.rot90(upright.image, -1)
    np.testing.assert_array_less(np.abs(turned.astype(int) - quarter.image).max(), 2)
    assert (np.rot90(upright.labels, -1) != quarter.labels).mean() < 1e-3
    assert quarter.abdomen.circumference == pytest.approx(upright.abdomen.circumference)
    x, y = upright.abdomen.at(np.linspace(0, 6, 20))
    np.testing.assert_allclose(quarter.abdomen.surface(191 - y, x)[0], 0, atol=1e-6)


def test_size_is_resolution():
    small, large = phantom.scan(3, 96), phantom.scan(3, 192)
    for scan in (small, large):
        assert scan.spacing * len(scan.image) == pytest.approx(bmode.WIDTH)
    assert small.abdomen.circumference * small.spacing == pytest.approx(large.abdomen.circumference * large.spacing)
    assert 150 < large.abdomen.circumference * large.spacing < 300  # a fetus of 20 to 34 weeks


# ------------------------------------------------------------------------------------------------------- physics


def uniform(seed: int = 5) -> np.ndarray:
    flat = np.zeros((400, scanner.BEAMS))
    return np.abs(scanner.echoes(np.random.default_rng(seed), flat, flat, flat))[40:-40, 50:-50]


def test_speckle_is_rayleigh():
    envelope = uniform()
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(pi / (4 - pi)), rel=0.05)  # 1.913
    assert (envelope**2).mean() == pytest.approx(1, rel=0.1)  # 0 dB
    intensity = envelope**2 / (envelope**2).mean()  # of a Rayleigh modulus: exponential
    for level in (0.5, 1.0, 2.0):
        assert (intensity > level).mean() == pytest.approx(np.exp(-level), rel=0.1)


def test_speckle_is_as_long_as_the_pulse_and_as_wide_as_the_beam():
    field = scanner.echoes(np.random.default_rng(6), *np.zeros((3, 500, scanner.BEAMS)))[20:-20, 50:-50]

    def correlation(shift: int, axis: int) -> float:
        ahead, behind = (
            field.take(range(shift, field.shape[axis]), axis),
            field.take(range(field.shape[axis] - shift), axis),
        )
        return float((ahead * behind.conj()).mean().real)

    lateral = 2 * scanner.HALF_ANGLE / (scanner.BEAMS - 1)
    for axis, step, width in ((0, scanner.STEP, scanner.PULSE), (1, lateral, scanner.BEAM)):
        expected = np.exp(-0.25 * (step / width) ** 2)  # a Gaussian's autocorrelation is sqrt(2) times as wide
        assert correlation(1, axis) / correlation(0, axis) == pytest.approx(expected, abs=0.03)


def test_losses_add_up_there_and_back():
    lost = scanner.way_back(np.full((400, 3), 0.5))
    assert lost[-1] == pytest.approx(2 * scanner.FREQUENCY * 0.5 * 400 * scanner.STEP / 10)
    draw = np.random.default_rng(0)
    half = np.where(np.arange(scanner.BEAMS) < scanner.BEAMS // 2, 0.0, 20.0)[None] * np.ones((400, 1))
    envelope = np.abs(scanner.echoes(draw, np.zeros_like(half), np.zeros_like(half), half))[40:-40]
    power = (envelope**2).mean(0)
    assert 10 * np.log10(power[15:50].mean() / power[-50:-15].mean()) == pytest.approx(20, abs=1)


def test_a_mirror_answers_where_it_faces_the_beam():
    x, z = scanner.grid()
    body = anatomy.draw_anatomy(np.random.default_rng(1))
    medium, mirror = anatomy.paint(body, x, z)
    assert {*np.unique(medium)} <= set(range(len(anatomy.MEDIA)))
    distance, right, down = body.abdomen.surface(x, z)
    facing = np.abs(right * x + down * z) / np.hypot(x, z)
    near = np.abs(distance) < 0.2
    assert np.median(mirror[near & (facing > 0.95)]) > 2
    assert np.median(mirror[near & (facing < 0.3)]) < 0.2


def test_scan_conversion_gives_back_what_is_linear():
    x, z = scanner.grid()
    radius, theta = np.hypot(x, z), np.arctan2(x, z)
    at_x, at_z = np.array([0.0, 20.0, -30.0, 500.0]), np.array([60.0, 120.0, 100.0, 0.0])
    found, seen = scanner.convert(2 * radius + 30 * theta, at_x, at_z)
    assert seen.tolist() == [True, True, True, False]
    expected = 2 * np.hypot(at_x, at_z) + 30 * np.arctan2(at_x, at_z)
    np.testing.assert_allclose(found, np.where(seen, expected, 0), rtol=1e-9)
