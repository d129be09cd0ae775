from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness.errors import ClusterError
from harness.execution import ray_cluster
from harness.health import environment
from harness.health.environment import data_sets, leftovers, memory, owner_of_sam2, packages, ray_starts, room
from harness.health.finding import Problem, Sound


def test_the_installed_packages_are_those_that_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(isinstance(finding, Sound) for finding in packages())
    monkeypatch.setattr(environment.importlib.metadata, "requires", lambda _: ["optuna<2", "ray", "no-such-package"])
    problem, shown = packages()
    assert isinstance(problem, Problem)
    assert "optuna is " in problem.value
    assert "must be <2" in problem.value
    assert "no-such-package is missing" in problem.value
    assert "ray" not in problem.value
    assert isinstance(shown, Sound)


@pytest.mark.parametrize("folder", ["cmaes", None])
def test_a_module_that_shadows_a_package_is_found(
    folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here of another package, since sam2 is loaded already."""
    if folder is not None:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(__import__("sys").modules, folder, raising=False)
    finding = owner_of_sam2("cmaes")
    assert isinstance(finding, Sound if folder is None else Problem)
    assert folder is None or f"loads {tmp_path / 'cmaes/__init__.py'} instead of" in str(finding)


def test_a_module_of_another_distribution_or_none_is_found() -> None:
    assert "belongs to pillow" in str(owner_of_sam2("PIL"))
    assert "there is no such module" in str(owner_of_sam2("no_such_module"))
    assert isinstance(owner_of_sam2(), Sound)


def test_a_full_disk_and_little_memory_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(isinstance(finding, Sound) for finding in room(tmp_path / "not" / "yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 2**20))
    assert [finding.subject for finding in room(tmp_path) if isinstance(finding, Problem)] == [
        "room for results",
        "room for cache",
        "room for Ray",
    ]
    monkeypatch.setattr(environment, "free_memory", lambda: 2**30)
    assert "1.0 of" in str(memory())
    assert isinstance(memory(), Problem)


def test_processes_of_ray_without_a_driver_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    me = psutil.Process().username()
    processes = [
        SimpleNamespace(pid=11, info={"name": "raylet", "ppid": 1, "username": me}),
        SimpleNamespace(pid=12, info={"name": "raylet", "ppid": 500, "username": me}),
        SimpleNamespace(pid=13, info={"name": "gcs_server", "ppid": 1, "username": "somebody else"}),
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda _: processes)
    finding = leftovers()
    assert isinstance(finding, Problem)
    assert "kill 11, unless" in finding.remedy


def test_a_ray_that_does_not_start_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refusing(cpus: int | None) -> Iterator[None]:
        raise ClusterError("Ray must start on this machine, but did not.")
        yield

    monkeypatch.setattr(ray_cluster, "running", refusing)
    assert isinstance(ray_starts(), Problem)


def test_data_sets_are_counted_and_their_faults_named(tmp_path: Path) -> None:
    (tmp_path / "DRIVE" / "training" / "images").mkdir(parents=True)
    findings = {finding.subject: finding for finding in data_sets(tmp_path)}
    assert isinstance(findings["drive"], Problem)
    assert "stare" in str(findings["data sets"])
