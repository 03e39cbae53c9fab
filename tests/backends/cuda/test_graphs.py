"""A captured step that is replayed takes the steps that run as usual: the same bits, on the device and on the host.

In the simulator a capture is a list of launches, which a replay starts again.
"""

from __future__ import annotations

import gc
import weakref

import numpy as np
import oracle
import pytest
from layouts import normal

import fastconv
from fastconv import functional as F
from fastconv import nn, optim, random
from fastconv.backends.cuda import graphs, launch, memory
from fastconv.errors import DeviceError
from fastconv.training.stepping import Stepper
from fastconv.training.task import Classify

CLASSES = 3


def network() -> nn.Module:
    """A layer of each kind with a state or random numbers, for pictures of 6x6."""
    fastconv.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(12, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, CLASSES),
    )  # fmt: skip


def trained(optimizer, loss="cross-entropy", steps=5, replay=True, sizes=(2,), make=network, watch=None, **options):
    """Return the losses, outputs, states and the last gradients of some steps whose rate changes each time."""
    model = make().to("cuda").train()
    stepper = getattr(optim, optimizer)(model.parameters(), **options)
    schedule = optim.lr_scheduler.LinearLR(stepper, start_factor=0.2, total_iters=steps)
    take = Stepper(model, stepper, Classify(loss, CLASSES), "cuda")
    if not replay:
        take._step = take._as_usual
    seen = []
    for step in range(steps):
        n = sizes[step % len(sizes)]
        x = normal(("graphs", step), (n, 1, 6, 6), "float32")
        value, output = take(x, (np.arange(n) + step) % CLASSES)
        schedule.step()
        seen.append((value, output))
        if watch:
            watch(take)
    gradients = [p.grad.numpy() for p in model.parameters()]
    return seen, model.state_dict(), stepper.state_dict()["state"], gradients, random.get_state(), take


def same(first, second):
    for (value, output), (other, expected) in zip(first[0], second[0], strict=True):
        assert value == other
        oracle.assert_same_bits(output, expected)
    for name, array in second[1].items():
        oracle.assert_same_bits(first[1][name], array, name)
    for number, entry in second[2].items():
        for name, value in entry.items():
            np.testing.assert_array_equal(first[2][number][name], value)
    for gradient, expected in zip(first[3], second[3], strict=True):
        oracle.assert_same_bits(gradient, expected)
    assert first[4] == second[4]


@pytest.mark.parametrize("optimizer, options", [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}),
    ("SGD", {"lr": 0.1, "loss": "half-sse"}),
    ("AdamW", {"lr": 0.01}),
], ids=["sgd", "half-sse", "adamw"])  # fmt: skip
def test_replays_have_the_bits_of_usual_steps(cuda, optimizer, options):
    replayed, usual = (trained(optimizer, replay=replay, **options) for replay in (True, False))
    (found,) = replayed[-1]._captured.values()
    assert found.masks == 2
    assert [int(added) for _, added in found.counters] == [1]
    same(replayed, usual)
    assert len({value for value, _ in replayed[0]}) == len(replayed[0])


def grouped() -> nn.Module:
    model = network()
    return nn.Sequential(model[0], nn.GroupNorm(3, 3), *list(model)[2:])


def test_constants_of_a_layer_are_no_values_of_a_batch(cuda):
    replayed, usual = (trained("SGD", lr=0.1, make=grouped, replay=replay) for replay in (True, False))
    assert list(replayed[-1]._captured.values()) != [None]
    same(replayed, usual)


def test_memory_that_the_pool_gives_to_others_between_replays(simulated):
    """What a graph must find again is held; the rest of its memory may be overwritten, or given back."""

    def disturb(take):
        taken = [memory.pool.take(size) for size in (100, 1000, 4000) for _ in range(20)]
        for lease in taken:
            lease.piece.memory[:] = 0x7F
        del taken
        memory.empty_cache()

    same(trained("AdamW", lr=0.01, watch=disturb), trained("AdamW", lr=0.01, replay=False))


def test_a_graph_holds_what_its_kernels_read(simulated, monkeypatch):
    """The driver's graph has addresses alone: memory of constants and tables must not go while it can be replayed."""
    x = normal("held", (2, 4), "float32")
    model = nn.Linear(4, 3).to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step():
        optimizer.zero_grad()
        loss = (model(fastconv.tensor(x, device="cuda")) * 2.0).sum()
        loss.backward()
        optimizer.step()
        return loss

    step(), step()
    read = []
    here = launch.machine()
    keep = lambda *launched: read.extend(weakref.ref(a) for a in launched[3] if hasattr(a, "copy_to_host"))  # noqa: E731
    monkeypatch.setattr(here, "start", keep)
    monkeypatch.setattr(here, "end", lambda: lambda: None)
    graph = graphs.captured(step, [x])
    for parameter in model.parameters():
        parameter.grad = None
    memory.empty_cache()
    gc.collect()
    assert graph is not None
    assert len(read) > 10
    assert all(reference() is not None for reference in read)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_capture_that_is_cut_off_leaves_no_stream_that_captures(cuda, error):
    def step():
        raise error

    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            graphs.captured(step, [])
    else:
        assert graphs.captured(step, []) is None
    assert launch.machine()._kept is None
    assert launch.capture.get() is None


@pytest.mark.parametrize("call", ["begin", "end"])
def test_a_driver_that_declines_has_the_step_run_as_usual(cuda, monkeypatch, call):
    def declines():
        raise DeviceError("no")

    monkeypatch.setattr(launch.machine(), call, declines)
    assert graphs.captured(lambda: None, []) is None


def test_shapes_that_take_turns_keep_their_graphs(cuda):
    replayed, usual = (trained("SGD", steps=9, sizes=(2, 1), lr=0.1, replay=replay) for replay in (True, False))
    assert sorted(key[0][0][0][0] for key in replayed[-1]._captured) == [1, 2]
    same(replayed, usual)


def test_other_shapes_run_as_usual(cuda):
    replayed, usual = (trained("SGD", steps=7, sizes=(2, 2, 1), lr=0.1, replay=replay) for replay in (True, False))
    (key,) = replayed[-1]._captured
    assert key[0][0][0] == (2, 1, 6, 6)
    same(replayed, usual)


class _Looks(nn.Module):
    """Looks at its values on the host."""

    def forward(self, x):
        return x * 2.0 if float(x.sum().detach().numpy()) > 1e9 else x * 1.0


def looking() -> nn.Module:
    model = network()
    return nn.Sequential(*model, _Looks())


def test_a_step_that_looks_at_values_runs_as_usual(cuda):
    """Also with a state that its first half has already changed on the host."""
    found, usual = (trained("AdamW", lr=0.01, make=looking, replay=replay) for replay in (True, False))
    assert list(found[-1]._captured.values()) == [None]
    same(found, usual)


def test_a_mean_over_all_batches_is_not_captured(cuda):
    def make():
        model = network()
        model[1].momentum = None
        return model

    found, usual = (trained("SGD", lr=0.1, make=make, replay=replay) for replay in (True, False))
    assert not found[-1]._captured
    same(found, usual)


def test_labels_that_are_no_classes_are_told_by_the_loss(cuda):
    *_, take = trained("SGD", lr=0.1)
    with pytest.raises(fastconv.errors.DataError, match="target in"):
        take(normal("x", (2, 1, 6, 6), "float32"), np.array([0, CLASSES]))


def test_waiting_after_each_kernel_and_capturing_exclude_each_other(cuda, monkeypatch):
    monkeypatch.setenv("FASTCONV_SYNC", "1")
    assert cuda.captured(lambda: 0, []) is None


def test_a_graph_takes_what_it_was_captured_with(cuda):
    x = np.arange(6, dtype=np.float32)
    graph = cuda.captured(lambda: cuda.scale(cuda.from_numpy(x), 2.0), [x])
    np.testing.assert_array_equal(graph.result.numpy(), 2 * x)
    result = graph([x + 1], [], lambda: None)
    np.testing.assert_array_equal(result.numpy(), 2 * x + 2)
    with pytest.raises(DeviceError, match="replay: expected arrays of"):
        graph([x[:3]], [], lambda: None)
    with pytest.raises(DeviceError, match="replay: expected numbers for None"):
        graph([x], [(1, 2)], lambda: None)
    masked = cuda.captured(lambda: cuda.dropout_mask((40,), 0.5, (1, 2)), [])
    with pytest.raises(DeviceError, match="replay: expected numbers for dropout_mask"):
        masked([], [], lambda: None)
    mask = masked([], [(1, 3)], lambda: None)
    np.testing.assert_array_equal(mask.numpy(), cuda.dropout_mask((40,), 0.5, (1, 3)).numpy())


@pytest.mark.parametrize("step", [
    lambda cuda, x: cuda.from_numpy(np.ones(3)),  # an array that is none of the batch
    lambda cuda, x: 0,  # the batch is not used
    lambda cuda, x: cuda.from_numpy(x).numpy(),
    lambda cuda, x: 1 / 0,
], ids=["another array", "not used", "looks", "fails"])  # fmt: skip
def test_what_cannot_be_captured(cuda, step):
    x = np.arange(6, dtype=np.float32)
    assert cuda.captured(lambda: step(cuda, x), [x]) is None
    assert launch.capture.get() is None
    np.testing.assert_array_equal(cuda.scale(cuda.from_numpy(x), 3.0).numpy(), 3 * x)


def test_constants_and_empty_arrays(cuda):
    y = cuda.captured(lambda: cuda.add(cuda.from_numpy(np.float32(2)), cuda.from_numpy(np.zeros(0, "f4"))),
                      [np.zeros(0, "f4")]).result  # fmt: skip
    assert y.shape == (0,)
    np.testing.assert_array_equal(graphs.constant(np.arange(5)).numpy(), np.arange(5))


def test_functionals_in_a_graph(cuda):
    """With gradients, whose first one is a constant."""
    x = normal("x", (3, 4), "float32")
    w = fastconv.tensor(normal("w", (2, 4), "float32"), requires_grad=True).to("cuda").detach().requires_grad_()

    def step():
        w.grad = None
        y = F.linear(fastconv.tensor(x, device="cuda"), w)
        (y * y).sum().backward()
        return w.grad

    usual = step().numpy()
    graph = cuda.captured(step, [x])
    oracle.assert_same_bits(graph.result.numpy(), usual)
    x = 2 * x
    wanted = step().numpy()
    oracle.assert_same_bits(graph([x], [], lambda: None).numpy(), wanted)


class _Driver:
    """The driver's side of a capture: what was asked of it, and which call fails."""

    def __init__(self, failing=""):
        self.calls, self.failing = [], failing

    def __call__(self, name, *values):
        def call(*arguments):
            self.calls.append((name, *(a for a in arguments if isinstance(a, int | str))))
            return (int(name == self.failing), *values)

        return call


@pytest.mark.parametrize(
    "failing", ["", "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"]
)
def test_what_is_asked_of_the_driver(monkeypatch, failing):
    api = pytest.importorskip("cuda.bindings.driver")
    asked = _Driver(failing)
    values = {"cuStreamEndCapture": ("graph",), "cuGraphInstantiate": ("ready",)}
    for name in (
        "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy", "cuGraphLaunch",
        "cuGraphExecDestroy",
    ):  # fmt: skip
        monkeypatch.setattr(api, name, asked(name, *values.get(name, ())))
    monkeypatch.setattr(launch, "stream", lambda: 7)
    machine = object.__new__(launch.Machine)

    def run():
        machine.begin()
        replay = machine.end()
        replay()
        replay()

    if failing:
        with pytest.raises(DeviceError, match="cuda: expected a graph that the driver takes, got 1"):
            run()
        last = {"cuGraphInstantiate": "cuGraphDestroy", "cuGraphLaunch": "cuGraphExecDestroy"}  # nothing is left behind
        assert asked.calls[-1][0] == last.get(failing, failing)
        return
    run()
    assert [call[0] for call in asked.calls] == [
        "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy", *["cuGraphLaunch"] * 2,
        "cuGraphExecDestroy",
    ]  # fmt: skip
    assert asked.calls[0][1] == asked.calls[1][1] == 7
    assert asked.calls[-2][1:] == ("ready", 7)
