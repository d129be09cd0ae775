"""Results that are copied and not trained again: those of equal settings in another study of the record."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna

from harness.record import optuna_writer
from harness.record.locations import study_folder, trial_folder
from harness.record.storage import open_storage
from harness.record.study import Record, questions
from harness.record.trials import RecordedTrial, read_trials
from sam2lora.files import ADAPTER, IMAGES, PREDICTIONS, RESULT, write_atomically
from sam2lora.integrity import read_result

_FILES = (IMAGES, ADAPTER, PREDICTIONS, RESULT)  # the result last: it seals the folder


@dataclass(frozen=True)
class _Completed:
    study: str
    trial: RecordedTrial
    folder: Path


class OtherStudies:
    """The completed trials of the other studies of a record, by key, as they were when this was made.

    A trial whose files are gone is left out.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self._trials: dict[str, _Completed] = {}
        storage = open_storage(record.storage_url)
        for study in questions(storage):
            for trial in read_trials(storage, study) if study != record.name else ():
                folder = trial_folder(study_folder(record.out, study), trial.key)
                trained = trial.completed and trial.reused_from is None
                if trained and all((folder / name).is_file() for name in _FILES):
                    self._trials.setdefault(trial.key, _Completed(study, trial, folder))

    def copy(self, trial: optuna.Trial, key: str) -> RecordedTrial | None:
        """Give ``trial`` the result of the trial with that key and a copy of its files; None if there is none.

        Raises ``DamagedFile`` where a file is not as it was written: nothing is copied.
        """
        twin = self._trials.pop(key, None)
        if twin is None:
            return None
        read_result(twin.folder)
        for name in _FILES:
            write_atomically(self.record.files(key) / name, partial(shutil.copyfile, twin.folder / name))
        return optuna_writer.copy(self.record, trial, twin.trial, twin.study)
