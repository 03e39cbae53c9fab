"""The networks of the literature: parameter counts, torchvision's names and numbers."""

import re

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import init, models, nn
from fastconv.errors import ArgumentError, ShapeError
from fastconv.models.googlenet import BasicConv2d, Inception, NaiveInception

COUNTS = {
    "alexnet": 61_100_840, "vgg11": 132_863_336, "vgg13": 133_047_848, "vgg16": 138_357_544, "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840, "vgg13_bn": 133_053_736, "vgg16_bn": 138_365_992, "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160,
    "resnet152": 60_192_808, "densenet121": 7_978_856, "densenet161": 28_681_000, "densenet169": 14_149_480,
    "densenet201": 20_013_928, "googlenet": 13_004_888, "r3d_18": 33_371_472,
}  # fmt: skip
OTHERS = {
    "alexnet_2012": 60_965_224, "cifar_net": 269_722, "deep_network": 235_146, "fcn": 134_489_759,
    "grid_detector": 246_424, "lenet5": 61_706, "logistic_regression": 7_850, "nin_cifar": 966_986,
    "nin_imagenet": 7_595_176, "tutorial": 317_066, "unet2d": 31_030_658, "unet3d": 19_075_523,
    "volume_classifier": 307_986,
}  # fmt: skip


def create(name, **options):
    options = {"num_classes": 3, **options} if name == "grid_detector" else options
    return models.create(name.removesuffix("_bn"), **options, **({"batch_norm": True} if "_bn" in name else {}))


def torchvision_net(name, **options):
    zoo = oracle.torchvision().models
    if name == "googlenet":
        options["init_weights"] = False
    return zoo.video.r3d_18(**options) if name == "r3d_18" else zoo.get_model(name, **options)


@pytest.mark.parametrize("name", [*COUNTS, *OTHERS])
def test_parameter_counts(name):
    with init.skip():
        assert create(name).num_parameters() == {**COUNTS, **OTHERS}[name]


def test_every_network_is_counted():
    assert {name.removesuffix("_bn") for name in (*COUNTS, *OTHERS)} == set(models.names())


def test_googlenet_without_auxiliary_classifiers():
    with init.skip():
        assert models.googlenet(aux_logits=False).num_parameters() == 6_624_904


def test_unet3d_counts_as_the_paper_does():
    with init.skip():
        net = models.unet3d()
    uncounted = [p.size for name, p in net.named_parameters() if re.search(r"\.[14]\.|up\d\.bias", name)]
    assert net.num_parameters() - sum(uncounted) == 19_069_955


@pytest.mark.parametrize("name", COUNTS)
def test_names_and_shapes_are_torchvisions(name):
    with oracle.torch().device("meta"):
        theirs = {key: tuple(value.shape) for key, value in torchvision_net(name).state_dict().items()}
    with init.skip():
        ours = {key: np.shape(fastconv.Tensor(value).data) for key, _, _, value in create(name)._slots()}
    assert list(ours.items()) == list(theirs.items())


def random_state(net):
    """Values under which every unit of a deep network sees numbers of about unit size."""
    rng = np.random.default_rng(7)
    state = {}
    for key, value in net.state_dict().items():
        if value.ndim > 1:
            state[key] = rng.standard_normal(value.shape, np.float32) * np.sqrt(2 / value[0].size, dtype=np.float32)
        elif key.endswith("var") or (key.endswith("weight") and value.ndim == 1):
            state[key] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif value.ndim == 1:
            state[key] = 0.1 * rng.standard_normal(value.shape, np.float32)
        else:
            state[key] = value
    return state


NUMBERS = {"alexnet": 70, "vgg11_bn": 32, "resnet18": 40, "resnet50": 40, "densenet121": 64, "googlenet": 40}


@pytest.mark.parametrize("name, size", [*NUMBERS.items(), ("r3d_18", 16)])
def test_torchvisions_weights_give_torchvisions_outputs_and_gradients(name, size, tmp_path):
    t = oracle.torch()
    from safetensors.numpy import load_file
    from safetensors.torch import save_file

    with init.skip():
        ours = create(name, num_classes=7)
    state = {key: t.from_numpy(value) for key, value in random_state(ours).items()}
    save_file(state, tmp_path / "weights.safetensors")
    with t.device("meta"):
        theirs = torchvision_net(name, num_classes=7)
    theirs.load_state_dict(state, assign=True)
    ours.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    shape = (2, 3, 4, size, size) if name == "r3d_18" else (2, 3, size, size)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with t.no_grad():
        expected = theirs.eval()(t.from_numpy(x)).numpy()
    with fastconv.no_grad():
        oracle.assert_close(ours.eval()(x).numpy(), expected, 1e-4)

    ours.double().train()  # float64: batch statistics of a few pixels magnify rounding
    theirs.double().train()
    for layer in [*ours.modules(), *theirs.modules()]:
        if type(layer).__name__ == "Dropout":
            layer.p = 0.0
    mine, wanted = ours(x.astype(np.float64)), theirs(t.from_numpy(x).double())
    mine, wanted = (mine, wanted) if name == "googlenet" else ([mine], [wanted])
    assert len(mine) == len(wanted)
    sum((m * m).sum() for m in mine).backward()
    sum((w * w).sum() for w in wanted).backward()
    for a, b in zip(mine, wanted, strict=True):
        oracle.assert_close(a.numpy(), b.detach().numpy(), 1e-9)
    gradients = {key: p.grad.numpy() for key, p in theirs.named_parameters()}
    noise = 1e-12 * np.sqrt(sum((g * g).sum() for g in gradients.values()))  # a bias before batch norm has gradient 0
    for key, parameter in ours.named_parameters():
        wanted = gradients[key]
        assert np.linalg.norm(parameter.grad - wanted) <= 1e-6 * np.linalg.norm(wanted) + noise, key


def test_plain_and_residual_cifar_nets_differ_in_the_additions_alone():
    states = []
    for residual in (False, True):
        fastconv.manual_seed(0)
        states.append(models.cifar_net(20, residual).state_dict())
    plain, skip = states
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in skip.items()}
    with pytest.raises(ArgumentError, match="depth to be 6n \\+ 2"):
        models.cifar_net(21)


def branch(channels, maps, size, between=0):
    """A branch of an inception module, naive or with ``between`` maps from 1x1 before the dear convolution."""
    layers = [BasicConv2d(channels, between, 1)] if between else []
    return nn.Sequential(*layers, BasicConv2d(between or channels, maps, size, padding=size // 2))


@pytest.mark.parametrize(
    "channels, size, maps, pixels, between, naive, reduced",
    [
        # The paper's module 3a: its 5x5 branch.
        (192, 5, 32, 28, 16, 120_422_400, 12_443_648),
        # 163 M and 4.3 M, as lecture notes have it without the sizes: they are those of 3x3 from the 480 maps that
        # module 4a sees to 192, with 10 between. No module of the paper has 10; with its 96 it is 41.5 M.
        (480, 3, 192, 14, 10, 162_570_240, 4_327_680),
        (480, 3, 192, 14, 96, 162_570_240, 41_545_728),
    ],
)
def test_reductions_of_the_inception_module_cost_less(channels, size, maps, pixels, between, naive, reduced):
    shape = (1, channels, pixels, pixels)
    with init.skip():
        costs = [fastconv.summary(branch(channels, maps, size, b), shape).multiply_adds for b in (0, between)]
    assert costs == [naive, reduced]
    assert naive == pixels**2 * maps * size**2 * channels
    assert reduced == pixels**2 * between * (channels + maps * size**2)


def test_the_whole_naive_module_against_the_reduced_one():
    with init.skip():
        plain, thin = NaiveInception(192, 64, 128, 32), Inception(192, 64, 96, 128, 16, 32, 32, wide=True)
    naive, reduced = (fastconv.summary(net, (1, 192, 28, 28)) for net in (plain, thin))
    assert naive[""].outputs == [(1, 64 + 128 + 32 + 192, 28, 28)]
    assert reduced[""].outputs == [(1, 64 + 128 + 32 + 32, 28, 28)]
    assert naive.multiply_adds == 28**2 * 192 * (64 + 9 * 128 + 25 * 32) == 303_464_448
    thin_products = 192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    assert reduced.multiply_adds == 28**2 * thin_products == 128_049_152


@pytest.mark.parametrize("finest", [8, 16, 32])
def test_fcn_gives_a_mask_of_any_images_size(finest):
    with init.skip():
        net = models.fcn(num_classes=3, finest=finest, width=8).eval()
    for size in ((32, 32), (37, 51), (1, 64)):
        assert net(np.zeros((1, 3, *size), np.float32)).shape == (1, 3, *size)
    with pytest.raises(ArgumentError, match="finest to be 8, 16 or 32, got 4"):
        models.fcn(finest=4)


def test_fcn_starts_as_bilinear_interpolation():
    net = models.fcn(num_classes=2, width=8)
    maps = np.broadcast_to(np.arange(6, dtype=np.float32)[None, None, None, :], (1, 2, 6, 6))
    up = net.up(np.ascontiguousarray(maps)).numpy()[0, 0, 24, 8:40]
    np.testing.assert_allclose(up, (np.arange(8, 40) + 0.5) / 8 - 0.5, rtol=1e-6)


def test_unet_refuses_sizes_that_do_not_halve():
    with init.skip():
        net = models.unet2d(width=2, depth=2)
    message = "unet2d: expected spatial sizes that are multiples of 4, got input (1, 1, 8, 6)"
    with pytest.raises(ShapeError, match=re.escape(message)):
        net(np.zeros((1, 1, 8, 6), np.float32))


def test_volume_classifier_joins_scores_and_says_what_it_misses():
    rng = np.random.default_rng(0)
    x, scores = rng.standard_normal((4, 2, 8, 9, 10), np.float32), rng.standard_normal((4, 3), np.float32)
    net = models.volume_classifier(modalities=2, scores=3, width=4).eval()
    assert np.abs(net(x, scores).numpy() - net(x, scores + 1).numpy()).max() > 1e-4
    message = "volume_classifier: expected scores (N, 3) beside input (4, 2, 8, 9, 10), got "
    for wrong, got in ((None, "none"), (scores[:2], "shape (2, 3)")):
        with pytest.raises(ShapeError, match=re.escape(message + got)):
            net(x, wrong)
    with pytest.raises(ShapeError, match="expected no scores"):
        models.volume_classifier(width=2)(x[:, :1], scores)


def test_options_that_are_none():
    with pytest.raises(ArgumentError, match="width to be even"):
        models.unet3d(width=3)
    with pytest.raises(ArgumentError, match=re.escape("create: expected a model of alexnet, ")):
        models.create("vgg")
