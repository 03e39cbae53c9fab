"""Networks traced: the graph's runs give the network's bits, for any batch; what cannot be traced is said."""

import networks
import numpy as np
import pytest

import fastconv
from fastconv import functional as F
from fastconv import models, nn, random, tensor, trace
from fastconv.errors import ArgumentError, DeviceError, DTypeError, GraphError, ShapeError
from fastconv.graph import Times


def outputs_of(model, arrays):
    with fastconv.no_grad():
        returned = model(*map(fastconv.Tensor, arrays))
    return [t.numpy() for t in returned] if isinstance(returned, tuple) else returned.numpy()


def test_every_model_has_a_case():
    assert set(networks.SHAPES) == set(models.names())


@pytest.mark.parametrize("name", networks.SHAPES)
def test_models_give_their_bits_for_any_batch(name):
    net = networks.create(name)
    graph = trace(net, *networks.inputs(name, 2))
    assert graph.fixed is None
    for batch in (2, 1, 0):
        arrays = networks.inputs(name, batch)
        np.testing.assert_array_equal(graph(*arrays), outputs_of(net, arrays))


@pytest.mark.parametrize("name", ["googlenet", "unet3d"])
def test_models_in_float64(name):
    net, arrays = networks.create(name, np.float64), networks.inputs(name, 3, np.float64)
    graph = trace(net, *networks.inputs(name, 1, np.float64))
    np.testing.assert_array_equal(graph(*arrays), outputs_of(net, arrays))


def values(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


FUNCTIONS = {
    "slices": lambda x: x[:, 1:, ::2, 0] * 2.0 + 1.0,
    "layer_norm": lambda x: F.layer_norm(x, (6,), np.float32(range(6)), np.ones(6, np.float32)),
    "group_norm": lambda x: F.group_norm(x, 2),
    "instance_norm": lambda x: F.instance_norm(x),
    "mean": lambda x: F.mean(x, (2, 3)),
    "split": lambda x: F.cat(F.split(x, 3, 1)[::-1], 1),
    "chunk": lambda x: F.chunk(x, 2, 1)[1] - F.chunk(x, 2, 1)[0],
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
    "transposed": lambda x: F.conv_transpose2d(x, values(4, 3, 3, 3), stride=2, output_padding=1),
    "resized": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    "shuffled": lambda x: F.pixel_shuffle(x, 2),
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True),
    "softmax": lambda x: F.log_softmax(F.softmax(x, 1), -1),
    "extremes": lambda x: F.maximum(F.amax(x, 1), F.amin(x, (1,))),
    "matmul": lambda x: F.matmul(x, values(6, 5)),
    "products": lambda x: F.matmul(x, F.transpose(x, 2, 3)),
    "powers": lambda x: F.pow(F.exp(x), F.relu(x)),
    "threshold": lambda x: F.threshold(x, 0.1, -2.0),
    "lrn": lambda x: F.local_response_norm(x, 3),
    "unbatched": lambda x: F.relu(F.transpose(x, 0, 1)),
    "variance": lambda x: F.variance(x, (1, 2)),
    "flat": lambda x: F.flatten(x),
    "plain": lambda x: {"a": [x, F.relu(x)], "b": None},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_give_their_bits_for_any_batch(name):
    function = FUNCTIONS[name]
    graph = trace(function, values(3, 4, 6, 6))
    for x in (values(3, 4, 6, 6), values(5, 4, 6, 6), np.asfortranarray(values(1, 4, 6, 6))):
        mine, wanted = graph(x), function(tensor(x))
        if isinstance(wanted, dict):
            assert list(mine) == ["a", "b"]
            assert mine["b"] is None
            mine, wanted = mine["a"], wanted["a"]
        for a, b in zip(*((v if isinstance(v, (tuple, list)) else [v]) for v in (mine, wanted)), strict=True):
            np.testing.assert_array_equal(a, b.numpy())


def test_named_outputs_keep_their_type():
    net = models.googlenet(num_classes=3).train()
    returned = trace(net, *networks.inputs("googlenet", 2))(*networks.inputs("googlenet", 2))
    assert type(returned).__name__ == "GoogLeNetOutputs"
    assert returned.aux_logits1.shape == (2, 3)


def test_a_convolution_with_its_norm_is_traced_as_two_verbs():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).train()
    x = np.random.default_rng(0).standard_normal((2, 1, 6, 6), dtype=np.float32)
    graph = fastconv.trace(net, x)
    assert {"conv_forward", "batch_norm_statistics", "batch_norm_forward"} <= {node.verb for node in graph.nodes}
    assert "conv_moments_forward" not in {node.verb for node in graph.nodes}


def test_training_mode_changes_nothing_and_replays_its_masks():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    x, state, streams = values(3, 1, 5, 5), net.state_dict(), random.get_state()
    graph = trace(net, x)
    assert random.get_state() == streams
    assert all(np.array_equal(value, state[key]) for key, value in net.state_dict().items())
    np.testing.assert_array_equal(graph(x), net(x).numpy())
    np.testing.assert_array_equal(graph(x), graph(x))
    assert graph(values(7, 1, 5, 5)).shape == (7, 4, 3, 3)


def test_a_graph_names_its_values_and_modules():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(100, 2)).eval()
    graph = trace(net, values(2, 1, 5, 5))
    names = [value.name for value in graph.constants]
    assert names == [
        "0.weight", "0.bias", "1.running_var", "1.running_mean", "1.weight", "1.bias", "3.weight", "3.bias",
    ]  # fmt: skip
    assert graph.inputs[0].name == "input"
    assert graph.inputs[0].sizes == (Times(1), 1, 5, 5)
    conv = next(node for node in graph.nodes if node.verb == "conv_forward")
    assert conv.module == "0"
    assert conv.result.sizes == (Times(1), 4, 1, 5, 5)
    assert conv["b"].array is net[0].bias.data
    assert conv.at(7)["geometry"].n == 7
    flat = next(node for node in graph.nodes if node.module == "2")
    assert flat["shape"] == (Times(1), 100)
    printed = str(graph)
    assert "Sequential(%input float32 (N, 1, 5, 5)):" in printed
    assert "b=0.bias, geometry=<kernel 1x3x3 padding 0x1x1>" in printed


def test_shared_parameters_are_one_constant_and_seen_when_written_to():
    layer = nn.Linear(4, 4)
    graph = trace(lambda x: layer(layer(x)), values(2, 4))
    assert len(graph.constants) == 2
    layer.weight.data[...] = 0
    np.testing.assert_array_equal(graph(values(2, 4))[0], layer.bias.data)


def an_operation_a_sample(x):
    return F.cat([F.relu(x[i : i + 1]) for i in range(len(x))], 0)


def a_condition_on_the_batch(x):
    return F.relu(x) if len(x) % 2 else F.tanh(x)


def a_mean_over_the_batch(x):
    return F.mean(x)


def a_constant_of_the_batch(x):
    return x * np.arange(x.size, dtype=np.float32).reshape(x.shape)


@pytest.mark.parametrize(
    "function, why",
    [
        (an_operation_a_sample, "operations for a batch of 2"),
        (a_condition_on_the_batch, "tanh_forward for a batch of 2, relu_forward for one of 3"),
        (a_mean_over_the_batch, "for a batch of 2"),
        (a_constant_of_the_batch, "the constant"),
    ],
)
def test_what_differs_by_more_than_sizes_is_fixed(function, why):
    x = values(2, 3)
    graph = trace(function, x)
    assert why in graph.fixed
    np.testing.assert_array_equal(graph(x), function(tensor(x)).numpy())
    with pytest.raises(ShapeError, match=r"expected x \(2, 3\) \(fixed: .*got shape \(3, 3\)"):
        graph(values(3, 3))


def test_a_static_trace_and_empty_batches_are_fixed():
    assert "dynamic=False" in trace(F.relu, values(2, 3), dynamic=False).fixed
    assert "empty" in trace(F.relu, values(0, 3)).fixed
    graph = trace(F.add, values(2, 3), values(1, 3))
    assert "[1, 2]" in graph.fixed
    np.testing.assert_array_equal(graph(values(2, 3), values(1, 3)), values(2, 3) + values(1, 3))


class Escapes(nn.Module):
    def __init__(self, how):
        self.inner = nn.ReLU()
        self.how = how

    def forward(self, x):
        return self.how(self.inner(x))


@pytest.mark.parametrize(
    "how",
    [
        lambda x: fastconv.Tensor(np.exp(x.numpy())),
        lambda x: x * x.sum().item(),
        lambda x: x if x.sum() else F.relu(x),
        lambda x: fastconv.Tensor(np.asarray(x)),
        lambda x: F.relu(fastconv.Tensor(x.data.copy())),
        lambda x: x.to("float64"),
        lambda x: 3.0,
        lambda x: None,
    ],
)  # fmt: skip
def test_values_that_leave_the_graph_are_errors(how):
    with pytest.raises((DeviceError, GraphError), match=r"^trace: expected|got tracing$"):
        trace(Escapes(how), values(2))


def test_the_error_names_the_module():
    net = nn.Sequential(nn.ReLU(), Escapes(lambda x: x * x.sum().item()))
    with pytest.raises(GraphError, match=r"trace: expected operations of fastconv .* in module '1', got NumPy"):
        trace(net, values(2, 3))


def test_wrong_inputs():
    graph = trace(F.relu, values(2, 3))
    with pytest.raises(ShapeError, match=r"relu: expected input \(N, 3\), got shape \(2, 4\)"):
        graph(values(2, 4))
    with pytest.raises(DTypeError, match="relu: expected input of dtype float32, got float64"):
        graph(values(2, 3).astype(np.float64))
    with pytest.raises(ShapeError, match="expected 1 inputs, got 2"):
        graph(values(2, 3), values(2, 3))
    with pytest.raises(ArgumentError, match="at least one input"):
        trace(F.relu)


def test_a_profile_has_a_time_for_each_node():
    graph = trace(networks.create("lenet5"), *networks.inputs("lenet5", 2))
    found = graph.profile(*networks.inputs("lenet5", 2), runs=2)
    assert [node for node, _ in found] == graph.nodes
    assert all(seconds >= 0 for _, seconds in found)


def test_the_reference_backend_runs_a_graph_too():
    net, x = networks.create("lenet5"), networks.inputs("lenet5", 2)
    graph = trace(net, *x)
    with fastconv.backends.use("reference"):
        np.testing.assert_allclose(graph(*x), outputs_of(net, x), rtol=1e-6, atol=1e-6)
