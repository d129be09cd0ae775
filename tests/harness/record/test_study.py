from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from harness.errors import OtherFolder, OtherQuestion, RecordError
from harness.record import study as recorded
from harness.record.outcome import Completed, Crashed, Diverged, Outcome, OutOfMemory, Stopped
from harness.record.study import LOCAL, MARK, Record, file_system, open_record, open_storage, write_ahead

from ..conftest import QUESTION

COMPLETED = Completed(3, 0.7, {"cedar/dice": 0.6}, {"cedar": 4}, {"cedar": "target"}, {"alder/dice": 0.7}, {}, 0.4)


def start(record: Record, key: str = "k") -> optuna.Trial:
    trial = record.study.ask()
    trial.suggest_float("lr", 1e-4, 1e-2)
    recorded.begin(trial, key, "{}", json.dumps({"seed": 0, "fold": 0}), oracle_prompt=False)
    return trial


@pytest.mark.parametrize(
    ("outcome", "state", "value"),
    [
        (COMPLETED, TrialState.COMPLETE, 0.7),
        (Stopped(2, 0.4), TrialState.PRUNED, 0.4),
        (Diverged(2, "the loss is not finite"), TrialState.COMPLETE, 0.0),
        (OutOfMemory(1, "too large"), TrialState.PRUNED, None),
        (Crashed(1, "bug"), TrialState.FAIL, None),
    ],
)
def test_every_outcome_is_told_as_what_it_is(
    record: Record, outcome: Outcome, state: TrialState, value: float | None
) -> None:
    trial = start(record)
    if isinstance(outcome, Stopped):
        recorded.report(trial, 1, 0.3)
        recorded.report(trial, 2, 0.4)
    recorded.tell(record, trial, outcome, [{"epoch": 1, "score": 0.3}], {"train_seconds": 1.0})
    told = record.trial(trial.number)
    assert (told.state, told.value) == (state, value)
    assert told.user_attrs["outcome"]["epoch"] == outcome.epoch
    assert told.constraints == ({"memory": 1.0} if isinstance(outcome, OutOfMemory) else {})
    assert ("scores" in told.user_attrs) == isinstance(outcome, Completed)
    assert json.loads(json.dumps(told.user_attrs)) == told.user_attrs


def test_divergence_teaches_the_sampler_and_memory_is_infeasible(record: Record) -> None:
    """TPE must come to avoid the half of the space in which trials diverge, and the half in which they do not fit."""
    for bad in (Diverged(1, "nan"), OutOfMemory(1, "no room")):
        sampler = optuna.samplers.TPESampler(seed=1, multivariate=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        ours = Record(study, record.storage_url, record.folder)
        for number in range(40):
            trial = study.ask()
            x = trial.suggest_float("x", 0.0, 1.0)
            recorded.begin(trial, str(number), "{}", "{}", oracle_prompt=False)
            good = Completed(1, x, {}, {}, {}, {}, {}, None)
            recorded.tell(ours, trial, bad if x > 0.5 else good, [], {})
        late = [trial.params["x"] for trial in study.trials[15:]]
        assert sum(x > 0.5 for x in late) < len(late) / 2


def test_reuse_repeats_the_ending_without_its_cost(record: Record) -> None:
    first = start(record)
    recorded.report(first, 1, 0.7)
    recorded.tell(record, first, COMPLETED, [{"epoch": 1, "score": 0.7}], {"train_seconds": 9.0})
    second = start(record)
    recorded.reuse(record, second, recorded.finished(record.trials())["k"])
    told = record.trial(second.number)
    assert (told.state, told.value, told.user_attrs["reused_from"]) == (TrialState.COMPLETE, 0.7, first.number)
    assert told.user_attrs["scores"] == COMPLETED.scores
    assert told.user_attrs["cost"] == {}
    assert told.intermediate_values == {1: 0.7}


def test_reuse_of_what_did_not_fit_stays_infeasible(record: Record) -> None:
    first = start(record)
    recorded.tell(record, first, OutOfMemory(1, "no room"), [], {})
    second = start(record)
    recorded.reuse(record, second, recorded.finished(record.trials())["k"])
    assert record.trial(second.number).constraints == {"memory": 1.0}


def test_a_crash_is_no_ending(record: Record) -> None:
    recorded.tell(record, start(record), Crashed(0, "bug"), [], {})
    start(record, "open")
    assert recorded.finished(record.trials()) == {}


def test_of_other_data_sets_the_names_are_told_and_the_command_that_began(tmp_path: Path) -> None:
    def question(*sources: str, digest: str = "1") -> dict[str, object]:
        materials = {f"data/{name}": digest for name in sources} | {"weights/nano": "1"}
        protocol = {"kind": "transfer", "sources": [{"kind": name, "annotator": "first"} for name in sources]}
        return {**QUESTION, "sources": list(sources), "protocol": protocol, "materials": materials}

    def opened(asked: dict[str, object]) -> None:
        url = f"sqlite:///{tmp_path / 'optuna.db'}"
        open_record(
            url, "study", tmp_path / "study", asked, RandomSampler(), "python -m harness.search x --data fundus"
        )

    opened(question("drive", "stare"))
    with pytest.raises(OtherQuestion) as refusal:
        opened({**question("dogwood", "elm"), "targets": [], "epochs": 5})
    assert str(refusal.value).splitlines()[1:] == [
        "  sources: recorded drive, stare; now dogwood, elm",
        "  targets: recorded cedar; now none",
        "  epochs: recorded 3; now 5",
        "Name another study with --study, or give the recorded values. It was begun with:",
        "  python -m harness.search x --data fundus",
    ]
    with pytest.raises(OtherQuestion) as refusal:
        opened(question("drive", "stare", digest="2"))
    assert "  materials.data/drive: recorded 1; now 2" in str(refusal.value)


def test_another_question_is_refused_with_every_difference(record: Record) -> None:
    changed = {**QUESTION, "epochs": 5, "sources": ["birch"], "seed": 1}
    with pytest.raises(OtherQuestion) as refusal:
        open_record(record.storage_url, "study", record.folder, changed, RandomSampler())
    text = str(refusal.value)
    assert "epochs: recorded 3; now 5" in text
    assert "sources: recorded alder; now birch" in text
    assert "seed: recorded 0; now 1" in text
    assert "targets" not in text
    assert "--study" in text


def test_the_same_question_goes_on(record: Record) -> None:
    start(record)
    again = open_record(record.storage_url, "study", record.folder, dict(QUESTION), RandomSampler())
    assert len(again.trials()) == 1
    assert recorded.count(record.storage_url, "study") == 1
    assert recorded.count(record.storage_url, "another") == 0


def test_a_study_has_one_folder_wherever_that_is_moved(record: Record, tmp_path: Path) -> None:
    """A second folder has a lock of its own: two processes would train the same trials."""
    unmarked, marked = tmp_path / "unmarked", tmp_path / "of another study"
    unmarked.mkdir()
    marked.mkdir()
    (marked / MARK).write_text("another")
    for other in (unmarked, marked):
        with pytest.raises(OtherFolder, match=rf"began in {record.folder} and .*--out.*--study"):
            open_record(record.storage_url, "study", other, dict(QUESTION), RandomSampler())
    moved = record.folder.rename(tmp_path / "moved")
    assert open_record(record.storage_url, "study", moved, dict(QUESTION), RandomSampler()).folder == moved


def test_a_record_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is not a database" * 100)
    for url in (f"sqlite:///{tmp_path / 'broken.db'}", "sqlite:////proc/optuna.db"):
        with pytest.raises(RecordError, match=r"must be a database.*--storage"):
            open_record(url, "study", tmp_path, QUESTION, RandomSampler())


def test_the_folder_of_a_record_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"must be in a folder that exists, but .*nope of .* does not: make it"):
        open_record(f"sqlite:///{tmp_path / 'nope/x.db'}", "study", tmp_path / "s", QUESTION, RandomSampler())
    assert list(tmp_path.iterdir()) == []


def journal(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_record_on_a_local_disk_writes_ahead(record: Record) -> None:
    assert file_system(record.folder) in LOCAL
    path = Path(record.storage_url.removeprefix("sqlite:///"))
    assert journal(path) == "wal"
    record.study.ask()
    assert len(list(path.parent.glob(f"{path.name}*"))) == 3, "the file, its log and their index"
    assert len(open_storage(record.storage_url).get_all_studies()) == 1


def test_a_file_system_that_machines_may_share_keeps_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "file_system", lambda path: "nfs4")
    write_ahead(f"sqlite:///{tmp_path / 'shared.db'}")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_write_ahead_is_left_as_it_is(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_text("no database at all " * 100)
    write_ahead(f"sqlite:///{damaged}")
    assert damaged.read_text().startswith("no database")
    write_ahead("postgresql://nobody@nowhere/nothing")

    busy = tmp_path / "busy.db"
    with closing(sqlite3.connect(busy)) as holder:
        holder.execute("CREATE TABLE one (number)")
        holder.execute("BEGIN EXCLUSIVE")
        write_ahead(f"sqlite:///{busy}")
    assert journal(busy) == "delete"


def test_provenance_names_what_results_depend_on() -> None:
    names = recorded.provenance()
    assert {"torch", "sam2", "optuna", "ray", "mlflow", "python", "git"} <= names.keys()
