"""The study's record: an Optuna study, opened and held to its question and its folder.

MLflow is a view of this record and Ray's folder is disposable.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from harness.errors import OtherFolder, OtherQuestion
from harness.record import journal
from harness.record.locations import study_folder, trial_folder
from harness.record.objectives import DIRECTIONS, Objective
from harness.record.provenance import provenance
from harness.record.storage import open_storage, usable, write_ahead
from harness.record.trials import RecordedTrial
from sam2lora.choice import dotted


class _Folder(TypedDict):
    path: str
    mark: str


class StudyAttributes(TypedDict, total=False):
    """The ``user_attrs`` of a study, as JSON: the one list of their names.

    ``question``: all that must not change while the study grows. ``provenance``: versions, commit, and the ``command``
    that started it. ``folder``: where its files lie. ``validation``: on how many images (``n``) and patients
    (``clusters``) a validation score rests. ``looks``: of an ablation, the ``schedule``, the ``errors`` that each may
    make, whether the last command was ``adding`` replicates by verdicts, and the looks ``done``, each with its
    ``tests`` (`harness.stats.sequential.LookRecord`), so that its verdicts stand whatever is trained again later. A
    look that was recorded before that was kept is computed from the results there are. ``materials``: the data sets as
    a tracker shows them (`harness.tracking.tracker.Material`).
    """

    question: Mapping[str, Any]
    provenance: Mapping[str, Any]
    folder: _Folder
    validation: Mapping[str, int]
    looks: Mapping[str, Any]
    materials: Sequence[Mapping[str, Any]]


def write(study: optuna.Study, **attributes: Unpack[StudyAttributes]) -> None:
    """Write attributes of a study."""
    for name, value in attributes.items():
        study.set_user_attr(name, value)


@dataclass(frozen=True)
class Record:
    """One study in its storage. ``out``: the folder of all results (`harness.record.locations`).

    ``objectives``: what each value of a trial is, in the study's order.
    """

    study: optuna.Study
    storage_url: str
    out: Path
    objectives: tuple[Objective, ...] = ("val/dice",)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @property
    def folder(self) -> Path:
        """Where the study's files lie."""
        return study_folder(self.out, self.name)

    @property
    def attributes(self) -> StudyAttributes:
        """The attributes that the study has so far."""
        return cast(StudyAttributes, self.study.user_attrs)

    def write(self, **attributes: Unpack[StudyAttributes]) -> None:
        """Write attributes of the study."""
        write(self.study, **attributes)
        journal.append_study(self.study, self.folder)

    def note(self, number: int) -> RecordedTrial:
        """Write how the trial of that number stands into the journal, and return the trial."""
        trial = self._frozen(number)
        journal.append_trial(trial, self.folder)
        return RecordedTrial.of(trial)

    def trials(self) -> list[RecordedTrial]:
        """All trials, by number."""
        return [RecordedTrial.of(trial) for trial in self.study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> RecordedTrial:
        """The trial of that number."""
        return RecordedTrial.of(self._frozen(number))

    def _frozen(self, number: int) -> FrozenTrial:
        storage = self.study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

    def files(self, key: str) -> Path:
        """Where the files of the trial ``key`` lie."""
        return trial_folder(self.folder, key)


def open_record(
    storage_url: str,
    name: str,
    out: Path,
    question: Mapping[str, Any],
    sampler: BaseSampler,
    command: str = "",
    objectives: tuple[Objective, ...] = ("val/dice",),
    growing: str = "",
) -> Record:
    """The study ``name``, created on first use. ``command``: as it was typed; a report repeats it to resume the study.

    ``growing``: the dotted name of a list in the question that may grow: it is no part of the question's identity, and
    the longer one is kept. Raises ``OtherQuestion`` with every difference when the study exists and asks something
    else, ``OtherFolder`` when its files lie elsewhere, ``RecordError`` when the storage cannot be used.
    """
    storage = open_storage(storage_url)
    with usable(storage_url):
        write_ahead(storage_url)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[DIRECTIONS[objective] for objective in objectives],
            sampler=sampler,
            load_if_exists=True,
        )
        recorded = cast(StudyAttributes, study.user_attrs).get("question")
        if recorded is None:
            # The question last: a study that has it is complete.
            write(study, provenance={**provenance(), "command": command}, question=dict(question))
        else:
            _resume(study, recorded, question, growing)
        _claim_folder(study, study_folder(out, name))
        journal.catch_up(study, study_folder(out, name))
    return Record(study, storage_url, out, objectives)


def load_record(storage_url: str, name: str, out: Path) -> Record:
    """The study ``name`` as it is, for what runs none of its trials. Raises ``KeyError`` where there is none."""
    study = optuna.load_study(study_name=name, storage=open_storage(storage_url))
    objectives = cast(StudyAttributes, study.user_attrs).get("question", {}).get("objectives", ["val/dice"])
    return Record(study, storage_url, out, tuple(objectives))


ADDED = ("source",)
"""Fields of a question that earlier versions did not record: a study without one gets it when it is resumed."""


def _resume(study: optuna.Study, recorded: Mapping[str, Any], asked: Mapping[str, Any], growing: str) -> None:
    asked_then = {name: value for name, value in asked.items() if name not in ADDED or name in recorded}
    (before, had), (now, has) = _apart(recorded, growing), _apart(asked_then, growing)
    if differences := compare(before, now):
        command = cast(StudyAttributes, study.user_attrs).get("provenance", {}).get("command")
        typed = f" The study was started with:\n  {command}" if command else ""
        raise OtherQuestion(
            f"A resumed study must keep its question, but study {study.study_name!r} differs:\n"
            + "\n".join(f"  {line}" for line in differences)
            + f"\n{_remedy(study)}{typed}"
        )
    if len(has) > len(had) or len(asked) > len(asked_then):
        write(study, question=dict(asked))


def _remedy(study: optuna.Study) -> str:
    """What to do about another question: a study whose settings have fields of an earlier version is only read."""
    from sam2lora.config import TrialConfig  # brings torch, which a report does without

    configs = (RecordedTrial.of(trial).config for trial in study.get_trials(deepcopy=False))
    before = set(json.loads(next(filter(None, configs), "{}")))
    now = {field.name for field in fields(TrialConfig)}
    if gone := sorted(before - now):
        return (
            f"Its trials have settings that this version does not know ({', '.join(gone)}; new are "
            f"{', '.join(sorted(now - before))}): its report still opens, but only the version that started it can "
            f"continue it. Name another study with --study."
        )
    return "Name another study with --study, or give the recorded values."


MARK = ".study"
"""The file that identifies a study's folder to its record, wherever the folder is moved."""


def _claim_folder(study: optuna.Study, folder: Path) -> None:
    """Keep a study to one folder: its lock keeps other processes away, and a second folder would have a second lock."""
    mark, recorded = folder / MARK, cast(StudyAttributes, study.user_attrs).get("folder")
    if recorded is None:
        identity = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(identity)
        write(study, folder={"path": str(folder), "mark": identity})
    elif not mark.is_file() or mark.read_text() != recorded["mark"]:
        raise OtherFolder(
            f"All files of a study must lie in one folder, but study {study.study_name!r} keeps its files in "
            f"{recorded['path']}, and {folder} is another folder: repeat the --out of its first run, or name another "
            f"study with --study (also if its files are gone)."
        )


def _apart(question: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], list[Any]]:
    """A question without the list of that dotted name, and the list; no name, no list."""
    first, _, rest = name.partition(".")
    if first not in question:
        return question, []
    others = {key: value for key, value in question.items() if key != first}
    if not rest:
        return others, question[first]
    inner, value = _apart(question[first], rest)
    return {**others, first: inner}, value


def compare(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One line for each value in which two questions differ.

    Where data sets differ, their names are listed, and what follows from them is not. A digest is compared if both
    questions name its material.
    """
    before, now = dotted(recorded), dotted(asked)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    sets = [name for name in names if name in ("sources", "targets")]
    if sets:
        names = sets + [name for name in names if name not in sets and not _follows(name, before, now)]
    return [f"{name}: recorded {_shown(before.get(name))}; now {_shown(now.get(name))}" for name in names]


def _follows(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a value differs as the names of the data sets do."""
    first, *rest = name.split(".")
    one_sided = before.keys() ^ now.keys()
    return "protocol" in (first, *rest) or (first in ("materials", "left_out", "copies") and name in one_sided)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "nothing" if value is None else str(value)


def trial_count(storage: BaseStorage, name: str) -> int:
    """How many trials the study ``name`` has so far; 0 if there is no such study."""
    with suppress(KeyError):
        return storage.get_n_trials(storage.get_study_id_from_name(name))
    return 0


def attributes(storage: BaseStorage, name: str) -> StudyAttributes:
    """The attributes of the study ``name``; none if there is no such study."""
    with suppress(KeyError):
        return cast(StudyAttributes, storage.get_study_user_attrs(storage.get_study_id_from_name(name)))
    return {}


def questions(storage: BaseStorage) -> dict[str, Mapping[str, Any]]:
    """The studies of a record, oldest first, by name: what each asks, nothing where it does not say."""
    studies = sorted(storage.get_all_studies(), key=lambda study: study._study_id)
    return {study.study_name: cast(StudyAttributes, study.user_attrs).get("question", {}) for study in studies}
