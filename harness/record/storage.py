"""The database that holds the record: opened, checked and kept fast."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import RecordError
from harness.extras import missing
from harness.record.locations import sqlite_file
from sam2lora.files import locked

LOCAL = frozenset({"apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "ntfs", "overlay", "tmpfs", "xfs", "zfs"})
"""File systems of one machine: SQLite's write-ahead log needs memory that all of its readers share."""


def create_database(url: str, make: Callable[[str], object]) -> None:
    """Make the SQLite file at ``url`` where there is none: whole or not at all, and once, however many processes ask.

    ``make`` is called with the address of a draft next to it, which it must have closed when it returns. Any other
    database is its server's. Raises ``OSError``.
    """
    path = sqlite_file(url)
    if path is None or _holds_something(path):
        return
    with locked(path):
        if _holds_something(path):
            return
        draft = path.with_name(f".{path.name}.draft")
        draft.unlink(missing_ok=True)  # of a process that was killed
        make(f"sqlite:///{draft}")
        draft.replace(path)


def _holds_something(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def write_ahead(url: str) -> None:
    """Let the SQLite file at ``url`` use a write-ahead log: a commit then waits for the disk once, not three times.

    The file itself keeps the setting. Other databases are left as they are, and so are a file that is being written
    and one on a file system that machines may share.
    """
    path = sqlite_file(url)
    if path is not None and file_system(path) in LOCAL:
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")


def file_system(path: Path) -> str:
    """The kind of file system that ``path`` is or would be on; empty where the machine does not say."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[place] for place in (path.resolve(), *path.resolve().parents) if place in mounts), "")


@contextmanager
def usable(url: str) -> Iterator[None]:
    """Raise ``RecordError`` where the storage at ``url`` cannot be read or written within the block."""
    try:
        yield
    except FAULTS as error:
        raise unusable(url, error) from error


def open_storage(url: str) -> RDBStorage:
    """The storage at ``url``. Raises ``RecordError``, also where the folder of a SQLite file is not there."""
    path = sqlite_file(url)
    if path is not None and not path.parent.is_dir():
        raise RecordError(
            f"The record must be in a folder that exists, but {path.parent} of {url} does not: make it, or name "
            f"another with --storage."
        )
    try:
        create_database(url, lambda draft: RDBStorage(draft).engine.dispose())
        return RDBStorage(url)
    except (OSError, ImportError, *FAULTS) as error:
        raise unusable(url, error) from error


FAULTS = (SQLAlchemyError, StorageInternalError)
"""What a storage raises when it cannot be read or written."""


def unusable(url: str, error: BaseException) -> RecordError:
    """The error for a storage at ``url`` that raised ``error``: its first cause, and what can be done about it."""
    if install := missing(error):
        return RecordError(f"The record must be a database that Optuna can open, but {url} is not yet. {install}")
    while error.__cause__ is not None:
        error = error.__cause__
    first = str(error).partition("\n")[0]
    return RecordError(
        f"The record must be a database that Optuna can open and write, but {url} cannot be used: {first}. Check the "
        f"address, the folder's rights and the free space, or name another with --storage. What was finished is kept: "
        f"run the same command again."
    )
