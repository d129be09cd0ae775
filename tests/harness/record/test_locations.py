from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import RecordError
from harness.record.locations import (
    RECORD,
    default_storage,
    same_database,
    sqlite_file,
    sqlite_url,
    study_folder,
    trial_folder,
)


def test_only_a_sqlite_address_has_a_file() -> None:
    assert sqlite_file(default_storage(Path("runs"))) == Path("runs", RECORD)
    assert sqlite_file("sqlite:////data/my runs/optuna.db") == Path("/data/my runs/optuna.db")
    assert sqlite_file("sqlite:////data/50 % (#1)/optuna.db?timeout=60") == Path("/data/50 % (#1)/optuna.db")
    for other in ("postgresql://nobody@nowhere/nothing", "http://tracking:5000", "databricks", "sqlite://", ""):
        assert sqlite_file(other) is None


def test_a_folder_whose_name_would_end_an_address_is_refused() -> None:
    with pytest.raises(RecordError, match=r"without a question mark.* but /data/why\?x=1 has one: name another folder"):
        sqlite_url(Path("/data/why?x=1/optuna.db"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sqlite:///runs/both.db", f"sqlite:///{Path.cwd()}/runs/both.db?timeout=60", True),
        ("sqlite:///runs/one.db", "sqlite:///runs/other.db", False),
        ("postgresql://ann:a@db:5432/lab", "postgresql+psycopg2://bob:b@db:5432/lab", True),
        ("postgresql://db/lab", "postgresql://db/other", False),
        ("postgresql://db/lab", "postgresql://db/lab?options=-csearch_path%3Dmlflow", False),
        ("sqlite:///runs/one.db", "http://tracking:5000", False),
        ("sqlite:///runs/one.db", "databricks", False),
    ],
)
def test_a_database_is_one_whoever_logs_in(one: str, other: str, same: bool) -> None:
    assert same_database(one, other) == same


def test_a_trial_lies_in_the_folder_of_its_study_whose_name_may_hold_slashes() -> None:
    study = study_folder(Path("runs"), "rank/tune/16")
    assert trial_folder(study, "abc") == Path("runs/rank/tune/16/trials/abc")
