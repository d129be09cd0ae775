"""Trials that another study of the same record has completed: they are copied, not trained again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.record import study as recorded
from harness.record.study import Record
from sam2lora.artifacts import ADAPTER, IMAGES, PREDICTIONS, RESULT
from sam2lora.train import write_atomically

_FILES = (IMAGES, ADAPTER, PREDICTIONS, RESULT)  # the result last: it seals the folder


@dataclass(frozen=True)
class _Found:
    study: str
    trial: FrozenTrial
    folder: Path


class Elsewhere:
    """What the other studies of a record have completed, by key; a ``harness.execution.searcher.Elsewhere``.

    ``results``: the folder that holds the folder of every study. A trial whose files are not there is not taken. What
    other studies complete later is not seen.
    """

    def __init__(self, record: Record, results: Path) -> None:
        self.record = record
        self.found: dict[str, _Found] = {}
        storage = recorded.open_storage(record.storage_url)
        for study in storage.get_all_studies():
            if study.study_name != record.name:
                for trial in storage.get_all_trials(study._study_id, deepcopy=False, states=(TrialState.COMPLETE,)):
                    self._note(study.study_name, trial, results)

    def _note(self, study: str, trial: FrozenTrial, results: Path) -> None:
        attributes = trial.user_attrs
        if "reused_from" in attributes or attributes.get("outcome", {}).get("kind") != "completed":
            return
        folder = results / study / "trials" / attributes["key"]
        if all((folder / name).is_file() for name in _FILES):
            self.found.setdefault(attributes["key"], _Found(study, trial, folder))

    def __call__(self, trial: optuna.Trial, key: str) -> FrozenTrial | None:
        """Give ``trial`` the result of the trial with that key, with a copy of its files; None if there is none."""
        found = self.found.get(key)
        if found is None:
            return None
        for name in _FILES:
            write_atomically(self.record.files(key) / name, partial(shutil.copyfile, found.folder / name))
        return recorded.take(self.record, trial, found.trial, found.study)
