"""Every network of fastconv.models trains: a step on one small batch, all parameters reached, the loss falls."""

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import functional as F
from fastconv import init, models, nn, optim
from fastconv.detection import Detections

# Network (and which version of it): shape of the input, options. VGGs get a small head: theirs has 120 million numbers.
# Deep ones get so many pixels that the last maps have some: of two values batch norm keeps but the order.
CASES = {
    "alexnet": ((2, 3, 63, 63), {"num_classes": 5}),
    "alexnet_2012": ((2, 3, 67, 67), {"num_classes": 5}),
    "cifar_net plain": ((2, 3, 16, 16), {"depth": 14, "residual": False}),
    "cifar_net residual": ((2, 3, 16, 16), {"depth": 14}),
    "deep_network": ((2, 1, 28, 28), {}),
    "densenet121": ((4, 3, 65, 65), {"num_classes": 5}),
    "densenet161": ((4, 3, 65, 65), {"num_classes": 5, "drop_rate": 0.2}),
    "densenet169": ((4, 3, 65, 65), {"num_classes": 5}),
    "densenet201": ((4, 3, 65, 65), {"num_classes": 5}),
    "fcn": ((1, 3, 33, 40), {"width": 16, "num_classes": 4}),
    "fcn 32": ((1, 3, 33, 40), {"width": 16, "num_classes": 4, "finest": 32}),
    "googlenet": ((2, 3, 33, 33), {"num_classes": 5}),
    "googlenet wide": ((2, 3, 33, 33), {"num_classes": 5, "wide": True, "aux_logits": False}),
    "grid_detector": ((2, 3, 64, 48), {"num_classes": 3, "width": 4, "anchors": ((16, 16), (30, 8))}),
    "lenet5": ((2, 1, 28, 28), {}),
    "lenet5 relu": ((2, 1, 28, 28), {"activation": "relu", "pooling": "max"}),
    "logistic_regression": ((2, 1, 28, 28), {}),
    "nin_cifar": ((2, 3, 16, 16), {}),
    "nin_imagenet": ((2, 3, 67, 67), {"num_classes": 5}),
    "r3d_18": ((2, 3, 4, 16, 16), {"num_classes": 5}),
    "resnet18": ((2, 3, 33, 33), {"num_classes": 5}),
    "resnet34": ((4, 3, 65, 65), {"num_classes": 5}),
    "resnet50": ((2, 3, 33, 33), {"num_classes": 5}),
    "resnet101": ((4, 3, 65, 65), {"num_classes": 5}),
    "resnet152": ((4, 3, 65, 65), {"num_classes": 5}),
    "tutorial": ((2, 1, 28, 28), {}),
    "unet2d": ((1, 1, 16, 16), {"width": 8}),
    "unet2d batch norm": ((2, 3, 16, 16), {"width": 4, "in_channels": 3, "batch_norm": True, "depth": 2}),
    "unet3d": ((1, 3, 8, 8, 8), {"width": 8, "depth": 2}),
    "vgg11": ((2, 3, 32, 32), {}),
    "vgg13": ((2, 3, 32, 32), {"batch_norm": True}),
    "vgg16": ((2, 3, 32, 32), {}),
    "vgg19": ((2, 3, 32, 32), {"batch_norm": True}),
    "volume_classifier": ((4, 2, 8, 9, 10), {"modalities": 2, "scores": 3, "width": 4}),
}
SMALL = 1e-7  # of the loss, is what a step lowers it by


def test_every_network_is_trained():
    assert {case.split()[0] for case in CASES} == set(models.names())


def build(case):
    """A new network in training mode; dropout drops nothing: a fresh mask a step would hide a small change."""
    name, options = case.split()[0], CASES[case][1]
    fastconv.manual_seed(3)
    if name.startswith("vgg"):
        with init.skip():
            net = models.create(name, **options)
        for layer in net.features:
            if isinstance(layer, nn.Conv2d):
                init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                init.zeros_(layer.bias)
        net.classifier = nn.Linear(512 * 7 * 7, 5)
    else:
        net = models.create(name, **options)
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return net.train()


def loss_of(net, y):
    """Cross-entropy, of pixels too; the detector's and GoogLeNet's own."""
    if isinstance(net, models.detector.GridDetector):
        seen = Detections(np.array([[3.0, 5, 19, 21], [10, 30, 40, 38]]), np.array([2, 0]))
        return net.loss(y, [seen, Detections(np.zeros((0, 4)), np.zeros(0, np.int64))])
    logits = y[0] if isinstance(y, tuple) else y
    labels = np.arange(logits.size // logits.shape[1]).reshape(logits.shape[:1] + logits.shape[2:]) % logits.shape[1]
    return y.loss(labels) if isinstance(y, tuple) else F.cross_entropy(logits, labels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_a_small_step_lowers_the_loss_as_its_gradient_says(case, dtype):
    """By lr * |gradient|^2, to first order: seen in float64 (a step of usual length may lead anywhere)."""
    net, rng = build(case), np.random.default_rng(1)
    inputs = [rng.standard_normal(CASES[case][0]).astype(dtype)]
    if case == "volume_classifier":
        inputs.append(rng.standard_normal((4, 3)).astype(dtype))
    if dtype == "float64":
        net.double()

    def loss():
        fastconv.manual_seed(4)  # the same masks every time
        return loss_of(net, net(*inputs))

    before = loss()
    before.backward()
    gradients = [p.grad for p in net.parameters()]
    assert all(g is not None and g.dtype == dtype and np.isfinite(g).all() for g in gradients)
    square = sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients)
    lr = SMALL * before.item() / square
    optim.SGD(net.parameters(), lr=lr).step()
    after = loss().item()
    if dtype == "float64":
        assert before.item() - after == pytest.approx(lr * square, rel=0.01)
    else:
        assert np.isfinite(after)


def test_auxiliary_classifiers_count_for_three_tenths():
    net, labels = build("googlenet"), np.array([1, 4])
    x = np.random.default_rng(0).standard_normal((2, 3, 33, 33)).astype(np.float32)
    y = net(x)
    main, second, first = (F.cross_entropy(logits, labels).item() for logits in y)
    assert y.loss(labels).item() == pytest.approx(main + 0.3 * (first + second), rel=1e-6)
    assert y.loss(labels, weight=0.0).item() == pytest.approx(main, rel=1e-6)
    y.loss(labels).backward()
    weighed = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad()
    outputs = net(x)
    F.cross_entropy(outputs.aux_logits1, labels).backward()
    for name, p in net.named_parameters():
        if name.startswith("aux1."):  # these see their own loss alone
            oracle.assert_close(weighed[name], np.float32(0.3) * p.grad, 1e-4, name)
        assert (p.grad is None) == name.startswith(("aux2.", "inception4b", "inception4c", "inception4d",
                                                     "inception4e", "inception5", "fc."))  # fmt: skip
