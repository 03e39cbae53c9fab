"""The kernel behind decision stumps, alone, per instruction set: every place to split at, tried one by one."""

import ctypes

import numpy as np
import pytest
from laboratory import call, edges_untouched, guarded

from fastconv.backends.cpu import available_isas

POINTER = ctypes.c_void_p
FIELDS = [
    *((name, POINTER) for name in ("score", "bin", "bins", "weight", "start", "sums")),
    ("classes", ctypes.c_int64),
    ("gini", ctypes.c_int32),
]  # fmt: skip
Stump = type("Stump", (ctypes.Structure,), {"_fields_": FIELDS})


def worth(weights, gini):
    total = weights.sum()
    return 0.0 if total == 0 else (weights**2).sum() / total if gini else weights.max()


def tried(bins, weight, labels, classes, gini):
    """The score and the bin, of whole numbers: exact."""
    best = (0.0, -1)
    for at in range(255):
        left = np.array([weight[(bins <= at) & (labels == k)].sum() for k in range(classes)])
        right = np.array([weight[(bins > at) & (labels == k)].sum() for k in range(classes)])
        score = worth(left, gini) + worth(right, gini)
        if left.any() and right.any() and weight[bins == at].any() and (best[1] < 0 or score > best[0]):
            best = (score, at)
    return best


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gini", [0, 1])
def test_stump(isa, dtype, gini):
    rng = np.random.default_rng(gini)
    for classes in (1, 2, 3, 7):
        for count, spread in [(1, 256), (2, 256), (3, 2), (13, 4), (64, 1), (200, 256), (501, 30)]:
            labels = np.sort(rng.integers(0, classes, count))
            start = np.searchsorted(labels, np.arange(classes + 1)).astype(np.int64)
            bins = rng.integers(256 - spread, 256, count).astype(np.uint8)
            weight = rng.integers(0, 4, count).astype(np.float64)
            memory, sums = guarded(np.zeros(257 * classes), np.float64)
            score, bin = np.full(3, np.nan), np.full(3, 7)
            values = {"score": score[1:], "bin": bin[1:], "bins": bins, "weight": weight, "start": start, "sums": sums}
            pointers = {name: array.ctypes.data for name, array in values.items()}
            call("stump", isa, dtype, Stump(**pointers, classes=classes, gini=gini))
            wanted = tried(bins, weight, labels, classes, gini)
            assert score[1] == pytest.approx(wanted[0], rel=1e-14)
            assert bin[1] == wanted[1]
            assert np.isnan(score[[0, 2]]).all()
            assert (bin[[0, 2]] == 7).all()
            assert edges_untouched(memory)
