"""What is installed: metadata, the command, the files that must be there and those that must not."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

import fastconv

PACKAGE = Path(fastconv.__file__).parent


@pytest.fixture(scope="module")
def installed() -> Distribution:
    try:
        found = distribution("fastconv")
    except PackageNotFoundError:
        found = None
    if found is None or found.read_text("WHEEL") is None:  # a build leaves metadata of its own in the tree
        pytest.skip("fastconv is imported from its tree, not installed")
    return found


def test_the_version_is_that_of_the_package(installed):
    version, _, variant = installed.version.partition("+")
    assert version == fastconv.__version__
    assert variant in ("", "cu13")
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", fastconv.__version__)


def test_the_command_is_the_command_line(installed):
    (script,) = [entry for entry in installed.entry_points if entry.group == "console_scripts"]
    assert script.name == "fastconv"
    from fastconv.cli import main

    assert script.load() is main


def test_the_module_runs_as_the_command():
    run = subprocess.run([sys.executable, "-m", "fastconv", "--help"], capture_output=True, text=True, check=True)
    assert all(job in run.stdout for job in ("train", "evaluate", "predict", "info"))


def test_run_time_dependencies_are_few(installed):
    needed = [line for line in installed.requires or () if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0] for line in needed} == {"numpy", "safetensors", "tqdm"}


def test_the_test_extra_is_light(installed):
    extra = [line for line in installed.requires or () if re.search(r"extra == .test.", line)]
    assert {re.match(r"[\w-]+", line)[0] for line in extra} == {
        "pytest", "hypothesis", "pytest-benchmark", "pytest-xdist", "pillow", "nibabel", "pydicom",
    }  # fmt: skip


def test_licences_and_authors_of_the_data_are_with_it(installed):
    assert installed.metadata["License-Expression"] == "MIT"
    licences = installed.metadata.get_all("License-File")
    assert licences == ["LICENSE", "fastconv/data/digits/LICENSE.txt"]
    assert "CC BY 4.0" in (PACKAGE / "data/digits/LICENSE.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["py.typed", "data/digits/digits.npz"])
def test_data_files_are_installed(name):
    assert (PACKAGE / name).is_file()


def test_a_wheel_holds_no_sources(installed):
    files = [str(file) for file in installed.files or ()]
    if not any(name.startswith("fastconv/") for name in files):
        pytest.skip("an editable installation")
    assert not [name for name in files if name.endswith((".pyx", ".pxd", ".cpp", ".hpp", ".h", ".c"))]
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name and not name.startswith("..")} == {
        "fastconv"
    }


def test_every_compiled_module_is_there():
    from fastconv.backends import cpu

    pattern = re.compile(r"^(\w+)\.(?:cpython-|cp|pyd|so|abi3)")
    built = {match[1] for path in Path(cpu.__file__).parent.iterdir() if (match := pattern.match(path.name))}
    assert {"conv_forward", "conv_backward_input", "conv_backward_weight", "dispatch", "linear", "runtime"} <= built
    assert "_lab" in built
