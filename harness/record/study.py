"""The study's record: an Optuna study, read and written in one place.

``tell`` is the commit point: everything a trial leaves behind is written before it. MLflow is a view of this record and
Ray's folder is disposable.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import OtherFolder, OtherQuestion, RecordError
from harness.record.objectives import DIRECTIONS, Objective, values, worst
from harness.record.outcome import (
    JUDGED,
    KINDS,
    WORST,
    Completed,
    Crashed,
    Diverged,
    Infeasible,
    Outcome,
    OutOfMemory,
    Stopped,
)
from harness.record.provenance import provenance


@dataclass(frozen=True)
class Record:
    """One study in its storage, with the folder that holds its trials' files: ``<folder>/trials/<key>/``.

    ``objectives``: what each value of a trial is, in the study's order.
    """

    study: optuna.Study
    storage_url: str
    folder: Path
    objectives: tuple[Objective, ...] = ("val/dice",)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """The trial of that number."""
        return self.trials()[number]

    def files(self, key: str) -> Path:
        """Where the files of the trial ``key`` lie."""
        return self.folder / "trials" / key


def open_record(
    storage_url: str,
    name: str,
    folder: Path,
    question: Mapping[str, Any],
    sampler: BaseSampler,
    command: str = "",
    objectives: tuple[Objective, ...] = ("val/dice",),
    growing: str = "",
) -> Record:
    """The study ``name``, created on first use; ``command``, as it was typed, tells a report how to go on.

    ``growing``: the dotted name of a list in the question that is no part of its identity: the longer one is kept.
    Raises ``OtherQuestion`` with every difference when the study exists and asks something else, ``OtherFolder`` when
    its files lie elsewhere, ``RecordError`` when the storage cannot be used.
    """
    storage = open_storage(storage_url)
    try:
        write_ahead(storage_url)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[DIRECTIONS[objective] for objective in objectives],
            sampler=sampler,
            load_if_exists=True,
        )
        recorded = study.user_attrs.get("question")
        if recorded is None:
            study.set_user_attr("question", dict(question))
            study.set_user_attr("provenance", {**provenance(), "command": command})
        else:
            _go_on(study, recorded, question, growing)
        _settle(study, folder)
    except FAULTS as error:
        raise unusable(storage_url, error) from error
    return Record(study, storage_url, folder, objectives)


def _go_on(study: optuna.Study, recorded: Mapping[str, Any], asked: Mapping[str, Any], growing: str) -> None:
    (before, had), (now, has) = _apart(recorded, growing), _apart(asked, growing)
    if differences := compare(before, now):
        command = study.user_attrs.get("provenance", {}).get("command")
        typed = f" It was begun with:\n  {command}" if command else ""
        raise OtherQuestion(
            f"Going on with a study must not change its question, but study {study.study_name!r} differs:\n"
            + "\n".join(f"  {line}" for line in differences)
            + f"\nName another study with --study, or give the recorded values.{typed}"
        )
    if len(has) > len(had):
        study.set_user_attr("question", dict(asked))


MARK = ".study"
"""The file in a study's folder by which its record knows the folder again, wherever it was moved to."""


def _settle(study: optuna.Study, folder: Path) -> None:
    """Keep a study to one folder: its lock keeps other processes away, and a second folder would have a second lock."""
    mark, recorded = folder / MARK, study.user_attrs.get("folder")
    if recorded is None:
        identity = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(identity)
        study.set_user_attr("folder", {"path": str(folder), "mark": identity})
    elif not mark.is_file() or mark.read_text() != recorded["mark"]:
        raise OtherFolder(
            f"All files of a study must lie in one folder, but study {study.study_name!r} began in {recorded['path']} "
            f"and {folder} is another: give the --out that it began with, or name another study with --study (as also "
            f"where its files are gone)."
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


LOCAL = frozenset({"apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "ntfs", "overlay", "tmpfs", "xfs", "zfs"})
"""File systems of one machine: SQLite's write-ahead log needs memory that all who open the file share."""


def write_ahead(url: str) -> None:
    """Keep a log beside the SQLite file at ``url``: a commit then waits for the disk once, not three times.

    It stands in the file itself, for whoever opens it. Other databases stay as they are; so do a file that somebody is
    writing to and one on a file system that may be a network's.
    """
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and file_system(path) in LOCAL:
        with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")


def file_system(path: Path) -> str:
    """The kind of file system that ``path`` is or would be on; empty where the machine does not say."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[place] for place in (path.resolve(), *path.resolve().parents) if place in mounts), "")


def open_storage(url: str) -> RDBStorage:
    """The storage at ``url``. Raises ``RecordError``, also where the folder of a SQLite file is not there."""
    folder = Path(url.removeprefix("sqlite:///")).parent
    if url.startswith("sqlite:///") and not folder.is_dir():
        raise RecordError(
            f"The record must be in a folder that exists, but {folder} of {url} does not: make it, or name "
            f"another with --storage."
        )
    try:
        return RDBStorage(url)
    except (OSError, ImportError, *FAULTS) as error:
        raise unusable(url, error) from error


FAULTS = (SQLAlchemyError, StorageInternalError)
"""What a storage raises when it cannot be read or written."""


def unusable(url: str, error: BaseException) -> RecordError:
    """What to tell a person when the storage at ``url`` raised ``error``: its first cause, and what can be done."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = str(error).partition("\n")[0]
    return RecordError(
        f"The record must be a database that Optuna can open and write, but {url} cannot be used: {first}. Check the "
        f"address, the folder's rights and the free space, or name another with --storage. What was finished is kept: "
        f"run the same command again."
    )


def compare(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One line per value in which two questions differ; of data sets the names, not what follows.

    Of the digests those are told whose material both questions name.
    """
    before, now = _flat(recorded), _flat(asked)
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


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return {k: v for i, inner in enumerate(value) for k, v in _flat(inner, f"{prefix}{i}.").items()}
    return {prefix.removesuffix("."): value}


def begin(
    trial: optuna.Trial,
    key: str,
    config: str,
    replicate: str,
    excess: Mapping[str, float] | None = None,
    *,
    oracle_prompt: bool,
) -> None:
    """Write what a trial is about to run, before anything of it runs.

    ``excess``: by how much it misses each constraint of the search, met ones included: a sampler learns from both.
    ``oracle_prompt``: whether its scores will be reached with prompts drawn from the ground truth, ``Prompt.oracle`` of
    its test prompt. Whoever reads the record reads this and does not judge by the settings again.
    """
    for name, value in (excess or {}).items():
        trial.set_constraint(name, value)
    trial.set_user_attr("key", key)
    trial.set_user_attr("config", config)
    trial.set_user_attr("oracle_prompt", oracle_prompt)
    trial.set_user_attr("replicate", json.loads(replicate))


def report(trial: optuna.Trial, epoch: int, score: float) -> None:
    """Write the validation score of an epoch. An epoch that is already there was replayed and is left as it is.

    Optuna keeps no intermediate values for several objectives: there the curve of the trial's attributes is all.
    """
    if len(trial.study.directions) > 1:
        return
    if epoch not in trial.storage.get_trial(trial._trial_id).intermediate_values:
        trial.report(score, epoch)


def tell(
    record: Record, trial: optuna.Trial, outcome: Outcome, curve: list[dict[str, float]], cost: Mapping[str, float]
) -> FrozenTrial:
    """Commit how a trial ended.

    Completed is COMPLETE with its values; Stopped is PRUNED; Diverged is COMPLETE with the worst value of every
    objective, which teaches the sampler; so is Infeasible, which violates its constraints, too: of samplers that learn
    from constraints TPE alone looks at trials that are not COMPLETE. OutOfMemory is PRUNED and violates a constraint of
    its own; Crashed is FAIL.
    """
    trial.set_user_attr("outcome", {"kind": KINDS[type(outcome)], "epoch": outcome.epoch, "why": _why(outcome)})
    trial.set_user_attr("curve", curve)
    trial.set_user_attr("cost", dict(cost))
    study = record.study
    match outcome:
        case Completed():
            for name in JUDGED:
                trial.set_user_attr(name, getattr(outcome, name))
            return study.tell(trial, values(record.objectives, outcome.score, cost))
        case Stopped():
            return study.tell(trial, state=TrialState.PRUNED)
        case Diverged():
            report(trial, outcome.epoch, WORST)
            return study.tell(trial, worst(record.objectives))
        case Infeasible():
            return study.tell(trial, worst(record.objectives))
        case OutOfMemory():
            trial.set_constraint("memory", 1.0)
            return study.tell(trial, state=TrialState.PRUNED)
        case Crashed():
            return study.tell(trial, state=TrialState.FAIL)


def _why(outcome: Outcome) -> str:
    match outcome:
        case Completed():
            return "all epochs ran"
        case Stopped(epoch=epoch):
            return f"stopped by the scheduler after epoch {epoch}"
        case Diverged(why=why) | OutOfMemory(why=why) | Infeasible(why=why) | Crashed(why=why):
            return why


_COPIED = ("outcome", "curve", *JUDGED)


def reuse(record: Record, trial: optuna.Trial, twin: FrozenTrial) -> FrozenTrial:
    """Give ``trial`` the ending of ``twin``, which has the same key: the same experiment is never run twice.

    Its cost is zero and ``reused_from`` names the twin.
    """
    trial.set_user_attr("reused_from", twin.user_attrs.get("reused_from", twin.number))
    for name in _COPIED:
        if name in twin.user_attrs:
            trial.set_user_attr(name, twin.user_attrs[name])
    trial.set_user_attr("cost", {})
    for epoch, score in sorted(twin.intermediate_values.items()):
        trial.report(score, epoch)
    own = record.trial(trial.number).constraints
    for name, value in twin.constraints.items():
        if name not in own:  # equal settings have equal constraints, and Optuna takes each once
            trial.set_constraint(name, value)
    return record.study.tell(trial, twin.values if twin.state == TrialState.COMPLETE else None, state=twin.state)


def take(record: Record, trial: optuna.Trial, twin: FrozenTrial, study: str) -> FrozenTrial:
    """Give ``trial`` the result of ``twin``, a completed trial of equal key in another ``study``.

    It is a measurement of this study like any other, and its cost is what it cost there; ``taken_from`` says where.
    """
    trial.set_user_attr("taken_from", {"study": study, "number": twin.number})
    for name in (*_COPIED, "cost"):
        if name in twin.user_attrs:
            trial.set_user_attr(name, twin.user_attrs[name])
    for entry in twin.user_attrs["curve"]:
        report(trial, int(entry["epoch"]), entry["score"])
    return record.study.tell(trial, values(record.objectives, twin.values[0], twin.user_attrs["cost"]))


def finished(trials: list[FrozenTrial]) -> dict[str, FrozenTrial]:
    """The trials that have an ending which stands, by key: all but the crashed ones and those still open.

    Of several the first that was told COMPLETE, else the first: a probe trains what was stopped early to its end.
    """
    told = [
        trial
        for state in (TrialState.PRUNED, TrialState.COMPLETE)
        for trial in reversed(trials)
        if trial.state == state and "key" in trial.user_attrs
    ]
    return {trial.user_attrs["key"]: trial for trial in told}


def is_probe(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the study's probe, kept apart from its sampler's: see `harness.execution.probe`."""
    return "probe" in trial.user_attrs


def is_reference(trial: FrozenTrial) -> bool:
    """Whether a trial is one that the study's best is compared with: see `harness.execution.references`."""
    return "reference" in trial.user_attrs


def is_beside(trial: FrozenTrial) -> bool:
    """Whether a trial is none of the sampler's, who does not see it, and no scheduler stops it."""
    return is_probe(trial) or is_reference(trial)


def reopen(record: Record, frozen: FrozenTrial) -> optuna.Trial:
    """The handle of a trial that an earlier run left open."""
    return optuna.Trial(record.study, frozen._trial_id)


def abandon(record: Record, frozen: FrozenTrial) -> None:
    """Close a trial that was asked for but never began: it holds no settings and nothing can go on from it."""
    record.study.tell(frozen.number, state=TrialState.FAIL)


def count(storage_url: str, name: str) -> int:
    """How many trials the study ``name`` has so far; 0 if there is no such study."""
    storage = open_storage(storage_url)
    with suppress(KeyError):
        return storage.get_n_trials(storage.get_study_id_from_name(name))
    return 0


def attributes(storage_url: str, name: str) -> dict[str, Any]:
    """What the study ``name`` has written about itself so far; nothing if there is no such study."""
    storage = open_storage(storage_url)
    with suppress(KeyError):
        return dict(storage.get_study_user_attrs(storage.get_study_id_from_name(name)))
    return {}
