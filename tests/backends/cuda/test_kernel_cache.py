"""Compiled kernels on disk: names that every process finds again, and that change with any source; what comes back."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastconv import cli, config
from fastconv.backends.cuda import dropout, kernel_cache, launch, optim, product, recorder, shipped
from fastconv.backends.cuda.backend import CudaBackend

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is missing: [cuda13]"),
    pytest.mark.skipif(config.cuda_simulated(), reason="numba simulates, it does not compile"),
]
needs_ptxas = pytest.mark.skipif(recorder.ptxas() is None, reason="ptxas is missing: [cuda13]")
ARCHITECTURES = list(kernel_cache.ARCHITECTURES.values())
NAMES = """
import numpy as np
from fastconv.backends.cuda import kernel_cache, launch, recorder
from fastconv.backends.cuda.backend import CudaBackend
with launch.use(recorder.Recorder()) as machine:
    backend = CudaBackend()
    x = backend.from_numpy(np.zeros((8, 8), np.float32))
    backend.linear_forward(x, x, None)
    backend.mse_forward(x, x)
    numbers = dict(lr=0.1, beta1=0.9, beta2=0.9, eps=1.0, weight_decay=0.0, decoupled=False)
    backend.adam_step([x], [x], [x], [x], step=1, **numbers)
    backend.bce_with_logits_backward(x, x, x, None, None)
for launched in machine.kernels:
    print(kernel_cache.digest(kernel_cache.identity(launched.name, launched.key), launched.types))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCONV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_cache, "PREBUILT", tmp_path / "prebuilt")
    kernel_cache.stamp.cache_clear()
    shipped._warned.clear()
    yield tmp_path
    kernel_cache.stamp.cache_clear()
    shipped._warned.clear()


def recorded(call):
    """Return the kernel that ``call(backend)`` starts first, as the recorder knows it."""
    with launch.use(recorder.Recorder()) as machine:
        call(CudaBackend())
    return next(iter(machine.kernels.items()))


def test_every_process_gives_a_kernel_the_same_name():
    """Also where intrinsics are in it, whose names numba makes up anew in each process."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", NAMES], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    assert len(set(runs[0])) == len(runs[0]) >= 4
    assert runs[0] == runs[1]


def test_functions_in_a_key_are_told_apart_by_what_they_enclose():
    def make(inner):
        def outer():
            return inner

        return outer

    texts = {kernel_cache.text((float, make(inner))) for inner in (optim.sgd, optim.adam, 1, "1")}
    assert len(texts) == 4
    assert not [text for text in texts if " at 0x" in text]


def test_a_change_of_any_source_changes_every_name(folder, monkeypatch):
    files = []
    for path in kernel_cache.sources():
        files.append(folder / path.name)
        files[-1].write_bytes(path.read_bytes())
    assert {Path(module.__file__).name for module in (dropout, product, launch)} <= {file.name for file in files}
    monkeypatch.setattr(kernel_cache, "sources", lambda: sorted(files))
    seen = []
    for change in (None, "index.py", "scalars.py", "launch.py"):
        if change:
            with (folder / change).open("a") as file:
                file.write("# changed\n")
        kernel_cache.stamp.cache_clear()
        seen.append(kernel_cache.digest("optim.sgd (float)", ()))
    assert len(set(seen)) == 4


def test_types_and_keys_are_in_the_name(folder):
    names = [kernel_cache.digest(identity, types) for identity in "ab" for types in ((), ("x",), ("y",))]
    assert len(set(names)) == 6
    assert kernel_cache.digest("a", ["x"]) == names[1]


@needs_ptxas
@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (12, 0)])
def test_a_kernel_comes_back_to_the_dispatcher_without_a_device(folder, monkeypatch, capability):
    """From the folder of the wheel where its architecture is among those, else from the user's."""
    launched, kernel = recorded(lambda backend: backend.dropout_mask((5,), 0.5, (1, 2)))
    entry, codes = recorder.machine_code(launched, kernel, (8, 0), ARCHITECTURES)
    assert list(codes) == ARCHITECTURES
    assert all(code.startswith(b"\x7fELF") and entry.encode() in code for code in codes.values())
    identity = kernel_cache.identity(launched.name, launched.key)
    name = kernel_cache.digest(identity, launched.types)
    for architecture, code in codes.items():
        kernel_cache.write(kernel_cache.PREBUILT / architecture / name, kernel_cache.packed(entry, code))
    *first, own = kernel_cache.places(name, capability)
    kernel_cache.write(own, kernel_cache.packed(entry, b"own"))
    machine = recorder.Recorder()
    machine.capability = capability
    compiled = launch.Machine.compile(machine, kernel, identity)
    monkeypatch.setattr(compiled, "_can_compile", False)
    monkeypatch.setattr(kernel_cache.KernelCache, "save_overload", None)
    found = compiled.compile(launched.types)
    wanted = {8: codes["sm_80"], 9: codes["sm_90a"], 10: codes["sm_100"]}.get(capability[0], b"own")
    assert len(first) == (capability[0] in kernel_cache.ARCHITECTURES)
    assert found.library.get_cubin(kernel_cache.numba_capability(capability)).code == wanted
    assert (found.entry_name, found.argument_types) == (entry, launched.types)


def a_kernel(code: bytes = b"code") -> Any:
    """A kernel as numba leaves it: machine code in an object of cuda.core's."""
    from cuda.core import ObjectCode

    def get_cubin(capability: tuple) -> ObjectCode:
        assert capability == (9, 0, "a")
        return ObjectCode.from_cubin(code)

    return SimpleNamespace(entry_name="entry", library=SimpleNamespace(get_cubin=get_cubin))


@needs_ptxas
def test_what_numba_links_is_kept_and_what_comes_back_is_what_it_loads(folder):
    """Linked by numba's own linker, which needs no device; it is loaded by the driver alone."""
    from numba.cuda.cudadrv import driver

    launched, kernel = recorded(lambda backend: backend.dropout_mask((5,), 0.5, (1, 2)))
    linker = driver._Linker(cc=(9, 0, "a"))
    linker.add_ptx(recorder._ptx(launched, kernel, (9, 0)).encode())
    linked = linker.complete()
    made = SimpleNamespace(entry_name="entry", library=SimpleNamespace(get_cubin=lambda capability: linked))
    cache = kernel_cache.KernelCache("a", (9, 0), pytest.fail)
    cache.save_overload(launched.types, made)
    found = cache.load_overload(launched.types, None).library.get_cubin((9, 0, "a"))
    assert found.code == linked.code
    assert (type(found), found.code_type) == (type(linked), linked.code_type)


def test_what_was_compiled_is_kept_and_found(folder):
    missed = []
    first, second = (kernel_cache.KernelCache("a", (9, 0), missed.append) for _ in range(2))
    assert first.load_overload((), None) is None
    assert missed == [(9, 0)]
    first.save_overload((), a_kernel(b"code\nof a machine"))
    found = second.load_overload((), None)
    assert (found.entry_name, found.library.get_cubin((9, 0, "a")).code) == ("entry", b"code\nof a machine")
    assert Path(first.cache_path).is_dir()
    (file,) = (path for path in Path(first.cache_path).rglob("*") if path.is_file())
    file.write_bytes(b"{not whole")
    assert len(missed) == 1
    assert second.load_overload((), None) is None
    assert re.fullmatch("[0-9a-f]{32}", file.name)


def test_a_cache_that_cannot_be_written_to_is_no_error(folder, monkeypatch):
    (folder / "file").touch()
    monkeypatch.setenv("FASTCONV_CACHE", str(folder / "file"))
    kernel_cache.KernelCache("a", (9, 0), pytest.fail).save_overload((), a_kernel())


def test_a_numba_cuda_that_makes_kernels_another_way_compiles_each_time(folder, monkeypatch):
    """The cache leans on private parts of it; without them it is as if there were none."""
    from numba.cuda.dispatcher import _Kernel

    missed = []
    cache = kernel_cache.KernelCache("a", (9, 0), missed.append)
    cache.save_overload((), a_kernel())
    assert cache.load_overload((), None) is not None
    monkeypatch.setattr(_Kernel, "_rebuild", lambda: None)  # other arguments than those given
    assert cache.load_overload((), None) is None
    assert missed == [(9, 0)]
    cache.save_overload((), object())


# ------------------------------------------------------------------------------------- kernels that came along


@pytest.fixture
def another(folder, monkeypatch):
    """Kernels of this version came along, and another patch release of numba-cuda is installed."""
    shipped.sign(kernel_cache.PREBUILT)
    versions = kernel_cache.compiler()
    monkeypatch.setattr(kernel_cache, "compiler", lambda: versions | {"numba-cuda": "0.30.99"})
    kernel_cache.stamp.cache_clear()


def test_nothing_is_said_where_none_came_or_they_are_found(folder):
    assert shipped.unused((9, 0)) is None
    shipped.sign(kernel_cache.PREBUILT)
    assert [shipped.unused(capability) for capability in (None, (8, 6), (9, 0), (10, 3))] == [None] * 4


def test_another_compiler_is_told_with_both_versions(another):
    versions = json.loads((kernel_cache.PREBUILT / "made.json").read_text())["compiler"]
    assert shipped.unused() == (
        "prebuilt kernels: expected numba {numba}, numba-cuda {numba-cuda}, CUDA {CUDA}, ".format(**versions)
        + f"got numba {versions['numba']}, numba-cuda 0.30.99, CUDA {versions['CUDA']}; "
        "each kernel is compiled when it is first needed, about a second each, and kept"
    )


def test_other_sources_other_devices_and_a_lost_list_are_told(folder, monkeypatch):
    shipped.sign(kernel_cache.PREBUILT)
    with pytest.warns(RuntimeWarning, match=r"a GPU of compute capability 8.x or 9.x or 10.x, got 12.0; each kernel"):
        shipped.warn_once((12, 0))
    monkeypatch.setattr(kernel_cache, "sources", list)
    kernel_cache.stamp.cache_clear()
    assert "expected the sources that they were compiled from, got changed ones; each kernel" in shipped.unused()
    for content in ("{", '{"stamp": ""}', "[]"):
        (kernel_cache.PREBUILT / "made.json").write_text(content)
        assert "expected the file made.json beside them, got none that can be read" in shipped.unused()


def test_the_first_kernel_that_is_compiled_all_the_same_says_so_once(another):
    machine = recorder.Recorder()
    first, second = (launch.Machine.compile(machine, lambda: None, name)._cache for name in "ab")
    with pytest.warns(RuntimeWarning, match=r"prebuilt kernels: expected .*, got .*0\.30\.99") as seen:
        assert first.load_overload((), None) is second.load_overload((), None) is None
    assert len(seen) == 1
    first.save_overload((), a_kernel())
    shipped._warned.clear()
    assert first.load_overload((), None) is not None  # in the user's cache: nothing is compiled, nothing is said


def test_fastconv_info_says_it(another, capsys):
    with launch.use(recorder.Recorder()):
        assert cli.main(["info"]) == 0
    assert re.search(r"cuda: available; prebuilt kernels: expected .*, got .*0\.30\.99", capsys.readouterr().out)
    with launch.use(recorder.Recorder()):
        shutil.rmtree(kernel_cache.PREBUILT)
        assert cli.main(["info"]) == 0
    assert re.search("cuda: available, reference", capsys.readouterr().out)
