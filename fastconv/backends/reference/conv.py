"""Convolution as a sum over kernel taps: each tap is a strided view of the padded input and one small matrix product.

The two gradients are the adjoints of that sum, tap by tap. Products are made for each sample apart, so a sample's
result does not know the batch. No array of patches is ever built.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from ...geometry import ConvGeometry
from .activation import relu_backward
from .wide import narrow, operand, over_batch_and_space, widen


def _padded_zeros(geometry: ConvGeometry) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Return zeros (N, IC, padded D, H, W) and where the input stands in them."""
    ends = zip(geometry.padding, geometry.input, geometry.padding_end, strict=True)
    spatial = [before + size + after for before, size, after in ends]
    inside = tuple(slice(p, p + i) for p, i in zip(geometry.padding, geometry.input, strict=True))
    return np.zeros((geometry.n, geometry.ic, *spatial)), (..., *inside)


def _taps(geometry: ConvGeometry) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield each kernel position and the slices of the padded input that it multiplies, one element an output."""
    axes = tuple(zip(geometry.dilation, geometry.output, geometry.stride, strict=True))
    for tap in product(*(range(k) for k in geometry.kernel)):
        starts = [t * d for t, (d, _, _) in zip(tap, axes, strict=True)]
        view = (slice(t, t + (o - 1) * s + 1, s) for t, (_, o, s) in zip(starts, axes, strict=True))
        yield tap, (..., *view)


def _columns(a: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, D, H, W) -> a fresh (N, G, C/G, D*H*W)."""
    n, c, *spatial = a.shape
    return widen(a).reshape(n, groups, c // groups, int(np.prod(spatial)))


def _tap_matrices(w: np.ndarray, groups: int) -> np.ndarray:
    """(OC, IC/G, KD, KH, KW) -> a fresh (KD, KH, KW, G, OC/G, IC/G)."""
    oc, icg, *kernel = w.shape
    return widen(np.moveaxis(w.reshape(groups, oc // groups, icg, *kernel), (3, 4, 5), (0, 1, 2)))


def conv_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, geometry: ConvGeometry, frozen: bool | dict = False
) -> np.ndarray:
    padded, inside = _padded_zeros(geometry)
    padded[inside] = operand(x, geometry.compute)
    matrices = _tap_matrices(operand(w, geometry.compute), geometry.groups)
    y = np.zeros(geometry.output_shape)
    for tap, view in _taps(geometry):
        columns = _columns(padded[view], geometry.groups)  # (N, G, IC/G, OD*OH*OW)
        y += np.matmul(matrices[tap], columns).reshape(geometry.output_shape)
    if b is not None:
        y += b.reshape(-1, 1, 1, 1)
    return narrow(y, x)


def conv_backward_input(
    dy: np.ndarray, w: np.ndarray, b: np.ndarray | None, geometry: ConvGeometry, residual: np.ndarray | None = None,
    gate: np.ndarray | None = None, spare: bool = False,
) -> np.ndarray:  # fmt: skip
    padded, inside = _padded_zeros(geometry)
    matrices = _tap_matrices(operand(w, geometry.compute), geometry.groups)
    matrices = widen(matrices.swapaxes(-1, -2))  # (KD, KH, KW, G, IC/G, OC/G)
    columns = _columns(operand(dy, geometry.compute), geometry.groups)  # (N, G, OC/G, OD*OH*OW)
    for tap, view in _taps(geometry):
        target = padded[view]
        target += np.matmul(matrices[tap], columns).reshape(target.shape)
    dx = padded[inside]
    if b is not None:
        dx = dx + b.reshape(-1, 1, 1, 1)
    dx = np.array(dx, dtype=dy.dtype, order="C")
    dx = dx if residual is None else dx + residual
    return dx if gate is None else relu_backward(dx, gate)


def conv_backward_weight(dy: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    padded, inside = _padded_zeros(geometry)
    padded[inside] = operand(x, geometry.compute)
    columns = _columns(operand(dy, geometry.compute), geometry.groups)  # (N, G, OC/G, OD*OH*OW)
    dw = np.zeros(geometry.weight_shape)
    for tap, view in _taps(geometry):
        taken = _columns(padded[view], geometry.groups).swapaxes(-1, -2)  # (N, G, OD*OH*OW, IC/G)
        dw[(..., *tap)] = np.matmul(columns, taken).sum(axis=0).reshape(geometry.weight_shape[:2])
    return narrow(dw, dy)


def bias_backward(dy: np.ndarray) -> np.ndarray:
    return narrow(over_batch_and_space(widen(dy)), dy)
