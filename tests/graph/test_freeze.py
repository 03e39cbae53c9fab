"""Networks planned ahead: the network's outputs within rounding, for any shape; what each pass does to a graph."""

from collections import Counter

import networks
import numpy as np
import oracle
import pytest

import fastconv
from fastconv import backends, freeze, nn, tensor
from fastconv import functional as F
from fastconv.errors import ArgumentError, ShapeError

BOUND = 1e-5  # of the largest output


def wanted(net, arrays):
    with fastconv.no_grad():
        return net(*map(fastconv.Tensor, arrays)).numpy()


def assert_near(mine, other, bound=BOUND):
    assert mine.shape == other.shape
    assert mine.dtype == other.dtype
    if mine.size:
        assert np.abs(mine - other).max() <= bound * np.abs(other).max()


@pytest.mark.parametrize("name", networks.SHAPES)
def test_models_give_their_outputs_for_any_batch(name):
    net = networks.create(name)
    frozen = freeze(net, *networks.inputs(name, 2))
    for batch in (2, 1, 2, 0, 3):  # 2 again: weights are packed by then
        arrays = networks.inputs(name, batch)
        assert_near(frozen(*arrays), wanted(net, arrays))
    assert len(set(map(id, frozen._plans.values()))) == 1


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "unet3d"])
def test_models_in_float64(name):
    net, arrays = networks.create(name, np.float64), networks.inputs(name, 2, np.float64)
    assert_near(freeze(net, *arrays)(*arrays), wanted(net, arrays), 1e-13)


@pytest.mark.parametrize("name", ["cifar_net", "unet2d", "tutorial"])
def test_models_on_the_reference_backend(name):
    net, arrays = networks.create(name), networks.inputs(name, 1)
    expected = wanted(net, arrays)
    with backends.use("reference"):
        assert_near(freeze(net, *arrays)(*arrays), expected)


def test_other_sizes_are_planned_when_they_come():
    net = networks.create("unet2d")
    x, larger = (np.random.default_rng(0).standard_normal((1, 1, s, s)).astype(np.float32) for s in (32, 48))
    frozen = freeze(net, x)
    assert_near(frozen(larger), wanted(net, [larger]))
    assert_near(frozen(x), wanted(net, [x]))
    plans = frozen.graph(x), frozen.graph(larger)
    assert plans[0] is frozen.graph() is not plans[1]
    weights = [{id(value.array) for value in plan.constants} for plan in plans]
    assert weights[0] == weights[1]  # folded once, and packed in one place
    with pytest.raises(ShapeError, match="multiples of 16"):
        frozen(x[:, :, :31])


def test_many_shapes_do_not_pile_up():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    first = np.ones((1, 1, 3, 3), np.float32)
    frozen = freeze(net.eval(), first)
    plan = frozen.graph()
    for size in range(4, 40):
        frozen(np.ones((1, 1, 3, size), np.float32))
    assert len(frozen._plans) <= 16
    assert frozen.graph(first) is plan


def test_strides_of_the_input_do_not_matter():
    net, (x,) = networks.create("googlenet"), networks.inputs("googlenet", 2)
    frozen = freeze(net, x)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert_near(frozen(last[:, :, :, ::-1]), frozen(np.ascontiguousarray(x[:, :, :, ::-1])))


def test_samples_and_threads_do_not_matter():
    net, (x,) = networks.create("densenet121"), networks.inputs("densenet121", 3)
    frozen, before = freeze(net, x), fastconv.get_num_threads()
    whole = frozen(x)
    np.testing.assert_array_equal(frozen(x[1:2]), whole[1:2])
    try:
        for threads in (1, 3):
            fastconv.set_num_threads(threads)
            np.testing.assert_array_equal(frozen(x), whole)
    finally:
        fastconv.set_num_threads(before)


def test_the_model_may_change_afterwards():
    net, x = networks.create("resnet18"), networks.inputs("resnet18", 1)
    frozen = freeze(net, *x)
    before = frozen(*x)
    for parameter in net.parameters():
        parameter.data[...] = 0
    np.testing.assert_array_equal(frozen(*x), before)
    larger = np.ones((1, 3, 64, 64), np.float32)
    assert np.abs(frozen(larger)).max() > 0
    assert {p.requires_grad for p in net.parameters()} == {True}


def test_results_of_a_call_are_not_touched_by_the_next():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    x = np.random.default_rng(0).standard_normal((2, 1, 1, 5, 5)).astype(np.float32)
    frozen = freeze(net, x[0])
    first = frozen(x[0])
    kept = first.copy()
    frozen(x[1])
    np.testing.assert_array_equal(first, kept)


def test_what_cannot_be_frozen():
    x = np.ones((1, 4), np.float32)
    with pytest.raises(ArgumentError, match=r"a model in inference mode \(model.eval\(\)\), got one in training"):
        freeze(nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5)), x)
    with pytest.raises(ArgumentError, match="at least one example input"):
        freeze(nn.Linear(4, 2).eval())


# ------------------------------------------------------------------------------------------------ passes


def verbs(frozen):
    return Counter(node.verb for node in frozen.graph().nodes)


def check(function, *arrays):
    """Freeze a function, compare, and return its verbs without views."""
    model = function.eval() if isinstance(function, nn.Module) else function
    frozen = freeze(model, *arrays)
    assert_near(frozen(*arrays), wanted(model, arrays))
    twice = [np.concatenate([array, array]) for array in arrays]
    assert_near(frozen(*twice), wanted(model, twice))
    return {verb: count for verb, count in verbs(frozen).items() if verb not in ("reshape", "index", "filled")}


def values(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def norm(layer):
    """A batch norm that does something."""
    layer.running_mean[...], layer.running_var[...] = np.linspace(-1, 1, layer.num_features), 2.0
    layer.weight.data[...], layer.bias.data[...] = np.linspace(-1, 2, layer.num_features), 0.5
    return layer


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_batch_norm_and_relu_go_into_convolutions(rank, bias):
    conv = [nn.Conv1d, nn.Conv2d, nn.Conv3d][rank - 1](4, 6, 3, padding=1, groups=2, bias=bias)
    bn = norm([nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][rank - 1](6))
    x = values(2, 4, *(5, 6, 7)[:rank])
    assert check(nn.Sequential(conv, bn, nn.ReLU()), x) == {"conv_act_forward": 1}
    assert check(nn.Sequential(conv, bn, nn.Tanh()), x) == {"conv_act_forward": 1, "tanh_forward": 1}
    assert check(nn.Sequential(conv, nn.ReLU(), bn), x) == {"conv_act_forward": 1, "batch_norm_forward": 1}


def test_batch_norm_goes_into_linear_layers():
    net = nn.Sequential(nn.Linear(6, 5), norm(nn.BatchNorm1d(5)), nn.ReLU())
    assert check(net, values(3, 6)) == {"linear_forward": 1, "relu_forward": 1}


def test_batch_norm_before_a_convolution_takes_its_relu():
    net = nn.Sequential(norm(nn.BatchNorm2d(3)), nn.ReLU(), nn.Conv2d(3, 4, 3))
    frozen = freeze(net.eval(), values(1, 3, 5, 5))
    assert check(net, values(2, 3, 5, 5)).keys() >= {"batch_norm_forward", "conv_act_forward"}
    (node,) = [node for node in frozen.graph().nodes if node.verb == "batch_norm_forward"]
    assert node["activation"] == "relu"
    assert node["weight"] is None  # in the scale


def test_an_output_that_others_see_is_left_alone():
    conv, bn = nn.Conv2d(3, 4, 3), norm(nn.BatchNorm2d(4)).eval()

    def seen_twice(x):
        y = conv(x)
        return F.relu(bn(y)) * y

    def returned(x):
        y = conv(x)
        return [y, F.relu(y)]

    found = check(seen_twice, values(2, 3, 5, 5))
    assert found["batch_norm_forward"] == 1
    x = values(1, 3, 5, 5)
    y, positive = freeze(returned, x)(x)
    np.testing.assert_array_equal(np.maximum(y, 0), positive)
    assert y.min() < 0


def test_sums_and_their_relu_go_into_the_later_convolution():
    first, second, third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
    both = lambda x: F.relu(first(x) + second(x))  # noqa: E731
    with_input = lambda x: F.relu(x + first(x))  # noqa: E731
    late = lambda x: third(first(x) + F.tanh(x))  # noqa: E731
    doubled = lambda x: (lambda y: y + y)(first(x))  # noqa: E731
    spread = lambda x: first(x) + np.float32([[[1]], [[2]], [[3]]])  # noqa: E731
    x = values(2, 3, 5, 6)
    assert check(both, x) == {"conv_act_forward": 2}
    assert check(with_input, x) == {"conv_act_forward": 1}
    assert check(late, x) == {"conv_act_forward": 2, "tanh_forward": 1}
    assert check(doubled, x) == {"conv_act_forward": 1, "add": 1}
    assert check(spread, x) == {"conv_act_forward": 1, "add": 1}


@pytest.mark.parametrize(
    "pool, together",
    [
        (nn.MaxPool2d(2), True),
        (nn.MaxPool2d((2, 3)), True),
        (nn.MaxPool2d(3, 2), False),
        (nn.MaxPool2d(2, padding=1), False),
        (nn.MaxPool2d(2, ceil_mode=True), False),
        (nn.MaxPool2d(2, dilation=2), False),
        (nn.MaxPool2d(16), False),
    ],
)
def test_pools_without_overlap_go_into_convolutions(pool, together):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), norm(nn.BatchNorm2d(2)), nn.ReLU(), pool)
    found = check(net, values(2, 1, 19, 21))
    assert found == ({"conv_act_pool_forward": 1} if together else {"conv_act_forward": 1, "max_pool_forward": 1})


def test_concatenated_maps_are_written_in_place():
    convs = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 2, 1), nn.Conv2d(9, 4, 1)]

    def branches(x):
        return F.cat([F.relu(convs[0](x)), F.max_pool2d(x, 3, 1, 1), convs[1](x)], 1)

    def nested(x):
        inner = branches(x)
        return F.cat([inner, F.relu(convs[2](inner)), inner], 1)

    def doubled(x):
        y = convs[1](x)
        return F.cat([y, y, F.cat([y, x], 1)], 1)

    def elsewhere(x):
        return F.cat([convs[0](x), convs[0](x)], 2)

    x = values(2, 3, 5, 6)
    plain = {"max_pool_forward": 1, "empty": 1}
    assert check(branches, x) == {"conv_act_forward": 2, **plain}
    assert check(nested, x) == {"conv_act_forward": 3, "copy": 1, **plain}
    assert check(doubled, x) == {"conv_act_forward": 1, "copy": 3, "empty": 1}
    assert check(elsewhere, x) == {"conv_act_forward": 2, "cat": 1}
    assert check(lambda x: F.cat([F.tanh(x), x], 1), x) == {"tanh_forward": 1, "cat": 1}


def test_what_depends_on_constants_alone_is_computed_before():
    weight, scale = nn.Parameter(values(2, 3, 3, 3)), nn.Parameter(values(2, 1, 1, 1))
    assert check(lambda x: F.conv2d(x, weight * scale), values(2, 3, 5, 5)) == {"conv_act_forward": 1}


def test_what_nobody_takes_is_not_computed():
    def wasteful(x):
        F.tanh(F.relu(x))
        return F.relu(x)

    assert check(wasteful, values(2, 3)) == {"relu_forward": 1}


def test_outputs_may_be_inputs_and_constants():
    ones = np.ones(3, np.float32)
    frozen = freeze(lambda x: {"same": x, "constant": tensor(ones), "pair": (x, F.relu(x))}, values(2, 3))
    found = frozen(values(2, 3))
    np.testing.assert_array_equal(found["same"], values(2, 3))
    np.testing.assert_array_equal(found["constant"], ones)
    np.testing.assert_array_equal(found["pair"][1], np.maximum(values(2, 3), 0))


def test_a_frozen_network_agrees_with_torchvisions():
    t = oracle.torch()
    net = networks.create("resnet18")
    with t.device("meta"):
        theirs = oracle.torchvision().models.resnet18()
    state = {key: t.from_numpy(np.array(value)) for key, value in net.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    (x,) = networks.inputs("resnet18", 2)
    with t.no_grad():
        expected = theirs.eval()(t.from_numpy(x)).numpy()
    assert_near(freeze(net, x)(x), expected)


def test_a_profile_names_what_ran():
    net, x = networks.create("tutorial"), networks.inputs("tutorial", 1)
    found = freeze(net, *x).profile(*x, runs=2)
    assert [node.verb for node, _ in found].count("conv_act_pool_forward") == 2
    assert all(seconds >= 0 for _, seconds in found)
