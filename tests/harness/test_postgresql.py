"""Record and MLflow in PostgreSQL: a real server, two databases, and the same answers as from SQLite."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from harness.errors import RecordError, TrackingError
from harness.record.storage import open_storage
from harness.record.study import Record, open_record
from harness.record.table import read
from harness.reports import build
from harness.simulation import study as simulation
from harness.simulation.examples import loss_components
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.mlflow_tracking import MlflowTracking, local_tracking
from sam2lora.config import TrialConfig
from sam2lora.credentials import masked

from .. import postgres
from .conftest import QUESTION
from .reports.search.conftest import add, in_memory_first
from .tracking.test_mlflow_tracker import MATERIALS, content, play

Address = Callable[[str], str]


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    """Makes a database of a PostgreSQL server; its address."""
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres.running(programs) as server:
        yield lambda database: postgres.create(server, database)


def test_a_study_is_the_same_in_both_stores_and_is_continued(
    address: Address, tmp_path: Path, tiny: TrialConfig
) -> None:
    stores = {"postgresql": (address("record"), address("mlflow"))}
    stores["sqlite"] = (f"sqlite:///{tmp_path / 'sqlite/optuna.db'}", local_tracking(tmp_path / "sqlite"))
    held = {}
    for name, (storage, tracking) in stores.items():
        out = tmp_path / name
        out.mkdir()
        for _ in ("started", "continued"):
            record = open_record(storage, "study", out, QUESTION, RandomSampler(seed=0))
            tracker = MlflowTracker(tracking, record, QUESTION, MATERIALS)
            assert tracker.wait() == ""
            if not record.trials():
                play(record, tiny, tracker)
            tracker.close(None)
        held[name] = (content(tracking), [_plain(record)])
    assert held["postgresql"] == held["sqlite"]
    assert len(list((tmp_path / "postgresql/mlartifacts").rglob("adapter.safetensors"))) == 1, "not in this folder"


def _plain(record: Record) -> list[object]:
    return [(t.state, t.values, t.params, t.scores_by_epoch, t.curve, t.outcome, t.why) for t in record.trials()]


def _page(url: str, name: str, runs: Path) -> str:
    """The report, without the record's address."""
    table = read(url, name, runs)
    build.write(table, runs, MlflowTracking("sqlite:///mlflow.db").hint("study"))
    text = (runs / name / "report" / "report.md").read_text()
    shown = (shlex.quote(masked(url)), masked(url), '"${SAM2LORA_STORAGE:?}"')
    return reduce(lambda text, address: text.replace(address, ""), shown, re.sub(" --storage .*", "", text))


def _some_trials(study: optuna.Study, runs: Path) -> None:
    rng = np.random.default_rng(0)
    for outcome in ("completed", "stopped", "completed", "diverged", "out_of_memory", "completed", "crashed"):
        add(study, runs, rng, outcome)


def test_the_report_of_a_search_is_that_of_sqlite(address: Address, tmp_path: Path) -> None:
    record = in_memory_first(tmp_path, _some_trials)
    url = address("search")
    optuna.copy_study(from_study_name=record.name, from_storage=record.url, to_storage=open_storage(url))
    expected = _page(record.url, record.name, record.runs)
    assert _page(url, record.name, record.runs) == expected


def test_the_report_of_an_ablation_is_that_of_sqlite(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        simulation, "provenance", lambda: {"date": "2026-01-05"}
    )  # the time of writing is no difference
    study, url, local = loss_components(), address("ablation"), f"sqlite:///{tmp_path / 'optuna.db'}"
    simulation.write(study, local, tmp_path)
    expected = _page(local, study.name, tmp_path)
    simulation.write(study, url, tmp_path)
    assert _page(url, study.name, tmp_path) == expected


def test_a_driver_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, record: Record, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = "postgresql://somebody@nowhere/database"
    needed = r"needs the Python package psycopg, which is not there: pip install -e '\.\[postgres\]' brings it"
    with pytest.raises(RecordError, match=needed):
        open_storage(url)
    with pytest.raises(TrackingError, match=needed):
        MlflowTracker(url, record, QUESTION, MATERIALS).wait()
