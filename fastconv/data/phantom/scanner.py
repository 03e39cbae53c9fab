"""What sound makes of it: echoes along the beams of a curved probe, and their picture. No anatomy here.

Beams are columns and depths rows of a polar grid. The echo of many scatterers in one cell of resolution is a complex
Gaussian, whose modulus has a Rayleigh distribution: fully developed speckle (Wagner, Smith, Sandrik, Lopez 1983,
https://doi.org/10.1109/T-SU.1983.31404). So scatterers are complex Gaussian numbers, weakened on the way there and
back and blurred by the point spread function: the pulse in depth, the beam sideways.
"""

from __future__ import annotations

import numpy as np

from .anatomy import RADIUS

FREQUENCY = 3.5  # MHz
DEPTH, STEP = 130.0, 0.25  # mm: how far the picture reaches, and from sample to sample
HALF_ANGLE, BEAMS = 0.56, 192  # radians to either side
PULSE = 0.35  # mm, standard deviation of the envelope in depth
BEAM = 0.009  # radians, of the beam sideways: a fixed aperture's in the far field
SIDE_LOBES = 0.012, 0.07  # a pedestal below the beam: its height, its width in radians
FLOOR = 1e-9


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Return x and z, in mm, of the samples (depths, beams)."""
    radius = RADIUS + (np.arange(round(DEPTH / STEP)) + 0.5) * STEP
    theta = np.linspace(-HALF_ANGLE, HALF_ANGLE, BEAMS)
    return radius[:, None] * np.sin(theta), radius[:, None] * np.cos(theta)


def smooth(draw: np.random.Generator, shape: tuple[int, ...], knots: tuple[int, ...]) -> np.ndarray:
    """Return a field that varies slowly: normal numbers at ``knots`` along each axis, with straight lines between."""
    field = draw.normal(size=knots)
    for axis, size in enumerate(shape):
        place = np.linspace(0, knots[axis] - 1, size)
        low = np.minimum(place.astype(np.int64), knots[axis] - 2)
        share = (place - low).reshape(-1, *[1] * (len(shape) - axis - 1))
        field = (1 - share) * field.take(low, axis) + share * field.take(low + 1, axis)
    return field


def way_back(loss: np.ndarray) -> np.ndarray:
    """Return what sound has lost, there and back, at each sample, in dB; ``loss`` is in dB / cm / MHz."""
    return np.cumsum(loss, axis=0) * (2 * FREQUENCY * STEP / 10)


def echoes(draw: np.random.Generator, level: np.ndarray, mirror: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Return the complex echo of each sample.

    Args:
        level: backscatter in dB, (depths, beams); of 0 dB the mean square is 1.
        mirror: amplitude that smooth surfaces send back, all in phase.
        lost: dB on the way there and back.
    """
    field = (_scatterers(draw, level.shape) * 10 ** (level / 20) + mirror) * 10 ** (-lost / 20)
    return _blurred(_blurred(field, _pulse(), 0), _beam(), 1)


def receive(draw: np.random.Generator, field: np.ndarray) -> np.ndarray:
    """Return what the machine shows of the echoes, in dB: reverberation, its own noise, and its gain over depth.

    Part of each echo is thrown back by the probe and by what lies close to it, and comes again from the depth of both.
    The gain makes up for tissue of 0.5 dB / cm / MHz, not quite, and slides by hand do the rest, not quite either.
    """
    depths, beams = field.shape
    heard = field.copy()
    for _ in range(2):
        late = round(draw.uniform(6, 18) / STEP)
        heard[late:] += draw.uniform(0.004, 0.015) * field[:-late]
    heard += 10 ** (draw.uniform(-73, -66) / 20) * _blurred(_scatterers(draw, field.shape), _pulse(), 0)
    depth = (np.arange(depths)[:, None] + 0.5) * STEP / 10
    gain = 2 * FREQUENCY * depth * draw.uniform(0.42, 0.55) + 2 * smooth(draw, (depths, 1), (8, 2))
    return 20 * np.log10(np.abs(heard) + FLOOR) + gain + smooth(draw, (1, beams), (2, 8))


def compress(draw: np.random.Generator, shown: np.ndarray) -> np.ndarray:
    """Return decibels as grey values in [0, 255]: the machine's dynamic range and gain are drawn."""
    span, liver = draw.uniform(50, 65), draw.uniform(0.42, 0.6)
    return np.clip(255 * (liver + shown / span), 0, 255)


def convert(polar: np.ndarray, x: np.ndarray, z: np.ndarray, nearest: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the polar field at points in mm, and which of them lie in the sector (0 elsewhere): scan conversion.

    Values between samples are bilinear, or those of the nearest sample.
    """
    row = (np.hypot(x, z) - RADIUS) / STEP - 0.5
    column = (np.arctan2(x, z) + HALF_ANGLE) / (2 * HALF_ANGLE) * (polar.shape[1] - 1)
    depths, beams = polar.shape
    seen = (row >= 0) & (row <= depths - 1) & (column >= 0) & (column <= beams - 1)
    row, column = np.clip(row, 0, depths - 1), np.clip(column, 0, beams - 1)
    if nearest:
        return np.where(seen, polar[np.rint(row).astype(np.int64), np.rint(column).astype(np.int64)], 0), seen
    top, left = np.minimum(row.astype(np.int64), depths - 2), np.minimum(column.astype(np.int64), beams - 2)
    down, right = row - top, column - left
    upper = (1 - right) * polar[top, left] + right * polar[top, left + 1]
    lower = (1 - right) * polar[top + 1, left] + right * polar[top + 1, left + 1]
    return np.where(seen, (1 - down) * upper + down * lower, 0), seen


def _scatterers(draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    real, imaginary = draw.normal(0, np.sqrt(0.5), (2, *shape))
    return real + 1j * imaginary


def _pulse() -> np.ndarray:
    place = np.arange(-8, 9) * STEP
    return _unit_power(np.exp(-0.5 * (place / PULSE) ** 2))


def _beam() -> np.ndarray:
    height, width = SIDE_LOBES
    theta = np.arange(-48, 49) * (2 * HALF_ANGLE / (BEAMS - 1))
    return _unit_power(np.exp(-0.5 * (theta / BEAM) ** 2) + height * np.exp(-0.5 * (theta / width) ** 2))


def _unit_power(kernel: np.ndarray) -> np.ndarray:
    return kernel / np.sqrt((kernel**2).sum())


def _blurred(field: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """Return the convolution along an axis, zeros beyond the ends, through a transform that is long enough."""
    size = field.shape[axis]
    length = 1 << (size + len(kernel) - 2).bit_length()
    response = np.fft.fft(kernel, length).reshape(-1, *[1] * (field.ndim - axis - 1))
    long = np.fft.ifft(np.fft.fft(field, length, axis=axis) * response, axis=axis)
    middle = len(kernel) // 2
    return long.take(np.arange(middle, middle + size), axis)
