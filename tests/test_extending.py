"""The parts of docs/extending.md are real: added to a copy of the project, they train, are scored, and are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(python|diff) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with every part of the page in it."""
    copy = tmp_path_factory.mktemp("project")
    for package in ("sam2lora", "harness"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, path, text in BLOCK.findall((ROOT / "docs" / "extending.md").read_text()):
        if kind == "python":
            assert not (copy / path).exists(), f"{path} is new"
            (copy / path).write_text(text)
        else:
            (copy / path).write_text(changed((copy / path).read_text(), text, path))
    return copy


def changed(text: str, diff: str, path: str) -> str:
    """``text`` after every hunk of ``diff``, whose lines begin with a blank, a minus or a plus."""
    for hunk in diff.split("@@\n"):
        lines = [(line[:1], f"{line[1:]}\n") for line in hunk.splitlines()]
        before = "".join(line for sign, line in lines if sign != "+")
        after = "".join(line for sign, line in lines if sign != "-")
        assert text.count(before) == 1, f"{path} must hold once:\n{before}"
        text = text.replace(before, after)
    return text


@pytest.fixture
def run(project: Path, tmp_path: Path) -> Command:
    """Python in the copy, whose packages come first."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(project), "SAM2LORA_CACHE": str(tmp_path / "cache")}
        return subprocess.run(
            [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
        )

    return run


def photographs(root: Path) -> None:
    """The data set of the page: twelve photographs of noise with a vessel in each."""
    rng = np.random.default_rng(0)
    for folder in ("images", "vessels"):
        (root / "CLINIC" / folder).mkdir(parents=True)
    rows, columns = np.mgrid[:96, :96]
    eye = (rows - 48) ** 2 + (columns - 48) ** 2 < 46**2
    for number in range(12):
        mask = eye & (np.abs(rows - columns - number) < 4)
        pixels = np.where(mask, 90, 160)[..., None] * np.array([1.0, 0.6, 0.4]) + rng.normal(0, 4, (96, 96, 3))
        image = np.where(eye[..., None], np.clip(pixels, 40, 255), 0).astype(np.uint8)
        Image.fromarray(image).save(root / "CLINIC" / "images" / f"{number:02}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / "CLINIC" / "vessels" / f"{number:02}.png")


SETTINGS = (
    "--sources", "clinic", "--epochs", "1", "--image-size", "64", "--threads", "1",
    "--set", 'adapters=[{"kind":"conv","width":4}]', "--set", 'auxiliary=[{"kind":"feature_norm","weight":0.1}]',
    "--set", "sharpness=sam", "--set", "loss.terms.0.loss=soft_jaccard",
)  # fmt: skip


@pytest.mark.parametrize("part", ["decoder=dot_product", "prompter=learned_token"])
def test_the_parts_of_the_page_train_and_are_scored(run: Command, tmp_path: Path, part: str) -> None:
    photographs(tmp_path)
    out = tmp_path / "out"
    trained = run("-m", "sam2lora.train", *SETTINGS, "--data", str(tmp_path), "--set", part, "--out", str(out))
    assert trained.returncode == 0, trained.stderr
    (entry,) = json.loads((out / "result.json").read_text())["curve"]
    assert {"loss/feature_norm", "loss/soft_jaccard"} <= entry.keys()
    assert pd.read_parquet(out / "images.parquet")["kappa"].between(-1, 1).all()
    exported = run("-m", "sam2lora.export", "--adapter", str(out), "--out", str(tmp_path / "export"))
    assert exported.returncode == 2, "a checkpoint of SAM 2 has no room for a convolution"
    assert "conv" in exported.stderr


def test_what_cannot_be_put_together_is_refused_with_all_reasons(run: Command) -> None:
    together = ["--set", 'adapters=[{"kind":"conv"},{"kind":"conv"},{"kind":"lora"}]', "--set", "decoder=dot_product"]
    refused = run("-m", "sam2lora.train", *together, "--print-config")
    assert refused.returncode == 2
    assert "adapters.0 (conv) and adapters.1 (conv) both take" in refused.stderr
    assert "adapters.2 (lora) both take" in refused.stderr
