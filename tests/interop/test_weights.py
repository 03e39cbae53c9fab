"""save and load: safetensors out and in, damage named, names and dtypes kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import init, interop, models, nn
from fastconv.errors import CheckpointError

STATE = {
    "a.steps": np.array(7, np.int64), "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 3)),
    "c": np.array([True, False, True]), "d": np.arange(5, dtype=np.uint8), "e": np.float64([1.5, -0.0, np.inf]),
    "f": np.int32([-1]), "g": np.int16([2]), "h": np.int8([3]), "ä": np.array(0.5),
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fastconv.save(STATE, tmp_path / "the.safetensors", {"from": "a test", "a": "b"})
    return tmp_path / "the.safetensors"


def assert_same(actual: dict, expected: dict) -> None:
    assert set(actual) == set(expected)
    for name, array in expected.items():
        oracle.assert_same_bits(actual[name], array, name)


def test_arrays_and_strings_come_back(path):
    state = fastconv.load(path)
    assert_same(state, STATE)
    assert all(array.flags.writeable and array.flags.aligned for array in state.values())
    assert interop.metadata(path) == {"from": "a test", "a": "b"}


def test_other_readers_read_it(path):
    from safetensors import safe_open
    from safetensors.numpy import load_file

    assert_same(load_file(path), STATE)
    with safe_open(path, "np") as file:
        assert file.metadata()["from"] == "a test"


def test_a_model_of_either_dtype_with_its_buffers(tmp_path):
    for dtype in ("float32", "float64"):
        model = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=dtype), nn.BatchNorm2d(3, dtype=dtype))
        model(np.ones((2, 2, 4, 4), dtype))
        fastconv.save(model, tmp_path / "model")
        state = fastconv.load(tmp_path / "model")
        assert_same(state, model.state_dict())
        assert state["1.num_batches_tracked"].dtype == np.int64
        twin = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=dtype), nn.BatchNorm2d(3, dtype=dtype))
        twin.load_state_dict(state)
        assert_same(twin.state_dict(), model.state_dict())


def test_parameters_strides_and_byte_orders_are_stored_by_value(tmp_path):
    array = np.arange(24.0).reshape(2, 3, 4)
    state = {"t": array.T, "r": array[::-1, :, ::2], "big": array.astype(">f4"), "p": nn.Parameter(array)}
    fastconv.save(state, tmp_path / "file")
    loaded = fastconv.load(tmp_path / "file")
    for name, expected in {"t": array.T, "r": array[::-1, :, ::2], "big": array.astype("f4"), "p": array}.items():
        oracle.assert_same_bits(loaded[name], expected)


def test_equal_states_are_equal_files(path):
    before = path.read_bytes()
    fastconv.save(dict(STATE), path, {"from": "a test", "a": "b"})
    assert path.read_bytes() == before


def test_a_trained_networks_file_is_a_weight_file(tmp_path):
    from fastconv.training import checkpoint

    model = models.lenet5()
    checkpoint.save(tmp_path / "model.safetensors", "model", {"": model.state_dict(), "about": {"epochs": 3}})
    assert_same(fastconv.load(tmp_path / "model.safetensors"), model.state_dict())


def test_half_precision_becomes_float32(tmp_path):
    t = oracle.torch()
    from safetensors.torch import save_file

    wide = t.randn(5, 7, generator=t.manual_seed(0))
    save_file({"h": wide.half(), "b": wide.bfloat16()}, tmp_path / "file")
    state = fastconv.load(tmp_path / "file")
    oracle.assert_same_bits(state["h"], wide.half().float().numpy())
    oracle.assert_same_bits(state["b"], wide.bfloat16().float().numpy())


def test_every_truncation_is_named(path):
    data = path.read_bytes()
    for length in [*range(0, len(data), 41), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"^load: .*the\.safetensors"):
            fastconv.load(path)


def test_a_flipped_bit_of_the_arrays_is_seen(path):
    data = bytearray(path.read_bytes())
    for place in range(8 + int.from_bytes(data[:8], "little"), len(data)):
        data[place] ^= 4
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"the\.safetensors to match its SHA-256, got altered contents"):
            fastconv.load(path)
        data[place] ^= 4


def file_of(head: object, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape, ends, dtype="F32"):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": ends}}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"\x89HDF\r\n\x1a\n" * 9, bytes(100), b"\xff" * 100, file_of(b"[]"), file_of(b"{" * 9),
        file_of(entry([2], [0, 8])), file_of(entry([3], [0, 8]), bytes(8)), file_of(entry([2], [0, 1 << 62]), bytes(8)),
        file_of(entry([1 << 60, 16], [0, 8]), bytes(8)), file_of(entry([2], [0, 8]), bytes(9)),
        file_of(entry([-2], [0, 8]), bytes(8)), file_of(entry([2], [8, 0]), bytes(8)),
        file_of(entry([2], [0, 8], "F33"), bytes(8)), file_of({"__metadata__": []}), file_of(b"[" * 100_000),
    ],
)  # fmt: skip
def test_foreign_files_are_named(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"the\.safetensors to be a whole safetensors file, got a damaged or"):
        fastconv.load(path)


def test_a_header_of_640_bytes_is_no_pickle(tmp_path):
    head = json.dumps(entry([2], [0, 8])).encode().ljust(640)
    (tmp_path / "file").write_bytes(file_of(head, np.float32([1, 2]).tobytes()))
    assert fastconv.load(tmp_path / "file")["a"].tolist() == [1, 2]


def test_dtypes_that_numpy_lacks_are_named(path):
    path.write_bytes(file_of(entry([2], [0, 2], "F8_E4M3"), bytes(2)))
    with pytest.raises(CheckpointError, match=r"expected a in .*the\.safetensors of a dtype that NumPy has"):
        fastconv.load(path)


def test_what_is_no_file_and_no_state(path):
    with pytest.raises(CheckpointError, match=r"load: expected a file .*nowhere, got none there"):
        fastconv.load(path.with_name("nowhere"))
    with pytest.raises(CheckpointError, match="to be readable"):
        fastconv.load(path.parent)
    with pytest.raises(CheckpointError, match="to be a PyTorch file"):
        fastconv.load(path, key="model")
    for what in (3, [1.0], None):
        with pytest.raises(CheckpointError, match="save: expected a module or a mapping of names to arrays"):
            fastconv.save(what, path)
    for state in ({3: np.ones(1)}, {"__metadata__": np.ones(1)}):
        with pytest.raises(CheckpointError, match="save: expected names that are strings"):
            fastconv.save(state, path)
    for array in (np.ones(1, complex), np.array(["text"]), np.array([None])):
        with pytest.raises(CheckpointError, match="save: expected x of numbers that a file can hold"):
            fastconv.save({"x": array}, path)
    for strings in ({"a": 1}, {1: "a"}, {"fastconv.sha256": "0"}):
        with pytest.raises(CheckpointError, match="save: expected metadata of strings"):
            fastconv.save(STATE, path, strings)
    with pytest.raises(CheckpointError, match="nothing was overwritten"):
        fastconv.save(STATE, path.parent / "missing" / "file")
    assert_same(fastconv.load(path), STATE)


def test_all_that_does_not_fit_is_listed(path):
    fastconv.save({"weight": np.ones((1, 3)), "extra": np.ones(1)}, path)
    message = "missing bias\n  unexpected extra\n  weight of shape (1, 3) in place of (1, 2)"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        nn.Linear(2, 1).load_state_dict(fastconv.load(path))


def test_batch_norm_loads_files_from_before_its_counter():
    layer = nn.BatchNorm1d(2)
    layer(np.ones((3, 2), np.float32))
    state = {name: value for name, value in nn.BatchNorm1d(2).state_dict().items() if name != "num_batches_tracked"}
    assert layer.load_state_dict(state) == ([], [])
    assert layer.num_batches_tracked == 1


def test_densenet_loads_the_names_of_torchvisions_files():
    options = {"growth_rate": 4, "block_config": (2, 1), "num_init_features": 8, "num_classes": 3}
    with init.skip():
        model, twin = (models.densenet.DenseNet(**options) for _ in range(2))
    state = {name: np.full_like(value, i) for i, (name, value) in enumerate(model.state_dict().items())}
    old = {re.sub(r"(layer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value for name, value in state.items()}
    assert "features.denseblock1.denselayer2.norm.1.running_mean" in old
    assert "features.denseblock1.denselayer2.conv.2.weight" in old
    twin.load_state_dict(old)
    assert_same(twin.state_dict(), state)
