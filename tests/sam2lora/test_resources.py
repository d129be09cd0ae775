"""CPUs and memory within the limits of containers, whose files are made here as the kernel writes them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness.execution.slots import share_machine
from sam2lora import resources
from sam2lora.resources import free_memory, usable_cores
from sam2lora.training.memory import free_mib

MIB = 2**20


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores, 6 of them ours, and 1000 MiB that are free; the folder of its control groups."""
    monkeypatch.setattr(resources, "GROUPS", tmp_path)
    monkeypatch.setattr(resources, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 8)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda process: list(range(6)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000 * MIB))
    return tmp_path


def put(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_without_limits_the_machine_counts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores() == 6
    assert free_memory() == 1000 * MIB
    put(machine, membership="0::/\n", cpu__max="max 100000\n", memory__max="max\n", memory__current="5\n")
    assert usable_cores() == 6
    assert free_memory() == 1000 * MIB
    monkeypatch.delattr(psutil.Process, "cpu_affinity")  # as on macOS
    assert usable_cores() == 8


@pytest.mark.parametrize(("quota", "cores"), [(50_000, 1), (100_000, 1), (250_000, 2), (900_000, 6)])
def test_a_quota_of_either_version_bounds_the_cores(machine: Path, quota: int, cores: int) -> None:
    put(machine, membership="0::/\n", cpu__max=f"{quota} 100000\n")
    assert usable_cores() == cores
    (machine / "cpu.max").unlink()
    put(machine, membership="3:cpu,cpuacct:/docker/5f\n2:memory:/docker/5f\n")  # a path of the host, as version 1 has
    put(machine / "cpu", cpu__cfs_quota_us=f"{quota}\n", cpu__cfs_period_us="100000\n")
    assert usable_cores() == cores
    assert share_machine(0.0).concurrent == cores, "plans go by it"
    put(machine / "cpu", cpu__cfs_quota_us="-1\n")
    assert usable_cores() == 6


def test_the_group_with_the_least_memory_left_bounds_it(machine: Path) -> None:
    put(machine, membership="0::/slurm/job_7\n")
    put(machine / "slurm", memory__max=f"{800 * MIB}\n", memory__current=f"{100 * MIB}\n", memory__stat="anon 1\n")
    assert free_memory() == 700 * MIB
    stat = f"anon 0\ninactive_file {30 * MIB}\nactive_file 7\n"
    put(machine / "slurm/job_7", memory__max=f"{200 * MIB}\n", memory__current=f"{150 * MIB}\n", memory__stat=stat)
    assert free_memory() == 80 * MIB, "cached files give way"
    assert free_mib("cpu") == 80, "the guard of a trial's memory goes by it"
    put(machine / "slurm/job_7", memory__current=f"{300 * MIB}\n")
    assert free_memory() == 0


def test_memory_of_version_1(machine: Path) -> None:
    put(machine, membership="4:memory:/\n1:cpu:/\n")
    unlimited = {"memory__limit_in_bytes": "9223372036854771712\n", "memory__usage_in_bytes": "0\n"}
    put(machine / "memory", **unlimited, memory__stat="cache 5\n")
    assert free_memory() == 1000 * MIB
    limited = {"memory__limit_in_bytes": f"{300 * MIB}\n", "memory__usage_in_bytes": f"{200 * MIB}\n"}
    put(machine / "memory", **limited, memory__stat=f"inactive_file 1\ntotal_inactive_file {50 * MIB}\n")
    assert free_memory() == 150 * MIB
