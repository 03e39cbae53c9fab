"""Each example in a short form: it runs, writes its picture, and says what it promises to say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastconv import config

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not here")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, tmp_path: Path, *options: object, data: str | None = None) -> dict[str, float]:
    """Run an example into ``tmp_path`` and return its figures."""
    pytest.importorskip("matplotlib")
    if data:
        folder = config.data_dir()
        if folder is None or not (folder / "medmnist" / f"{data}.npz").is_file():
            pytest.skip(f"FASTCONV_DATA does not hold medmnist/{data}.npz")
    figures = load(name).main([*map(str, options), "--output", str(tmp_path)])
    assert list(tmp_path.glob("*.png"))
    return figures


def test_every_example_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in EXAMPLES.glob("*.py") if f'run("{path.stem}"' not in text] == []


def test_adrenal_3d(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = run("adrenal_3d", tmp_path, "--epochs", 4, "--width", 4, data="adrenalmnist3d")
    assert figures["auc"] > 0.7
    assert "majority class: 76.8 %" in capsys.readouterr().out


def test_breast_ultrasound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = run("breast_ultrasound", tmp_path, "--epochs", 15, "--width", 8, data="breastmnist")
    assert figures["auc"] > 0.7
    assert "majority class: 73.1 %" in capsys.readouterr().out


def test_demographics(tmp_path: Path) -> None:
    figures = run("demographics", tmp_path, "--samples", 600, "--epochs", 6)
    assert figures["with scores"] > figures["without scores"] + 0.05


def test_residual_or_plain(tmp_path: Path) -> None:
    figures = run("residual_or_plain", tmp_path, "--epochs", 3, "--deep", 32, "--limit", 600)
    shallow, deep, residual = figures.values()
    assert residual < shallow < deep


def test_segmentation(tmp_path: Path) -> None:
    figures = run("segmentation", tmp_path, "--scenes", 400, "--epochs", 8, "--width", 8)
    assert figures["dice"] > figures["bright"] + 0.1


def test_detection(tmp_path: Path) -> None:
    figures = run("detection", tmp_path, "--scenes", 300, "--epochs", 8, "--width", 8)
    assert figures["map"] > 0.1


def test_fine_tuning(tmp_path: Path) -> None:
    figures = run("fine_tuning", tmp_path, "--epochs", 12, "--copies", 2)
    assert figures["fine-tuned"] > figures["from nothing"] + 0.05


def test_fetal_patches(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    short = {"patches": 800, "epochs": 6, "width": 8, "repeats": 1, "pictures": 3}
    options = [part for name, value in short.items() for part in (f"--{name}", value)]
    figures = run("fetal_patches", tmp_path, *options, "--ways", "without", "turned")
    assert figures["turned"] > figures["without"] + 4  # per cent
    assert figures["circumference error"] < 5


@pytest.mark.parametrize("any_way", [False, True])
def test_fetal_patches_turns_directions_with_patches(any_way: bool) -> None:
    """A patch that brightens along its direction does so after any augmentation."""
    vary = load("fetal_patches").vary(any_way)
    v, u = np.mgrid[:8, :8].astype(np.float32)
    angle = np.linspace(0, 6, 5)
    direction = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    patch = (v * direction[:, :1, None] + u * direction[:, 1:, None])[:, None]
    seen = set()
    for seed in range(40):
        (turned, ways), labels = vary(np.random.default_rng(seed), patch, direction, np.arange(5))
        slope = np.stack([np.diff(turned, axis=axis).mean((1, 2, 3)) for axis in (2, 3)], 1)
        np.testing.assert_allclose(slope, ways, atol=1e-5)
        assert labels.tolist() == [0, 1, 2, 3, 4]
        seen.add(ways.tobytes())
    assert len(seen) == (8 if any_way else 2)
