"""The shape of the house: what may import what, and that the folder mlflow/ shadows nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("sam2lora", {"harness", "search_spaces", "ablations", "ray", "optuna", "mlflow"}),
        ("harness", {"search_spaces", "ablations"}),
    ],
)
def test_imports_run_one_way(package: str, forbidden: set[str]) -> None:
    assert files(package)
    found = {str(path.relative_to(ROOT)): bad for path in files(package) if (bad := imports(path) & forbidden)}
    assert found == ({"sam2lora/tuned.py": {"harness"}} if package == "sam2lora" else {})


LAYERS: tuple[tuple[str, ...], ...] = (
    ("text", "errors", "samplers", "schedulers", "constraints"),
    ("cli", "stats"),
    ("record", "designs"),
    ("experiments",),
    ("importance", "simulation", "tracking"),
    ("reports",),
    ("execution",),
    ("search", "ablate", "report", "demo"),
)
"""The rooms of the harness, floor by floor: what a room imports lies below it, or in the room itself."""


def rooms(path: Path) -> set[str]:
    """The rooms of the harness that a file imports from, in functions as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("harness.")}
    return found


def test_imports_within_the_harness_run_down_the_floors() -> None:
    floor = {room: number for number, level in enumerate(LAYERS) for room in level}
    paths = [path for path in files("harness") if path.name != "__init__.py" or path.parent.name != "harness"]
    own = {path: path.relative_to(ROOT / "harness").parts[0].removesuffix(".py") for path in paths}
    assert set(own.values()) == set(floor), "every room has a floor"
    upward = {
        f"{path.relative_to(ROOT)} imports {room}"
        for path in paths
        for room in rooms(path) - {own[path]}
        if floor[room] >= floor[own[path]]
    }
    assert not upward


def test_names_of_studies_and_runs_are_the_one_thing_that_sam2lora_asks_the_harness() -> None:
    tree = ast.parse((ROOT / "sam2lora" / "tuned.py").read_text())
    asked = [
        (function.name, ast.unparse(node))
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert asked == [("_recorded", "from harness.tracking.adapters import locate")]
    assert not any(
        "harness" in ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
    )


@pytest.mark.parametrize("module", ["harness.report", "harness.reports.search.across_models"])
def test_a_report_loads_neither_torch_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'ray', 'sam2') if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["harness.execution.engine", "sam2lora.train", "sam2lora.export", "benchmarks.machine"]
)
def test_an_engine_loads_neither_ray_nor_optuna_nor_mlflow(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('ray', 'optuna', 'mlflow') if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize("where", [".", "tests", "mlflow"])
def test_the_folder_mlflow_does_not_shadow_the_package(where: str) -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))
    code = "import mlflow; print(mlflow.__file__)"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT / where, capture_output=True, text=True, check=True)
    assert "site-packages" in seen.stdout


def test_no_top_level_folder_shadows_a_package() -> None:
    taken = {"datasets", "models", "optuna", "ray", "sam2", "torch"}
    assert not taken & {path.name for path in ROOT.iterdir() if path.is_dir()}


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("ablations", "harness", "sam2lora", "search_spaces")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(listed) == there


def test_pins_name_versions_and_no_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert all("==" in line for line in lines)
    assert not any(mark in line for line in lines for mark in ("://", "--", " @ "))
