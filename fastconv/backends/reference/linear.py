"""Products of matrices, the fully connected layer first: one for each sample, whose result does not know the batch."""

from __future__ import annotations

import numpy as np

from .wide import narrow, operand, widen


def _rows_times(matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """matrix (O, I), rows (N, I) -> (N, O), one matrix-vector product a row."""
    return np.matmul(widen(matrix), widen(rows)[:, :, None])[:, :, 0]


def linear_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, frozen: bool | dict = False, compute: str = "float32"
) -> np.ndarray:
    y = _rows_times(operand(w, compute), operand(x, compute))
    return narrow(y if b is None else y + b, x)


def linear_backward_input(dy: np.ndarray, w: np.ndarray, compute: str = "float32") -> np.ndarray:
    return narrow(_rows_times(operand(w, compute).T, operand(dy, compute)), dy)


def linear_backward_weight(dy: np.ndarray, x: np.ndarray, compute: str = "float32") -> np.ndarray:
    return narrow(widen(operand(dy, compute)).T @ widen(operand(x, compute)), dy)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return narrow(np.matmul(widen(a), widen(b)), a)
