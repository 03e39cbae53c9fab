"""Pictures of filters and feature maps: the numbers that are drawn, where; the file, whole or not at all."""

import errno
import os

import numpy as np
import pytest

import fastconv
from fastconv import nn, plots
from fastconv.errors import ArgumentError, DataError
from fastconv.rbm import BernoulliRBM

pytest.importorskip("matplotlib", reason="matplotlib (the plot extra) is not installed")


def conv(*shape, kind=nn.Conv2d, **options):
    layer = kind(shape[1] * options.get("groups", 1), shape[0], shape[2:], **options)
    layer.weight.data[...] = np.random.default_rng(0).standard_normal(shape)
    return layer


def unit(array):
    return (array - array.min()) / (array.max() - array.min())


def tile(picture, row, column, height, width):
    top, left = row * (height + 1), column * (width + 1)
    return picture[top : top + height, left : left + width]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_grey_filters_in_a_square(tmp_path):
    net = nn.Sequential({"c1": conv(6, 1, 5, 4)})
    picture = plots.filters(net, "c1", tmp_path / "a.png")
    assert picture.shape == (2 * 6 - 1, 3 * 5 - 1)  # 3 columns, 2 rows
    for i in range(6):
        shown = tile(picture, *divmod(i, 3), 5, 4)
        np.testing.assert_allclose(shown, unit(net.c1.weight.data[i, 0]), rtol=1e-6, atol=1e-7)
    assert np.isnan(picture[5]).all()
    assert np.isnan(picture[:, 4]).all()
    assert is_png(tmp_path / "a.png")


def test_filters_of_three_channels_are_colours(tmp_path):
    layer = conv(5, 3, 3, 3)
    picture = plots.filters(nn.Sequential(layer), "0", tmp_path / "a.png")
    assert picture.shape == (7, 11, 3)
    expected = unit(np.moveaxis(layer.weight.data[4], 0, -1))  # all channels on one scale
    np.testing.assert_allclose(tile(picture, 1, 1, 3, 3), expected, rtol=1e-6, atol=1e-7)
    assert np.isnan(tile(picture, 1, 2, 3, 3)).all()  # no sixth filter
    assert is_png(tmp_path / "a.png")


@pytest.mark.parametrize("channels", [2, 4, 30])
def test_filters_of_many_channels_are_rows(tmp_path, channels):
    layer = conv(3, channels, 2, 3)
    picture = plots.filters(nn.Sequential(layer), "0", tmp_path / "a.png", most=2, most_channels=5)
    columns = min(channels, 5)
    assert picture.shape == (2 * 3 - 1, columns * 4 - 1)
    expected = unit(layer.weight.data[1, :columns])
    for c in range(columns):
        np.testing.assert_allclose(tile(picture, 1, c, 2, 3), expected[c], rtol=1e-6, atol=1e-7)


def test_volumes_show_their_middle_and_lines_are_lines(tmp_path):
    volume, line = conv(2, 1, 5, 3, 4, kind=nn.Conv3d), conv(4, 1, 7, kind=nn.Conv1d)
    picture = plots.filters(nn.Sequential(volume), "0", tmp_path / "a.png")
    np.testing.assert_allclose(picture[:, :4], unit(volume.weight.data[0, 0, 2]), rtol=1e-6, atol=1e-7)
    picture = plots.filters(nn.Sequential(line), "0", tmp_path / "b.png")
    assert picture.shape == (3, 15)
    np.testing.assert_allclose(tile(picture, 1, 0, 1, 7)[0], unit(line.weight.data[2, 0]), rtol=1e-6, atol=1e-7)
    assert is_png(tmp_path / "a.png")
    assert is_png(tmp_path / "b.png")


def test_equal_numbers_and_numbers_that_are_none(tmp_path):
    layer = conv(2, 1, 2, 2)
    layer.weight.data[0], layer.weight.data[1, 0] = 3, [[np.nan, 1], [np.inf, 2]]
    picture = plots.filters(nn.Sequential(layer), "0", tmp_path / "a.png")
    assert (picture[:, :2] == 0.5).all()
    np.testing.assert_array_equal(picture[:, 3:], [[np.nan, 0], [np.nan, 1]])


def test_bases_of_a_boltzmann_machine(tmp_path):
    machine = BernoulliRBM(5).partial_fit(np.random.default_rng(0).random((8, 12)))
    picture = plots.bases(machine.components_, (3, 4), tmp_path / "a.png")
    assert picture.shape == (2 * 4 - 1, 3 * 5 - 1)
    for i in range(5):
        shown = tile(picture, *divmod(i, 3), 3, 4)
        np.testing.assert_allclose(shown, unit(machine.components_[i].reshape(3, 4)), atol=1e-6)
    assert is_png(tmp_path / "a.png")
    assert plots.bases(machine.dense().weight, (4, 3), tmp_path / "b.png", most=2).shape == (4, 2 * 4 - 1)


def test_feature_maps(tmp_path):
    fastconv.manual_seed(0)
    net = nn.Sequential(
        {"c1": nn.Conv2d(1, 5, 3), "relu": nn.ReLU(), "flatten": nn.Flatten(), "f": nn.Linear(5 * 24, 7)}
    )
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 6)).astype(np.float32)
    maps = fastconv.features(net, x, ["relu", "f"])
    picture = plots.feature_maps(net, x, "relu", tmp_path / "a.png", sample=1, most=4)
    assert picture.shape == (13, 9)
    np.testing.assert_allclose(tile(picture, 1, 0, 6, 4), unit(maps["relu"][1, 2]), rtol=1e-6, atol=1e-7)
    units = plots.feature_maps(net, x, "f", tmp_path / "b.png")
    np.testing.assert_allclose(units, unit(maps["f"][:1]), rtol=1e-6, atol=1e-7)
    assert net.training
    assert is_png(tmp_path / "a.png")
    assert is_png(tmp_path / "b.png")


def test_feature_maps_in_one_and_three_dimensions(tmp_path):
    x = np.random.default_rng(0).standard_normal((1, 3, 5, 4, 6)).astype(np.float32)
    picture = plots.feature_maps(nn.Identity(), x, "", tmp_path / "a.png")
    np.testing.assert_allclose(tile(picture, 1, 0, 4, 6), unit(x[0, 2, 2]), rtol=1e-6, atol=1e-7)
    picture = plots.feature_maps(nn.Identity(), x[0, 0], "", tmp_path / "b.png")  # (5, 4, 6): lines of 6
    assert picture.shape == (7, 6)
    np.testing.assert_allclose(picture[4], unit(x[0, 0, 0, 2]), rtol=1e-6, atol=1e-7)
    assert is_png(tmp_path / "b.png")


def test_what_is_no_picture_is_named(tmp_path):
    net, path = nn.Sequential(nn.Linear(4, 4), nn.MaxPool2d(2, return_indices=True)), tmp_path / "a.png"
    x = np.ones((1, 1, 4, 4), np.float32)
    for call, message in (
        (lambda: plots.filters(net, "0", path), "filters: expected the name of a convolution, got '0'"),
        (lambda: plots.filters(net, "1", path), "filters: expected the name of a convolution, got '1'"),
        (lambda: plots.filters(net, "7", path), "get_submodule: expected the name of a module"),
        (lambda: plots.filters(net, "0", path, most=0), "filters: expected most >= 1, got 0"),
        (
            lambda: plots.bases(np.ones((2, 12)), (3, 5), path),
            r"bases: expected weight \(units, 15\), got shape \(2, 12\)",
        ),
        (lambda: plots.feature_maps(net, x, "1", path), r"puts out \(N, C, ...\), got '1'"),
        (lambda: plots.feature_maps(net, x, "0", path, sample=1), "feature_maps: expected sample <= 0, got 1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    assert not path.exists()


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    with pytest.raises(DataError, match=r"plots: expected matplotlib \(pip install 'fastconv\[plot\]'\), got none"):
        plots.filters(nn.Sequential(conv(2, 1, 2, 2)), "0", tmp_path / "a.png")


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "filters.png"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"filters\.png to be writable, got No space left on device"):
        plots.filters(nn.Sequential(conv(2, 1, 2, 2)), "0", path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["filters.png"]
