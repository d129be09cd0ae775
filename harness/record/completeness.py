"""Whether a record knows all that its study has left among the results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from optuna.trial import FrozenTrial

from harness.errors import RecordError
from harness.record import journal
from harness.record.storage import is_there, open_storage, usable
from harness.text import abridged, count
from sam2lora.files import RESULT, TRIALS


def results(folder: Path) -> set[str]:
    """The keys of the trials whose result lies in the folder of a study, sound or not."""
    return {path.parent.name for path in folder.glob(f"{TRIALS}/*/{RESULT}")}


def frozen_trials(storage_url: str, study: str) -> list[FrozenTrial]:
    """The trials of ``study`` as Optuna has them, none where record or study are missing. Raises ``RecordError``."""
    with suppress(KeyError), usable(storage_url):
        if is_there(storage_url):
            storage = open_storage(storage_url)
            return storage.get_all_trials(storage.get_study_id_from_name(study), deepcopy=False)
    return []


def missing(trials: Sequence[FrozenTrial], folder: Path) -> list[str]:
    """What the folder of a study holds and ``trials``, those of its record, do not: results by key, else by number."""
    known = {trial.user_attrs.get("key") for trial in trials}
    unknown, kept = results(folder) - known, journal.read(folder)
    keys = {number: kept.trials[number]["user_attrs"].get("key") for number in kept.ahead_of(trials)}
    return [*sorted(unknown), *(f"trial {number}" for number, key in keys.items() if key not in unknown)]


def check_complete(storage_url: str, study: str, folder: Path) -> None:
    """Raise ``RecordError`` where the folder of a study holds what its record does not.

    To continue would train again what is there, and make other choices than with what was learnt.
    """
    trials = frozen_trials(storage_url, study)
    if lost := missing(trials, folder):
        raise RecordError(
            f"A record must hold all that its study has left in {folder}, but that in {storage_url} holds "
            f"{count(len(trials), 'trial')} and lacks {abridged(lost)}. Rebuild it with\n"
            f"  python -m harness.doctor {study} --repair\n"
            f"and the same --out and --storage, restore it from a copy, name it with --storage, or name another study "
            f"with --study."
        )
