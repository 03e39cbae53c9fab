"""The two-tower AlexNet: sizes of the paper's section 3.5, towers that do not see each other, initial parameters."""

import numpy as np
import pytest

import fastconv
from fastconv import functional as F
from fastconv import init, models, nn


def unfilled():
    with init.skip():
        return models.alexnet_2012(num_classes=2)


def test_layers_have_the_papers_sizes():
    with init.skip():
        net = models.alexnet_2012()
    table = fastconv.summary(net, (1, 3, 224, 224))
    layers = [row for row in table.rows if row.type in ("Conv2d", "Linear")]
    neurons = [np.prod(row.outputs[0]) for row in layers]
    assert table.inputs == [(1, 3, 224, 224)]
    assert np.prod(table.inputs[0]) == 150_528
    # The paper and the lecture give 253,440 = 96 x 55 x 48 for the first: 96 maps of 55x55 are these.
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert neurons[0] == 96 * 55 * 55 != 253_440 == 96 * 55 * 48
    assert [row.parameters for row in layers] == [
        34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000
    ]  # fmt: skip
    assert table.parameters == 60_965_224
    convolutions = 290_400 * 363 + 186_624 * 1200 + 64_896 * 2304 + 64_896 * 1728 + 43_264 * 1728
    assert table.multiply_adds == convolutions + 9216 * 4096 + 4096 * 4096 + 4096 * 1000


def test_each_tower_sees_its_own_maps_in_the_grouped_layers():
    features, rng = unfilled().features, np.random.default_rng(0)
    for index, seen in ((4, [True, False]), (8, [True, True]), (10, [True, False]), (12, [True, False])):
        conv = features[index]
        conv.reset_parameters()
        x = rng.standard_normal((1, conv.in_channels, 5, 5)).astype(np.float32)
        other = x.copy()
        other[:, : conv.in_channels // 2] += 1  # the first tower's maps change
        difference = np.abs(conv(x).numpy() - conv(other).numpy())[0]
        halves = np.split(difference, 2)
        assert [bool(half.max() > 1e-3) for half in halves] == seen
        assert all(half.max() == 0 for half, reached in zip(halves, seen, strict=True) if not reached)


def test_response_norm_is_the_papers_formula():
    norms = [layer for layer in unfilled().features if isinstance(layer, nn.LocalResponseNorm)]
    assert len(norms) == 2
    a = np.random.default_rng(0).standard_normal((1, 9, 2, 2)) * 30
    expected = np.empty_like(a)
    for i in range(9):  # section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75
        around = a[:, max(0, i - 2) : min(8, i + 2) + 1]
        expected[:, i] = a[:, i] / (2 + 1e-4 * (around**2).sum(1)) ** 0.75
    for norm in norms:
        np.testing.assert_allclose(norm(a), expected, rtol=1e-12)


def test_pools_overlap():
    pools = [layer for layer in unfilled().features if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(3, 2)] * 3


def test_initial_parameters_are_the_papers():
    fastconv.manual_seed(0)
    net = models.alexnet_2012(num_classes=20)
    ones = {"features.4", "features.10", "features.12", "classifier.1", "classifier.4"}  # section 5
    for name, layer in net.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert (layer.bias.data == (name in ones)).all(), name
            assert layer.weight.data.std() == pytest.approx(0.01, rel=0.03)
            assert abs(layer.weight.data.mean()) < 2e-4


def test_other_sizes_of_images_and_float64():
    with init.skip():
        net = models.alexnet_2012(num_classes=3, dtype="float64").eval()
    for parameter in net.parameters():
        parameter.data[...] = 0
    assert F.softmax(net(np.zeros((0, 3, 97, 131))), 1).shape == (0, 3)
    np.testing.assert_array_equal(net(np.ones((1, 3, 65, 80))).numpy(), np.zeros((1, 3)))
