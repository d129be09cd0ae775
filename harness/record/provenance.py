"""With what a result was made: versions and commit. Imports none of the packages that it names."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

_PACKAGES = ("torch", "sam2", "optuna", "ray", "mlflow", "numpy", "scikit-learn")


def provenance() -> dict[str, str]:
    """Versions of what results depend on, the interpreter, and the commit of the code if it is a checkout."""
    versions = {package: _version(package) for package in _PACKAGES}
    return {**versions, "python": platform.python_version(), "git": _commit()}


def _version(package: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return "not installed"


def _commit() -> str:
    root = Path(__file__).parents[2]
    with suppress(OSError, subprocess.CalledProcessError):
        text = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return text.stdout.strip()
    return "not a checkout"
