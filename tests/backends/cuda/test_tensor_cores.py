"""Products on the tensor cores of a device: every tile and loader against numbers rounded on the host. With --gpu."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import normal

from fastconv import backends
from fastconv.backends.cuda import launch, tiles, warpgroup_check
from fastconv.backends.cuda.operands import to_bfloat16, to_tf32
from fastconv.geometry import conv_geometry

MODES = {"bf16": to_bfloat16, "tf32": to_tf32}
by_compute = pytest.mark.parametrize("compute", MODES)
SHAPES = (  # images, weights, options: windows with and without bounds, matrices read 16 bytes at a time or not
    ((3, 20, 9, 8), (70, 20, 3, 3), {"padding": 1}),
    ((2, 36, 8, 8), (140, 36, 1, 1), {}),
    ((2, 18, 7, 9), (66, 9, 3, 2), {"stride": 2, "groups": 2}),
)


@pytest.fixture
def device(request):
    if not request.config.getoption("--gpu"):
        pytest.skip("no GPU asked for: --gpu takes one")
    backend = backends.get("cuda")
    if launch.machine().capability < (8, 0):
        pytest.skip("no tensor cores for it")
    return backend


@by_compute
def test_the_known_answer_of_wgmma(device, compute):
    if launch.machine().capability != (9, 0):
        pytest.skip("wgmma is for compute capability 9.0")
    assert warpgroup_check.answers(compute)


@by_compute
@pytest.mark.parametrize("x_shape, w_shape, options", SHAPES, ids=str)
def test_every_tile_gives_the_sums_of_rounded_numbers_to_the_same_bits(
    device, monkeypatch, compute, x_shape, w_shape, options
):
    geometry = conv_geometry("conv2d", 2, x_shape, w_shape, **options, compute=compute)
    plain = conv_geometry("conv2d", 2, x_shape, w_shape, **options)
    arrays = [normal(name, s, "float32") for name, s in zip("xwd", (
        geometry.input_shape, geometry.weight_shape, geometry.output_shape), strict=True)]  # fmt: skip
    x, w, dy = (np.vectorize(MODES[compute], otypes=[np.float32])(a) for a in arrays)
    reference, wanted = backends.get("reference"), {}
    wanted["y"] = reference.conv_forward(x, w, None, plain)
    wanted["dx"] = reference.conv_backward_input(dy, w, None, plain)
    wanted["dw"] = reference.conv_backward_weight(dy, x, plain)
    there, first = [device.from_numpy(a) for a in arrays], {}
    table = tiles._WARPGROUPS if tiles.cores(compute) == "wgmma" else tiles._CORES[compute]
    for tile, _ in table:
        monkeypatch.setattr(tiles, "_WARPGROUPS", ((tile, 1.0),))
        monkeypatch.setitem(tiles._CORES, compute, ((tile, 1.0),))
        found = {
            "y": device.conv_forward(there[0], there[1], None, geometry),
            "dx": device.conv_backward_input(there[2], there[1], None, geometry),
            "dw": device.conv_backward_weight(there[2], there[0], geometry),
        }
        for name, value in found.items():
            oracle.assert_close(value.numpy(), wanted[name], 1e-5, f"{name}, {tile}")
        for name in ("y", "dx"):
            oracle.assert_same_bits(found[name].numpy(), first.setdefault(name, found[name].numpy()), f"{name}, {tile}")
