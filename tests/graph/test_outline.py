"""Outlines: the graph that a trace gives, without its work and its memory."""

import tracemalloc

import networks
import numpy as np
import pytest

from fastconv import functional as F
from fastconv import models, nn, no_grad, trace
from fastconv.errors import GraphError, ShapeError
from fastconv.graph import outline
from fastconv.graph.outline import _SHAPES
from fastconv.graph.tracing import VERBS


def shapes(graph):
    return [value.shape for value in graph.outputs] if isinstance(graph.outputs, tuple) else graph.outputs.shape


@pytest.mark.parametrize("name", networks.SHAPES)
def test_models_have_the_sizes_and_bits_of_a_trace(name):
    net, arrays = networks.create(name), networks.inputs(name, 1)
    found, traced = outline(net, *(array.shape for array in arrays)), trace(net, *arrays, dynamic=False)
    assert shapes(found) == shapes(traced)
    verbs = [node.verb for node in traced.nodes]
    assert {node.verb for node in found.nodes} <= set(verbs)
    assert len(found.nodes) <= len(verbs)  # what depends on constants alone is computed
    for ours, theirs in zip(np.atleast_1d(found(*arrays)[0]), np.atleast_1d(traced(*arrays)[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


FUNCTIONS = {
    "reductions": lambda x: F.sum(x, (2, 3), keepdim=True) + F.mean(x, 1, keepdim=True) + F.amax(x, (1, 2)).sum(),
    "shapes": lambda x: F.permute(F.reshape(x[:, 1:, ::2], (1, 2, 60)), (2, 0, 1)),
    "pads": lambda x: F.pad(F.pad(x, (1, 2, 3, 0), mode="reflect"), (-1, -1)),
    "resized": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "joined": lambda x: F.cat([x, F.softmax(x, 1), F.local_response_norm(x, 3)], 1),
    "statistics": lambda x: F.group_norm(F.instance_norm(x), 3),
    "broadcast": lambda x: x * np.float32([[[[2]], [[3]], [[4]]]]) - x.sum() / 3,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions(function):
    x = np.random.default_rng(0).standard_normal((1, 3, 12, 10)).astype(np.float32)
    with no_grad():
        graph = outline(function, x.shape)
        traced = trace(function, x, dynamic=False)
    assert [(n.verb, [v and v.shape for v in n.results]) for n in graph.nodes] == [
        (n.verb, [v and v.shape for v in n.results]) for n in traced.nodes
    ]
    np.testing.assert_array_equal(graph(x), traced(x))


def test_a_huge_input_takes_no_memory():
    net = models.unet3d(1, 2, width=8, depth=2).eval()
    tracemalloc.start()
    try:
        graph = outline(net, (1, 1, 4096, 4096, 4096))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert graph.outputs.shape == (1, 2, 4096, 4096, 4096)
    assert most < 16 << 20


def test_what_the_model_refuses_is_refused():
    with pytest.raises(ShapeError, match="multiples of 4"):
        outline(models.unet2d(1, 2, width=4, depth=2), (1, 1, 30, 30))
    with pytest.raises(GraphError, match="NumPy"):
        outline(lambda x: F.relu(x).numpy(), (1, 3))
    with pytest.raises(GraphError, match="without losses"):
        outline(lambda x: F.mse_loss(x, np.zeros((2, 3), np.float32)), (2, 3))


def test_the_models_statistics_stay():
    net = nn.Sequential(nn.BatchNorm2d(3)).train()
    outline(net, (2, 3, 4, 4))
    np.testing.assert_array_equal(net[0].running_mean, np.zeros(3))


def test_every_verb_of_a_forward_pass_has_sizes():
    rest = {verb for verb in VERBS if not verb.endswith("_backward")} - set(_SHAPES)
    losses = {"nll_forward", "cross_entropy_forward", "mse_forward", "bce_with_logits_forward"}
    assert rest == {*losses, "conv_backward_weight", "linear_backward_input", "linear_backward_weight", "dropout_mask",
                    "best_splits"}  # fmt: skip
    assert set(_SHAPES) <= set(VERBS)
