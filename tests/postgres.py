"""A PostgreSQL of a test run's own: its programs, started in a temporary folder, heard on a Unix socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs on this machine; None without one."""
    linked = shutil.which("initdb")
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *([Path(linked).resolve().parent] if linked else [])]
    return max(folders, key=_version, default=None)


def _version(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdecimal() else 0


@contextmanager
def running(programs: Path) -> Iterator[Path]:
    """A server without a password; yields the folder of its socket. Root becomes ``nobody``: PostgreSQL refuses it."""
    user: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:  # a socket's path may have 107 characters
        folder, data = Path(name), Path(name) / "data"
        if user:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)

        def call(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(data), *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120, **user)

        call("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        how = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=50"
        call("pg_ctl", "start", "--wait", "-l", str(folder / "log"), "-o", how)
        try:
            yield folder
        finally:
            call("pg_ctl", "stop", "--wait", "--mode=immediate")


def create(folder: Path, database: str) -> str:
    """The address of a new, empty ``database`` of the server whose socket is in ``folder``."""
    import psycopg

    with psycopg.connect(host=str(folder), user="postgres", dbname="postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {database}".encode())
    return f"postgresql://postgres@/{database}?host={folder}"
