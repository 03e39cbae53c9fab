"""Pipelines: keys of the random numbers, records, replay, inverse, batches, arrays of any kind, errors."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv.data import augment
from fastconv.data.augment.draws import WORDS, Draws, Stream
from fastconv.errors import ArgumentError, DataError, DTypeError, FastconvError, ShapeError

SPATIAL = {
    "flip": augment.Flip(),
    "rotate": augment.Rotate90(),
    "crop": augment.CropOrPad((6, 9), padding="edge"),
    "affine": augment.Affine(rotation=20, scale=(0.8, 1.2), shift=2, shear=0.1),
    "cubic": augment.Affine(rotation=20, interpolation="cubic", padding="reflect"),
    "nearest": augment.Affine(rotation=20, interpolation="nearest", value="minimum"),
    "elastic": augment.Elastic(2.0, points=4, padding="edge"),
}
INTENSITY = {
    "contrast": augment.BrightnessContrast(),
    "gamma": augment.Gamma(),
    "clip": augment.Clip(0.2, 0.8),
    "zscore": augment.ZScore(nonzero=True),
    "window": augment.PercentileWindow(5, 95),
    "noise": augment.GaussianNoise(0.2),
    "bias": augment.BiasField(),
    "blur": augment.GaussianBlur(1.5),
}
# options that change nothing
IDENTITY = {
    "flip": augment.Flip(chance=0.0),
    "rotate": augment.Rotate90(turns=(0,)),
    "affine": augment.Affine(),
    "affine cubic": augment.Affine(rotation=0, scale=(1, 1), interpolation="cubic", value=7.0),
    "elastic": augment.Elastic(0.0),
    "contrast": augment.BrightnessContrast(0.0, 1.0),
    "gamma": augment.Gamma(1.0),
    "noise": augment.GaussianNoise(0.0),
    "bias": augment.BiasField(0.0),
    "blur": augment.GaussianBlur(0.0),
    "never": augment.Clip(5, 6, probability=0.0),
}
SHAPES = [(2, 8, 11), (1, 7, 7), (2, 5, 6, 7), (1, 1, 4), (3, 1, 9, 2)]


def sample(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random(shape).astype(dtype), rng.choice([0, 3, 7], shape[1:]).astype(np.uint8)


def everything(rank: int) -> list[augment.Transform]:
    crop = augment.CropOrPad((6, 9, 5)[:rank], padding="edge")
    return [*{**SPATIAL, "crop": crop}.values(), *INTENSITY.values()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_record_through_json_replays_the_same_bits(shape, dtype):
    image, label = sample(shape, dtype)
    pipeline = augment.Compose(everything(len(shape) - 1), seed=4)
    spacing = (3.0, 1.0, 0.7)[: len(shape) - 1]
    x, t, record = pipeline(image, label, epoch=2, index=9, spacing=spacing)
    back = json.loads(json.dumps(record, allow_nan=False))
    assert back == record
    assert x.dtype == dtype
    assert t.dtype == label.dtype
    x2, t2 = augment.replay(back, image, label)
    np.testing.assert_array_equal(x, x2)
    np.testing.assert_array_equal(t, t2)
    np.testing.assert_array_equal(augment.replay(back, image)[0], x)  # a label map does not change the image
    assert np.isfinite(x).all()


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parameters_that_change_nothing_leave_every_bit(shape, name):
    image, label = sample(shape)
    image.flat[0] = np.nan
    x, t, _ = augment.Compose([IDENTITY[name]])(image, label, spacing=(1.3, 0.3, 0.7)[: len(shape) - 1])
    np.testing.assert_array_equal(x.view(np.int32), image.view(np.int32))
    np.testing.assert_array_equal(t, label)
    assert not np.shares_memory(x, image)
    assert not np.shares_memory(t, label)


@pytest.mark.parametrize("name", [*SPATIAL, *INTENSITY])
def test_labels_are_never_invented_and_inputs_never_written(name):
    image, label = sample((2, 8, 11))
    image.flags.writeable = label.flags.writeable = False
    transform = {**SPATIAL, **INTENSITY}[name]
    for index in range(5):
        x, t, _ = augment.Compose([transform], seed=1)(image, label, index=index)
        assert set(np.unique(t)) <= {0, 3, 7}
        assert t.shape == x.shape[1:]
        if name in INTENSITY:
            np.testing.assert_array_equal(t, label)
        assert x.flags.c_contiguous and x.flags.writeable and t.flags.c_contiguous  # noqa: PT018


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**62), st.integers(0, 2**62), st.sampled_from(SHAPES))
def test_flips_and_quarter_turns_are_undone_exactly(seed, epoch, index, shape):
    image, label = sample(shape)
    turns = [augment.Flip(), augment.Rotate90(), augment.Flip((-1,)), augment.Rotate90((1, -1)), augment.Gamma(1.0)]
    pipeline = augment.Compose(turns, seed=seed)
    x, t, record = pipeline(image, label, epoch=epoch, index=index)
    assert x.shape == image.shape
    back, original = augment.inverse(record, x, t)
    np.testing.assert_array_equal(back, image)
    np.testing.assert_array_equal(original, label)
    scores = np.concatenate([x, x])  # a prediction has channels of its own
    np.testing.assert_array_equal(augment.inverse(record, scores)[0], np.concatenate([image, image]))


def test_the_inverse_of_a_crop_puts_it_back_in_its_place():
    image, label = sample((2, 9, 4))
    x, t, record = augment.Compose([augment.CropOrPad((5, 6))], seed=3)(image, label)
    assert x.shape == (2, 5, 6)
    back, original = augment.inverse(record, x, t)
    start = record["steps"][0]["start"][0]
    expected = np.zeros_like(image)
    expected[:, start : start + 5] = image[:, start : start + 5]
    np.testing.assert_array_equal(back, expected)
    assert original.shape == label.shape


def test_the_inverse_of_an_affine_map_brings_smooth_images_back():
    grid = np.stack(np.meshgrid(*[np.linspace(-5, 5, 80)] * 2, indexing="ij"))
    image = np.exp(-(grid**2).sum(0, keepdims=True))
    affine = augment.Affine(rotation=40, scale=(0.9, 1.1), shift=3, shear=0.1, interpolation="cubic")
    x, _, record = augment.Compose([affine], seed=2)(image, spacing=(1.0, 1.3))
    assert np.abs(x - image).max() > 0.1
    np.testing.assert_allclose(augment.inverse(record, x)[0], image, atol=2e-3)


def test_numbers_belong_to_seed_epoch_index_and_place_alone():
    image, _ = sample((1, 8, 8))
    noise = augment.GaussianNoise((0.1, 0.1))
    pipeline = augment.Compose([noise], seed=1)
    first = pipeline(image, epoch=1, index=2)[0]
    pipeline(image, epoch=9, index=9)
    np.testing.assert_array_equal(pipeline(image, epoch=1, index=2)[0], first)
    others = [
        pipeline(image, epoch=2, index=1)[0],
        pipeline(image, epoch=1, index=3)[0],
        augment.Compose([noise], seed=2)(image, epoch=1, index=2)[0],
        augment.Compose([augment.Flip(chance=0.0), noise], seed=1)(image, epoch=1, index=2)[0],
    ]
    assert not any(np.array_equal(first, other) for other in others)


def test_draws_are_pinned():
    """Records aside, a run of one NumPy version must resume under another: raw Philox words do not change."""
    image, _ = sample((1, 4, 4))
    step = augment.Compose([augment.Gamma((0.5, 1.5))], seed=7)(image, epoch=3, index=5)[2]["steps"][0]
    word = np.random.Philox(key=(7, 3), counter=(0, 0, 5, 3)).random_raw(2)[1]
    assert step["gamma"] == 0.5 + (int(word) >> 11) * 2.0**-53


def test_draws_are_uniform_and_streams_normal():
    words = np.random.default_rng(0).integers(0, 2**64, 30_000, dtype=np.uint64).tolist()
    draws = Draws(words)
    values = np.array([draws.uniform(-1, 3) for _ in range(10_000)])
    assert abs(values.mean() - 1) < 0.05
    assert values.min() >= -1 > -2 < values.max() < 3
    counts = np.bincount([draws.integer(2, 4) for _ in range(9_000)])
    assert counts[:2].sum() == 0
    np.testing.assert_allclose(counts[2:], 3000, rtol=0.06)
    normals = Stream(3).normal(100_001)
    assert normals.shape == (100_001,)
    moments = [(normals**k).mean() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.06)
    few = Draws([1] * WORDS)
    assert len({few.stream() for _ in range(WORDS)}) == 1
    with pytest.raises(ArgumentError, match=f"at most {WORDS} draws"):
        few.stream()


def test_probability_is_how_often_a_transform_is_applied():
    image, _ = sample((1, 4, 4))
    pipeline = augment.Compose([augment.Clip(0, 1, probability=0.25)], seed=0)
    applied = sum(len(pipeline(image, index=i)[2]["steps"]) for i in range(800))
    assert 150 < applied < 250


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [2, 3])
def test_strides_and_byte_order_do_not_matter(rank, dtype):
    image, label = sample((2, 6, 8, 7)[: rank + 1], dtype)
    pipeline = augment.Compose(everything(rank), seed=8)
    x, t, _ = pipeline(image, label)
    wide = np.repeat(image, 2, axis=-1)[..., ::2]
    turned = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    for other in (np.asfortranarray(image), wide, turned, image.astype(image.dtype.newbyteorder())):
        x2, t2, _ = pipeline(other, np.asfortranarray(label))
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(t, t2)
        assert x2.dtype.isnative


@pytest.mark.parametrize("name", [*SPATIAL, *INTENSITY])
def test_memory_beyond_the_result_is_bounded(name):
    """Blur alone has a second array: the backend's resampling returns a new one for each axis."""
    image, label = sample((1, 100, 128, 128))
    transform = {**SPATIAL, **INTENSITY, "crop": augment.CropOrPad((110, 128, 120))}[name]
    parameters = transform.draw(Draws([2**63] * WORDS), image.shape[1:], (1.0, 1.0, 1.0))
    tracemalloc.start()
    x, t = transform.apply(image, label, **parameters)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    results = sum(array.nbytes for array in (x, t) if array is not image and array is not label and array.base is None)
    assert peak <= results * (2 if name == "blur" else 1) + 4e6


def test_a_batch_is_its_samples_and_may_be_empty():
    rng = np.random.default_rng(0)
    images, labels = rng.random((3, 2, 6, 7)), rng.integers(0, 3, (3, 1, 6, 7))
    pipeline = augment.Compose([augment.CropOrPad((4, 9)), augment.Affine(rotation=30)], seed=5)
    x, t, records = pipeline.batch(images, labels, epoch=2, indices=np.array([7, 1, 4]))
    for i, index in enumerate((7, 1, 4)):
        alone = pipeline(images[i], labels[i], epoch=2, index=index)
        np.testing.assert_array_equal(x[i], alone[0])
        np.testing.assert_array_equal(t[i], alone[1])
        assert records[i] == alone[2]
    x, t, records = pipeline.batch(images[:0], labels[:0], indices=[])
    assert (x.shape, t.shape, records) == ((0, 2, 4, 9), (0, 1, 4, 9), [])
    assert pipeline.batch(images[:0], indices=[])[1] is None


def test_batches_know_the_spacing():
    images = np.random.default_rng(0).random((3, 1, 5, 7, 9), np.float32)
    pipeline = augment.Compose([augment.Affine(rotation=30)], seed=1)
    (x,), _ = augment.batches(pipeline, spacing=(4, 1, 1))(np.random.default_rng(3), images, np.arange(3))
    key = int(np.random.default_rng(3).integers(2**63 - 1))
    wanted, plain = (
        pipeline.batch(images, epoch=key, indices=range(3), spacing=spacing)[0] for spacing in ((4, 1, 1), None)
    )
    np.testing.assert_array_equal(x, wanted)
    assert not np.array_equal(wanted, plain)


def test_fit_takes_a_pipeline_and_repeats_its_bits():
    rng = np.random.default_rng(0)
    images = rng.random((6, 1, 6, 6), np.float32)
    masks = (images[:, 0] > 0.5).astype(np.int64)
    hook = augment.batches(augment.Compose([augment.Flip(), augment.Gamma()], seed=1), images=(0, 1))
    (x, other), goal = hook(np.random.default_rng(3), images, images / 2, masks)
    assert goal.shape == masks.shape
    assert not np.array_equal(goal, masks)
    assert x.shape == other.shape == images.shape
    (x, again), goal = hook(np.random.default_rng(3), images, images, masks)
    np.testing.assert_array_equal(x, again)  # every image of a sample changes as the first
    assert not np.array_equal(x, images)
    np.testing.assert_array_equal(hook(np.random.default_rng(3), images, images, np.arange(6))[1], np.arange(6))

    def weights() -> np.ndarray:
        fc.manual_seed(0)
        model = fc.nn.Sequential(fc.nn.Conv2d(1, 2, 3, padding=1))
        alone = augment.batches(augment.Compose([augment.Affine(rotation=30)], seed=1))
        fc.training.fit(model, images, masks, epochs=2, batch_size=4, augment=alone)
        return np.asarray(model[0].weight.data)

    np.testing.assert_array_equal(weights(), weights())


IMAGE, LABEL = np.zeros((1, 4, 5)), np.zeros((4, 5), np.uint8)
WRONG = {
    "image rank": (ShapeError, "image", lambda: augment.Compose([])(np.zeros((4, 5)))),
    "image dtype": (DTypeError, "float32 or float64, got uint8", lambda: augment.Compose([])(IMAGE.astype("u1"))),
    "float16": (DTypeError, "image", lambda: augment.Compose([])(IMAGE.astype("f2"))),
    "no voxels": (ShapeError, "voxels", lambda: augment.Compose([])(np.zeros((1, 0, 5)))),
    "label": (ShapeError, r"label .*\(4, 5\)", lambda: augment.Compose([])(IMAGE, LABEL.T)),
    "class": (ShapeError, "label", lambda: augment.Compose([])(IMAGE, 3)),
    "epoch": (ArgumentError, "epoch", lambda: augment.Compose([])(IMAGE, epoch=-1)),
    "index": (ArgumentError, "index", lambda: augment.Compose([])(IMAGE, index=1.5)),
    "spacing": (ShapeError, "spacing of 2", lambda: augment.Compose([])(IMAGE, spacing=(1,))),
    "zero spacing": (ArgumentError, "spacing", lambda: augment.Compose([])(IMAGE, spacing=(1, 0))),
    "seed": (ArgumentError, "seed", lambda: augment.Compose([], seed=2**64)),
    "transform": (ArgumentError, r"transforms\[0\]", lambda: augment.Compose([augment.Flip])),
    "probability": (ArgumentError, "probability", lambda: augment.Flip(probability=1.5)),
    "axis 0": (ShapeError, "axes from 1 to 2", lambda: augment.Compose([augment.Flip((0,))])(IMAGE)),
    "axis twice": (ArgumentError, "axes that differ", lambda: augment.Compose([augment.Flip((1, -2))])(IMAGE)),
    "one axis": (ArgumentError, "two axes", lambda: augment.Rotate90((1,))),
    "size": (ShapeError, "size for 2 axes", lambda: augment.Compose([augment.CropOrPad((1, 2, 3))])(IMAGE)),
    "padding": (ArgumentError, "padding", lambda: augment.CropOrPad(3, padding="wrap")),
    "interpolation": (ArgumentError, "interpolation", lambda: augment.Affine(interpolation="sinc")),
    "value": (ArgumentError, "value", lambda: augment.Affine(value=float("inf"))),
    "label value": (
        ArgumentError, "label_value to be a value of uint8",
        lambda: augment.Compose([augment.Affine(rotation=(45, 45), label_value=-1)])(IMAGE, LABEL),
    ),
    "pad value": (
        ArgumentError, "label_value to be a value of bool",
        lambda: augment.Compose([augment.CropOrPad(9, label_value=2)])(IMAGE, LABEL > 0),
    ),
    "scale": (ArgumentError, "scale", lambda: augment.Affine(scale=0)),
    "reversed": (ArgumentError, "low <= high", lambda: augment.Affine(shift=(2, 1))),
    "not a pair": (ArgumentError, "a pair", lambda: augment.Gamma((1, 2, 3))),
    "nan": (ArgumentError, "gamma", lambda: augment.Gamma(float("nan"))),
    "ranges": (ShapeError, "shift for 2 axes", lambda: augment.Compose([augment.Affine(shift=[(0, 1)] * 3)])(IMAGE)),
    "points": (ArgumentError, "points", lambda: augment.Elastic(points=1)),
    "percentiles": (ArgumentError, "low < high", lambda: augment.PercentileWindow(50, 50)),
    "indices": (ShapeError, "indices", lambda: augment.Compose([]).batch(IMAGE[None], indices=[1, 2])),
    "labels": (ShapeError, "labels", lambda: augment.Compose([]).batch(IMAGE[None], LABEL, indices=[1])),
    "pipeline": (ArgumentError, "pipeline", lambda: augment.batches(augment.Flip())),
    "inputs": (
        ShapeError, "at least 2 inputs",
        lambda: augment.batches(augment.Compose([]), images=(1,))(np.random.default_rng(0), IMAGE[None], [0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_argument(name):
    kind, message, call = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


FLIP = {"transform": "Flip", "axes": [-1]}


@pytest.mark.parametrize(
    "record, message",
    [
        ([], "record with version"),
        ({"version": 2, "spatial": [4, 5], "steps": []}, "version 1"),
        ({"version": 1, "spatial": [4, 5], "steps": {}}, "lists"),
        ({"version": 1, "spatial": [4, 5], "steps": [FLIP, {"transform": "Melt"}]}, r"steps\[1\]"),
        ({"version": 1, "spatial": [4, 5], "steps": [{"transform": ["Flip"]}]}, r"steps\[0\]"),
        ({"version": 1, "spatial": [4, 5], "steps": [{**FLIP, "angle": 3}]}, r"steps\[0\], Flip"),
        ({"version": 1, "spatial": [4, 5], "steps": [{"transform": "Flip", "axes": "x"}]}, "Flip with parameters"),
    ],
)
def test_what_is_no_record_is_refused(record, message):
    for verb in (augment.replay, augment.inverse):
        with pytest.raises(DataError, match=message):
            verb(record, IMAGE, LABEL)


def test_a_record_fits_its_sizes_and_elastic_has_no_inverse():
    image, _ = sample((1, 6, 6))
    x, _, record = augment.Compose([augment.Elastic()])(image)
    with pytest.raises(ShapeError, match=r"\[6, 6\]"):
        augment.replay(record, np.zeros((1, 6, 7)))
    with pytest.raises(ShapeError, match="2 spatial axes"):
        augment.inverse(record, np.zeros((1, 6, 6, 6)))
    with pytest.raises(ArgumentError, match="Elastic"):
        augment.inverse(record, x)


def test_a_transform_of_the_users_own_is_replayed_and_names_are_taken_once():
    class Shade(augment.Transform):
        def draw(self, draws, spatial, spacing):
            return {"by": draws.uniform(1, 2)}

        @staticmethod
        def apply(image, label, *, by):
            return image / by, label

    image, _ = sample((1, 3, 3))
    x, _, record = augment.Compose([Shade()])(image)
    np.testing.assert_array_equal(augment.replay(record, image)[0], x)
    np.testing.assert_array_equal(augment.inverse(record, x)[0], x)
    with pytest.raises(FastconvError, match="a name other than Flip"):
        type("Flip", (augment.Transform,), {"apply": staticmethod(lambda image, label: (image, label))})
    assert repr(augment.Compose([augment.Gamma(2)], seed=3)) == (
        "Compose([Gamma(probability=1.0, gamma=(2.0, 2.0))], seed=3)"
    )
