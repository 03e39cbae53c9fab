"""The import rules, the backends' signatures and the size of files, asserted: what docs/architecture.md promises.

Python modules are read where the package is installed; Cython and C++ sources only where the source tree is at hand.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import fastconv
from fastconv import backends
from fastconv.backends.base import Backend
from fastconv.backends.base.norm_conv import NormConv

PACKAGE = Path(fastconv.__file__).parent
TREE = Path(__file__).parents[1]
needs_tree = pytest.mark.skipif(not (TREE / "csrc" / "simd").is_dir(), reason="the source tree is not here")

# Who may import whom. A unit is a module or folder of the package; each device is one of its own.
SEAMS = {"errors", "config", "arguments", "geometry", "resampling"}
RECORDS = {"errors", "config", "tensor"}
LAYERS = {"precision", "functional", "nn"}
STEPS = {"random", "optim", "backends"}
ALLOWED = {
    "errors": set(),
    "config": {"errors"},
    "precision": {"errors", "config"},
    "arguments": {"errors"},
    "geometry": {"errors", "arguments"},
    "random": {"errors", "arguments"},
    "backends/base": {"errors", "geometry", "resampling"},
    "backends": {"errors", "config", "backends/base"},
    "backends/reference": {*SEAMS, "backends/base"},
    "backends/cpu": {*SEAMS, "backends/base", "backends/reference", "fastconv"},  # the reference is its last candidate
    "backends/cuda": {*SEAMS, "backends/base"},
    "deferred": {"backends/base"},
    "_tape": {"errors", "backends", "deferred"},
    "tape": set(),
    "tensor": {"errors", "_tape", "tape", "backends", "backends/base"},
    "functional": {*SEAMS, "precision", "random", "tensor", "deferred", "backends", "backends/base"},
    "init": {"errors", "arguments", "random", "tensor", "backends"},  # backends: to put values on a parameter's device
    "nn": {"errors", "config", "arguments", "random", "tensor", "init", "functional", "backends"},
    "optim": {"errors", "arguments", "tensor", "backends", "backends/base"},
    "detection": {"errors", "arguments"},
    "resampling": {"errors", "arguments"},
    "graph": {*SEAMS, "random", "tensor", "nn", "backends", "backends/base"},
    "models": {"errors", "arguments", "tensor", "nn", "init", "detection", "backends"},
    "inspection": {"errors", "arguments", "geometry", "random", "tensor", "nn", "backends"},
    "plots": {"errors", "arguments", "tensor", "nn", "inspection", "data"},
    "onnx": {*SEAMS, "tensor", "functional", "nn", "data", "graph", "backends", "fastconv"},
    "data": {"errors", "config", "arguments", "resampling", "backends"},
    "training": {*RECORDS, *LAYERS, *STEPS, "models", "data", "interop", "onnx", "plots", "fastconv"},
    "interop": {"errors", "tensor", "data"},
    "estimator": {"errors"},
    "rbm": {"errors", "arguments", "estimator", "nn", "backends"},
    "boost": {"errors", "arguments", "estimator", "backends"},
    "sklearn": {"errors", "arguments", "random", "init", "functional", "nn", "models", "training"},
    "tuning": {*SEAMS, "tensor", "functional", "nn", "data", "backends", "backends/cpu"},
    "tiling": {*SEAMS, "tensor", "functional", "nn", "data", "graph", "backends", "backends/cpu"},
    "info": {"errors", "config", "backends", "backends/cpu", "backends/cuda", "data", "fastconv"},
    "cli": {"errors", "info", "training", "fastconv"},
    "__main__": {"cli"},
}

# Third-party packages besides NumPy: the only places that may import them, and never while a module is being loaded.
LAZY = {
    "numba": ("backends/cuda",),
    "cuda": ("backends/cuda",),
    "llvmlite": ("backends/cuda",),
    "matplotlib": ("plots.py",),
    "PIL": ("data/images.py",),
    "nibabel": ("data/nifti.py", "data/nifti_write.py"),
    "pydicom": ("data/dicom_slices.py",),
    "sklearn": ("data/digits/make.py", "estimator.py", "sklearn.py"),
    "onnx": ("onnx",),
    "google": ("onnx",),
    "safetensors": ("interop",),
    "tqdm": ("data/download.py", "training/progress.py", "tiling/predict.py"),
}


def unit(module: str) -> str:
    """'fastconv.nn.conv' -> 'nn'; 'fastconv.backends.cpu.tiles' -> 'backends/cpu'; 'fastconv' -> 'fastconv'."""
    parts = module.split(".")[1:]
    return "/".join(parts[:2] if parts[:1] == ["backends"] else parts[:1]) or "fastconv"


def dotted(path: Path) -> str:
    """The module's name: nn/conv.py -> 'fastconv.nn.conv'."""
    return ".".join(["fastconv", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def is_module(name: str) -> bool:
    """Whether a dotted name of ours is a module; else it is a name inside one."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.is_dir() or any(path.parent.glob(f"{path.name}.*"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a Python file imports, and whether while it is loaded. A literal import_module(...) counts."""
    name = dotted(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(package, "." * node.level + (node.module or ""))
            inner = [f"{base}.{alias.name}" for alias in node.names]
            found = [one if one.startswith("fastconv.") and is_module(one) else base for one in inner]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            found = [absolute("fastconv", a.value) for a in node.args[:1] if isinstance(a, ast.Constant)]
        for module in found:
            yield module, id(node) not in late


def absolute(package: str, module: str) -> str:
    """Resolve '..nn' within 'fastconv.models' to 'fastconv.nn'."""
    dots = len(module) - len(module.lstrip("."))
    if not dots:
        return module
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - dots + 1], *filter(None, [module[dots:]])])


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


def code(path: Path) -> str:
    """A C++ file without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


# ---------------------------------------------------------------------------------------------- Python


def test_every_import_keeps_to_the_rules():
    wrong = set()
    for path in python_files():
        here = unit(dotted(path))
        if here == "fastconv":  # the public names: from anywhere
            continue
        for module, _ in imports(path):
            if module.split(".")[0] == "fastconv" and unit(module) not in {here, *ALLOWED.get(here, ())}:
                wrong.add(f"{path.relative_to(PACKAGE)}: {here} -> {unit(module)}")
    assert not wrong, "\n".join(sorted(wrong))


def test_every_unit_has_a_rule():
    units = {unit(dotted(path)) for path in python_files()} - {"fastconv"}
    assert units | {"_tape"} == set(ALLOWED)  # compiled


def test_the_rules_have_no_cycle():
    order, left = [], dict(ALLOWED)
    while left:
        free = [name for name, below in left.items() if below <= {*order, "fastconv"}]
        assert free, f"a cycle among {sorted(left)}"
        order += free
        for name in free:
            del left[name]


def test_optional_packages_are_imported_late_and_only_where_they_belong():
    known = {*sys.stdlib_module_names, "numpy", "fastconv"}
    wrong = []
    for path in python_files():
        where = path.relative_to(PACKAGE).as_posix()
        for module, early in imports(path):
            top = module.split(".")[0]
            if top not in known and (early or not where.startswith(LAZY.get(top, ()))):
                wrong.append(f"{where}: {module}{' while it is loaded' if early else ''}")
    assert not wrong, "\n".join(wrong)


def test_importing_the_package_loads_none_of_them():
    script = "import sys, fastconv; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {*LAZY, "torch", "onnx", "scipy", "mpi4py"} & set(run.stdout.split())


def test_only_config_reads_the_environment():
    files = [*python_files(), *PACKAGE.rglob("*.pyx")]
    readers = {p.relative_to(PACKAGE).as_posix() for p in files if re.search(r"\benviron\b|\bgetenv\b", p.read_text())}
    assert readers == {"config.py"}


@pytest.mark.parametrize("name", sorted(backends._CLASSES))
def test_backends_implement_the_contract_with_its_signatures(name):
    cls = getattr(import_module(f"fastconv.backends.{name}.backend"), backends._CLASSES[name])
    contracts = {method: contract for part in Backend.__mro__[:-1] for method, contract in vars(part).items()}
    assert len(contracts) > 75
    for method, contract in contracts.items():
        if method.startswith("_") or not callable(contract):
            continue
        own = getattr(cls, method)
        assert own is not contract or method in vars(NormConv), f"{name}.{method} is not implemented"
        expected = [p for p in inspect.signature(contract).parameters if p != "self"]
        assert [p for p in inspect.signature(own).parameters if p != "self"] == expected, f"{name}.{method}"


# ------------------------------------------------------------------------------------------- Cython, C++

# What a folder of csrc may include: folders, or single files.
INCLUDES = {
    "include": {"include", "dispatch/kernels.def"},
    "simd": {"simd"},
    "kernels": {"kernels", "simd", "include", "dispatch/blocks.hpp", "dispatch/table.hpp"},
    "targets": {"kernels"},
    "dispatch": {"dispatch", "simd", "include"},
    "runtime": {"runtime", "include"},
    "bindings": {"bindings", "include", "dispatch/kernels.def"},
}
INTRINSIC = re.compile(r"\b_mm\d*_\w+|\b__m\d+\w*|\bv\w+q?_[fsu](?:32|64)\b|immintrin\.h|xmmintrin\.h|arm_neon\.h")
ALLOCATION = re.compile(r"\b(?:malloc|calloc|realloc|aligned_alloc|new|vector|make_unique|make_shared)\b")


def csrc(*suffixes: str) -> list[Path]:
    return sorted(path for path in (TREE / "csrc").rglob("*") if path.suffix in suffixes)


def resolve(path: Path, header: str) -> str:
    """Where a quoted include leads, relative to csrc."""
    for folder in (path.parent, TREE / "csrc", TREE / "csrc" / "include"):
        if (folder / header).is_file():
            return (folder / header).relative_to(TREE / "csrc").as_posix()
    raise AssertionError(f"{path}: {header} not found")


@needs_tree
def test_includes_keep_to_the_rules():
    wrong = []
    for path in csrc(".cpp", ".hpp", ".h", ".def"):
        folder = path.relative_to(TREE / "csrc").parts[0]
        for header in re.findall(r'#include\s+"([^"]+)"', code(path)):
            target = resolve(path, header)
            if not {target, target.split("/")[0]} & INCLUDES[folder]:
                wrong.append(f"{path.relative_to(TREE)}: {target}")
    assert not wrong, "\n".join(wrong)


@needs_tree
def test_intrinsics_stand_in_simd_and_the_floating_point_state_alone():
    found = {p.relative_to(TREE / "csrc").as_posix() for p in csrc(".cpp", ".hpp", ".h") if INTRINSIC.search(code(p))}
    assert {name for name in found if not name.startswith("simd/")} <= {"runtime/float_state.hpp"}
    assert {"simd/vec_avx2.hpp", "simd/vec_avx512.hpp", "simd/vec_neon.hpp"} <= found


@needs_tree
def test_kernels_allocate_nothing():
    assert not [path.name for path in csrc(".hpp") if path.parent.name == "kernels" and ALLOCATION.search(code(path))]


@needs_tree
def test_python_stands_in_the_bindings_alone():
    users = {path.parent.name for path in csrc(".cpp", ".hpp", ".h") if re.search(r"pybind11|Python\.h", code(path))}
    assert users == {"bindings"}


@needs_tree
def test_every_kernel_row_is_declared_to_cython():
    rows = re.findall(r"^FC_KERNEL\((\w+), (\w+)\)", (TREE / "csrc/dispatch/kernels.def").read_text(), re.MULTILINE)
    folder = TREE / "fastconv/backends/cpu"
    table = (folder / "_csrc.pxd").read_text()
    structs = "".join(path.read_text() for path in folder.glob("*_arguments.pxd"))
    assert rows
    for name, arguments in rows:
        assert f"void (*{name})(const {arguments}*) noexcept nogil" in table
        assert f"ctypedef struct {arguments}:" in structs


def cython_files() -> list[Path]:
    return [path for path in sorted((TREE / "fastconv").rglob("*")) if path.suffix in (".pyx", ".pxd")]


@needs_tree
def test_cython_imports_keep_to_the_rules():
    for path in cython_files():
        here = unit(".".join(["fastconv", *path.relative_to(TREE / "fastconv").with_suffix("").parts]))
        text = path.read_text()
        statements = re.findall(r"^\s*from (fastconv[\w.]*) c?import \(?([\w, ]+)", text, re.MULTILINE)
        statements += re.findall(r"^\s*c?import (fastconv[\w.]*)()", text, re.MULTILINE)
        for module, names in statements:
            found = [f"fastconv.{name}" for name in re.findall(r"\w+", names)] if module == "fastconv" else [module]
            for target in found:
                assert unit(target) in {here, *ALLOWED[here]}, f"{path.name}: {target}"


@needs_tree
def test_only_the_pxd_of_its_extension_declares_c_functions_of_csrc():
    headers = {}
    for path in cython_files():
        for header in re.findall(r'cdef extern from "(fastconv/[\w.]+)"', path.read_text()):
            headers.setdefault(header, []).append(path.name)
    kernels = ["_arguments.pxd", "_csrc.pxd", "_norm_arguments.pxd", "_winograd_arguments.pxd"]
    assert headers == {"fastconv/kernels.h": kernels, "fastconv/runtime.h": ["runtime.pyx"]}


# ------------------------------------------------------------------------------------------------ sizes


@needs_tree
@pytest.mark.parametrize("folder", ["fastconv", "csrc", "tests", "bench"])
def test_no_file_is_longer_than_400_lines(folder):
    kinds = {".py", ".pyx", ".pxd", ".cpp", ".hpp", ".h"}
    files = [path for path in (TREE / folder).rglob("*") if path.suffix in kinds and path.is_file()]
    lengths = {path.relative_to(TREE).as_posix(): len(path.read_text().splitlines()) for path in files}
    assert lengths
    assert not {name: length for name, length in lengths.items() if length > 400}


@needs_tree
def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by their names alone."""
    names = Counter(path.name for path in (TREE / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


@needs_tree
def test_no_folder_of_tests_passes_for_an_optional_package():
    """tests/ is on the path: a folder there with the name of a package that is missing would be imported as that."""
    assert not {path.name for path in (TREE / "tests").iterdir()} & {*LAZY, "torch", "onnxruntime", "scipy", "tests"}
