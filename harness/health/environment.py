"""Whether this machine can run studies: packages, GPU, room, limits, data sets and Ray."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from harness.errors import ClusterError
from harness.health.finding import Finding, Problem, Sound
from harness.text import count, listed
from sam2lora.environment import variable
from sam2lora.errors import DataError
from sam2lora.resources import free_memory, usable_cores
from sam2lora.runtime import default_cache

_SHOWN = ("torch", "sam2", "ray", "optuna", "mlflow")
_ROOM, _MEMORY = 2**30, 2 * 2**30  # a cache of a few data sets; a process that has loaded torch, and its images
_DAEMONS = ("gcs_server", "raylet")


def examine(out: Path, data: Path | None) -> Iterator[Finding]:
    """Findings on the environment. ``out``: the folder of the results; ``data``: that of the data sets, None: none."""
    yield from packages()
    yield owner_of_sam2()
    yield gpu()
    yield from room(out)
    yield memory()
    yield cores()
    if data is not None:
        yield from data_sets(data)
    yield leftovers()
    yield ray_starts()


def packages() -> Iterator[Finding]:
    """The versions that are installed, compared with those that this package requires."""
    rule = "Installed packages must be the ones that this version requires"
    remedy = "install it again as README.md says"
    try:
        required = [Requirement(text) for text in importlib.metadata.requires("sam2lora-harness") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Problem("packages", rule, "sam2lora-harness itself is not installed", remedy)
        return
    needed = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in needed:
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version or 'missing'} and must be {requirement.specifier}")
    if wrong:
        yield Problem("packages", rule, listed(wrong), remedy)
    yield Sound("packages", ", ".join(f"{name} {_version(name) or 'missing'}" for name in _SHOWN))


def owner_of_sam2(name: str = "sam2") -> Finding:
    """Whether ``import sam2`` loads the package of that name, and no folder or other distribution that shadows it."""
    rule, remedy = (
        f"import {name} must load the package {name} of PyPI",
        f"remove or rename what shadows it, and run from another folder if it is a checkout, then pip install {name}",
    )
    spec = importlib.util.find_spec(name)
    if spec is None:
        return Problem(name, rule, "there is no such module", "install it again as README.md says")
    place = Path(spec.origin or next(iter(spec.submodule_search_locations or ()), ""))
    owners = importlib.metadata.packages_distributions().get(name, [])
    if name not in owners:
        return Problem(name, rule, f"{place} belongs to {listed(owners)} of the installed packages", remedy)
    installed = importlib.metadata.distribution(name)
    expected = Path(str(installed.locate_file(f"{name}/__init__.py")))
    if place.resolve() != expected.resolve():
        return Problem(name, rule, f"it loads {place} instead of {expected}", remedy)
    return Sound(name, f"{name} {installed.version} of PyPI, in {place.parent}")


def gpu() -> Finding:
    """The GPUs that torch can use; a problem where the machine has some and torch uses none."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Sound("GPU", f"{listed(names)}; CUDA {torch.version.cuda}, driver {_driver() or 'unknown'}")
    if (driver := _driver()) is None:
        return Sound("GPU", "none: trials run on the CPU")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    hidden = variable("CUDA_VISIBLE_DEVICES")
    why = f"torch {torch.__version__}, {built}, uses none" + (f"; CUDA_VISIBLE_DEVICES is {hidden}" if hidden else "")
    return Problem(
        "GPU", f"torch must be able to use the GPU of the driver {driver}", why,
        "install a torch whose CUDA the driver supports, or a newer driver; with neither, trials run on the CPU",
    )  # fmt: skip


def _driver() -> str | None:
    """The version of the NVIDIA driver, None where there is none."""
    path = Path("/proc/driver/nvidia/version")
    words = path.read_text().split("Module", 1)[-1].split() if path.exists() else []
    return words[0] if words else None


def room(out: Path) -> Iterator[Finding]:
    """Free space where results, caches and Ray's files go."""
    for subject, place in {"results": out, "cache": default_cache(), "Ray": Path(tempfile.gettempdir())}.items():
        there = next(path for path in (place.resolve(), *place.resolve().parents) if path.exists())
        free = shutil.disk_usage(there).free
        name = f"room for {subject}"
        if free < _ROOM:
            yield Problem(
                name, "A folder must have a GiB free", f"{place} has {free / 2**20:.0f} MiB",
                "delete something, or name another folder (--out, $SAM2LORA_CACHE, $TMPDIR)",
            )  # fmt: skip
        elif not os.access(there, os.W_OK):
            yield Problem(
                name, "A folder must be writable", f"{there} is not",
                "correct its permissions, or name another folder (--out, $SAM2LORA_CACHE, $TMPDIR)",
            )  # fmt: skip
        else:
            yield Sound(name, f"{free / 2**30:.1f} GiB free in {place}")


def memory() -> Finding:
    """What this process may still take, within the limits of its container."""
    free, total = free_memory(), psutil.virtual_memory().total
    value = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB can be used"
    if free < _MEMORY:
        return Problem("memory", "Trials need 2 GiB of memory", value, "end other programs or raise the limit")
    return Sound("memory", value)


def cores() -> Finding:
    """The CPU cores that this process may use, of those there are."""
    return Sound("cores", f"{usable_cores()} of {count(psutil.cpu_count(logical=False) or 1, 'physical core')} usable")


def data_sets(root: Path) -> Iterator[Finding]:
    """Every published data set under ``root``: how many pairs it has, or what is wrong with it. No image is decoded."""
    from sam2lora.datasets import DATASETS
    from sam2lora.datasets.layout import MissingFolderError

    absent = []
    for dataset in DATASETS:
        try:
            found = dataset.find(root)
        except MissingFolderError:
            absent.append(dataset.name)
            continue
        except DataError as error:
            yield Problem(dataset.name, "A data set must be complete", str(error), "copy it again from its owner")
            continue
        if found.problems:
            text = "; ".join(map(str, found.problems[:3]))
            command = f"python -m sam2lora.datasets {root} lists all of it"
            yield Problem(dataset.name, "A data set must be complete", f"of {dataset.title} {text}", command)
        else:
            yield Sound(dataset.name, count(len(found.entries), "pair"))
    yield Sound("data sets", f"not in {root}: {listed(absent)}")


def leftovers() -> Finding:
    """Processes of Ray whose driver is gone: they hold memory, and a Ray that starts next to them may fail."""
    left = []
    for process in psutil.process_iter(["name", "ppid", "username"]):
        mine = process.info["username"] == psutil.Process().username()
        if mine and process.info["name"] in _DAEMONS and process.info["ppid"] == 1:
            left.append(process.pid)
    if left:
        return Problem(
            "Ray's processes", "Processes of Ray must end with the run that started them",
            f"{listed(map(str, left))} run without one", f"kill {' '.join(map(str, left))}, unless they are a cluster",
        )  # fmt: skip
    return Sound("Ray's processes", "no leftovers")


def ray_starts() -> Finding:
    """Whether Ray starts here, or the cluster that RAY_ADDRESS names answers."""
    from harness.execution.ray_cluster import running

    try:
        with running(1):
            return Sound("Ray", f"answers at {address}" if (address := variable("RAY_ADDRESS")) else "starts")
    except ClusterError as error:
        return Problem("Ray", "Ray must start", str(error).rstrip("."), "do as it says")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
