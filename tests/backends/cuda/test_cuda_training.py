"""Networks on the device: modules and Tensors move, and training takes the steps that it takes on the CPU."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import normal

import fastconv
from fastconv import functional as F
from fastconv import nn, optim

PLACES = ("cpu", "cuda")


def small() -> nn.Module:
    """Every kind of layer once, for pictures of 10x10."""
    fastconv.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1),
        nn.GroupNorm(2, 4), nn.GELU(), nn.Dropout(0.25), nn.AvgPool2d(2), nn.Flatten(), nn.LayerNorm(16),
        nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3),
    )  # fmt: skip


def lenet() -> nn.Module:
    """The shapes of LeNet on a small picture: convolution, pool, convolution, pool, two linear layers."""
    fastconv.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(1, 3, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip


def trained(make, place, optimizer, steps=2, size=10, **options):
    """Return the losses and the state after some steps."""
    model = make().to(place)
    stepper = getattr(optim, optimizer)(model.parameters(), **options)
    x, labels = normal("x", (2, 1, size, size), "float32"), np.array([1, 2])
    losses = []
    for _ in range(steps):
        output = model(fastconv.tensor(x, device=place))
        loss = F.cross_entropy(output, labels, label_smoothing=0.1)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    model.eval()
    return losses, model.state_dict(), model(fastconv.tensor(x, device=place)).numpy(), stepper.state_dict()


@pytest.mark.parametrize("make, optimizer, options", [
    (small, "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}),
    (lenet, "SGD", {"lr": 0.1}),
    (lenet, "AdamW", {"lr": 0.01}),
])  # fmt: skip
def test_two_steps_are_those_of_the_cpu(cuda, make, optimizer, options):
    (losses, state, output, steps), (other, wanted, expected, _) = (
        trained(make, place, optimizer, size=12 if make is lenet else 10, **options) for place in PLACES[::-1]
    )
    np.testing.assert_allclose(losses, other, rtol=1e-5)
    for name, value in wanted.items():
        assert isinstance(state[name], np.ndarray)
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    saved = [entry for each in steps["state"].values() for entry in each.values()]
    assert all(isinstance(entry, np.ndarray | float | int) for entry in saved)


def test_a_run_repeats_bit_for_bit(cuda):
    first, second = (trained(small, "cuda", "SGD", lr=0.1)[1] for _ in range(2))
    for name, value in first.items():
        oracle.assert_same_bits(second[name], value, name)


def test_a_module_moves_there_and_back(cuda):
    model = small()
    state = model.state_dict()
    model.to("cuda")
    assert {p.device for p in model.parameters()} == {"cuda"}
    assert cuda.owns(model[1].running_mean)
    assert isinstance(model[1].num_batches_tracked, np.ndarray)
    model.load_state_dict(state)
    assert model[0].weight.device == "cuda"
    model.double()
    assert (model[0].weight.dtype, model[0].weight.device) == ("float64", "cuda")
    model.float().to("cpu")
    for name, value in model.state_dict().items():
        oracle.assert_same_bits(value, state[name], name)


def test_a_tensor_moves_and_its_gradient_comes_back(cuda):
    x = fastconv.tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)
    y = x.to("cuda")
    assert (y.device, repr(y).count("device='cuda'")) == ("cuda", 1)
    (y * y).sum().backward()
    np.testing.assert_array_equal(x.grad, [[2, -4], [6, 8]])
    assert (y[1, 0].item(), float(len(y)), bool(y[0, 0])) == (3.0, 2.0, True)
    doubled = y.to("float64")
    assert (doubled.dtype, doubled.device) == ("float64", "cuda")


def functional_calls():
    x = normal("f", (2, 4, 6, 6), "float32")
    yield "max_pool with indices and back", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), x
    yield "interpolate", lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), x
    yield "pad", lambda x: F.pad(x, (1, 2, -1, 0), mode="reflect"), x
    yield "pad with a value", lambda x: F.pad(x, (1, 2), value=3.0), x
    yield "index", lambda x: x[1, ..., ::2] * x[0, 1:2, 1, :3], x
    yield "split and cat", lambda x: F.cat(F.split(x, [1, 3], 1)[::-1], 1), x
    yield "amax", lambda x: F.amax(x, (1, 3)) - F.amin(x, (1, 3)), x
    yield "maximum", lambda x: F.maximum(x, 0.25) + F.minimum(x, x[:1]), x
    yield "matmul", lambda x: F.matmul(x[0], F.transpose(x[1], 1, 2)), x
    yield "variance", lambda x: F.variance(x, (0, 2)), x
    yield "instance_norm", F.instance_norm, x
    yield "local_response_norm", lambda x: F.local_response_norm(x, 3), x
    yield "softmax", lambda x: F.softmax(x, 1) + F.log_softmax(x, 3), x
    yield "soft targets", lambda x: F.cross_entropy(x, F.softmax(x, 1).detach(), label_smoothing=0.1), x
    yield "adaptive pooling", lambda x: F.adaptive_avg_pool2d(x, (4, 5)) + F.adaptive_max_pool2d(x, (4, 5)), x


@pytest.mark.parametrize("name, call, x", [pytest.param(*each, id=each[0]) for each in functional_calls()])
def test_functionals_work_on_the_device(cuda, name, call, x):
    results = []
    for place in PLACES:
        leaf = fastconv.tensor(x, requires_grad=True)
        y = call(leaf.to(place))
        assert y.device == place
        weights = fastconv.tensor(normal(name, y.shape, "float32"), device=place)
        (y * weights).sum().backward()
        results.append((y.numpy(), leaf.grad))
    for actual, wanted in zip(results[1], results[0], strict=True):
        oracle.assert_close(actual, wanted, 1e-5, name)


def test_the_command_line_trains_on_the_device(simulated, tmp_path, monkeypatch):
    from fastconv import training
    from fastconv.training import loop

    config = training.config.Config(
        dataset="digits", model="lenet5", device="cuda", epochs=1, limit=2, batch_size=2, output=str(tmp_path)
    )
    assert config.device == "cuda"
    built = []
    monkeypatch.setattr(loop.networks.models, "create", lambda *a, **k: built.append(k) or _Tiny())
    run = loop.Run(config, fastconv.data.load("digits"))
    x, labels = next(iter(run.batches.epoch(0)))
    loss, hits = run.step(x, labels)
    assert built
    assert np.isfinite(loss)
    assert 0 <= hits <= 2
    assert run.model.linear.weight.device == "cuda"


class _Tiny(nn.Module):
    def __init__(self):
        self.linear = nn.Linear(16, 10)

    def forward(self, x):
        return self.linear(F.flatten(F.adaptive_avg_pool2d(x, 4), 1))


def test_a_threshold_stays_there(cuda):
    x = fastconv.Tensor(np.float32([-np.inf, 0, 0.25, 1, np.inf, np.nan]), requires_grad=True)
    y = F.threshold(x.to("cuda"), 0.25, -2.0)
    y.backward(cuda.from_numpy(np.ones(6, np.float32)))
    np.testing.assert_array_equal(y.numpy(), [-2, -2, -2, 1, np.inf, np.nan])
    np.testing.assert_array_equal(x.grad, [0, 0, 0, 1, 1, 1])
