"""The command on a study of every ending, in a real record and a real MLflow; Ray and the machine are left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from filelock import FileLock
from mlflow import MlflowClient

from harness import doctor
from harness.health import environment
from harness.record import optuna_writer
from harness.record.journal import JOURNAL
from harness.record.locations import LOCK
from harness.record.outcome import Completed
from harness.record.study import Record
from harness.tracking.mlflow_tracker import SEALED, MlflowTracker
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.files import ADAPTER, IMAGES, PREDICTIONS, RESULT
from sam2lora.integrity import digests_of, seal

from ..conftest import QUESTION
from ..record.test_rebuild import lose
from ..tracking.conftest import migrated as migrated
from ..tracking.conftest import uri as uri
from ..tracking.test_mlflow_tracker import MATERIALS, content, play, runs

FILES = (IMAGES, ADAPTER, PREDICTIONS)


@pytest.fixture
def study(record: Record, tiny: TrialConfig, uri: str, monkeypatch: pytest.MonkeyPatch) -> Record:
    """A study of trials of every ending, one with files, in record, journal and MLflow alike."""
    monkeypatch.setattr(environment, "examine", lambda out, data: ())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record.write(materials=[asdict(material) for material in MATERIALS])
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    play(record, tiny, None)
    trial = record.study.ask()
    optuna_writer.begin(trial, "whole", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
    record.note(trial.number)
    folder = record.files("whole")
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(name)
    curve = [{"epoch": 1, "score": 0.5}]
    tested: dict[str, Any] = {"scores": {"cedar/dice": 0.4}, "n_images": {"cedar": 4}, "roles": {"cedar": "target"}}
    tested |= {"validation": {}, "undefined": {}, "threshold": 0.5, "files": digests_of(folder, FILES)}
    (folder / RESULT).write_text(seal({**tested, "curve": curve}))
    optuna_writer.tell(record, trial, Completed(1, 0.5, **tested), curve, {"train_seconds": 3.0})
    plain = record.files("key0")  # of an earlier version, which kept no checksums
    (plain / RESULT).write_text(json.dumps({}))
    tracker.wait()
    tracker.close(None)
    return record


def examined(record: Record, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit status of the command, and what it finds wrong."""
    capsys.readouterr()
    status = doctor.main(["study", "--out", str(record.out), "--json", *options])
    found = json.loads(capsys.readouterr().out) if status < 2 else {}
    return status, [finding for group in found.values() for finding in group if not finding["sound"]]


def test_a_sound_study_is_left_alone(study: Record, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(uri), (study.folder / JOURNAL).read_bytes()
    assert examined(study, capsys) == (0, [])
    assert doctor.main(["study", "--out", str(study.out)]) == 0
    assert "All is well." in capsys.readouterr().out
    assert examined(study, capsys, "--repair") == (0, [])
    assert (content(uri), (study.folder / JOURNAL).read_bytes()) == before


def test_a_lost_record_and_a_lost_mlflow_are_written_again(
    study: Record, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, trials = content(uri), study.trials()
    lose(study, Path.unlink)
    status, wrong = examined(study, capsys)
    assert (status, [finding["subject"] for finding in wrong]) == (1, ["record"])
    (study.out / "mlflow.db").unlink()
    assert examined(study, capsys, "--repair") == (0, [])
    assert content(uri) == before
    again = Record(study.study, study.storage_url, study.out).trials()
    assert [(one.key, one.outcome, one.values) for one in again] == [(t.key, t.outcome, t.values) for t in trials]


def running(uri: str, record: Record) -> None:
    MlflowClient(uri).update_run(runs(uri)["0"].info.run_id, status="RUNNING")


def unsealed(uri: str, record: Record) -> None:
    MlflowClient(uri).delete_tag(runs(uri)["1"].info.run_id, SEALED)


def deleted(uri: str, record: Record) -> None:
    MlflowClient(uri).delete_run(runs(uri)["2"].info.run_id)


def other_score(uri: str, record: Record) -> None:
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("update latest_metrics set value = 0.9 where key = 'score'"))
    engine.dispose()


def damaged_journal(uri: str, record: Record) -> None:
    path = record.folder / JOURNAL
    path.write_bytes(path.read_bytes().replace(b"diverged", b"divorced"))


def without_journal(uri: str, record: Record) -> None:
    (record.folder / JOURNAL).unlink()


@pytest.mark.parametrize(
    ("fault", "subject"),
    [
        (running, "MLflow"),
        (unsealed, "MLflow"),
        (deleted, "MLflow"),
        (other_score, "MLflow"),
        (damaged_journal, "journal"),
        (without_journal, "journal"),
    ],
)
def test_what_differs_from_the_record_is_found_and_written_again(
    fault: Callable[[str, Record], None], subject: str, study: Record, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(uri)
    fault(uri, study)
    status, wrong = examined(study, capsys)
    assert status == 1
    assert {finding["subject"] for finding in wrong} == {subject}
    assert all(finding["rule"] and finding["value"] and finding["remedy"] for finding in wrong)
    assert examined(study, capsys, "--repair") == (0, [])
    assert content(uri) == before


@pytest.mark.parametrize("name", [ADAPTER, RESULT])
def test_a_damaged_file_is_set_aside(name: str, study: Record, capsys: pytest.CaptureFixture[str]) -> None:
    path = study.files("whole") / name
    path.write_text("other bytes")
    status, (finding,) = examined(study, capsys)
    assert (status, finding["subject"]) == (1, f"whole/{name}")
    assert "checksum differs" in finding["value"]
    _, (finding,) = examined(study, capsys, "--repair")
    assert "it is missing" in finding["value"]
    assert path.with_name(f"{name}.damaged").read_text() == "other bytes"


def test_a_result_that_says_something_else_than_the_record_is_found(
    study: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study.files("whole") / RESULT
    result = json.loads(path.read_text())
    del result["checksum"]
    path.write_text(seal({**result, "scores": {"cedar/dice": 0.9}}))
    status, (finding,) = examined(study, capsys)
    assert (status, finding["subject"]) == (1, "trial 4")
    assert "another scores" in finding["value"]


def test_misuse_is_one_message(study: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["nothing", "--out", str(study.out)]) == 2
    assert "name one of" in capsys.readouterr().err
    with FileLock(study.folder / LOCK):
        assert doctor.main(["study", "--out", str(study.out), "--repair"]) == 2
    assert "in use by another process" in capsys.readouterr().err
