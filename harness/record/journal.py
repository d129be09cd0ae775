"""The journal of a study: what its record holds, written once more next to its results.

A line says what the study asks, or how a trial stands when it starts and when it ends, after a checksum of the rest of
the line; of several on one trial the last holds. A line is written after the record, so a journal never knows more than
a sound record does. From it a record that was lost is written again (`harness.record.rebuild`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sam2lora.errors import DiskError
from sam2lora.integrity import digest_of

JOURNAL = "journal"
"""The file of the journal in a study's folder."""

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Journal:
    """What a journal says: the ``study`` (name, directions, attributes), None where no line does, and its ``trials``.

    ``trials``: by number, each as the last sound line on it says. ``damaged``: the numbers of the lines, from 1, that
    are not as they were written.
    """

    study: Entry | None = None
    trials: Mapping[int, Entry] = field(default_factory=dict)
    damaged: tuple[int, ...] = ()

    def ahead_of(self, trials: Iterable[FrozenTrial]) -> list[int]:
        """The trials that ``trials``, those of the record, lack or hold open, although they ended here."""
        known = {trial.number: trial for trial in trials}
        return [
            number
            for number, entry in self.trials.items()
            if number not in known or (_ended(entry) and not known[number].state.is_finished())
        ]


def read(folder: Path) -> Journal:
    """The journal in the folder of a study; an empty one where there is no file. Raises ``OSError``."""
    study: Entry | None = None
    trials: dict[int, Entry] = {}
    damaged = []
    for place, entry in enumerate(_entries(folder / JOURNAL), start=1):
        match entry:
            case None:
                damaged.append(place)
            case {"study": _}:
                study = entry
            case {"number": number}:
                trials[int(number)] = entry
    return Journal(study, dict(sorted(trials.items())), tuple(damaged))


def append_study(study: optuna.Study, folder: Path) -> None:
    """Write what a study is. Raises ``DiskError``."""
    _append(folder, [_study_entry(study)])


def append_trial(trial: FrozenTrial, folder: Path) -> None:
    """Write how a trial stands. Raises ``DiskError``."""
    _append(folder, [_trial_entry(trial)])


def catch_up(study: optuna.Study, folder: Path) -> None:
    """Write what a run that was killed, or an earlier version, left out. Raises ``DiskError`` and ``OSError``."""
    journal, now = read(folder), _study_entry(study)
    entries = [] if journal.study == now else [now]
    for trial in study.get_trials(deepcopy=False):
        known = journal.trials.get(trial.number)
        started = trial.state == TrialState.RUNNING and "replicate" in trial.user_attrs
        if (known is None and started) or (trial.state.is_finished() and (known is None or not _ended(known))):
            entries.append(_trial_entry(trial))
    _append(folder, entries)


def trial_of(entry: Entry) -> FrozenTrial:
    """The trial of an entry, for ``optuna.Study.add_trial``."""
    distributions = {name: json_to_distribution(text) for name, (_, text) in entry["params"].items()}
    trial = create_trial(
        state=TrialState[entry["state"]],
        values=entry["values"],
        params={name: distributions[name].to_external_repr(value) for name, (value, _) in entry["params"].items()},
        distributions=distributions,
        user_attrs=entry["user_attrs"],
        system_attrs=entry["system_attrs"],
        intermediate_values={int(epoch): score for epoch, score in entry["scores_by_epoch"].items()},
    )
    trial.datetime_start, trial.datetime_complete = (
        None if text is None else datetime.fromisoformat(text) for text in (entry["started"], entry["finished"])
    )
    return trial


def _ended(entry: Entry) -> bool:
    return TrialState[entry["state"]].is_finished()


def _study_entry(study: optuna.Study) -> dict[str, Any]:
    directions = [direction.name for direction in study.directions]
    return {"study": study.study_name, "directions": directions, "attributes": study.user_attrs}


def _trial_entry(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": {
            name: (trial.distributions[name].to_internal_repr(value), distribution_to_json(trial.distributions[name]))
            for name, value in trial.params.items()
        },
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "scores_by_epoch": trial.intermediate_values,
        "started": trial.datetime_start and trial.datetime_start.isoformat(),
        "finished": trial.datetime_complete and trial.datetime_complete.isoformat(),
    }


def _append(folder: Path, entries: Iterable[Entry]) -> None:
    texts = map(json.dumps, entries)
    lines = "".join(f"{digest_of(text.encode())} {text}\n" for text in texts)
    path = folder / JOURNAL
    if not lines:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() and _last_byte(path) != b"\n":
                lines = f"\n{lines}"  # the line before it was cut off
            file.write(lines.encode())
    except OSError as error:
        raise DiskError(
            f"The journal of a study must be written before the study goes on, but {path} cannot be: {error}. Free "
            f"some space or correct the folder's permissions, then run the same command again; what was finished is "
            f"kept."
        ) from error


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)


def _entries(path: Path) -> Iterator[Entry | None]:
    """The entries of a journal, None for a line that is damaged."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        digest, _, text = line.partition(b" ")
        yield json.loads(text) if digest_of(text).encode() == digest else None
