"""Writes what a record has lost again: from the journals and the results that lie among the files of its studies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.errors import RecordError
from harness.record import journal
from harness.record.journal import JOURNAL, Journal
from harness.record.locations import sqlite_file, study_folder, trial_folder
from harness.record.outcome import TEST_RESULTS
from harness.record.storage import damage, damaged_pages, open_storage, set_aside, usable
from harness.record.study import MARK
from sam2lora.errors import DamagedFile
from sam2lora.files import CHECKPOINT
from sam2lora.integrity import read_result


@dataclass(frozen=True)
class Restored:
    """What was written into the record of a ``study`` again: its ``trials``, by number, and what was ``lost`` of it.

    ``lost``: a clause for each thing that neither the journal nor a result holds.
    """

    study: str
    trials: tuple[int, ...]
    lost: tuple[str, ...]


def studies(out: Path) -> list[str]:
    """The studies with a journal in ``out``, by name."""
    return sorted(path.parent.relative_to(out).as_posix() for path in out.rglob(JOURNAL) if path.is_file())


def set_damaged_aside(storage_url: str) -> str | None:
    """Rename the SQLite file of a record that is damaged or another program's; returns what was done, None if sound."""
    path = sqlite_file(storage_url)
    why = None if path is None else damage(path) or damaged_pages(path)
    if path is None or why is None:
        return None
    return f"{path} is no whole database of Optuna's ({why}): it is now {set_aside(path).name}"


def restore(storage_url: str, out: Path, name: str) -> Restored:
    """Write into the record what the journal of the study ``name`` knows and the record does not.

    A study that the record holds keeps what it has. Raises ``RecordError`` where the journal does not say what the
    study asks, or where it and the record tell of different trials.
    """
    folder = study_folder(out, name)
    kept = journal.read(folder)
    if kept.study is None:
        raise RecordError(
            f"A record is rebuilt from the journal of its study, but {folder / JOURNAL} does not say what {name!r} "
            f"asks: restore the journal or the record from a copy, or run the study again under another name with "
            f"--study."
        )
    with usable(storage_url):
        return _restore(open_storage(storage_url), kept, folder, name)


def _restore(storage: RDBStorage, kept: Journal, folder: Path, name: str) -> Restored:
    assert kept.study is not None
    study = optuna.create_study(
        storage=storage, study_name=name, directions=[text.lower() for text in kept.study["directions"]],
        load_if_exists=True,
    )  # fmt: skip
    recorded = study.get_trials(deepcopy=False)
    _check_same(recorded, kept, folder)
    ahead = set(kept.ahead_of(recorded))
    for number in sorted(ahead & {trial.number for trial in recorded}):
        _close(storage, recorded[number], journal.trial_of(kept.trials[number]))
    restored, lost = sorted(ahead), []
    for number in range(len(recorded), max(kept.trials, default=-1) + 1):
        if number in kept.trials:
            trial, gap = _with_result(journal.trial_of(kept.trials[number]), folder, len(study.directions))
        else:
            trial, gap = create_trial(state=TrialState.FAIL), "all of it"
        study.add_trial(trial)
        lost += [f"of trial {number} {gap}"] if gap else []
    _restore_attributes(study, kept, folder)
    lost += [f"line {place} of {JOURNAL}, which is damaged" for place in kept.damaged]
    return Restored(name, tuple(restored), tuple(lost))


def _check_same(recorded: Sequence[FrozenTrial], kept: Journal, folder: Path) -> None:
    """Raise ``RecordError`` where the journal has another trial under a number than the record."""
    for trial in recorded:
        known = kept.trials.get(trial.number, {}).get("user_attrs", {}).get("key")
        if None not in (known, key := trial.user_attrs.get("key")) and known != key:
            raise RecordError(
                f"A journal and a record must tell of the same trials, but trial {trial.number} is {known} in "
                f"{folder / JOURNAL} and {key} in the record: name the record that belongs to it with --storage, or "
                f"move {folder} to another name."
            )


def _close(storage: RDBStorage, open_trial: FrozenTrial, ended: FrozenTrial) -> None:
    """Close a trial that the record holds open as its journal says."""
    for name, value in ended.user_attrs.items():
        storage.set_trial_user_attr(open_trial._trial_id, name, value)
    for name, value in ended.system_attrs.items():
        storage.set_trial_system_attr(open_trial._trial_id, name, value)
    for epoch, score in ended.intermediate_values.items():
        storage.set_trial_intermediate_value(open_trial._trial_id, epoch, score)
    storage.set_trial_state_values(open_trial._trial_id, ended.state, ended.values)


def _with_result(trial: FrozenTrial, folder: Path, objectives: int) -> tuple[FrozenTrial, str | None]:
    """A trial, completed where the journal has no line on its end and its result is there; what of it was lost."""
    place = trial_folder(folder, trial.user_attrs.get("key", ""))
    if trial.state != TrialState.RUNNING or (place / CHECKPOINT).exists():  # which is resumed, with its cost
        return trial, None
    if objectives > 1:  # its further values are what it cost
        return trial, "its end: it is trained again"
    with suppress(OSError, DamagedFile):
        result = read_result(place)
        curve = result["curve"]
        epoch, score = int(curve[-1]["epoch"]), curve[-1]["score"]
        completed = {"outcome": {"kind": "completed", "epoch": epoch, "why": "all epochs ran"}, "cost": {}}
        tested = {name: result[name] for name in TEST_RESULTS if name in result}
        trial = create_trial(
            state=TrialState.COMPLETE, value=score, params=trial.params, distributions=trial.distributions,
            user_attrs={**trial.user_attrs, **completed, "curve": curve, **tested}, system_attrs=trial.system_attrs,
            intermediate_values={int(entry["epoch"]): entry["score"] for entry in curve},
        )  # fmt: skip
        return trial, "its cost and its times"
    return trial, "its end: it is trained again"


def _restore_attributes(study: optuna.Study, kept: Journal, folder: Path) -> None:
    """Write the attributes that the study lacks, and that it lies where its folder is now."""
    assert kept.study is not None
    for name, value in kept.study["attributes"].items():
        if name not in study.user_attrs:
            study.set_user_attr(name, value)
    mark = study.user_attrs["folder"]["mark"]
    (folder / MARK).write_text(mark)
    study.set_user_attr("folder", {"path": str(folder), "mark": mark})
