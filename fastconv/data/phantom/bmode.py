"""One picture of the phantom, with what is true of each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from ...arguments import integer, number
from . import scanner
from .anatomy import MEDIA, OUTSIDE, RADIUS, SHADOW, draw_anatomy, paint
from .ellipse import Ellipse

WIDTH = 212.0  # mm an edge of the picture: the sector fits in, however it is turned
LOST = 14.0  # dB that bones take, there and back, from which on a pixel counts as shadow
_ECHO, _LOSS, _LABEL = (np.array(column) for column in zip(*MEDIA.values(), strict=True))
_BONE = list(MEDIA).index("bone")


@dataclass(frozen=True, slots=True)
class Scan:
    """A B-mode picture and the truth.

    Attributes:
        image: uint8 (S, S), black outside the sector.
        labels: uint8 (S, S), which of ``CLASSES`` each pixel is. What lies in the shadow of a bone is shadow,
            whatever it is; bones, and all that is neither dark nor fluid, are tissue.
        direction: float32 (2, S, S), the unit vector (down, right) along which sound travels at each pixel.
        abdomen: its outline, in pixels; ``abdomen.circumference * spacing`` is what a physician measures.
        spacing: millimetres a pixel.
    """

    image: np.ndarray
    labels: np.ndarray
    direction: np.ndarray
    abdomen: Ellipse
    spacing: float

    @property
    def sector(self) -> np.ndarray:
        """Which pixels the beams cover, bool (S, S): what a machine knows of its picture."""
        return self.labels != OUTSIDE


def scan(seed: int, size: int = 320, turn: float | None = None) -> Scan:
    """Make the phantom of a seed and return its picture.

    Pose, sizes and the machine's settings are drawn from the seed. The image is that of 212 mm, so that ``size`` is
    its resolution; the same seed shows the same echoes at any size and turn.

    Args:
        seed: >= 0; the same seed, the same bits.
        size: pixels an edge, 32 to 2048.
        turn: by how many radians the picture is turned from the upright sector, clockwise; None draws any turn.

    Raises:
        ArgumentError: an argument out of range.

    >>> one = scan(0, size=64)
    >>> one.image.shape, one.image.dtype.name, one.direction.shape
    ((64, 64), 'uint8', (2, 64, 64))
    >>> bool(np.array_equal(one.image, scan(0, size=64).image))
    True
    """
    draw = np.random.default_rng((integer("scan", "seed", seed, 0), 0xFE7A1))
    size = integer("scan", "size", size, 32, 2048)
    drawn = draw.uniform(0, 2 * pi)
    turn = drawn if turn is None else number("scan", "turn", turn, -1e3, 1e3)
    body = draw_anatomy(draw)
    beam_x, beam_z = scanner.grid()
    medium, mirror = paint(body, beam_x, beam_z)
    level = _ECHO[medium] + 2 * scanner.smooth(draw, medium.shape, (14, 10))
    lost = scanner.way_back(_LOSS[medium])
    shown = scanner.receive(draw, scanner.echoes(draw, level, mirror, lost))
    bone = medium == _BONE
    shadow = (scanner.way_back(np.where(bone, _LOSS[_BONE], 0)) > LOST) & ~bone
    truth = np.where(shadow, SHADOW, _LABEL[medium])

    spacing = WIDTH / size
    middle = RADIUS * (1 + cos(scanner.HALF_ANGLE)) / 2 + scanner.DEPTH / 2  # of the sector's height
    place = (np.arange(size) - (size - 1) / 2) * spacing
    down, right = np.meshgrid(place, place, indexing="ij")
    x, z = cos(turn) * right + sin(turn) * down, cos(turn) * down - sin(turn) * right + middle
    picture, seen = scanner.convert(scanner.compress(draw, shown), x, z)
    labels, _ = scanner.convert(truth, x, z, nearest=True)
    radius = np.maximum(np.hypot(x, z), 1e-9)
    direction = np.stack([sin(turn) * x + cos(turn) * z, cos(turn) * x - sin(turn) * z]) / radius
    upright = body.abdomen.moved(0.0, 0.0, -middle, 1.0)
    return Scan(
        np.rint(picture).astype(np.uint8), np.where(seen, labels, OUTSIDE).astype(np.uint8),
        direction.astype(np.float32), upright.moved(turn, (size - 1) / 2, (size - 1) / 2, 1 / spacing), spacing,
    )  # fmt: skip
