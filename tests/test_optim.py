"""Optimisers and schedules against torch.optim's over several steps; groups, states, messages."""

import copy
import json
import re

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import Tensor, nn, optim
from fastconv.errors import ArgumentError, CheckpointError, ShapeError
from fastconv.optim import lr_scheduler

SHAPES = [(3, 4), (5,), ()]
OPTIMISERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05}),
]


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def params(seed=0):
    rng = np.random.default_rng(seed)
    return [Tensor(np.asarray(rng.standard_normal(shape)), requires_grad=True) for shape in SHAPES]


def grads(step):
    rng = np.random.default_rng(100 + step)
    return [np.asarray(rng.standard_normal(shape)) for shape in SHAPES]


def torch_params(t, ours):
    return [t.nn.Parameter(t.from_numpy(p.data.copy())) for p in ours]


@pytest.mark.parametrize(("name", "options"), OPTIMISERS)
def test_ten_steps_like_torch(name, options):
    t = oracle.torch()
    ours = params()
    theirs = torch_params(t, ours)
    a, b = getattr(optim, name)(ours, **options), getattr(t.optim, name)(theirs, **options)
    for step in range(10):
        for i, gradient in enumerate(grads(step)):
            skipped = i == 1 and step in (0, 4)  # without a gradient: its own first step and count come later
            ours[i].grad = None if skipped else gradient
            theirs[i].grad = None if skipped else t.from_numpy(gradient.copy())
        a.step()
        b.step()
    for mine, wanted in zip(ours, theirs, strict=True):
        oracle.assert_close(mine.data, wanted.detach().numpy(), 1e-12)


@pytest.mark.parametrize(("name", "options"), OPTIMISERS)
def test_a_saved_state_continues_to_the_same_bits(name, options):
    def walk(optimiser, tensors, steps):
        for step in steps:
            for tensor, gradient in zip(tensors, grads(step), strict=True):
                tensor.grad = gradient
            optimiser.step()

    through = params()
    walk(getattr(optim, name)(through, **options), through, range(6))
    first = params()
    optimiser = getattr(optim, name)(first, **options)
    walk(optimiser, first, range(3))
    state, values = optimiser.state_dict(), [p.data.copy() for p in first]
    walk(optimiser, first, range(3, 6))  # a state is a copy: this does not change it
    second = [Tensor(value, requires_grad=True) for value in values]
    resumed = getattr(optim, name)(second, lr=99.0)
    resumed.load_state_dict(copy.deepcopy(state))
    walk(resumed, second, range(3, 6))
    for a, b in zip(second, through, strict=True):
        oracle.assert_same_bits(a.data, b.data)


@pytest.mark.parametrize(("name", "options"), [OPTIMISERS[1], OPTIMISERS[4]])
def test_state_dict_has_torchs_structure(name, options):
    t = oracle.torch()
    ours = params()
    theirs = torch_params(t, ours)
    a, b = getattr(optim, name)(ours, **options), getattr(t.optim, name)(theirs, **options)
    for mine, other, gradient in zip(ours, theirs, grads(0), strict=True):
        mine.grad, other.grad = gradient, t.from_numpy(gradient.copy())
    a.step()
    b.step()
    mine, wanted = a.state_dict(), b.state_dict()
    assert mine["param_groups"][0].keys() <= wanted["param_groups"][0].keys()
    assert mine["param_groups"][0]["params"] == wanted["param_groups"][0]["params"] == [0, 1, 2]
    for number, entries in wanted["state"].items():
        assert mine["state"][number].keys() == entries.keys()
        for key, value in entries.items():
            oracle.assert_close(np.asarray(mine["state"][number][key], np.float64), value.double().numpy(), 1e-12)
    a.load_state_dict(wanted | {"param_groups": mine["param_groups"]})
    for gradient, p, q in zip(grads(1), ours, theirs, strict=True):
        p.grad, q.grad = gradient, t.from_numpy(gradient.copy())
    a.step()
    b.step()
    oracle.assert_close(ours[0].data, theirs[0].detach().numpy(), 1e-12)


def test_groups_have_their_own_options():
    a, b = params()[:2]
    optimiser = optim.SGD([{"params": [a], "lr": 1.0}, {"params": b}], lr=0.5)
    before = a.data.copy(), b.data.copy()
    a.grad, b.grad = np.ones((3, 4)), np.ones(5)
    optimiser.step()
    np.testing.assert_array_equal(before[0] - 1.0, a.data)
    np.testing.assert_array_equal(before[1] - 0.5, b.data)
    optimiser.zero_grad()
    assert a.grad is None
    assert b.grad is None


def test_one_backend_call_a_group(monkeypatch):
    from fastconv import backends

    calls = []
    backend = backends.for_numpy()
    monkeypatch.setattr(type(backend), "sgd_step", lambda self, params, *rest, **options: calls.append(len(params)))
    ours = params()
    for p, gradient in zip(ours, grads(0), strict=True):
        p.grad = gradient
    optim.SGD(ours, lr=0.1).step()
    assert calls == [3]


def test_messages():
    ours = params()
    with raises(ArgumentError, "SGD: expected at least one parameter, got none"):
        optim.SGD([], lr=0.1)
    with raises(ArgumentError, "SGD: expected lr >= 0, got -1"):
        optim.SGD(ours, lr=-1)
    with raises(ArgumentError, "SGD: expected lr >= 0, got nan"):
        optim.SGD(ours, lr=float("nan"))
    with raises(ArgumentError, "SGD: expected momentum > 0 and dampening 0 with nesterov, got 0 and 0"):
        optim.SGD(ours, lr=1, nesterov=True)
    with raises(ArgumentError, "Adam: expected two betas in [0, 1), got (0.9, 1.0)"):
        optim.Adam(ours, betas=(0.9, 1.0))
    with raises(ArgumentError, "Adam: expected params to be Tensors, got ndarray"):
        optim.Adam([np.ones(3)])
    with raises(ArgumentError, "Adam: expected params to be Tensors, got dict"):
        optim.Adam([ours[0], {"params": ours[1:]}])
    with raises(ArgumentError, "Adam: expected groups of 'params' and options, got Tensor"):
        optim.Adam([{"params": ours[1:]}, ours[0]])
    with raises(ArgumentError, "SGD: expected params that no operation made, got the result of one"):
        optim.SGD([ours[0] * 0.1])
    with raises(ArgumentError, "Adam: expected each parameter once, got one twice"):
        optim.Adam([ours[0], ours[0]])
    known = "'params' and of ['betas', 'eps', 'lr', 'weight_decay']"
    with raises(ArgumentError, f"AdamW: expected a group of {known}, got ['momentum']"):
        optim.AdamW([{"params": ours, "momentum": 1}])
    optimiser = optim.SGD(ours, lr=0.1)
    ours[1].grad = np.ones(4)
    with raises(ShapeError, "SGD.step: expected a gradient like its parameter, float64 (5,), got float64 (4,)"):
        optimiser.step()
    with raises(CheckpointError, "SGD.load_state_dict: expected groups of [3] parameters, got [1]"):
        optimiser.load_state_dict(optim.SGD(ours[:1], lr=1.0).state_dict())
    with raises(CheckpointError, "SGD.load_state_dict: expected 'state' and 'param_groups', got KeyError('state')"):
        optimiser.load_state_dict({"param_groups": []})
    bad = {"state": {0: {"momentum_buffer": np.ones(2)}}, "param_groups": optimiser.state_dict()["param_groups"]}
    with raises(CheckpointError, "SGD.load_state_dict: expected momentum_buffer of shape (3, 4), got shape (2,)"):
        optimiser.load_state_dict(bad)
    assert optimiser.state == {}


# -------------------------------------------------------------------------------------------- schedules

SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 4}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.2, "total_iters": 6}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
]


def rates(module, optimiser, schedule, steps=8):
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    return np.array(seen)


def two_groups(module, a, b):
    return module.SGD([{"params": [a], "lr": 0.4}, {"params": [b]}], lr=0.1)


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_schedules_like_torch(name, options):
    t = oracle.torch()
    a, b, _ = params()
    ours, theirs = two_groups(optim, a, b), two_groups(t.optim, *torch_params(t, [a, b]))
    mine = rates(optim, ours, getattr(lr_scheduler, name)(ours, **options))
    wanted = rates(t.optim, theirs, getattr(t.optim.lr_scheduler, name)(theirs, **options))
    np.testing.assert_allclose(mine, wanted, rtol=1e-12)


def warm_cosine(module, schedulers, optimiser):
    warm = schedulers.LinearLR(optimiser, 0.1, total_iters=3)
    return schedulers.SequentialLR(optimiser, [warm, schedulers.CosineAnnealingLR(optimiser, 5)], milestones=[3])


def test_sequential_like_torch():
    t = oracle.torch()
    a, b, _ = params()
    ours, theirs = two_groups(optim, a, b), two_groups(t.optim, *torch_params(t, [a, b]))
    mine = rates(optim, ours, warm_cosine(optim, lr_scheduler, ours))
    wanted = rates(t.optim, theirs, warm_cosine(t.optim, t.optim.lr_scheduler, theirs))
    np.testing.assert_allclose(mine, wanted, rtol=1e-12)


def test_a_schedule_resumes_from_json_to_the_same_bits():
    a, b, _ = params()
    through = two_groups(optim, a, b)
    expected = rates(optim, through, warm_cosine(optim, lr_scheduler, through))
    first = two_groups(optim, a, b)
    schedule = warm_cosine(optim, lr_scheduler, first)
    head = rates(optim, first, schedule, 4)
    state = json.loads(json.dumps(schedule.state_dict()))
    second = two_groups(optim, a, b)
    resumed = warm_cosine(optim, lr_scheduler, second)
    resumed.load_state_dict(state)
    tail = rates(optim, second, resumed, 4)
    oracle.assert_same_bits(np.concatenate([head, tail]), expected)


def test_schedule_messages():
    optimiser = optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with raises(ArgumentError, "StepLR: expected step_size >= 1, got 0"):
        lr_scheduler.StepLR(optimiser, 0)
    with raises(ArgumentError, "LinearLR: expected start_factor in (0, 1], got 0"):
        lr_scheduler.LinearLR(optimiser, 0)
    step = lr_scheduler.StepLR(optimiser, 1)
    with raises(ArgumentError, "SequentialLR: expected 1 increasing milestones for 2 schedulers, got []"):
        lr_scheduler.SequentialLR(optimiser, [step, step], [])
    with raises(ArgumentError, "StepLR: expected optimizer to be one, got Linear"):
        lr_scheduler.StepLR(nn.Linear(1, 1), 1)
    optimiser.add_param_group({"params": nn.Linear(1, 1).parameters()})
    known = "as many groups as it was made for, 1 (a new schedule knows those added since)"
    with raises(ArgumentError, f"StepLR: expected {known}, got 2"):
        step.step()
    with raises(CheckpointError, "StepLR: expected 'last_epoch' and 'base_lrs', got KeyError('last_epoch')"):
        step.load_state_dict({})


def test_a_read_only_parameter_stays_as_it_is():
    values = np.ones(3)
    values.flags.writeable = False
    param = Tensor(values, requires_grad=True)
    param.grad = np.ones(3)
    with raises(ArgumentError, "SGD.step: expected params that can be written to, got a read-only one"):
        optim.SGD([param], lr=1.0).step()
    np.testing.assert_array_equal(values, 1.0)


def test_states_that_would_step_otherwise_are_refused():
    ours = params()
    adam, sgd = optim.Adam(ours), optim.SGD(ours, lr=0.1, momentum=0.9)
    state = adam.state_dict()
    for options, message in (({"amsgrad": True}, "amsgrad"), ({"lr": -1.0}, "lr >= 0"), ({"betas": 1}, "two betas")):
        with pytest.raises(CheckpointError, match=message):
            adam.load_state_dict({**state, "param_groups": [{**state["param_groups"][0], **options}]})
    for param in ours:
        param.grad = np.ones(param.shape)
    sgd.step()
    with pytest.raises(CheckpointError, match="expected a state of"):
        adam.load_state_dict({"state": sgd.state_dict()["state"], "param_groups": state["param_groups"]})
    assert not adam.state


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("exp_avg", None, "exp_avg to be numbers, got None"),
        ("exp_avg", 3.0, "exp_avg of shape (3, 4), got shape ()"),
        ("exp_avg_sq", "a", "exp_avg_sq to be numbers, got <U1"),
        ("exp_avg", [[1, 2], [3]], "exp_avg to be an array, got a ragged sequence"),
        ("step", -5, "step to be a whole number, at least 0, got -5"),
        ("step", 2.5, "step to be a whole number, at least 0, got 2.5"),
        ("step", None, "step to be a whole number, at least 0, got None"),
        ("step", "a", "step to be a whole number, at least 0, got 'a'"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(key, value, message):
    ours = params()
    adam = optim.Adam(ours)
    for param, grad in zip(ours, grads(0), strict=True):
        param.grad = grad
    adam.step()
    state = adam.state_dict()
    before = copy.deepcopy(state)
    state["state"][0][key] = value
    with raises(CheckpointError, f"Adam.load_state_dict: expected {message}"):
        adam.load_state_dict(state)
    np.testing.assert_equal(adam.state_dict(), before)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_a_moment_that_was_taken_away_is_an_error(name):
    param = fastconv.tensor(np.ones(3), requires_grad=True)
    optimizer = optim.Adam([param])
    (param * 2).sum().backward()
    optimizer.step()
    optimizer.state[param][name] = None
    with pytest.raises(ShapeError, match="state for each parameter, got None"):
        optimizer.step()


def test_a_gradient_that_is_no_array_is_refused():
    p = fastconv.tensor(np.ones(3, np.float32), requires_grad=True)
    p.grad = fastconv.tensor(np.ones(3, np.float32))
    with pytest.raises(ArgumentError, match="a gradient of its parameter's kind, ndarray, got Tensor"):
        optim.SGD([p], lr=0.1).step()


def test_a_state_of_another_dtype_is_refused():
    p = fastconv.tensor(np.ones(3, np.float32), requires_grad=True)
    optimizer = optim.Adam([p], lr=0.1)
    p.grad = np.ones(3, np.float32)
    optimizer.step()
    p.data, p.grad = p.data.astype(np.float64), np.ones(3)
    with pytest.raises((ShapeError, ValueError), match="float"):
        optimizer.step()
