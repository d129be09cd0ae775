"""The shape of the house: what may import what, and that the folder mlflow/ shadows nothing."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from sam2lora.choice import kinds

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
    assert not {str(path.relative_to(ROOT)): bad for path in files(package) if (bad := imports(path) & forbidden)}


LAYERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "sam2lora": (
        ("choice", "errors", "resources", "tensors", "transfers", "intervals", "metrics"),
        ("environment",),
        ("credentials", "runtime"),
        ("cli", "files", "augments", "backbones", "losses", "optimizers", "prompts", "schedules", "thresholds"),
        ("checkpoints", "datasets", "integrity", "sharpness", "weighted_loss"),
        ("models", "photographs", "protocols", "tiles"),
        ("adapters", "auxiliary", "decoders", "prediction_writer", "prompters", "protocol_options"),
        ("config", "evaluate"),
        ("defaults", "overrides", "presets", "settings", "trained"),
        ("export_formats", "training"),
        ("train", "predict", "export", "pretrain"),
    ),
    "harness": (
        ("text", "errors", "patience", "extras", "samplers", "schedulers", "constraints"),
        ("cli", "stats"),
        ("record", "designs"),
        ("experiments",),
        ("importance", "simulation", "tracking"),
        ("reports", "execution"),
        ("health",),
        ("search", "ablate", "report", "demo", "doctor", "replay", "ui"),
    ),
}
"""The rooms of each package, floor by floor: what a room imports lies below it, or in the room itself."""


def rooms(path: Path, package: str) -> set[str]:
    """The rooms of a package that a file imports from, in functions as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith(f"{package}.")}
    return found


@pytest.mark.parametrize("package", LAYERS)
def test_imports_within_a_package_run_down_the_floors(package: str) -> None:
    floor = {room: number for number, level in enumerate(LAYERS[package]) for room in level}
    paths = [path for path in files(package) if path != ROOT / package / "__init__.py"]
    room_of = {path: path.relative_to(ROOT / package).parts[0].removesuffix(".py") for path in paths}
    assert set(room_of.values()) == set(floor), "every room has a floor"
    upward = {
        f"{path.relative_to(ROOT)} imports {room}"
        for path in paths
        for room in rooms(path, package) - {room_of[path]}
        if floor[room] >= floor[room_of[path]]
    }
    assert not upward


def dependencies() -> dict[str, set[str]]:
    """The modules of both packages, each with those of them that it imports, in functions as well."""
    paths: dict[str, Path] = {}
    for path in (*files("harness"), *files("sam2lora")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    imported: dict[str, set[str]] = {}
    for module, path in paths.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                wholes = [f"{node.module}.{name.name}" for name in node.names]
                names |= {whole if whole in paths else node.module for whole in wholes}
        imported[module] = names & paths.keys() - {module}
    return imported


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = dependencies()
    assert "harness.execution.engine" in graph["harness.execution.trainable"], "imports in functions count"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


def families() -> dict[str, set[str]]:
    """The names of the kinds of every family by its package, read off the unions there."""
    found: dict[str, set[str]] = {}
    for path in (*files("sam2lora"), *files("harness")):
        if path.name != "__init__.py" or path.parent.parent == ROOT:
            continue
        package = ".".join(path.parent.relative_to(ROOT).parts)
        for name, value in vars(importlib.import_module(package)).items():
            if getattr(value, "__name__", "") == name:
                continue  # a kind itself, not a union that names it
            try:
                found.setdefault(package, set()).update(kind.__name__ for kind in kinds(value).values())
            except (AttributeError, KeyError):
                continue
    return {package: names for package, names in found.items() if names}


def asked_for(tree: ast.AST) -> Iterator[str]:
    """The names of the classes that a file tells apart: by isinstance, by a pattern, or by a value that it makes."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("isinstance"), args=[_, classes]):
                yield from (name.id for name in ast.walk(classes) if isinstance(name, ast.Name))
            case ast.MatchClass(cls=ast.Name(name)):
                yield name
            case ast.Compare(comparators=comparators):
                made = (each for each in comparators if isinstance(each, ast.Call))
                yield from (each.func.id for each in made if isinstance(each.func, ast.Name))


EXCEPTIONS = {
    ("sam2lora/models/build.py", "Nano"),  # makes the modules of a backbone
    ("sam2lora/models/build.py", "Sam2"),
    ("sam2lora/models/build.py", "UNet"),
    ("harness/execution/preparation.py", "Synthetic"),  # MLflow's source of a data set that no file holds
}


def test_a_choice_says_what_it_is_and_nobody_asks_for_its_kind() -> None:
    known = families()
    assert {"Sam2", "UNet"} <= known["sam2lora.backbones"]
    assert known["sam2lora.sharpness"] == {"Off"}, "families of one count"
    found = set()
    for path in (*files("sam2lora"), *files("harness")):
        tree = ast.parse(path.read_text())
        imported = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for name in set(asked_for(tree)) & imported.keys():
            module, kind = imported[name]
            for package, names in known.items():
                inside = path.is_relative_to(ROOT / package.replace(".", "/"))
                if f"{module}.".startswith(f"{package}.") and kind in names and not inside:
                    found.add((str(path.relative_to(ROOT)), kind))
    assert found == EXCEPTIONS


@pytest.mark.parametrize("module", ["harness.report", "harness.reports.search.across_models"])
def test_a_report_loads_neither_torch_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'ray', 'sam2') if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["harness.execution.engine", "sam2lora.training.packing", "sam2lora.export", "benchmarks.machine"]
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
