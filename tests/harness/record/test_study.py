from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler

from harness.errors import OtherFolder, OtherQuestion
from harness.record.storage import open_storage
from harness.record.study import MARK, Record, open_record, trial_count
from sam2lora.choice import to_plain
from sam2lora.config import TrialConfig

from ..conftest import QUESTION


def test_of_other_data_sets_the_names_are_told_and_the_command_that_began(tmp_path: Path) -> None:
    def question(*sources: str, digest: str = "1") -> dict[str, object]:
        materials = {f"data/{name}": digest for name in sources} | {"weights/nano": "1"}
        protocol = {"kind": "transfer", "sources": [{"kind": name, "annotator": "first"} for name in sources]}
        return {**QUESTION, "sources": list(sources), "protocol": protocol, "materials": materials}

    def opened(asked: dict[str, object]) -> None:
        url = f"sqlite:///{tmp_path / 'optuna.db'}"
        open_record(url, "study", tmp_path, asked, RandomSampler(), "python -m harness.search x --data fundus")

    opened(question("drive", "stare"))
    with pytest.raises(OtherQuestion) as refusal:
        opened({**question("dogwood", "elm"), "targets": [], "epochs": 5})
    assert str(refusal.value).splitlines()[1:] == [
        "  sources: recorded drive, stare; now dogwood, elm",
        "  targets: recorded cedar; now none",
        "  epochs: recorded 3; now 5",
        "Name another study with --study, or give the recorded values. The study was started with:",
        "  python -m harness.search x --data fundus",
    ]
    with pytest.raises(OtherQuestion) as refusal:
        opened(question("drive", "stare", digest="2"))
    assert "  materials.data/drive: recorded 1; now 2" in str(refusal.value)


def test_a_study_of_another_version_says_what_changed_and_what_still_works(record: Record, tiny: TrialConfig) -> None:
    plain = to_plain(tiny)
    del plain["adapters"]
    settings = json.dumps({**plain, "adapter": None})
    record.study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"config": settings}))
    with pytest.raises(OtherQuestion) as refusal:
        open_record(record.storage_url, "study", record.out, {**QUESTION, "epochs": 5}, RandomSampler())
    assert "does not know (adapter; new are adapters)" in str(refusal.value)
    assert "its report still opens, but only the version that started it can continue it" in str(refusal.value)


def test_another_question_is_refused_with_every_difference(record: Record) -> None:
    changed = {**QUESTION, "epochs": 5, "sources": ["birch"], "seed": 1}
    with pytest.raises(OtherQuestion) as refusal:
        open_record(record.storage_url, "study", record.out, changed, RandomSampler())
    text = str(refusal.value)
    assert "epochs: recorded 3; now 5" in text
    assert "sources: recorded alder; now birch" in text
    assert "seed: recorded 0; now 1" in text
    assert "targets" not in text
    assert "--study" in text


def test_the_same_question_goes_on(record: Record) -> None:
    record.study.ask()
    again = open_record(record.storage_url, "study", record.out, dict(QUESTION), RandomSampler())
    assert len(again.trials()) == 1
    assert trial_count(open_storage(record.storage_url), "study") == 1
    assert trial_count(open_storage(record.storage_url), "another") == 0


def test_a_study_has_one_folder_wherever_that_is_moved(record: Record, tmp_path: Path) -> None:
    """A second folder has a lock of its own: two processes would train the same trials."""
    unmarked, marked = tmp_path / "unmarked", tmp_path / "of another study"
    for other in (unmarked, marked):
        (other / "study").mkdir(parents=True)
    (marked / "study" / MARK).write_text("another")
    for other in (unmarked, marked):
        with pytest.raises(OtherFolder, match=rf"keeps its files in {record.folder}, and .*--out.*--study"):
            open_record(record.storage_url, "study", other, dict(QUESTION), RandomSampler())
    moved = tmp_path / "moved"
    moved.mkdir()
    record.folder.rename(moved / "study")
    assert open_record(record.storage_url, "study", moved, dict(QUESTION), RandomSampler()).folder == moved / "study"
