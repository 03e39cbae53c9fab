"""The worked numbers of the source lectures, through the public functions.

Where a printed number is not the right one, the comment says so and the right one is asserted.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import functional as F

STEP = np.tile(np.array([9, 9, 9, 0, 0, 0], "float32"), (6, 1))[None, None]  # 6x6: three columns of 9, three of 0
MEAN = np.full((1, 1, 3, 3), 1 / 9, "float32")
RAMP = [9, 6, 3, 0]


def plane(values: np.ndarray) -> np.ndarray:
    assert values.shape[:2] == (1, 1)
    return values[0, 0]


def close(actual: np.ndarray, expected: object) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)


def test_convolution():
    close(plane(F.conv2d(STEP, MEAN)), [RAMP] * 4)


def test_stride():
    # Windows begin at rows and columns 0 and 2: columns 0 and 2 of the ramp 9 6 3 0.
    close(plane(F.conv2d(STEP, MEAN, stride=2)), [[9, 3], [9, 3]])


def test_padding():
    edge, middle = [4, 6, 4, 2, 0, 0], [6, 9, 6, 3, 0, 0]
    close(plane(F.conv2d(STEP, MEAN, padding=1)), [edge, middle, middle, middle, middle, edge])
    close(F.conv2d(STEP, MEAN, padding="same"), F.conv2d(STEP, MEAN, padding=1))


@pytest.mark.parametrize(
    "kernel, row",
    [
        # 1/9 all round -17/9: the blur less twice the middle. Column sums 1/3 -5/3 1/3: a constant region turns its
        # sign, then 9 * (1/3 - 5/3) = -12 and 9 * 1/3 = 3. (No output is printed in the lectures.)
        (np.array([[1, 1, 1], [1, -17, 1], [1, 1, 1]]) / 9, [-9, -12, 3, 0]),
        # Edge filter, column sums -3 6 -3: a constant region is 0, the edge answers on both of its sides.
        (np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]), [0, 27, -27, 0]),
        # Blur.
        (np.full((3, 3), 1 / 9), RAMP),
        # Sharpen, column sums -1 3 -1: a constant stays, the edge overshoots.
        (np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]), [9, 18, -9, 0]),
    ],
    ids=["centre_minus_17_ninths", "edge", "blur", "sharpen"],
)
def test_filters(kernel, row):
    close(plane(F.conv2d(STEP, kernel.astype("float32")[None, None])), [row] * 4)


def test_multi_channel():
    # An RGB image and one 3-channel filter make one channel: the sum of the three single-channel results.
    image = np.concatenate([STEP, STEP[..., ::-1], np.ones_like(STEP)], axis=1)
    filters = np.concatenate([MEAN, 2 * MEAN, 3 * MEAN], axis=1)
    close(plane(F.conv2d(image, filters)), [[9 + 0 + 3, 6 + 6 + 3, 3 + 12 + 3, 0 + 18 + 3]] * 4)
    # Two filters make two channels.
    assert F.conv2d(image, np.concatenate([filters, filters])).shape == (1, 2, 4, 4)


def test_max_pooling():
    close(plane(F.max_pool2d(STEP, 3, stride=1)), [[9, 9, 9, 0]] * 4)


def test_average_pooling():
    close(plane(F.avg_pool2d(STEP, 3, stride=1)), [RAMP] * 4)


def test_the_gradient_of_max_goes_to_the_argmax_alone():
    x = np.array([[1, 5, 2, 0], [3, 4, 9, 8], [7, 1, 0, 2], [6, 2, 3, 4]], "float32")[None, None]
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(plane(y), [[5, 9], [7, 4]])
    np.testing.assert_array_equal(plane(indices), [[1, 6], [8, 15]])  # stored in the forward pass
    dy = np.array([[10, 20], [30, 40]], "float32")[None, None]
    dx = F.max_pool2d_backward(dy, indices, x.shape, 2)
    np.testing.assert_array_equal(plane(dx), [[0, 10, 0, 0], [0, 0, 20, 0], [30, 0, 0, 0], [0, 0, 0, 40]])


def test_the_gradient_of_max_on_ties_goes_to_the_first():
    # The lectures' own input: every window of nines holds ties; the first in row order takes it all.
    y, indices = F.max_pool2d(STEP, 3, stride=1, return_indices=True)
    dx = F.max_pool2d_backward(np.ones_like(y), indices, STEP.shape, 3, stride=1)
    # Windows begin at rows 0..3 and columns 0..3; the first maximum of each is its own first element.
    expected = np.zeros((6, 6))
    expected[:4, :4] = 1
    np.testing.assert_array_equal(plane(dx), expected)


def test_the_gradient_of_relu():
    # The lectures print "1 for x >= 0, else 0". At 0 the function has no derivative, any number in [0, 1] is a
    # subgradient; fastconv takes 0 there, as torch does: 1 for x > 0, else 0.
    x = np.array([-2, -0.5, 0, 0.5, 2], "float32")
    y = F.relu(x)
    np.testing.assert_array_equal(y, [0, 0, 0, 0.5, 2])
    np.testing.assert_array_equal(F.relu_backward(np.ones_like(y), y), [0, 0, 0, 1, 1])
