"""Repairs what can be repaired: the record from journals and results, MLflow from the record, and damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import StudyBusy
from harness.health.study import damaged_files
from harness.health.tracking import reopen_differing
from harness.record import journal
from harness.record.completeness import frozen_trials
from harness.record.journal import JOURNAL
from harness.record.locations import LOCK, study_folder
from harness.record.rebuild import restore, set_damaged_aside, studies
from harness.record.storage import is_there
from harness.record.study import Record, load_record
from harness.text import abridged, count
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.tracker import Material

__all__ = ["repair", "studies"]


def repair(storage_url: str, mlflow_uri: str, out: Path, study: str | None) -> Iterator[str]:
    """Repair ``study``, or where None is named or the whole record is gone, all studies of ``out``.

    Yields what was done, a sentence each. Raises ``RecordError`` where a record cannot be rebuilt, ``StudyBusy`` where
    a process runs a study, and ``TrackingError`` where MLflow cannot be used.
    """
    aside = set_damaged_aside(storage_url)
    if aside is not None:
        yield f"{aside}."
    lost = aside is not None or not is_there(storage_url)
    for name in studies(out) if study is None or lost else [study]:
        with _exclusive(study_folder(out, name)):
            yield from _repair(storage_url, mlflow_uri, out, name)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise StudyBusy(
            f"A study is repaired while nothing runs it, but {folder} is in use by another process: wait for it."
        ) from None


def _repair(storage_url: str, mlflow_uri: str, out: Path, name: str) -> Iterator[str]:
    folder = study_folder(out, name)
    if not frozen_trials(storage_url, name) or journal.read(folder).study is not None:
        restored = restore(storage_url, out, name)
        if restored.trials:
            yield f"{name}: the record has {count(len(restored.trials), 'trial')} again."
        for what in restored.lost:
            yield f"{name}: not restored: {what}."
    record = load_record(storage_url, name, out)
    yield from _renew_journal(record)
    for path, why in damaged_files(record.trials(), folder):
        if path.exists():
            aside = path.replace(path.with_name(f"{path.name}.damaged"))
            yield f"{name}: {path.parent.name}/{path.name} is now {aside.name}, since {why}."
    yield from _complete_tracker(record, mlflow_uri)


def _renew_journal(record: Record) -> Iterator[str]:
    """Write what the journal lacks; where it is damaged, all of it anew."""
    path = record.folder / JOURNAL
    kept = journal.read(record.folder)
    if kept.damaged:
        aside = path.replace(path.with_name(f"{JOURNAL}.damaged"))
        yield f"{record.name}: the journal is written anew; the damaged one is now {aside.name}."
    elif kept.study is None:
        yield f"{record.name}: the journal is written from the record."
    journal.catch_up(record.study, record.folder)


def _complete_tracker(record: Record, uri: str) -> Iterator[str]:
    """Write what MLflow lacks of a study, and anew what differs from the record."""
    attributes = record.attributes
    numbers: list[int] = []
    if is_there(uri):
        with suppress(MlflowException, SQLAlchemyError, OSError):  # which the tracker mends or reports
            numbers = reopen_differing(MlflowClient(uri), record)
    materials = [Material(**material) for material in attributes.get("materials", ())]
    tracker = MlflowTracker(uri, record, attributes["question"], materials)
    if warning := tracker.wait():
        yield f"{record.name}: {warning}"
    tracker.complete()
    if numbers:
        trials = abridged([f"trial {number}" for number in numbers])
        yield f"{record.name}: MLflow's runs of {trials} are written anew."
