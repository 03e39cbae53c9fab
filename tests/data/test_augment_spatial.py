"""Resampling against SciPy, NumPy and torch: affine maps in voxels and millimetres, elastic fields, windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.data import augment
from fastconv.data.augment.affine import forward
from fastconv.data.augment.boxes import boxes
from fastconv.data.augment.padding import window
from fastconv.data.augment.sampling import resample

SCIPYS = {"constant": "grid-constant", "edge": "nearest", "reflect": "mirror"}
PLAIN = {"interpolation": "linear", "padding": "constant", "value": 0.0, "label_value": 0}
BOUND = {"float32": 3e-6, "float64": 1e-12}


def ramp(shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(1).random(shape).astype(dtype)


def at(coordinates: np.ndarray):
    return lambda box: [axis[box] for axis in coordinates]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", SCIPYS)
@pytest.mark.parametrize("interpolation, order", [("nearest", 0), ("linear", 1)])
@pytest.mark.parametrize("shape", [(2, 7, 9), (1, 4, 5, 6), (1, 1, 3), (2, 2, 1, 3)], ids=str)
def test_values_between_voxels_are_those_of_scipy(shape, interpolation, order, padding, dtype):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = ramp(shape, dtype)
    label = np.random.default_rng(2).integers(0, 5, shape[1:]).astype(np.int16)
    where = np.random.default_rng(3).uniform(-4, 12, (len(shape) - 1, *shape[1:]))
    how = {"interpolation": interpolation, "padding": padding, "value": 2.5, "label_value": 4}
    y, t = resample(image, label, at(where), **how)
    mode = SCIPYS[padding]
    for channel, got in zip(image, y, strict=True):
        expected = ndimage.map_coordinates(channel.astype("f8"), where, order=order, mode=mode, cval=2.5)
        np.testing.assert_allclose(got, expected, atol=BOUND[dtype])
    expected = ndimage.map_coordinates(label, where, order=0, mode=mode, cval=4)
    np.testing.assert_array_equal(t, expected)


def voxels(spatial, rotation, scale, shear, shift, spacing):
    """The map that scipy.ndimage.affine_transform wants, from millimetres by homogeneous matrices."""
    rank = len(spatial)
    to_mm, matrix = np.eye(rank + 1), np.eye(rank + 1)
    to_mm[:rank, :rank] = np.diag(spacing)
    to_mm[:rank, rank] = -np.array(spacing) * (np.array(spatial) - 1) / 2
    matrix[:rank, :rank] = forward(rotation, scale, shear)
    matrix[:rank, rank] = shift
    return np.linalg.inv(to_mm) @ np.linalg.inv(matrix) @ to_mm


CASES = {  # none of them reads a label midway between two voxels, where rounding decides
    "2d": ((1, 12, 15), [25.0], [1.1, 0.8], [0.2], [1.4, -2.0], [1.0, 1.0]),
    "2d mm": ((2, 12, 15), [-70.0], [1.1, 1.1], [0.0], [3.0, 0.5], [2.5, 0.6]),
    "3d mm": ((1, 6, 12, 11), [10.0, -20.0, 35.0], [0.9, 1.2, 1.1], [0.1, -0.2, 0.3], [1.0, -2.0, 0.3], [3.0, 1, 0.8]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", SCIPYS)
@pytest.mark.parametrize("name", CASES)
def test_affine_is_that_of_scipy(name, padding, dtype):
    ndimage = pytest.importorskip("scipy.ndimage")
    shape, rotation, scale, shear, shift, spacing = CASES[name]
    image = ramp(shape, dtype)
    label = np.random.default_rng(2).integers(0, 5, shape[1:])
    how = {**PLAIN, "padding": padding, "value": -1.0}
    x, t = augment.Affine.apply(
        image, label, rotation=rotation, scale=scale, shear=shear, shift=shift, spacing=spacing, **how
    )
    matrix = voxels(shape[1:], rotation, scale, shear, shift, spacing)
    mode = SCIPYS[padding]
    for channel, got in zip(image, x, strict=True):
        expected = ndimage.affine_transform(channel.astype("f8"), matrix, order=1, mode=mode, cval=-1.0)
        np.testing.assert_allclose(got, expected, atol=BOUND[dtype])
    np.testing.assert_array_equal(t, ndimage.affine_transform(label, matrix, order=0, mode=mode))


def test_rotation_turns_as_rot90_does_about_each_axis():
    image, label = ramp((1, 5, 5, 5)), np.arange(125).reshape(5, 5, 5)
    for axis, plane in enumerate(((-2, -1), (-3, -1), (-3, -2))):
        angles = [(90, 90) if a == axis else (0, 0) for a in range(3)]
        x, t, _ = augment.Compose([augment.Affine(rotation=angles)])(image, label)
        np.testing.assert_allclose(x, np.rot90(image, 1, plane), atol=1e-12)
        np.testing.assert_array_equal(t, np.rot90(label, 1, plane))


def test_rotations_are_applied_from_the_last_axis_to_the_first():
    one, two, three = (forward([a, b, c], [1.0] * 3, [0.0] * 3) for a, b, c in ((20, 0, 0), (0, 30, 0), (0, 0, 40)))
    np.testing.assert_allclose(forward([20, 30, 40], [1.0] * 3, [0.0] * 3), one @ two @ three)
    np.testing.assert_allclose(one.T @ one, np.eye(3), atol=1e-15)


def test_a_rotation_is_one_in_millimetres():
    """A disc of millimetres is a disc after a rotation, whatever the voxels; in voxels it would become another."""
    spacing = (4.0, 1.0)
    h, w = np.meshgrid((np.arange(21) - 10) * 4.0, np.arange(81) - 40.0, indexing="ij")
    disc = np.exp(-(h**2 + w**2) / 200)[None]
    pipeline = augment.Compose([augment.Affine(rotation=(37, 37), interpolation="cubic")])
    np.testing.assert_allclose(pipeline(disc, spacing=spacing)[0], disc, atol=5e-3)
    assert np.abs(pipeline(disc)[0] - disc).max() > 0.2


def test_ranges_common_and_for_each_axis():
    image = ramp((1, 4, 4, 4))
    common = augment.Compose([augment.Affine(scale=(0.5, 2.0))], seed=3)(image)[2]["steps"][0]["scale"]
    assert common[0] == common[1] == common[2] != 1
    own = augment.Compose([augment.Affine(scale=[(0.5, 2.0)] * 3, shift=4)], seed=3)(image)[2]["steps"][0]
    assert len(set(own["scale"])) == len(set(own["shift"])) == 3
    assert all(abs(mm) <= 4 for mm in own["shift"])


def test_cubic_interpolation_is_exact_for_quadratics_and_close_to_a_spline():
    h, w = np.meshgrid(np.arange(12.0), np.arange(14.0), indexing="ij")
    where = np.random.default_rng(0).uniform(2, 9, (2, 12, 14))
    how = {**PLAIN, "interpolation": "cubic"}

    def polynomial(h, w):
        return 1 + h - 2 * w + 0.3 * h * h - 0.1 * w * w + 0.2 * h * w

    y, _ = resample(polynomial(h, w)[None], None, at(where), **how)
    np.testing.assert_allclose(y[0], polynomial(*where), atol=1e-10)
    ndimage = pytest.importorskip("scipy.ndimage")
    smooth = np.sin(h / 3) * np.cos(w / 4)
    y, _ = resample(smooth[None], None, at(where), **how)
    linear, _ = resample(smooth[None], None, at(where), **PLAIN)
    spline = ndimage.map_coordinates(smooth, where, order=3, mode="mirror")
    assert 4 * np.abs(y[0] - spline).max() < np.abs(linear[0] - spline).max()


def test_cubic_weights_are_those_of_torch():
    torch = pytest.importorskip("torch")
    image = ramp((1, 9, 10), "float64")
    size = (18, 30)
    where = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, (9, 10), strict=True)],
                                 indexing="ij"))  # fmt: skip
    resize = torch.nn.functional.interpolate
    expected = resize(torch.from_numpy(image[None]), size, mode="bicubic", antialias=True)[0, 0].numpy()
    for top in (0, 9):  # parts of the image's own size
        for left in (0, 10, 20):
            part = where[:, top : top + 9, left : left + 10]
            y, _ = resample(image, None, at(part), **{**PLAIN, "interpolation": "cubic", "padding": "edge"})
            inner = (
                slice(4 if top == 0 else 0, 9 if top == 0 else 5),
                slice(6 if left == 0 else 0, 10 if left < 20 else 4),
            )
            want = expected[top : top + 9, left : left + 10]
            np.testing.assert_allclose(y[0][inner], want[inner], atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 20, 24), (2, 8, 10, 12)], ids=str)
def test_elastic_reads_at_the_displaced_positions_and_never_folds(shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    spatial = shape[1:]
    grid = np.stack(np.meshgrid(*map(np.arange, spatial), indexing="ij")).astype("f8")
    pipeline = augment.Compose([augment.Elastic(100.0, points=4, interpolation="linear", padding="edge")], seed=6)
    _, _, record = pipeline(np.zeros((1, *spatial)))
    amplitude = record["steps"][0]["amplitude"]
    np.testing.assert_allclose(amplitude, [0.4 * (n - 1) / 3 for n in spatial])  # the cap
    image = ramp(shape)
    x, _, record2 = pipeline(image)
    assert record2 == record
    # coordinates as channels come out as the positions that were read, up to the edge that padding repeats
    read, _ = augment.replay(record, grid)
    for channel, got in zip(image, x, strict=True):
        expected = ndimage.map_coordinates(channel, read, order=1, mode="nearest")
        np.testing.assert_allclose(got, expected, atol=1e-10)
    moved = np.abs(read - grid).reshape(len(spatial), -1).max(1)
    assert (moved > 0.2).all()
    assert (moved <= np.array(amplitude) + 1e-12).all()
    inner = tuple(slice(3, -3) for _ in spatial)
    jacobian = np.stack([np.stack(np.gradient(axis)) for axis in read])[(..., *inner)]
    assert (np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))) > 0).all()


def test_elastic_is_smooth_and_in_millimetres():
    grid = np.stack(np.meshgrid(np.arange(41.0), np.arange(41.0), indexing="ij"))
    pipeline = augment.Compose([augment.Elastic(4.0, points=5, padding="edge")], seed=1)
    read, _, record = pipeline(grid, spacing=(4.0, 1.0))
    assert record["steps"][0]["amplitude"] == [1.0, 4.0]
    second = np.diff(read - grid, n=2, axis=1)[:, 5:-5, 5:-5]
    assert np.abs(second).max() < 4.0 * 6 / 10**2  # |second derivative| of a B-spline sum <= 4 amplitude / h^2


def test_a_large_sample_is_cut_into_boxes_without_a_seam():
    image, label = ramp((1, 3, 130, 131), "float32"), np.arange(3 * 130 * 131).reshape(3, 130, 131)
    for transform in (augment.Affine(rotation=20, shift=3), augment.Elastic(3.0)):
        record = augment.Compose([transform], seed=2)(image)[2]
        x, t = augment.replay(record, image, label)
        alone, _ = augment.replay(record, image.astype("f8"))
        np.testing.assert_allclose(x, alone, atol=2e-5)
        assert t.shape == label.shape


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 30))
def test_boxes_cover_every_element_once(shape, most):
    count = np.zeros(shape, int)
    for box in boxes(shape, most):
        count[box] += 1
        assert count[box].size <= most
    assert (count == 1).all()


@given(st.integers(1, 6), st.integers(1, 9), st.data(), st.sampled_from(["constant", "edge", "reflect"]))
def test_windows_are_cuts_of_the_padded_array(n, size, data, padding):
    start = data.draw(st.integers(1 - size, n - 1))
    array = np.arange(1, 2 * n + 1).reshape(2, n)
    extra = {"constant_values": 5} if padding == "constant" else {}
    padded = np.pad(array, ((0, 0), (10, 10)), mode=padding, **extra)
    np.testing.assert_array_equal(window(array, [start], [size], padding, 5), padded[:, 10 + start :][:, :size])


def test_crops_are_everywhere_and_centred_on_demand():
    image = np.arange(7.0).reshape(1, 1, 7)
    starts = {
        augment.Compose([augment.CropOrPad((1, 3))])(image, index=i)[2]["steps"][0]["start"][1] for i in range(60)
    }
    assert starts == {0, 1, 2, 3, 4}
    x, _, _ = augment.Compose([augment.CropOrPad((1, 3), random=False)])(image)
    np.testing.assert_array_equal(x, image[..., 2:5])


def test_quarter_turns_keep_shape_and_spacing():
    turns = {False: set(), True: set()}
    for square in turns:
        image = ramp((1, 4, 4 if square else 5))
        for index in range(40):
            for spacing in ((1.0, 1.0), (1.0, 2.0)):
                _, _, record = augment.Compose([augment.Rotate90()])(image, index=index, spacing=spacing)
                turns[square and spacing[0] == spacing[1]].add(record["steps"][0]["turns"])
    assert turns == {False: {0, 2}, True: {0, 1, 2, 3}}
