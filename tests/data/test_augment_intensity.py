"""Intensities: the curves by their formulas, blur against SciPy, noise and bias by their statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import backends
from fastconv.data import augment
from fastconv.data.augment.intensity import moments


def image_of(shape: tuple[int, ...] = (2, 9, 11), dtype: str = "float64") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 50 - 10).astype(dtype)


def once(transform: augment.Transform, image: np.ndarray, **more) -> np.ndarray:
    return augment.Compose([transform], seed=2)(image, **more)[0]


@pytest.mark.parametrize("dtype, bound", [("float32", 1e-4), ("float64", 1e-12)])
def test_curves_are_their_formulas(dtype, bound):
    image = image_of(dtype=dtype)
    exact = image.astype("f8")
    mean, std = (getattr(exact, m)((1, 2), keepdims=True) for m in ("mean", "std"))
    low, high = (getattr(exact, m)((1, 2), keepdims=True) for m in ("min", "max"))
    first, last = np.percentile(exact, (5, 90), axis=(1, 2), keepdims=True)
    cases = {
        augment.BrightnessContrast((0.5, 0.5), 1.5): (exact - mean) * 1.5 + mean + 0.5 * std,
        augment.Gamma(0.6): low + (high - low) * ((exact - low) / (high - low)) ** 0.6,
        augment.Clip(-1, 20): exact.clip(-1, 20),
        augment.ZScore(): (exact - mean) / std,
        augment.PercentileWindow(5, 90): ((exact - first) / (last - first)).clip(0, 1),
    }
    for transform, expected in cases.items():
        got = once(transform, image)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, atol=bound)


def test_nonzero_voxels_alone_count_where_asked():
    image = image_of()
    image[:, :4] = 0
    part = image[:, 4:]
    mean, std = part.mean((1, 2), keepdims=True), part.std((1, 2), keepdims=True)
    np.testing.assert_allclose(once(augment.ZScore(nonzero=True), image), (image - mean) / std)
    assert not once(augment.ZScore(nonzero=True), np.zeros((1, 3, 3))).any()


@given(st.floats(-1e6, 1e6, width=32), st.sampled_from(["float32", "float64"]), st.integers(1, 200))
def test_constant_channels_have_no_deviation(value, dtype, count):
    image = np.full((1, count, 3), value, dtype)
    assert moments(image) == (float(image[0, 0, 0]), 0.0)
    assert not once(augment.ZScore(), image).any()
    assert not once(augment.PercentileWindow(), image).any()
    np.testing.assert_array_equal(once(augment.Gamma(3.0), image), image)
    np.testing.assert_array_equal(once(augment.GaussianNoise((1, 1)), image), image)


def test_moments_of_large_offsets_are_exact_enough():
    values = np.random.default_rng(0).random(30_000) + 1e9
    np.testing.assert_allclose(moments(values), (values.mean(), values.std()), rtol=1e-12)


def test_nan_stays_in_its_channel():
    image = image_of()
    image[0, 3, 3] = np.nan
    for transform in (augment.ZScore(), augment.Gamma(2.0), augment.BrightnessContrast((1, 1)), augment.BiasField()):
        got = once(transform, image)
        assert np.isnan(got[0]).any()
        assert np.isfinite(got[1]).all()


@pytest.mark.parametrize("name", ["cpu", "reference"])
@pytest.mark.parametrize("dtype, bound", [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(
    "shape, spacing", [((2, 9, 30), (1.0, 1.0)), ((1, 5, 12, 9), (3.0, 0.8, 1.0)), ((1, 1, 4), (1, 1))]
)
def test_blur_is_that_of_scipy(shape, spacing, dtype, bound, name):
    ndimage = pytest.importorskip("scipy.ndimage")
    if name == "cpu":
        pytest.importorskip("fastconv.backends.cpu.runtime", reason="fastconv.backends.cpu is not built")
    image = image_of(shape, dtype)
    with backends.use(name):
        got = once(augment.GaussianBlur((1.7, 1.7)), image, spacing=spacing)
    expected = np.stack(
        [ndimage.gaussian_filter(c.astype("f8"), [1.7 / mm for mm in spacing], mode="reflect") for c in image]
    )
    np.testing.assert_allclose(got, expected, atol=bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_is_normal_independent_and_relative(dtype):
    image = image_of((2, 150, 140), dtype)
    noise = (once(augment.GaussianNoise((0.5, 0.5)), image) - image) / image.std((1, 2), keepdims=True) / 0.5
    for part in noise:
        np.testing.assert_allclose([(part**k).mean() for k in (1, 2, 3, 4)], [0, 1, 0, 3], atol=0.12)
        assert abs((part[1:] * part[:-1]).mean()) < 0.03
    assert abs((noise[0] * noise[1]).mean()) < 0.03
    again = once(augment.GaussianNoise((0.5, 0.5)), image * 8) / 8
    np.testing.assert_allclose(again, once(augment.GaussianNoise((0.5, 0.5)), image), rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 31, 29), (1, 9, 21, 33)], ids=str)
def test_a_bias_field_is_the_exponential_of_a_polynomial(shape):
    image = np.abs(image_of(shape)) + 1
    field = once(augment.BiasField(0.4, order=2), image) / image
    np.testing.assert_allclose(field[0], field[-1], rtol=1e-12)  # of all channels
    log = np.log(field[0])
    for axis in range(log.ndim):  # of degree 2: third differences are nothing, second ones are not
        np.testing.assert_allclose(np.diff(log, n=3, axis=axis), 0, atol=1e-12)
        assert np.abs(np.diff(log, n=2, axis=axis)).max() > 1e-5
    centre = tuple(n // 2 for n in log.shape)
    assert abs(log[centre]) < 1e-12
    terms = {2: 5, 3: 9}[log.ndim]
    assert np.abs(log).max() <= 0.4 * terms
