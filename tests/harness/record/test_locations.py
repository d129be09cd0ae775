from __future__ import annotations

from pathlib import Path

from harness.record.locations import RECORD, default_storage, sqlite_file, study_folder, trial_folder


def test_only_a_sqlite_address_has_a_file() -> None:
    assert sqlite_file(default_storage(Path("runs"))) == Path("runs", RECORD)
    assert sqlite_file("sqlite:////data/my runs/optuna.db") == Path("/data/my runs/optuna.db")
    assert sqlite_file("postgresql://nobody@nowhere/nothing") is None


def test_a_trial_lies_in_the_folder_of_its_study_whose_name_may_hold_slashes() -> None:
    study = study_folder(Path("runs"), "rank/tune/16")
    assert trial_folder(study, "abc") == Path("runs/rank/tune/16/trials/abc")
