"""What the documentation says, run: the doctests of every module, README's examples, the commands that CI must run."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv

TREE = Path(__file__).parents[1]
needs_tree = pytest.mark.skipif(not (TREE / "README.md").is_file(), reason="the source tree is not here")
TEST_COMMAND = 'pip install -e ".[test]" && pytest -n auto'
MAIN_COMMAND = "pip install . && fastconv train"
NEEDS = {  # packages of extras that a module's examples use
    "fastconv.onnx.export_model": "onnx.checker",
    "fastconv.data.nifti": "nibabel",
    "fastconv.data.nifti_write": "nibabel",
}


def modules() -> list[str]:
    """Every module of the installed package that can be imported without an effect of its own."""
    found = pkgutil.walk_packages(fastconv.__path__, "fastconv.")
    return ["fastconv", *(m.name for m in found if not m.name.endswith((".__main__", "._lab")))]


def run(test: doctest.DocTest, names: dict[str, object] | None = None) -> None:
    """Run the examples; the names that they bind are left in ``names``."""
    lines: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=lines.append, clear_globs=names is None)
    if names is not None:
        names.update(test.globs)
    assert not lines, "".join(lines)


@pytest.mark.parametrize("name", modules())
def test_doctests(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        run(test)


def test_the_finder_sees_functions_made_for_a_rank_and_compiled_ones():
    finder = doctest.DocTestFinder()
    conv = importlib.import_module("fastconv.functional.conv")
    names = {test.name for test in finder.find(conv) if test.examples}
    runtime = pytest.importorskip("fastconv.backends.cpu.runtime", reason="fastconv.backends.cpu is not built")
    names |= {test.name for test in finder.find(runtime) if test.examples}
    assert {f"{conv.__name__}.conv2d", f"{runtime.__name__}.set_num_threads"} <= names


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@needs_tree
@pytest.mark.parametrize("document", ["README.md", "docs/medical.md", "docs/models.md", "docs/weights.md"])
def test_the_examples_of_documents(document):
    examples = blocks((TREE / document).read_text(encoding="utf-8"), "python")
    assert examples
    names: dict[str, object] = {}  # of the blocks before
    for number, block in enumerate(examples):
        test = doctest.DocTestParser().get_doctest(block, names, f"{document} {number}", document, 0)
        run(test, names)


@needs_tree
def test_readme_has_the_two_commands_and_ci_runs_its_test_command():
    commands = "".join(blocks((TREE / "README.md").read_text(encoding="utf-8"), "sh"))
    assert MAIN_COMMAND in commands
    assert TEST_COMMAND in commands
    assert TEST_COMMAND in (TREE / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(TREE / ".ci" / "run", os.X_OK)


@needs_tree
@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in TREE.glob("docs/*.md"))])
def test_paths_that_documents_link_to_exist(document):
    path = TREE / document
    links = re.findall(r"\]\((?!\w+:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


@needs_tree
def test_the_tables_of_results_are_what_the_results_say():
    command = [sys.executable, "-m", "bench.report", "--check"]
    run = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@needs_tree
def test_the_tree_in_readme_is_the_tree():
    tree = blocks((TREE / "README.md").read_text(encoding="utf-8"), "text")[0]
    folders = [TREE]  # of each depth
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = folders[depth] / line.split()[0]
        assert path.exists(), f"README's map: {path.relative_to(TREE)}"
        folders[depth + 1 :] = [path]
