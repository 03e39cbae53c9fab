"""What lies where: a cross-section of a fetal abdomen in its mother, drawn from a seed. No sound here.

Lengths are millimetres; x runs along the probe, z away from it, and the origin is the centre of the probe's curvature.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import numpy as np

from .ellipse import Ellipse

RADIUS = 50.0  # of the probe's curvature
CLASSES = ("outside", "tissue", "amniotic fluid", "stomach bubble", "umbilical vein", "shadow")
OUTSIDE, TISSUE, FLUID, STOMACH, VEIN, SHADOW = range(len(CLASSES))


class Medium(NamedTuple):
    """What sound meets: backscatter in dB against liver, loss in dB / cm / MHz one way, and the class it counts as.

    Losses are of the order that Duck, Physical Properties of Tissues (1990), chapter 4, collects; of the echoes only
    the order of the media is meant.
    """

    echo: float
    loss: float
    label: int


MEDIA = {
    "mother": Medium(1.0, 0.55, TISSUE),
    "placenta": Medium(2.0, 0.45, TISSUE),
    "amniotic fluid": Medium(-46.0, 0.005, FLUID),
    "limb": Medium(0.0, 0.6, TISSUE),
    "wall": Medium(5.0, 0.7, TISSUE),
    "liver": Medium(0.0, 0.5, TISSUE),
    "vein": Medium(-38.0, 0.15, VEIN),
    "stomach": Medium(-44.0, 0.01, STOMACH),
    "bone": Medium(8.0, 18.0, TISSUE),
}
_NUMBER = {name: number for number, name in enumerate(MEDIA)}


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The shapes of one phantom, those painted first lying below the others."""

    cavity: Ellipse  # of the uterus
    chord: tuple[float, float, float]  # right of x cos + z sin = offset the cavity is placenta
    limbs: tuple[Ellipse, ...]
    abdomen: Ellipse
    wall: float  # thickness
    stomach: Ellipse
    vein: tuple[np.ndarray, np.ndarray, np.ndarray]  # x, z and radius along it
    bones: tuple[Ellipse, ...]


def draw_anatomy(draw: np.random.Generator) -> Anatomy:
    """Draw pose and sizes: the plane in which the abdomen is measured shows stomach, umbilical vein, spine and ribs."""
    between = draw.uniform
    a = between(33, 46)
    b = a * between(0.82, 0.97)
    abdomen = Ellipse(between(-10, 10), RADIUS + between(20, 28) + a, a, b, between(0, pi))
    top, bottom = RADIUS + between(9, 17), abdomen.y + a + between(2, 10)
    cavity = Ellipse(abdomen.x + between(-15, 15), (top + bottom) / 2, between(58, 85), (bottom - top) / 2)
    side = between(0, 2 * pi)
    edge = abdomen.x * np.cos(side) + abdomen.y * np.sin(side) + a * between(0.9, 1.3)

    # Around the body: the navel in front, the spine behind, the stomach to its left, the vein bending to the right.
    navel, left = between(0, 2 * pi), draw.choice([-1.0, 1.0])
    size = a / 40
    x, y = abdomen.at(navel + left * between(1.1, 1.9), between(0.42, 0.55))
    stomach = Ellipse(x, y, size * between(7, 11), size * between(6, 8.5), between(0, pi))
    vein = _vein(draw, abdomen, navel, left, size * between(3.0, 4.8))
    back = navel + pi
    bones = [Ellipse(*abdomen.at(back, 0.72), 4.2 * size, 3.6 * size, between(0, pi))]
    bones += [Ellipse(*abdomen.at(back + way * 0.2, 0.86), 2.4 * size, 1.8 * size, between(0, pi)) for way in (-1, 1)]
    for way in (-1, 1):
        for place in (between(0.6, 0.9), between(1.15, 1.5)):
            if draw.random() < 0.65:
                bones.append(_rib(abdomen, back + way * place, size * between(3, 6.5), size * between(0.9, 1.4)))
    limbs = []
    towards_probe = -pi / 2 - abdomen.angle
    for around, likely in ((between(-0.9, 0.9), 0.75), (between(1.0, 5.3), 0.5)):
        if draw.random() < likely:
            radius = between(5.5, 8)
            x, y = abdomen.at(towards_probe + around, 1 + (radius + between(1, 3)) / b)
            limbs.append(Ellipse(x, y, radius, radius))
            bones.append(Ellipse(x, y, between(1.8, 2.8), between(1.5, 2.2), between(0, pi)))
    chord = (float(np.cos(side)), float(np.sin(side)), float(edge))
    return Anatomy(cavity, chord, tuple(limbs), abdomen, between(2.5, 4.5), stomach, vein, tuple(bones))


def _vein(
    draw: np.random.Generator, abdomen: Ellipse, navel: float, left: float, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the navel inwards, then bending away from the stomach: a quadratic Bezier curve that tapers."""
    t = np.linspace(0, 1, 40)
    knots = np.array([
        abdomen.at(navel, draw.uniform(0.72, 0.85)),
        abdomen.at(navel, draw.uniform(0.05, 0.3)),
        abdomen.at(navel - left * draw.uniform(1.0, 1.7), draw.uniform(0.4, 0.55)),
    ])  # fmt: skip
    x, z = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t * t], 1).dot(knots).T
    return x, z, radius * (1 - 0.35 * t)


def _rib(abdomen: Ellipse, place: float, length: float, thickness: float) -> Ellipse:
    """A rib in its length: flat, under the skin, along the outline."""
    x, y = abdomen.at(place, 0.9)
    _, right, down = abdomen.surface(x, y)
    return Ellipse(x, y, length, thickness, float(np.arctan2(right, -down)))


def paint(body: Anatomy, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for points (any shape), which of ``MEDIA`` each lies in, and how much its surface mirrors sound.

    A smooth surface reflects like a mirror: the more, the closer its normal is to the beam. Bone mirrors most.
    """
    beam_x, beam_z = x / np.hypot(x, z), z / np.hypot(x, z)
    medium = np.full(x.shape, _NUMBER["mother"], np.uint8)
    mirror = np.zeros(x.shape)

    def put(name: str, shape: Ellipse, shine: float, inset: float = 0.0) -> None:
        distance, right, down = shape.surface(x, z)
        medium[distance < -inset] = _NUMBER[name]
        facing = np.abs(right * beam_x + down * beam_z)
        np.maximum(mirror, shine * facing**4 * np.exp(-0.5 * ((distance + inset) / 0.4) ** 2), out=mirror)

    put("amniotic fluid", body.cavity, 2.0)
    cos, sin, edge = body.chord
    placenta = (medium == _NUMBER["amniotic fluid"]) & (x * cos + z * sin > edge)
    medium[placenta] = _NUMBER["placenta"]
    for limb in body.limbs:
        put("limb", limb, 1.5)
    inside = body.abdomen.surface(x, z)[0] < 0
    mirror[inside] = 0
    put("wall", body.abdomen, 4.0)
    put("liver", body.abdomen, 1.0, body.wall)
    put("stomach", body.stomach, 1.5)
    tube, facing = _tube(body.vein, x[inside], z[inside])
    medium[inside] = np.where(tube < 0, _NUMBER["vein"], medium[inside])
    mirror[inside] = np.maximum(mirror[inside], 1.5 * facing**4 * np.exp(-0.5 * (tube / 0.4) ** 2))
    for bone in body.bones:
        put("bone", bone, 7.0)
    return medium, mirror


def _tube(
    vein: tuple[np.ndarray, np.ndarray, np.ndarray], x: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the signed distance of points (N,) from the vein, and the cosine of its normal and the beam."""
    at_x, at_z, radius = vein
    right, down = x[:, None] - at_x, z[:, None] - at_z  # (N, points along the vein)
    away = np.hypot(right, down)
    nearest = (away - radius).argmin(1)[:, None]
    right, down, away = (np.take_along_axis(part, nearest, 1)[:, 0] for part in (right, down, away))
    cosine = np.abs(right * x + down * z) / (np.maximum(away, 1e-9) * np.hypot(x, z))
    return away - radius[nearest[:, 0]], cosine
