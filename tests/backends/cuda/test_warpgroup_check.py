"""The known answer that ``wgmma`` has to give before it is used: what follows from each verdict, and when it asks."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastconv import config
from fastconv.backends.cuda import array, graphs, launch, plan, product, recorder, tiles, warpgroup_check
from fastconv.backends.cuda.problem import Tile
from fastconv.errors import ArgumentError, DeviceError
from fastconv.geometry import conv_geometry

MODES = ("bf16", "tf32")
GEOMETRY = conv_geometry("conv2d", 2, (64, 128, 28, 28), (128, 128, 3, 3), padding=1, compute="bf16")


class Machine:
    """A device that is only asked what it is."""

    simulated, runs, capability, processors = False, True, (9, 0), 132


@pytest.fixture
def device():
    """A new machine, whose verdicts are nobody else's."""
    with launch.use(Machine()) as machine:
        yield machine


@pytest.fixture
def asked(monkeypatch):
    """In which modes the device was asked for an answer; it gives what was put there, or fails with it."""
    modes = []

    def answers(compute):
        modes.append(compute)
        if isinstance(answers.result, Exception):
            raise answers.result
        return answers.result

    answers.result, answers.modes = True, modes
    monkeypatch.setattr(warpgroup_check, "answers", answers)
    return answers


def tiles_in(compute: str) -> set[Tile]:
    """The tiles of small and large work."""
    return {tiles.pick(rows, columns, 1, 4, compute) for rows in (24, 512) for columns in (500, 100352)}


@pytest.mark.parametrize("compute", MODES)
def test_a_device_with_the_right_answer_multiplies_by_wgmma(device, asked, compute):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [tiles.cores(compute) for _ in range(3)] == ["wgmma"] * 3
    assert asked.modes == [compute]
    assert tiles_in(compute) <= {tile for tile, _ in tiles._WARPGROUPS}
    assert tiles.width(tiles._WARPGROUPS[0][0], compute, 8, 4) == 4
    assert asked.modes == [compute]


@pytest.mark.parametrize("result, said", [(False, "got another one"), (DeviceError("a fault"), r"got .*a fault")])
def test_a_device_with_another_answer_multiplies_by_mma_sync_and_says_so_once(device, asked, result, said):
    asked.result = result
    with pytest.warns(
        RuntimeWarning, match=rf"wgmma: expected the product .*, {said}.*; bf16 runs by mma.sync"
    ) as seen:
        assert [tiles.cores("bf16") for _ in range(3)] == ["mma.sync"] * 3
    assert len(seen) == 1
    assert asked.modes == ["bf16"]
    assert tiles_in("bf16") <= {tile for tile, _ in tiles._CORES["bf16"]}
    assert tiles.width(tiles._CORES["bf16"][0][0], "bf16", 8, 4) == 2


def test_each_device_and_mode_has_its_own_verdict(device, asked):
    assert tiles.cores("bf16") == "wgmma"
    asked.result = False
    with pytest.warns(RuntimeWarning, match="tf32 runs by mma.sync"):
        assert tiles.cores("tf32") == "mma.sync"
    with launch.use(Machine()), pytest.warns(RuntimeWarning, match="bf16 runs by mma.sync"):
        assert tiles.cores("bf16") == "mma.sync"
    assert tiles.cores("bf16") == "wgmma"


def test_the_variable_refuses_it(device, asked, monkeypatch):
    monkeypatch.setenv("FASTCONV_WGMMA", "0")
    assert tiles.cores("bf16") == "mma.sync"
    monkeypatch.setenv("FASTCONV_WGMMA", "1")
    assert tiles.cores("bf16") == "wgmma"
    assert asked.modes == ["bf16"]
    monkeypatch.setenv("FASTCONV_WGMMA", "yes")
    with pytest.raises(ArgumentError, match="FASTCONV_WGMMA: expected one of 0, 1, got 'yes'"):
        config.wgmma()


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (10, 0), (12, 0)])
def test_other_devices_are_not_asked(device, asked, capability):
    device.capability = capability
    assert tiles.cores("bf16") == ("" if capability < (8, 0) else "mma.sync")
    assert tiles.cores("float32") == ""
    assert asked.modes == []


def test_a_machine_that_runs_nothing_takes_it_as_given(asked):
    if config.cuda_simulated():
        pytest.skip("numba simulates, it does not compile")
    pytest.importorskip("numba_cuda")
    with launch.use(recorder.Recorder()):
        assert tiles.cores("tf32") == "wgmma"
    assert asked.modes == []


def test_nothing_is_asked_while_a_stream_is_captured(device, asked):
    token = launch.capture.set(graphs.Capture(None, 0))
    try:
        with pytest.raises(graphs.Uncapturable, match="the first product by wgmma"):
            tiles.cores("bf16")
    finally:
        launch.capture.reset(token)
    assert asked.modes == []
    assert tiles.cores("bf16") == "wgmma"
    token = launch.capture.set(graphs.Capture(None, 0))
    try:
        assert tiles.cores("bf16") == "wgmma"
    finally:
        launch.capture.reset(token)
    assert asked.modes == ["bf16"]


def test_explain_names_the_instruction(device, asked, monkeypatch):
    assert plan.explain("conv_forward", GEOMETRY, "float32").startswith("conv_forward: bf16 by wgmma (cuda, float32")
    monkeypatch.setenv("FASTCONV_WGMMA", "0")
    assert plan.explain("conv_forward", GEOMETRY, "float32").startswith("conv_forward: bf16 by mma.sync (cuda, float32")


@pytest.fixture
def small(simulated, monkeypatch):
    """The question, small enough for the simulator, which multiplies without tensor cores."""
    for name, value in (("_ROWS", 10), ("_COLUMNS", 12), ("_DEPTH", 8), ("_TILE", Tile(8, 8, 4, 4, 4))):
        monkeypatch.setattr(warpgroup_check, name, value)
    forms = []

    def run(op, form, p, *rest):
        forms.append(form)
        product.run(op, form._replace(cores="", compute="float32"), p, *rest)

    monkeypatch.setattr(warpgroup_check, "run", run)
    return forms


@pytest.mark.parametrize("compute", MODES)
def test_the_answer_is_compared_with_the_hosts(small, compute):
    assert warpgroup_check.answers(compute)
    assert [(form.cores, form.compute) for form in small] == [("wgmma", compute)]


def test_one_wrong_number_is_another_answer(small, monkeypatch):
    right = warpgroup_check.run

    def wrong(op, form, p, groups, a, b, bias, c, table):
        right(op, form, p, groups, a, b, bias, c, table)
        numbers = c.numpy()
        numbers[9, 11] += 1
        c[...] = array.from_numpy(numbers)

    monkeypatch.setattr(warpgroup_check, "run", wrong)
    assert not warpgroup_check.answers("bf16")


def test_rows_columns_and_terms_of_the_question_differ():
    """So that one in another's place shows; they are exact in bfloat16 and TF32, and so are sums in float32."""
    a, b = warpgroup_check.question()
    for matrix in (a, b):
        np.testing.assert_array_equal(matrix, np.clip(np.round(matrix), -8, 8))
        assert len(np.unique(matrix, axis=0)) == len(matrix)
        assert len(np.unique(matrix, axis=1).T) == len(matrix.T)
    assert len(np.unique(np.concatenate([a, b]), axis=0)) == len(a) + len(b)
    np.testing.assert_array_equal(a @ b.T, a.astype(int) @ b.astype(int).T)
