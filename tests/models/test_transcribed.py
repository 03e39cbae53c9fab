"""The networks that torchvision has not, written again in PyTorch: outputs and gradients, weights copied by name."""

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import models


def unet(t, rank, in_channels, out_channels, width, depth, batch_norm, widen_late):
    """Ronneberger's figure 1, or Çiçek's figure 2 (``widen_late``), with padded convolutions."""
    n = t.nn
    conv, up, norm = (getattr(n, f"{kind}{rank}d") for kind in ("Conv", "ConvTranspose", "BatchNorm"))

    def pair(a, b, c):
        layers = []
        for i, o in ((a, b), (b, c)):
            layers += [conv(i, o, 3, padding=1), *([norm(o)] if batch_norm else []), n.ReLU()]
        return n.Sequential(*layers)

    class UNet(n.Module):
        def __init__(self):
            super().__init__()
            widths = [width * 2**level for level in range(depth + 1)]
            for level, w in enumerate(widths):
                below = widths[level - 1] if level else in_channels
                self.add_module(f"down{level}", pair(below, w // 2 if widen_late else w, w))
            for level in range(depth - 1, -1, -1):
                wide, w = widths[level + 1], widths[level]
                kept = wide if widen_late else w
                self.add_module(f"up{level}", up(wide, kept, 2, stride=2))
                self.add_module(f"merge{level}", pair(kept + w, w, w))
            self.head = conv(width, out_channels, 1)

        def forward(self, x):
            left = []
            for level in range(depth):
                left.append(self.get_submodule(f"down{level}")(x))
                x = getattr(t.nn.functional, f"max_pool{rank}d")(left[-1], 2)
            x = self.get_submodule(f"down{depth}")(x)
            for level in range(depth - 1, -1, -1):
                x = t.cat((left[level], self.get_submodule(f"up{level}")(x)), dim=1)
                x = self.get_submodule(f"merge{level}")(x)
            return self.head(x)

    return UNet()


def fcn(t, classes, finest, width):
    """The VGG-16 variants of Long's figure 3; maps are cropped to the upper left."""
    n = t.nn

    class FCN(n.Module):
        def __init__(self):
            super().__init__()
            layers, channels = [], 3
            for stage in ([64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3):
                for maps in stage:
                    layers += [n.Conv2d(channels, maps, 3, padding=1), n.ReLU()]
                    channels = maps
                layers.append(n.MaxPool2d(2, ceil_mode=True))
            self.features = n.Sequential(*layers)
            self.head = n.Sequential(
                n.Conv2d(512, width, 7, padding=3), n.ReLU(), n.Identity(), n.Conv2d(width, width, 1), n.ReLU(),
                n.Identity(), n.Conv2d(width, classes, 1),
            )  # fmt: skip
            up = {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False}
            if finest <= 16:
                self.score4, self.up5 = n.Conv2d(512, classes, 1), n.ConvTranspose2d(classes, classes, **up)
            if finest == 8:
                self.score3, self.up4 = n.Conv2d(256, classes, 1), n.ConvTranspose2d(classes, classes, **up)
            self.up = n.ConvTranspose2d(classes, classes, 2 * finest, finest, finest // 2, bias=False)

        def forward(self, image):
            pools, x = [], image
            for layer in self.features:
                x = layer(x)
                if isinstance(layer, n.MaxPool2d):
                    pools.append(x)
            x = self.head(x)
            if finest <= 16:
                x = self.up5(x)[:, :, : pools[3].shape[2], : pools[3].shape[3]] + self.score4(pools[3])
            if finest == 8:
                x = self.up4(x)[:, :, : pools[2].shape[2], : pools[2].shape[3]] + self.score3(pools[2])
            return self.up(x)[:, :, : image.shape[2], : image.shape[3]]

    return FCN()


def alexnet_2012(t, classes):
    n = t.nn

    class AlexNet(n.Module):
        def __init__(self):
            super().__init__()
            norm = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2}
            self.features = n.Sequential(
                n.Conv2d(3, 96, 11, stride=4, padding=2), n.ReLU(), n.LocalResponseNorm(**norm), n.MaxPool2d(3, 2),
                n.Conv2d(96, 256, 5, padding=2, groups=2), n.ReLU(), n.LocalResponseNorm(**norm), n.MaxPool2d(3, 2),
                n.Conv2d(256, 384, 3, padding=1), n.ReLU(), n.Conv2d(384, 384, 3, padding=1, groups=2), n.ReLU(),
                n.Conv2d(384, 256, 3, padding=1, groups=2), n.ReLU(), n.MaxPool2d(3, 2),
            )  # fmt: skip
            self.classifier = n.Sequential(
                n.Identity(), n.Linear(9216, 4096), n.ReLU(), n.Identity(), n.Linear(4096, 4096), n.ReLU(),
                n.Linear(4096, classes),
            )  # fmt: skip

        def forward(self, x):
            x = t.nn.functional.adaptive_avg_pool2d(self.features(x), 6)
            return self.classifier(x.flatten(1))

    return AlexNet()


def nin_cifar(t):
    n, layers = t.nn, []
    for block, sizes in enumerate(((3, 192, 160, 96), (96, 192, 192, 192), (192, 192, 192, 10))):
        kernel = 3 if block == 2 else 5
        layers += [n.Conv2d(sizes[0], sizes[1], kernel, padding=kernel // 2), n.ReLU()]
        layers += [n.Conv2d(sizes[1], sizes[2], 1), n.ReLU(), n.Conv2d(sizes[2], sizes[3], 1), n.ReLU()]
        if block < 2:
            layers += [(n.MaxPool2d, n.AvgPool2d)[block](3, 2, ceil_mode=True), n.Identity()]
    return n.Sequential(*layers, n.AdaptiveAvgPool2d(1), n.Flatten())


def cifar_net(t, depth, residual):
    n = t.nn

    class Unit(n.Module):
        def __init__(self, inside, out):
            super().__init__()
            self.step = 1 if inside == out else 2
            self.conv1, self.bn1 = n.Conv2d(inside, out, 3, self.step, 1, bias=False), n.BatchNorm2d(out)
            self.conv2, self.bn2 = n.Conv2d(out, out, 3, 1, 1, bias=False), n.BatchNorm2d(out)

        def forward(self, x):
            y = self.bn2(self.conv2(t.relu(self.bn1(self.conv1(x)))))
            if residual:
                identity = x[:, :, :: self.step, :: self.step]
                y = t.cat((y[:, : x.shape[1]] + identity, y[:, x.shape[1] :]), dim=1)
            return t.relu(y)

    units, maps = [], 16
    for out in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            units.append(Unit(maps, out))
            maps = out
    stem = [n.Conv2d(3, 16, 3, padding=1, bias=False), n.BatchNorm2d(16), n.ReLU()]
    return n.Sequential(*stem, *units, n.AdaptiveAvgPool2d(1), n.Flatten(), n.Linear(64, 10))


def volume_classifier(t, modalities, scores, width, rank=3):
    n = t.nn
    conv, norm, pool, mean = (
        getattr(n, f"{name}{rank}d") for name in ("Conv", "BatchNorm", "MaxPool", "AdaptiveAvgPool")
    )

    class Classifier(n.Module):
        def __init__(self):
            super().__init__()
            layers, maps = [], modalities
            for stage in range(4):
                out = width * 2**stage
                layers += [conv(maps, out, 3, padding=1, bias=False), norm(out), n.ReLU()]
                layers += [pool(2)] if stage < 3 else [mean(1), n.Flatten()]
                maps = out
            self.features = n.Sequential(*layers)
            self.classifier = n.Sequential(n.Linear(maps + scores, maps), n.ReLU(), n.Identity(), n.Linear(maps, 2))

        def forward(self, volumes, numbers):
            return self.classifier(t.cat((self.features(volumes), numbers), dim=1))

    return Classifier()


CASES = {
    "unet2d": (
        lambda: models.unet2d(3, 2, 4, 3), lambda t: unet(t, 2, 3, 2, 4, 3, False, False), [(2, 3, 16, 24)]
    ),
    "unet2d with batch norm": (
        lambda: models.unet2d(1, 5, 6, 2, batch_norm=True), lambda t: unet(t, 2, 1, 5, 6, 2, True, False),
        [(2, 1, 12, 8)],
    ),
    "unet3d": (
        lambda: models.unet3d(2, 3, 4, 2), lambda t: unet(t, 3, 2, 3, 4, 2, True, True), [(2, 2, 8, 4, 12)]
    ),
    "unet3d without batch norm": (
        lambda: models.unet3d(1, 2, 4, 3, False), lambda t: unet(t, 3, 1, 2, 4, 3, False, True), [(1, 1, 8, 8, 16)]
    ),
    "fcn8": (lambda: models.fcn(num_classes=3, width=8), lambda t: fcn(t, 3, 8, 8), [(1, 3, 37, 50)]),
    "fcn16": (lambda: models.fcn(num_classes=3, finest=16, width=8), lambda t: fcn(t, 3, 16, 8), [(1, 3, 33, 40)]),
    "fcn32": (lambda: models.fcn(num_classes=3, finest=32, width=8), lambda t: fcn(t, 3, 32, 8), [(2, 3, 32, 40)]),
    "alexnet_2012": (lambda: models.alexnet_2012(4), lambda t: alexnet_2012(t, 4), [(2, 3, 67, 75)]),
    "nin_cifar": (models.nin_cifar, nin_cifar, [(2, 3, 15, 16)]),
    "cifar_net": (lambda: models.cifar_net(14), lambda t: cifar_net(t, 14, True), [(3, 3, 16, 15)]),
    "cifar_net plain": (lambda: models.cifar_net(14, False), lambda t: cifar_net(t, 14, False), [(3, 3, 16, 15)]),
    "volume_classifier": (
        lambda: models.volume_classifier(modalities=2, scores=3, width=4), lambda t: volume_classifier(t, 2, 3, 4),
        [(3, 2, 9, 8, 10), (3, 3)],
    ),
    "volume_classifier of slices": (
        lambda: models.volume_classifier(modalities=2, scores=3, width=4, rank=2),
        lambda t: volume_classifier(t, 2, 3, 4, 2), [(3, 2, 9, 18), (3, 3)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_the_transcription(name):
    t = oracle.torch()
    build, transcribe, shapes = CASES[name]
    fastconv.manual_seed(0)
    ours, theirs = build().double(), transcribe(t).double()
    for layer in ours.modules():
        if type(layer).__name__ == "Dropout":
            layer.p = 0.0
    theirs.load_state_dict({key: t.from_numpy(value) for key, value in ours.state_dict().items()})
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(shape) for shape in shapes]
    mine, wanted = [fastconv.tensor(x, requires_grad=True) for x in inputs], [t.from_numpy(x) for x in inputs]
    for x in wanted:
        x.requires_grad_()
    y, expected = ours(*mine), theirs(*wanted)
    oracle.assert_close(y.numpy(), expected.detach().numpy(), 1e-9)
    dy = rng.standard_normal(y.shape)
    y.backward(dy)
    expected.backward(t.from_numpy(dy))
    gradients = dict(theirs.named_parameters())
    noise = 1e-12 * np.sqrt(sum(float((p.grad**2).sum()) for p in gradients.values()))  # a bias before batch norm
    pairs = [(key, p.grad, gradients[key].grad) for key, p in ours.named_parameters()]
    for key, dx, other in [*pairs, *(("input", a.grad, b.grad) for a, b in zip(mine, wanted, strict=True))]:
        other = other.numpy()
        assert np.linalg.norm(dx - other) <= 1e-8 * np.linalg.norm(other) + noise, key
    with fastconv.no_grad(), t.no_grad():
        oracle.assert_close(ours.eval()(*inputs).numpy(), theirs.eval()(*wanted).numpy(), 1e-9)
