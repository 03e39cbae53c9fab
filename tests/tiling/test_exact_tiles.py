"""Exact tiling: bit for bit what the network says of the whole volume, for random networks, sizes and tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import functional as F
from fastconv import init, models, nn, no_grad, predict_volume, tensor
from fastconv.errors import ArgumentError, DeviceError, FastconvError

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Step(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function(x)


def whole(net, volume):
    if isinstance(net, nn.Module):
        net.eval()
    with no_grad():
        return net(tensor(volume[None])).numpy()[0]


def volume_of(rng, channels, sizes, dtype=np.float32):
    return rng.standard_normal((channels, *sizes)).astype(dtype)


def assert_exact(net, volume, tile):
    want = whole(net, volume)
    got = predict_volume(net, volume, blend="exact", tile=tile)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def layer(rng, rank, channels, size, dtype):
    """A random layer and its channels; small volumes are not shrunk."""
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    each = lambda *values: tuple(int(pick(*values)) for _ in range(rank))  # noqa: E731
    shrinks = size > 12
    kind = rng.integers(12)
    if kind <= 2:
        out, groups = int(pick(4, 16, 20)), 1
        if rng.random() < 0.25:
            out, groups = channels, channels
        kernel = each(1, 2, 3, 5)
        stride = each(1, 1, 2, 3) if shrinks else 1
        options = {"stride": stride, "padding": each(0, 1, 2, 3) if shrinks else 2, "dilation": int(pick(1, 1, 2))}
        conv = CONV[rank](channels, out, kernel, groups=groups, bias=bool(rng.integers(2)), dtype=dtype, **options)
        return conv, out
    if kind == 3:  # as Winograd likes it
        return CONV[rank](channels, 16, 3 if rank < 3 else (1, 3, 3), padding=1, dtype=dtype), 16
    if kind == 4:
        out = int(pick(3, 16))
        stride = each(1, 1, 2) if size < 40 else 1
        return TRANSPOSED[rank](channels, out, 3, stride, padding=int(pick(0, 1)), dtype=dtype), out
    if kind == 5:
        norm = NORM[rank](channels, dtype=dtype)
        norm.running_mean[...] = rng.standard_normal(channels)
        norm.running_var[...] = rng.random(channels) + 0.5
        return norm, channels
    if kind == 6:
        return pick(nn.ReLU(), nn.Sigmoid(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.LeakyReLU(0.1)), channels
    if kind == 7 and shrinks:
        return MAX[rank](each(2, 3), each(1, 2), padding=1, ceil_mode=bool(rng.integers(2))), channels
    if kind == 8 and shrinks:
        return AVERAGE[rank](each(2, 3), each(1, 2), padding=1, count_include_pad=bool(rng.integers(2))), channels
    if kind == 9 and size < 40:
        mode = pick("nearest", LINEAR[rank])
        corners = None if mode == "nearest" else bool(rng.integers(2))
        factor = float(pick(2.0, 1.5))
        return Step(lambda x: F.interpolate(x, scale_factor=factor, mode=mode, align_corners=corners)), channels
    if kind == 10:
        widths = [int(w) for w in rng.integers(0, 3, 2 * rank)]
        mode = pick("constant", "reflect", "replicate")
        return Step(lambda x: F.pad(x, widths, mode=mode)), channels
    steps = (
        lambda x: x * F.sigmoid(ADAPTIVE[rank](x, 1)),  # sees the whole volume, and is still exact
        lambda x: F.softmax(x, 1),
        lambda x: F.cat([x, F.relu(x)[:, :1]], 1)[:, 1:],
        lambda x: x[:, :, 1:, ...] + x[:, :, :-1, ...],
        lambda x: x + np.float64(0.5).astype(dtype),
        lambda x: F.local_response_norm(x, 3),
    )
    return Step(pick(*steps)), channels


def check_random_network(seed, rank, dtype):
    rng = np.random.default_rng(seed)
    sizes = tuple(int(s) for s in rng.integers({1: 20, 2: 14, 3: 8}[rank], {1: 200, 2: 48, 3: 20}[rank], rank))
    channels, layers = 2, []
    for _ in range(rng.integers(1, 6)):
        made, channels = layer(rng, rank, channels, min(sizes), dtype)
        layers.append(made)
    net, volume = nn.Sequential(*layers), volume_of(rng, 2, sizes, dtype)
    try:
        out = whole(net, volume).shape[1:]
    except FastconvError:  # layers that leave nothing
        return
    for _ in range(2):
        assert_exact(net, volume, tuple(int(rng.integers(max(1, s // 4), s + 1)) for s in out))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 2, 2, 3)), st.sampled_from((np.float32, np.float32, np.float64)))
def test_random_networks(seed, rank, dtype):
    check_random_network(seed, rank, dtype)


def test_random_networks_on_each_instruction_set(isa):
    for seed in range(9):
        check_random_network(seed, 1 + seed % 3, np.float32)


def test_random_networks_with_operands_of_16_bits():
    with fastconv.compute("bf16"):
        for seed in range(9):
            check_random_network(seed, 1 + seed % 3, np.float32)


@pytest.mark.parametrize("options", [
    {"width": 4, "depth": 3}, {"width": 16, "depth": 2}, {"width": 16, "depth": 1, "batch_norm": True},
])  # fmt: skip
def test_unet2d(options):
    net = models.unet2d(2, 3, **options)
    assert_exact(net, volume_of(np.random.default_rng(1), 2, (64, 40)), (21, 17))


def test_unet3d_on_sizes_that_no_tile_divides():
    net = models.unet3d(1, 2, width=16, depth=2)
    volume = volume_of(np.random.default_rng(2), 1, (24, 20, 28))
    for tile in (7, (24, 5, 28), (1, 20, 11)):
        assert_exact(net, volume, tile)


@pytest.mark.parametrize("rank, sizes", [(2, (70, 61)), (3, (6, 30, 33))])
@pytest.mark.parametrize("kernel", [3, 5])
def test_winograd_keeps_its_tiles(rank, sizes, kernel):
    """Three layers of Winograd, whose 4x4 squares lie where they lie over the whole volume."""
    layers = []
    for channels in (16, 20, 17):
        layers += [CONV[rank](channels, {16: 20, 20: 17, 17: 16}[channels], kernel, padding=kernel // 2), nn.ReLU()]
    assert_exact(nn.Sequential(*layers), volume_of(np.random.default_rng(3), 16, sizes), 9)


@pytest.mark.parametrize("padding", [0, 2])
def test_winograd_along_rows_keeps_its_tiles(padding):
    layers = [nn.Conv2d(channels, 3, 5, padding=padding) for channels in (2, 3)]
    assert "conv_forward: lines" in fastconv.explain("conv2d", (1, 2, 41, 38), (3, 2, 5, 5), padding=padding)
    assert_exact(nn.Sequential(*layers), volume_of(np.random.default_rng(5), 2, (41, 38)), (9, 14))


@pytest.mark.parametrize("groups", [2, 4])
def test_winograd_of_groups_keeps_its_tiles(groups):
    layers = [nn.Conv2d(8 * groups, 8 * groups, 3, padding=1, groups=groups), nn.ReLU()]
    layers += [nn.ConvTranspose2d(8 * groups, 8 * groups, 3, padding=1, groups=groups)]
    assert_exact(nn.Sequential(*layers), volume_of(np.random.default_rng(5), 8 * groups, (41, 38)), (9, 14))


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("sizes", [(12, 14), (40, 66)])  # the adjoint serves small images
def test_transposed_winograd(padding, sizes):
    net = nn.ConvTranspose2d(32, 16, 3, padding=padding)
    assert_exact(net, volume_of(np.random.default_rng(4), 32, sizes), (7, 10))


@pytest.mark.parametrize("padding", [0, 1, (1, 2)])
def test_winograd_at_stride_2_keeps_its_tiles(padding):
    for layer in (nn.Conv2d, nn.ConvTranspose2d):
        net = layer(64, 48, 3, stride=2, padding=padding)
        assert_exact(net, volume_of(np.random.default_rng(4), 64, (63, 54)), (11, 10))
    shapes = {"conv2d": (48, 64, 3, 3), "conv_transpose2d": (64, 48, 3, 3)}
    for name, w in shapes.items():
        said = fastconv.explain(name, (1, 64, 63, 54), w, stride=2, padding=padding).splitlines()
        assert "winograd" in said[0]


def test_transposed_to_few_channels_keeps_the_kernel_of_the_whole_width():
    """Long rows are summed by tiles, short ones along the pixels: in another order."""
    net = nn.ConvTranspose2d(40, 2, 5, padding=2)
    for width in (300, 4000):
        assert_exact(net, volume_of(np.random.default_rng(5), 40, (8, width)), (5, 100))


def test_units_of_a_sequential():
    net = nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 16, 3), nn.ReLU(), nn.MaxPool2d(2)
    )
    assert_exact(net, volume_of(np.random.default_rng(6), 1, (50, 41)), (4, 3))


def test_slices_as_a_batch():
    """A network that treats the depth as its batch: its axis is found wherever it goes."""
    conv = nn.Conv2d(2, 3, 3, padding=1)

    def slicewise(x):
        _, channels, depth, height, width = x.shape
        planes = F.reshape(F.permute(x, (0, 2, 1, 3, 4)), (depth, channels, height, width))
        return F.permute(F.reshape(conv(planes), (1, depth, 3, height, width)), (0, 2, 1, 3, 4))

    assert_exact(slicewise, volume_of(np.random.default_rng(7), 2, (9, 12, 13)), 4)


def test_a_linear_layer_over_channels():
    mix = nn.Linear(4, 6)

    def channels_last(x):
        return F.permute(F.gelu(mix(F.permute(x, (0, 2, 3, 1)))), (0, 3, 1, 2))

    assert_exact(channels_last, volume_of(np.random.default_rng(10), 4, (13, 12)), 5)


def test_a_threshold():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Threshold(0.1, -1.0), nn.Conv2d(2, 2, 3))
    assert_exact(net, volume_of(np.random.default_rng(11), 1, (12, 13)), 5)


def test_a_constant_of_the_volumes_size():
    prior = volume_of(np.random.default_rng(8), 1, (12, 13))
    conv = nn.Conv2d(1, 2, 3, padding=1)
    assert_exact(lambda x: conv(x) * tensor(prior[None]), volume_of(np.random.default_rng(9), 1, (12, 13)), 5)


@pytest.mark.parametrize("name, net, verb", [
    ("instance norm", lambda x: F.instance_norm(x), "statistics of its input"),
    ("group norm", nn.GroupNorm(2, 4), "statistics of its input"),
    ("batch statistics", nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), "module '1'"),
    ("a mean", lambda x: x - F.mean(x, (2, 3), keepdim=True), "a reduction over space"),
    ("circular", lambda x: F.pad(x, (1, 1), mode="circular"), "the other end"),
    ("turned", lambda x: x + F.permute(x, (0, 1, 3, 2)), "side by side"),
])  # fmt: skip
def test_what_sees_the_whole_volume_is_refused_by_name(name, net, verb):
    with pytest.raises(ArgumentError, match=r"predict_volume: expected .*blend='exact'.*") as caught:
        predict_volume(net, volume_of(np.random.default_rng(0), 4, (12, 12)), blend="exact")
    assert verb in str(caught.value)


def test_a_classifier_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 3))
    with pytest.raises(ArgumentError, match=r"one array \(1, channels"):
        predict_volume(net, np.zeros((1, 12, 12), np.float32), blend="exact")


def test_a_linear_layer_over_space_is_refused():
    flat = nn.Linear(144, 144)
    with pytest.raises(ArgumentError, match=r"linear layer over space|splits an axis"):
        predict_volume(
            lambda x: F.reshape(flat(F.reshape(x, (1, 144))), (1, 1, 12, 12)), np.zeros((1, 12, 12), np.float32),
            blend="exact",
        )  # fmt: skip


def test_training_mode_is_left_alone_and_not_used():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    init.normal_(net[0].weight)
    volume = volume_of(np.random.default_rng(0), 1, (12, 12))
    got = predict_volume(net, volume, blend="exact", tile=5)
    assert all(module.training for module in net.modules())
    np.testing.assert_array_equal(got, whole(net, volume))


def test_other_backends_promise_no_bits():
    with fastconv.backends.use("reference"), pytest.raises(DeviceError, match="the cpu backend with blend='exact'"):
        predict_volume(nn.Identity(), np.zeros((1, 4, 4), np.float32), blend="exact")
