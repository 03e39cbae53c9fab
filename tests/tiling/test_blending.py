"""Overlapping tiles: an identity gives the volume back, and blends are the weighted means that they are said to be."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import functional as F
from fastconv import models, nn, predict_volume
from fastconv.errors import ArgumentError, ShapeError
from fastconv.tiling.blending import Axis, profile, starts

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38])


def volume_of(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 13), min_size=1, max_size=3), st.integers(1, 15), st.floats(0, 0.9),
    st.sampled_from(("average", "gaussian", "exact")), st.sampled_from((np.float32, np.float64)),
)  # fmt: skip
def test_an_identity_returns_the_volume_bit_for_bit(sizes, tile, overlap, blend, dtype):
    volume = volume_of(2, *sizes, dtype=dtype)
    rng = np.random.default_rng(tile)
    volume[rng.random(volume.shape) < 0.2] = rng.choice(SPECIAL.astype(dtype))
    for model in (lambda x: x, nn.Identity()):
        got = predict_volume(model, volume, blend=blend, tile=tile, overlap=overlap)
        assert got.tobytes() == volume.tobytes()


@pytest.mark.parametrize("blend", ["average", "gaussian"])
@pytest.mark.parametrize("sizes, tile", [((30,), (8,)), ((17, 23), (6, 9)), ((9, 12, 11), (4, 12, 5))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_is_weighted_by_the_profile(blend, sizes, tile, dtype):
    """A network that says of a voxel how far its tile is from it, against the plain quotient of sums in float64."""
    ramp = np.ones(tile)
    for axis, size in enumerate(tile):
        shape = [1] * len(tile)
        shape[axis] = size
        ramp = ramp + np.arange(size).reshape(shape) ** 2
    ramp = ramp.astype(dtype)[None, None]
    volume = volume_of(1, *sizes, dtype=dtype)
    got = predict_volume(lambda x: x * fastconv.tensor(ramp), volume, blend=blend, tile=tile, overlap=0.5)
    weight = np.ones(())
    for size in reversed(tile):
        weight = profile(size, blend)[(slice(None), *(None,) * weight.ndim)] * weight
    sums, weights = np.zeros(volume.shape), np.zeros(volume.shape)
    grid = [starts(size, t, int(t * 0.5)) for size, t in zip(sizes, tile, strict=True)]
    for corner in np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, len(sizes)):
        place = (slice(None), *(slice(c, c + t) for c, t in zip(corner, tile, strict=True)))
        sums[place] += weight * ramp[0].astype(np.float64) * volume[place]
        weights[place] += weight
    np.testing.assert_allclose(got, sums / weights, rtol=40 * np.finfo(dtype).eps, atol=40 * np.finfo(dtype).eps)


def test_tiles_cover_an_axis_with_the_overlap_asked_for():
    for size in range(1, 40):
        for tile in range(1, 20):
            for overlap in range(tile):
                found = starts(size, tile, overlap)
                assert found[0] == 0
                assert found[-1] == max(0, size - tile)
                assert all(0 < b - a <= tile - overlap for a, b in itertools.pairwise(found))
        axis = Axis(size, 7, 3, "gaussian")
        total = np.zeros(size)
        for (start, stop), share, before in zip(axis.parts, axis.share, axis.before, strict=True):
            np.testing.assert_array_equal(before, total[start:stop])
            total[start:stop] += share
        np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_the_gaussian_is_that_of_an_eighth_of_the_tile():
    weights = profile(16, "gaussian")
    np.testing.assert_allclose(weights[8] / weights[9], np.exp(0.5 * (1.5**2 - 0.5**2) / 2**2))
    assert weights.min() == 1e-3


@pytest.mark.parametrize("blend", ["average", "gaussian"])
def test_threads_and_targets_change_no_bit(blend, tmp_path):
    net = models.unet2d(1, 2, width=4, depth=2)
    volume = volume_of(1, 50, 45)
    options = {"blend": blend, "tile": 16, "overlap": 0.4}
    want = predict_volume(net, volume, **options)
    before = fastconv.get_num_threads()
    try:
        fastconv.set_num_threads(3)
        predict_volume(net, volume, tmp_path / "y.npy", **options)
    finally:
        fastconv.set_num_threads(before)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), want)


def test_tiles_of_its_own_choice_are_multiples_of_what_the_network_takes():
    net = models.unet2d(1, 2, width=4, depth=3)
    volume = volume_of(1, 37, 90)
    got = predict_volume(net, volume)
    padded = np.zeros((1, 1, 40, 96), np.float32)
    padded[0, :, :37, :90] = volume
    np.testing.assert_array_equal(got, net.eval()(fastconv.tensor(padded)).numpy()[0, :, :37, :90])


def test_softmax_and_labels_come_after_the_blend():
    net = nn.Conv2d(1, 3, 3, padding=1)
    volume = volume_of(1, 30, 21)
    options = {"tile": 9, "overlap": 0.5}
    scores = predict_volume(net, volume, **options)
    shares = predict_volume(net, volume, activation="softmax", **options)
    np.testing.assert_allclose(shares, F.softmax(scores[None], 1)[0], rtol=1e-6)
    labels = predict_volume(net, volume, activation="argmax", **options)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, scores.argmax(0))


def test_many_classes_have_wider_labels():
    net = nn.Conv2d(1, 300, 1)
    volume = volume_of(1, 5, 4)
    labels = predict_volume(net, volume, activation="argmax")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, predict_volume(net, volume).argmax(0))


def test_norms_of_a_tile_are_allowed_where_tiles_overlap():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4))
    volume = volume_of(1, 12, 10)
    np.testing.assert_array_equal(predict_volume(net, volume), net(fastconv.tensor(volume[None])).numpy()[0])


@pytest.mark.parametrize("options, error, message", [
    ({"blend": "mean"}, ArgumentError, "blend to be one of 'gaussian', 'average', 'exact', got 'mean'"),
    ({"overlap": 1.0}, ArgumentError, "overlap in"),
    ({"overlap": "half"}, ArgumentError, "overlap to be a number"),
    ({"activation": "sigmoid"}, ArgumentError, "activation to be one of None, 'softmax', 'argmax', got 'sigmoid'"),
    ({"tile": (3, 4, 5)}, ArgumentError, "tile to be an int or 2 ints"),
    ({"tile": 0}, ArgumentError, "tile >= 1"),
    ({"max_memory": "much"}, ArgumentError, "max_memory in bytes, or as '512MB' or '1.5GB', got 'much'"),
    ({"max_memory": 0}, ArgumentError, "max_memory >= 1"),
    ({"progress": "yes"}, ArgumentError, "progress to be one of"),
    ({"target": 3}, ArgumentError, "target to be a path or None, got int"),
    ({"target": "answer.txt"}, ArgumentError, "target that ends in .npy, .nii or .nii.gz"),
    ({"target": "answer.nii"}, ShapeError, "a volume of three axes for a target in NIfTI, got 2 axes"),
    ({"source": 3}, ArgumentError, "source to be an array, a path, a Volume or a list of them, got int"),
    ({"source": []}, ArgumentError, "at least one modality"),
    ({"source": np.zeros(3, np.float32)}, ShapeError, "source .*got shape"),
    ({"source": np.zeros((1, 0, 3), np.float32)}, ShapeError, "none of them empty"),
    ({"source": [np.zeros((4, 5)), np.zeros((4, 6))]}, ShapeError, r"source\[1\] of the size of source\[0\] \(4, 5\)"),
    ({"source": np.zeros((1, 4, 4), complex)}, TypeError, "source of real numbers, got dtype complex128"),
    ({"model": 3}, ArgumentError, "model to be a Module or a function"),
    ({"model": lambda x: (x, x)}, ArgumentError, "model to return one array"),
    ({"model": nn.Conv2d(1, 1, 3)}, ArgumentError, "model to keep the size of a tile"),
    ({"model": nn.Conv2d(2, 1, 3)}, ShapeError, "conv2d"),
])  # fmt: skip
def test_errors_name_the_argument(options, error, message):
    given = {"model": nn.Identity(), "source": np.zeros((1, 8, 9), np.float32), **options}
    with pytest.raises(error, match=message):
        predict_volume(given.pop("model"), given.pop("source"), **given)


@pytest.mark.parametrize("options", [{}, {"blend": "exact"}, {"tile": (8, 8, 8)}])
@pytest.mark.parametrize("net", [
    nn.Conv3d(1, 2, 3, padding=1),
    nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.Upsample(scale_factor=2)),
])  # fmt: skip
def test_a_volume_without_an_axis_for_channels_is_named(net, options):
    expected = r"source \(C, spatial...\) with the axes that model takes \(source\[None\] is one channel\)"
    with pytest.raises(ShapeError, match=rf"predict_volume: expected {expected}, got shape \(9, 10, 11\)"):
        predict_volume(net, np.zeros((9, 10, 11), np.float32), **options)


def test_a_chosen_tile_that_the_network_cannot_take_is_named():
    net = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, 8, 8))
    with pytest.raises(ShapeError):
        predict_volume(net, np.zeros((1, 32, 32), np.float32), tile=5)
