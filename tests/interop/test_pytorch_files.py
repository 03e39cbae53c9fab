"""PyTorch's files, read without running them: PyTorch writes, we read; hostile and damaged files are refused."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import init, models, nn
from fastconv.errors import CheckpointError

BOTH = pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])


def written(t, what, modern: bool = True, **options) -> bytes:
    stream = io.BytesIO()
    t.save(what, stream, _use_new_zipfile_serialization=modern, **options)
    return stream.getvalue()


def loaded(folder: Path, data: bytes, key: str | None = None) -> dict:
    (folder / "the.pth").write_bytes(data)
    return fastconv.load(folder / "the.pth", key)


def refused(folder: Path, data: bytes, words: str, key: str | None = None) -> None:
    with pytest.raises(CheckpointError, match=rf"^load: .*the\.pth[\s\S]*{words}"):
        loaded(folder, data, key)


def tensors(t) -> dict:
    wide = t.randn(3, 4, 5, generator=t.manual_seed(0))
    integers = {d: t.arange(6).to(getattr(t, d)) for d in ("int64", "int32", "int16", "int8", "uint8", "bool")}
    return OrderedDict(
        wide=wide, double=wide.double(), half=wide.half(), brain=wide.bfloat16(), turned=wide.permute(2, 0, 1),
        part=wide[1:, ::2, 3], scalar=t.tensor(7), empty=t.zeros(0, 3), parameter=t.nn.Parameter(wide[0]), **integers,
    )  # fmt: skip


@pytest.mark.parametrize("modern, protocol", [(False, 2), (True, 2), (True, 3), (True, 4), (True, 5)])
def test_every_dtype_stride_and_protocol(tmp_path, modern, protocol):
    t = oracle.torch()
    state = tensors(t)
    ours = loaded(tmp_path, written(t, state, modern, pickle_protocol=protocol))
    assert list(ours) == list(state)
    for name, theirs in state.items():
        theirs = theirs.detach()
        expected = (theirs.float() if theirs.dtype in (t.half, t.bfloat16) else theirs).numpy()
        oracle.assert_same_bits(ours[name], expected, name)
        assert ours[name].flags.writeable or not ours[name].size


@BOTH
def test_shared_storages_stay_shared(tmp_path, modern):
    t = oracle.torch()
    a = t.arange(6.0)
    ours = loaded(tmp_path, written(t, {"a": a, "b": a[2:4], "c": a.reshape(2, 3).T}, modern))
    ours["a"][3] = 50
    assert ours["b"].tolist() == [2, 50]
    assert ours["c"].tolist() == [[0, 50], [1, 4], [2, 5]]


@BOTH
def test_an_entry_of_a_checkpoint(tmp_path, modern):
    t = oracle.torch()
    net = t.nn.Sequential(t.nn.Linear(3, 2), t.nn.BatchNorm1d(2))
    optimiser = t.optim.Adam(net.parameters())
    net(t.ones(4, 3)).sum().backward()
    optimiser.step()
    tree = {"epoch": 3, "best": 0.5, "name": "x", "net": {"model": net.state_dict()}, "opt": optimiser.state_dict()}
    data = written(t, tree, modern)
    twin = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    twin.load_state_dict(loaded(tmp_path, data, "net.model"))
    for name, value in net.state_dict().items():
        oracle.assert_same_bits(np.asarray(twin.state_dict()[name]), value.numpy())
    refused(tmp_path, data, r"a dict of names to tensors, got a dict of 'epoch' \(int\), .*'net' \(dict\)")
    refused(tmp_path, data, "an entry 'net.other'", "net.other")
    refused(tmp_path, data, r"tensors at 'epoch', got int", "epoch")
    refused(tmp_path, written(t, [t.ones(1)], modern), "a dict of names to tensors, got list")
    refused(tmp_path, written(t, t.ones(1), modern), "a dict of names to tensors, got tensor")
    refused(tmp_path, written(t, {"a": t.ones(1), "b": 1}, modern), r"got a dict of 'a' \(tensor\), 'b' \(int\)")


@BOTH
def test_whole_models_and_other_objects_are_refused_by_name(tmp_path, modern):
    t = oracle.torch()
    refused(tmp_path, written(t, t.nn.Linear(1, 1), modern), "torch.nn.modules.linear.Linear, which was not run")
    refused(tmp_path, written(t, {"a": t.ones(2, dtype=t.complex64)}, modern), "torch.ComplexFloatStorage")
    refused(tmp_path, written(t, {"a": Path("x")}, modern), r"pathlib\.\w*Path")
    refused(tmp_path, written(t, {"a": t.ones(3).to_sparse()}, modern), r"torch\._utils\._rebuild_sparse_tensor")
    refused(tmp_path, written(t, {"a": np.float64(3)}, modern), "numpy")


def with_torchvisions_names(name: str, t, **options):
    zoo = oracle.torchvision().models
    if name == "googlenet":
        options["init_weights"] = False
    with t.device("meta"):
        return zoo.get_model(name, num_classes=7, **options)


def random_state(model) -> dict:
    """Values under which each layer of a deep network sees numbers of about unit size."""
    numbers = np.random.default_rng(3).uniform(-1, 1, 1_000_003).astype(np.float32)
    state = {}
    for key, value in model.state_dict().items():
        some = np.resize(numbers, value.shape)  # new ones for all of VGG's would take longer than the test
        if value.ndim > 1:
            state[key] = some * np.float32(np.sqrt(6 / value[0].size))
        elif value.ndim == 1:
            state[key] = (1 if key.endswith(("weight", "var")) else 0) + np.float32(0.3) * some
        else:
            state[key] = np.array(5, value.dtype)
    return state


SIZES = {"alexnet": 63, "vgg11_bn": 32, "resnet18": 33, "densenet121": 32, "googlenet": 32}


@pytest.mark.parametrize("name, size", SIZES.items())
def test_torchvisions_weights_travel_through_both_files(name, size, tmp_path):
    t = oracle.torch()
    with init.skip():
        options = {"batch_norm": True} if name.endswith("_bn") else {}
        first, ours = (models.create(name.removesuffix("_bn"), num_classes=7, **options) for _ in range(2))
    theirs = with_torchvisions_names(name, t)
    theirs.load_state_dict({k: t.from_numpy(v) for k, v in random_state(first).items()}, assign=True)
    t.save(theirs.state_dict(), tmp_path / "theirs.pth")
    first.load_state_dict(fastconv.load(tmp_path / "theirs.pth"))
    (tmp_path / "theirs.pth").unlink()
    fastconv.save(first, tmp_path / "ours.safetensors")
    ours.load_state_dict(fastconv.load(tmp_path / "ours.safetensors"))
    x = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    with t.no_grad(), fastconv.no_grad():
        oracle.assert_close(ours.eval()(x).numpy(), theirs.eval()(t.from_numpy(x)).numpy(), 1e-4)


# ------------------------------------------------------------------------------------------------ hostile files


class Evil:
    """What runs a command where a pickle is run."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.system, (f"touch {self.place}",)


def zipped(entries: dict[str, bytes], **options) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return stream.getvalue()


def pickled(text: bytes) -> bytes:
    return b"\x80\x02" + text + b"."


@pytest.mark.parametrize("protocol", [2, 4])
def test_commands_are_refused_and_not_run(tmp_path, protocol):
    t = oracle.torch()
    evil = pickle.dumps({"a": Evil(tmp_path / "ran")}, protocol)
    module = os.system.__module__
    for data in (evil, zipped({"x/data.pkl": evil, "x/version": b"3"}), written(t, {"a": Evil(tmp_path / "ran")})):
        refused(tmp_path, data, rf"{module}\.system, which was not run")
    legacy = written(t, {"a": t.ones(2)}, False)
    end = legacy.index(b"little_endian")  # the facts on the machine, replaced
    start = legacy.rindex(b"\x80\x02", 0, end)
    refused(tmp_path, legacy[:start] + evil + legacy[start:], rf"{module}\.system")
    assert not (tmp_path / "ran").exists()


NAMED = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    "program, words",
    [
        (b"cbuiltins\neval\nX\x01\0\0\x001\x85R", "builtins.eval"),
        (b"c__builtin__\neval\n", "__builtin__.eval"),
        (b"(X\x01\0\0\x001ios\nsystem\n", "the instruction INST"),
        (b"(cos\nsystem\nX\x01\0\0\x001o", "os.system"),
        (b"\x82\x01", "the instruction EXT1"),
        (b"\x8c\x02os\x8c\x06system\x93", "os.system"),
        (NAMED + b"\x8c\x08__init__\x93", "damaged"),
        (b"\x8c\x19collections.OrderedDict.x\x8c\x01y\x93", "collections.OrderedDict.x.y"),
        (b"ctorch\nFloatStorage\n)R", "a call of torch.FloatStorage"),
        (b"ctorch\nload\n)R", "torch.load"),
        (NAMED + b"}b", "damaged"),
        (b"K\x01)R", "damaged"), (b")R", "damaged"), (b"t", "damaged"), (b"h\x05", "damaged"), (b"", "damaged"),
        (b"}(K\x01u", "damaged"), (b"}))s", "damaged"), (b"]}b", "damaged"), (b"Q", "damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "damaged"), (b"\x8b\xff\xff\xff\x7f", "damaged"),
        (b"r\xff\xff\xff\x7f", "damaged"), (b"X\xff\xff\xff\xffab", "damaged"), (b"X\x02\0\0\0\xff\xfe", "damaged"),
        (b"(" * 50_000, "a dict of names"), (b")" + b"\x85" * 50_000, "a dict of names"),
        (b"}" + b")" + b"\x85" * 50_000 + b"Ns", "damaged"), (b"N1", "damaged"), (b"\xff", "damaged"),
    ],
)  # fmt: skip
def test_programs_that_are_no_data(tmp_path, program, words):
    refused(tmp_path, zipped({"x/data.pkl": pickled(program)}), words)


def test_attributes_of_a_dict_are_dropped(tmp_path):
    assert loaded(tmp_path, zipped({"x/data.pkl": pickled(NAMED + b")R}X\x01\0\0\0aNsb")})) == {}


def tensor_of(size, stride=(1,), offset=0, count=4, kind="FloatStorage", key="0") -> bytes:
    """A pickle of one tensor, as PyTorch writes it."""

    def number(n: int) -> bytes:
        return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)

    def text(s: str) -> bytes:
        return b"X" + struct.pack("<I", len(s)) + s.encode()

    def numbers(values) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"
    arguments = b"(" + storage + number(offset) + numbers(size) + numbers(stride) + b"\x89" + NAMED + b")Rt"
    return pickled(b"}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs")


def archive(program: bytes, data: bytes = bytes(16), **more) -> dict[str, bytes]:
    return {"x/data.pkl": program, "x/data/0": data, **more}


@pytest.mark.parametrize(
    "program",
    [
        tensor_of((5,)), tensor_of((4,), offset=1), tensor_of((2, 2), (4, 1)), tensor_of((2,), (1 << 62,)),
        tensor_of((1 << 40,), (0,)), tensor_of((1 << 62, 1 << 62), (0, 0)), tensor_of((5,), (0,)), tensor_of((-1,)),
        tensor_of((2,), (-1,), 3), tensor_of((2,), (1, 1)), tensor_of((4,), offset=-1), tensor_of((4,), count=5),
        tensor_of((4,), count=1 << 60), tensor_of((4,), kind="DoubleStorage"), tensor_of((4,), key="1"),
        tensor_of((4,), key="../x/data/0"), tensor_of((4,), key="/etc/passwd"), tensor_of((1 << 63, 0), (0, 0)),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_their_storage(tmp_path, program):
    assert loaded(tmp_path, zipped(archive(tensor_of((4,)))))["a"].shape == (4,)  # so the others fail by their sizes
    refused(tmp_path, zipped(archive(program)), "damaged")


def test_archives_that_are_none(tmp_path):
    good = tensor_of((4,))
    refused(tmp_path, zipped({"x/data/0": b""}), "no data.pkl")
    refused(tmp_path, zipped({**archive(good), "y/data.pkl": good}), "no data.pkl")
    refused(tmp_path, zipped({**archive(good), "../data.pkl": good}), "no data.pkl")
    refused(tmp_path, zipped(archive(good), compression=zipfile.ZIP_DEFLATED), "compressed")
    refused(tmp_path, zipped(archive(good, x=b"", **{"x/byteorder": b"big"})), "big-endian")
    whole = zipped(archive(good))
    for length in [4, 30, len(whole) // 2, len(whole) - 1]:
        refused(tmp_path, whole[:length], "damaged")
    flipped = bytearray(whole)
    flipped[whole.index(bytes(16)) + 3] ^= 1
    refused(tmp_path, bytes(flipped), "CRC-32")
    length = struct.pack("<II", 16, 16)
    refused(tmp_path, whole.replace(length, struct.pack("<II", 1 << 31, 1 << 31)), "more bytes than the file has")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as twice:
        twice.writestr("x/data.pkl", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            twice.writestr("x/data.pkl", good)
    refused(tmp_path, stream.getvalue(), "stand twice")


@BOTH
def test_any_flipped_byte_of_a_pickle_is_data_or_an_error(tmp_path, modern):
    t = oracle.torch()
    whole = written(t, {"a": t.arange(4.0), "b": t.nn.Parameter(t.ones(2, 3))}, modern)
    program = bytearray(zipfile.ZipFile(io.BytesIO(whole)).read("archive/data.pkl") if modern else whole)
    results = set()
    for place in range(len(program)):
        for bit in (1, 0x40):
            program[place] ^= bit
            data = zipped({"x/data.pkl": bytes(program), "x/data/0": bytes(16), "x/data/1": bytes(24)})
            try:
                results.add(type(loaded(tmp_path, data if modern else bytes(program))))
            except CheckpointError as error:
                results.add(type(error))
            program[place] ^= bit
    assert results == {dict, CheckpointError}


def test_legacy_files_that_are_none(tmp_path):
    t = oracle.torch()
    whole = written(t, {"a": t.arange(4.0)}, False)
    assert loaded(tmp_path, whole)["a"].tolist() == [0, 1, 2, 3]
    for length in [12, 20, 40, len(whole) // 2, len(whole) - 9, len(whole) - 1]:
        refused(tmp_path, whole[:length], "damaged")
    refused(tmp_path, whole[:-24] + struct.pack("<q", 1 << 61) + whole[-16:], "damaged")
    refused(tmp_path, whole[:-24] + struct.pack("<q", -1) + whole[-16:], "damaged")
    refused(tmp_path, re.sub(rb"(little_endianq.)\x88", lambda found: found[1] + b"\x89", whole), "big-endian")
    refused(tmp_path, pickle.dumps({"a": 1}, 2), "a pickle of something else")
