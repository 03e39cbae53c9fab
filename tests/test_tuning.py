"""tune: what it measures, what a file of verdicts changes and cannot change, and files that do not count."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastconv
from fastconv import functional as F
from fastconv import nn, tuning
from fastconv.errors import ArgumentError, DataError

pytest.importorskip("fastconv.backends.cpu.plan", reason="fastconv.backends.cpu is not built")
from fastconv.backends.cpu import plan, tuned
from fastconv.geometry import conv_geometry

X, W, OPTIONS = (2, 64, 16, 16), (64, 64, 3, 3), {"padding": 1}  # Winograd's, by the rules
LAYER = ("conv2d", X, W, OPTIONS)
VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")


@pytest.fixture(autouse=True)
def without_verdicts():
    yield
    tuning.unload()


def geometry(n=2, **options):
    return conv_geometry("conv2d", 2, (n, *X[1:]), W, **{**OPTIONS, **options})


def verdicts_file(path, choices, **machine):
    """A file whose verdicts are given: candidates by verb, for the layer above."""
    verdicts = {tuned.key(verb, geometry(), 4): {"choice": name} for verb, name in choices.items()}
    entry = {"machine": {**tuned.machine(), **machine}, "verdicts": verdicts}
    path.write_text(json.dumps({"format": tuned.FORMAT, "entries": [entry]}), encoding="utf-8")
    return path


def names(g, itemsize=4):
    return [plan.chosen(verb, g, itemsize).name for verb in VERBS]


def test_it_measures_where_there_is_a_choice_and_changes_nothing_before_it_is_asked(tmp_path):
    path = tmp_path / "new" / "tuned.json"
    before = names(geometry())
    lines = []
    one_candidate = ("conv2d", (1, 3, 8, 8), (5, 3, 1, 1))
    found = fastconv.tune([LAYER, LAYER, one_candidate], path=path, turn=0, say=lines.append)
    assert [verdict.verb for verdict in found] == list(VERBS)
    for verdict in found:
        assert set(verdict.seconds) == {"winograd", "tiles"}
        assert verdict.rule == "winograd"
        assert verdict.choice in verdict.seconds
        assert min(verdict.seconds.values()) > 0
    assert len(lines) == 3
    assert names(geometry()) == before
    assert tuning.load(path) == 3
    assert names(geometry()) == [verdict.choice for verdict in found]


def test_a_verdict_needs_a_margin(monkeypatch):
    ticks = iter(np.cumsum([0.0, 1.0] * 1000))
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(ticks))  # every candidate takes as long
    verdict = tuning._measure("conv_forward", geometry(), "float32", 0)
    assert (verdict.choice, verdict.rule) == ("winograd", "winograd")


def test_the_faster_one_is_chosen(monkeypatch):
    slow = {"winograd": 1.0, "tiles": 0.5}
    clock = [0.0]

    def candidate(c):
        return c._replace(run=lambda *arguments: clock.__setitem__(0, clock[0] + slow.get(c.name, 9.0)))

    monkeypatch.setattr(tuning.time, "perf_counter", lambda: clock[0])
    monkeypatch.setitem(plan.CANDIDATES, "conv_forward", tuple(map(candidate, plan.CANDIDATES["conv_forward"])))
    verdict = tuning._measure("conv_forward", geometry(), "float32", 0)
    assert (verdict.choice, verdict.seconds) == ("tiles", slow)


def test_a_model_is_asked_for_its_convolutions(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(32),
        nn.ConvTranspose2d(32, 64, 3), nn.Conv2d(64, 64, 5), nn.Flatten(), nn.Linear(64 * 14 * 14, 3),
    )  # fmt: skip
    state = {name: np.array(value) for name, value in model.state_dict().items()}
    assert model.training
    found = fastconv.tune(model, (1, 64, 32, 32), path=tmp_path / "t.json", turn=0)
    assert {(v.geometry.ic, v.geometry.oc, v.geometry.kernel) for v in found} == {
        (64, 32, (1, 3, 3)), (64, 64, (1, 5, 5)),
    }  # fmt: skip
    assert len({v.geometry for v in found}) == 3  # the transposed one has the channels of the first
    assert model.training
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_a_verdict_holds_for_any_batch_and_decides_the_bits(tmp_path):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(X).astype("f4"), rng.standard_normal(W).astype("f4")
    by_rule, exact = F.conv2d(x, w, **OPTIONS), F.conv2d(x, w, exact=True, **OPTIONS)
    assert not np.array_equal(by_rule, exact)
    tuning.load(verdicts_file(tmp_path / "t.json", {"conv_forward": "tiles"}))
    np.testing.assert_array_equal(F.conv2d(x, w, **OPTIONS), exact)
    np.testing.assert_array_equal(F.conv2d(x[1:], w, **OPTIONS), exact[1:])
    assert names(geometry(7)) == ["tiles", "winograd", "winograd"]
    tuning.unload()
    np.testing.assert_array_equal(F.conv2d(x, w, **OPTIONS), by_rule)


def test_units_follow_it_too(tmp_path):
    unit = ("conv_unit", X, W)
    assert "conv_act_pool_forward: winograd" in fastconv.explain(*unit, pool=2, **OPTIONS).splitlines()[0]
    tuning.load(verdicts_file(tmp_path / "t.json", {"conv_forward": "tiles"}))
    assert "fused" in fastconv.explain(*unit, pool=2, **OPTIONS).splitlines()[0]
    tuning.unload()
    assert "conv_act_pool_forward: winograd" in fastconv.explain(*unit, pool=2, **OPTIONS).splitlines()[0]


def test_explain_says_tuned(tmp_path):
    tuning.load(verdicts_file(tmp_path / "t.json", {"conv_forward": "tiles", "conv_backward_input": "winograd"}))
    forward, backward, weight = fastconv.explain(*LAYER[:3], **OPTIONS).splitlines()
    assert forward.startswith("conv_forward: tiles (")
    assert "MFLOP, tuned)" in forward
    assert "not winograd: measured here, it is slower" in forward
    assert "MFLOP, tuned)" in backward
    assert "tuned" not in weight


def test_what_declines_no_verdict_brings_back(tmp_path):
    choices = dict.fromkeys(VERBS, "depthwise")
    tuning.load(verdicts_file(tmp_path / "t.json", choices))
    assert names(geometry()) == ["winograd"] * 3
    exact, wide = geometry(exact=True), geometry()
    verdicts = {tuned.key(verb, g, size): "winograd" for verb in VERBS for g, size in ((exact, 4), (wide, 8))}
    plan.follow({**verdicts, tuned.key(VERBS[0], geometry(), 4): "no such candidate"})
    assert names(exact) == names(wide, 8) == ["tiles"] * 3
    assert names(geometry()) == ["winograd"] * 3


@pytest.mark.parametrize("change", [{"processor": "another"}, {"isa": "another"}, {"fastconv": "0.0.0"}])
def test_another_machines_verdicts_do_not_count(tmp_path, change):
    path = verdicts_file(tmp_path / "t.json", {"conv_forward": "tiles"}, **change)
    with pytest.warns(RuntimeWarning, match="has none for this version"):
        assert tuning.load(path) == 0
    assert names(geometry()) == ["winograd"] * 3


DAMAGED = {
    "empty": b"", "cut": b'{"format": 1, "entr', "binary": b"\x00\xff\xfe", "list": b"[]", "number": b"3",
    "no entries": b'{"format": 1}', "format": b'{"format": 99, "entries": []}',
    "entries": b'{"format": 1, "entries": [3]}',
    "machine": b'{"format": 1, "entries": [{"machine": 1, "verdicts": 1}]}',
    "choice": b'{"format": 1, "entries": [{"machine": {}, "verdicts": {"a": {"choice": 1}}}]}',
    "deep": b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_a_warning_and_is_replaced_by_the_next_measurement(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="tuned verdicts are not used"):
        assert tuning.load(path) == 0
    fastconv.tune([LAYER], path=path, turn=0)
    assert tuning.load(path) == 3


def test_a_missing_file_is_a_warning(tmp_path):
    with pytest.warns(RuntimeWarning, match="tuned verdicts are not used"):
        assert tuning.load(tmp_path / "none.json") == 0


def test_verdicts_are_added_to_those_in_the_file(tmp_path):
    path = verdicts_file(tmp_path / "t.json", {}, processor="another")
    fastconv.tune([LAYER], path=path, turn=0)
    fastconv.tune([("conv2d", (1, 64, 20, 20), W, OPTIONS)], path=path, turn=0)
    assert tuning.load(path) == 6
    entries = tuned.entries(path)
    assert [entry["machine"]["processor"] == "another" for entry in entries] == [True, False]
    old = verdicts_file(tmp_path / "old.json", {}, fastconv="0.0.0")
    fastconv.tune([LAYER], path=old, turn=0)
    assert len(tuned.entries(old)) == 1


def test_the_variable_loads_a_file(tmp_path):
    path = verdicts_file(tmp_path / "tuned.json", {"conv_forward": "tiles"})
    script = f"import fastconv; print(fastconv.explain('conv2d', {X}, {W}, padding=1))"

    def first_line(**variables):
        environment = {k: v for k, v in os.environ.items() if k != "FASTCONV_TUNED"} | variables
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        return run.stdout.splitlines()[0], run.stderr

    assert "conv_forward: winograd" in first_line(FASTCONV_CACHE=str(tmp_path))[0]
    assert "conv_forward: winograd" in first_line(FASTCONV_CACHE=str(tmp_path), FASTCONV_TUNED="0")[0]
    assert "conv_forward: tiles" in first_line(FASTCONV_TUNED=str(path))[0]
    assert "conv_forward: tiles" in first_line(FASTCONV_CACHE=str(tmp_path), FASTCONV_TUNED="1")[0]
    line, warning = first_line(FASTCONV_TUNED=str(tmp_path / "none"))
    assert "conv_forward: winograd" in line
    assert "tuned verdicts are not used" in warning


def test_what_it_refuses(tmp_path):
    with pytest.raises(ArgumentError, match="shape of the model's input"):
        fastconv.tune(nn.Conv2d(1, 1, 1))
    with pytest.raises(ArgumentError, match="convolutions"):
        fastconv.tune([])
    with pytest.raises(ArgumentError, match="convolution such as"):
        fastconv.tune([("max_pool2d", X, W)])
    with pytest.raises(ArgumentError, match="dtype"):
        fastconv.tune([LAYER], dtype="int8")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="to be writable"):
        fastconv.tune([LAYER], path=tmp_path / "file" / "t.json", turn=0)
