"""Augmentation of images and volumes: random changes of a sample and its label map, each with a record that replays it.

A sample is an image (C, H, W) or volume (C, D, H, W), float32 or float64, with or without a label map (H, W), (D, H, W)
or (L, ...) of any dtype. Intensities are interpolated, labels take the nearest neighbour, and nothing depends on the
rank but the number of axes. ``Compose`` draws and applies; ``replay`` and ``inverse`` need its record alone.

>>> import numpy as np
>>> pipeline = Compose([Flip(), Affine(rotation=15, scale=(0.9, 1.1)), Gamma((0.7, 1.5))], seed=0)
>>> image, label = np.random.default_rng(0).random((1, 32, 32), np.float32), np.eye(32, dtype=np.uint8)
>>> x, t, record = pipeline(image, label, epoch=3, index=17)
>>> [step["transform"] for step in record["steps"]]
['Flip', 'Affine', 'Gamma']
>>> x2, t2 = replay(record, image, label)
>>> np.array_equal(x, x2) and np.array_equal(t, t2)
True
"""

from .affine import Affine
from .bias import BiasField
from .blur import GaussianBlur
from .compose import Compose, Record, inverse, replay
from .crop import CropOrPad
from .elastic import Elastic
from .fitting import batches
from .flips import Flip, Rotate90
from .intensity import BrightnessContrast, Clip, Gamma, PercentileWindow, ZScore
from .noise import GaussianNoise
from .transform import Transform

__all__ = [
    "Affine", "BiasField", "BrightnessContrast", "Clip", "Compose", "CropOrPad", "Elastic", "Flip", "Gamma",
    "GaussianBlur", "GaussianNoise", "PercentileWindow", "Record", "Rotate90", "Transform", "ZScore", "batches",
    "inverse", "replay",
]  # fmt: skip
