"""ONNX's own backend tests, driven by its runner: every case all of whose operators fastconv has.

Cases that cannot pass are named with the reason, and must fail: an exception that is not needed any more, or matches
nothing, is a failure itself. docs/onnx.md has the same list.
"""

from __future__ import annotations

import doctest
import os
import re
import warnings
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import onnx
from onnx.backend.test.loader import load_model_tests

import fastconv.onnx

KINDS = {"NodeModel": "node", "SimpleModel": "simple", "RealModel": "real",
         "PyTorchConvertedModel": "pytorch-converted", "PyTorchOperatorModel": "pytorch-operator"}  # fmt: skip

# A pattern of names -> why those cases fail.
EXCEPTIONS = {
    r"^test_cast(like)?_.*_to_(FLOAT8\w+|FLOAT4\w+|U?INT[24]|BFLOAT16)(_expanded)?_cpu$": "a type that NumPy lacks",
    r"^test_attention_.*(fp16|bf16|float16|softmax_precision).*_expanded_cpu$": "half precision",
    r"^test_(causal_conv|swiglu|celu)\w*(fp16|float16)\w*_cpu$": "half precision",
    r"^test_training_dropout(_default)?(_mask)?_cpu$": "expects the random numbers of NumPy's old generator",
    r"^test_identity_(opt|sequence)_cpu$": "an optional or a sequence, not a tensor",
}


def model_of(case):
    """The model of a case: made in memory, in a folder, or a light one beside the package's tests."""
    if case.model is not None:
        return case.model
    package = Path(onnx.__file__).parent
    path = Path(case.model_dir, "model.onnx") if case.model_dir else package / Path(case.url).relative_to("onnx")
    return onnx.load(path, load_external_data=False)


def can_run(case) -> bool:
    nodes = model_of(case).graph.node
    return all(node.domain == "" and node.op_type in KNOWN for node in nodes)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # making the cases' data divides by zero here and there
    import onnx.backend.test

    RUNNER = onnx.backend.test.BackendTest(fastconv.onnx.Backend, __name__)
    KNOWN = fastconv.onnx.operators()
    CASES = {f"{case.name}_cpu": category
             for category, kind in KINDS.items() for case in load_model_tests(kind=kind) if can_run(case)}  # fmt: skip

for pattern in EXCEPTIONS:
    RUNNER.xfail(pattern)
for name, cls in RUNNER.test_cases.items():
    for test in [test for test in vars(cls) if test.startswith("test_") and test not in CASES]:
        delattr(cls, test)  # other devices, and operators that are not there
    globals()[name] = cls


@pytest.fixture(autouse=True, scope="module")
def _models_in_a_folder_of_ours(tmp_path_factory):
    """The runner writes what it makes for its light models to a folder that this variable names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ONNX_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


def test_every_exception_is_of_some_case():
    assert not [pattern for pattern in EXCEPTIONS if not any(re.search(pattern, name) for name in CASES)]


def test_every_operator_that_has_cases_passes_some():
    passing = {name for name in CASES if not any(re.search(pattern, name) for pattern in EXCEPTIONS)}
    cases = [case for kind in KINDS.values() for case in load_model_tests(kind=kind)]
    seen = {case.name: {node.op_type for node in model_of(case).graph.node} for case in cases}
    everywhere = set().union(*seen.values()) & set(KNOWN)
    passed = set().union(*(operators for name, operators in seen.items() if f"{name}_cpu" in passing))
    assert everywhere <= passed
    assert len(everywhere) > 110
    assert len(passing) > 1200


GUIDE = Path(__file__).parents[2] / "docs" / "onnx.md"
needs_guide = pytest.mark.skipif(not GUIDE.is_file(), reason="the source tree is not here")


@needs_guide
def test_the_guide_has_the_exceptions_and_the_operators():
    text = GUIDE.read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line)[1:3] for line in text.splitlines() if line.startswith("| ")]
    table = {pattern.strip().strip("`").replace("\\|", "|"): reason.strip() for pattern, reason in rows}
    assert {pattern: reason for pattern, reason in table.items() if pattern.startswith("^")} == EXCEPTIONS
    listed = [name for theme, names in table.items() if theme[0] != "^" for name in re.findall(r"[A-Z]\w+", names)]
    assert sorted(listed) == sorted(KNOWN)


@needs_guide
def test_the_guide_runs():
    results = doctest.testfile(str(GUIDE), module_relative=False)
    assert (results.failed, results.attempted > 10) == (0, True)
