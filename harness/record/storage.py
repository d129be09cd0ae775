"""The database that holds the record: opened, checked and kept fast."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
from alembic.migration import MigrationContext
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import RecordError
from harness.extras import missing
from harness.patience import await_server, patiently
from harness.record.locations import sqlite_file
from sam2lora.files import locked

LOCAL = frozenset({"apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "ntfs", "overlay", "tmpfs", "xfs", "zfs"})
"""File systems of one machine: SQLite's write-ahead log needs memory that all of its readers share."""

_SERVER = "the database of the record"


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
        if path.with_name(f"{path.name}-wal").exists():
            set_aside(path)  # the log of a file that is gone, which SQLite would read into the new one
        make(f"sqlite:///{draft}")
        draft.replace(path)


def is_there(url: str) -> bool:
    """Whether there is anything at ``url``; a server's database always is."""
    path = sqlite_file(url)
    return path is None or _holds_something(path)


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
    check_file(url)
    try:
        create_database(url, lambda draft: _connect(draft).engine.dispose())
        if path is None:
            await_server(url, _SERVER)
        storage = _connect(url)
    except (OSError, ImportError, *FAULTS) as error:
        raise unusable(url, error) from error
    _wait_in(storage, url)
    return storage


def _wait_in(storage: RDBStorage, url: str) -> None:
    """Let what ``storage`` asks wait where its server is away, or another process has locked its SQLite file."""

    def connect(*_: Any) -> None:
        await_server(url, _SERVER)

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        patiently(lambda: cursor.execute(statement, parameters), _is_locked, f"the record {sqlite_file(url)}")
        return True

    if sqlite_file(url) is None:
        event.listen(storage.engine, "do_connect", connect)  # returns None, so that SQLAlchemy connects
    else:
        event.listen(storage.engine, "do_execute", execute)


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def open_to_read(url: str) -> RDBStorage:
    """The storage at ``url``, in which nothing is written: it may belong to somebody else. Raises ``RecordError``."""
    try:
        return _connect(url, _address_to_read(url))
    except (OSError, ImportError, *FAULTS) as error:
        raise unusable(url, error) from error


def _address_to_read(url: str) -> str:
    """The address at which a SQLite file without write access is only read; any other as it is.

    Next to a file with a write-ahead log SQLite makes files. Where it must not, and there is no log, the file is read
    as one that nobody changes.
    """
    path = sqlite_file(url)
    if path is None or (_writable(path) and _writable(path.parent)):
        return url
    logged = _holds_something(path.with_name(f"{path.name}-wal"))
    how = {"mode": "ro"} if logged else {"immutable": "1"}
    address = make_url(url).set(database=path.resolve().as_uri())
    return address.update_query_dict({**how, "uri": "true"}).render_as_string(hide_password=False)


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _connect(url: str, address: str = "") -> RDBStorage:
    """Optuna's storage at ``url``, opened at ``address`` where that is another.

    Raises ``RecordError`` where another version or another program has filled it. Optuna adds the
    tables that it misses, which would be half a migration of an earlier record.
    """
    address = address or url
    version = schema_version(address)
    if version is not None and not version.startswith("v"):
        raise RecordError(
            f"A record must be in a database that Optuna alone fills, but {url} holds tables of another program, such "
            f"as MLflow (schema {version}): name another database with --storage."
        )
    template = address.replace("{", "{{").replace("}", "}}")
    try:
        return RDBStorage(
            template,
            engine_kwargs={"pool_pre_ping": sqlite_file(url) is None},  # a server may have been away meanwhile
            skip_table_creation=version is not None,
        )
    except RuntimeError as error:
        known = RDBStorage(template, skip_table_creation=True, skip_compatibility_check=True).get_all_versions()
        remedy = (
            f"Copy it, then upgrade it: optuna storage upgrade --storage {shlex.quote(url)}"
            if version in known
            else "Install the later version of Optuna that wrote it, or name another with --storage."
        )
        raise RecordError(
            f"A record must have the schema of Optuna {optuna.__version__}, but {url} has that of "
            f"{'an earlier' if version in known else 'a later'} version ({version}). {remedy}"
        ) from error


def schema_version(url: str) -> str | None:
    """The version of the tables of the database at ``url``, in the words of the program that made them; None if empty.

    Raises SQLAlchemy's errors, and ``ImportError`` where a driver is missing.
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


FAULTS = (SQLAlchemyError, StorageInternalError)
"""What a storage raises when it cannot be read or written."""


def unusable(url: str, error: BaseException) -> RecordError:
    """The error for a storage at ``url`` that raised ``error``: its first cause, and what can be done about it."""
    if install := missing(error):
        return RecordError(f"The record must be a database that Optuna can open, but {url} is not yet. {install}")
    while error.__cause__ is not None:
        error = error.__cause__
    if type(error) is sqlite3.DatabaseError:
        return _broken(url, str(error))
    first = str(error).partition("\n")[0]
    return RecordError(
        f"The record must be a database that Optuna can open and write, but {url} cannot be used: {first}. Check the "
        f"address, the folder's rights and the free space, or name another with --storage. What was finished is kept: "
        f"run the same command again."
    )


def check_file(url: str) -> None:
    """Raise ``RecordError`` where the SQLite file at ``url`` is damaged, or another program's."""
    path = sqlite_file(url)
    if path is not None and (why := damage(path)) is not None:
        raise _broken(url, why)


def damage(path: Path) -> str | None:
    """Why the SQLite file ``path`` is no record, as a clause; None where it is one, is empty or is not there.

    Only its first page is read: what is damaged further down shows when it is met, or to `damaged_pages`.
    """
    if not _holds_something(path):
        return None
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.OperationalError:
        return None  # locked, or not to be read: what opens it says so
    except sqlite3.DatabaseError as error:
        return str(error)
    if tables and not tables & {"studies", "alembic_version"}:  # `_connect` tells the versions of others
        return f"it holds the tables {', '.join(sorted(tables)[:5])} and none of Optuna's"
    return None


def damaged_pages(path: Path) -> str | None:
    """What is wrong with the pages of a SQLite file; None where nothing is, or where another process holds it."""
    try:
        with closing(sqlite3.connect(path)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if verdict == "ok" else str(verdict)


def set_aside(path: Path) -> Path:
    """Rename a SQLite file with its logs, so that it can be made anew; returns its new name."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in range(1000))
    aside = next(name for name in names if not name.exists())
    for end in ("-wal", "-shm", ""):
        if (part := path.with_name(path.name + end)).exists():
            part.replace(aside.with_name(aside.name + end))
    return aside


def _broken(url: str, why: str) -> RecordError:
    return RecordError(
        f"The record must be a whole database of Optuna's, but {url} is not: {why}. Name another with --storage, "
        f"restore it from a copy, or let\n  python -m harness.doctor --repair\nwith the same --out and --storage set "
        f"it aside and rebuild it from the results."
    )
