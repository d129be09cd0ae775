"""Environment variables, paths and the home folder: a variable that is empty counts as unset, and a URL is no path."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from sam2lora.errors import DiskError


def variable(name: str) -> str | None:
    """The value of an environment variable; None where it is unset or empty."""
    return os.environ.get(name) or None


def set_defaults(values: Mapping[str, str]) -> None:
    """Set each variable that is unset or empty, for libraries that read it, and for the processes that they start."""
    os.environ.update({name: value for name, value in values.items() if variable(name) is None})


def unset_empty(*names: str) -> None:
    """Remove the variables that are empty, for libraries that read them."""
    for name in names:
        if variable(name) is None:
            os.environ.pop(name, None)


def local_path(text: str) -> Path:
    """``text`` as a path. Raises ``ValueError`` for a URL: files are read and written by the file system alone."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ValueError(
            f"must be a path on a local or shared file system, but is the URL {text!r}: mount the store and give the "
            f"path below it; MLflow can keep files of trials in an object store (mlflow/README.md)"
        )
    return Path(text)


def folder(name: str, default: str) -> Path:
    """The folder that the variable ``name`` holds, else ``default``; ``~`` stands for the home folder.

    Raises ``DiskError`` where it stands for none, and for a URL.
    """
    try:
        path = local_path(variable(name) or default)
    except ValueError as error:
        raise DiskError(f"${name} {error}.") from error
    unset_empty("HOME")  # Python takes an empty one for the root folder
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise DiskError(
            f"A folder that begins with ~ must be of a user who has a home folder, but {path} is not: name another "
            f"folder in ${name}, or set HOME."
        ) from error


def check_home() -> None:
    """Raise ``DiskError`` where the user has no home folder, which Ray must have.

    Neither ``$HOME`` nor the system's list of users names it, as in a container that runs under a mere number.
    """
    unset_empty("HOME")
    try:
        Path.home()
    except RuntimeError as error:
        raise DiskError(
            "A command that runs trials must have a home folder, into which Ray writes, but this user has none: set "
            "HOME to a folder that you can write."
        ) from error
