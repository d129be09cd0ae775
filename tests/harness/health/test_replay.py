"""A trial that is trained for a second, recorded, and trained again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness import replay as command
from harness.errors import UnknownName
from harness.execution.engine import Engine
from harness.execution.messages import TrialOrder
from harness.health import replay
from harness.health.replay import Different, Equal, Rounded, compare, find
from harness.record import optuna_writer
from harness.record.outcome import TEST_RESULTS, Completed, Crashed, Outcome
from harness.record.study import Record
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig, trial_key
from sam2lora.files import PREDICTIONS
from sam2lora.integrity import read_result
from sam2lora.runtime import Runtime
from sam2lora.training.session import open_sets

from ..conftest import QUESTION


def tell(record: Record, key: str, config: TrialConfig, outcome: Outcome, curve: list[dict[str, float]]) -> None:
    trial = record.study.ask()
    optuna_writer.begin(trial, key, to_json(config), to_json(Replicate()), oracle_prompt=False)
    optuna_writer.tell(record, trial, outcome, curve, {})


@pytest.fixture
def study(record: Record, tiny: TrialConfig, runtime: Runtime) -> Record:
    """A completed trial, and one that crashed before its first epoch."""
    config = replace(tiny, epochs=1)
    protocol = config.protocol
    sets = open_sets((*protocol.sources, *protocol.targets), config.image_size, runtime)
    digests = {f"data/{opened.dataset.name}": opened.digest for opened in sets}
    key = trial_key(config, Replicate(), digests)
    order = TrialOrder(
        key=key, config=to_json(config), replicate=to_json(Replicate()), runtime=runtime,
        folder=str(record.files(key)),
    )  # fmt: skip
    entry = Engine().advance_one(order, 0)
    sealed = read_result(record.files(key))
    completed = Completed(1, entry["score"], **{name: sealed[name] for name in TEST_RESULTS})
    record.write(question={**QUESTION, "materials": digests})
    tell(record, key, config, completed, sealed["curve"])
    tell(record, "abc", config, Crashed(0, "bug"), [])
    return record


def test_a_trial_comes_out_as_recorded_and_restores_its_files(
    study: Record, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAM2LORA_CACHE", str(runtime.cache))
    key = study.trial(0).key
    picture = study.files(key) / PREDICTIONS
    before = picture.read_bytes()
    picture.unlink()
    assert command.main([key[:6], "--out", str(study.out), "--restore"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "curve: equal", "scores: equal", "adapter: equal", f"restored: {picture}",
    ]  # fmt: skip
    assert picture.read_bytes() == before


def test_another_result_is_named_where_it_begins(study: Record, runtime: Runtime, tmp_path: Path) -> None:
    trial = study.trial(0)
    moved = replace(trial, curve=[{**trial.curve[0], "score": trial.curve[0]["score"] + 0.01}])
    results = dict(replay.replay(study, moved, runtime, tmp_path / "scratch", lambda _: None))
    assert isinstance(results["curve"], Different)
    assert results["curve"].name == "score of epoch 1"
    assert results["scores"] == results["adapter"] == Equal()


def test_other_images_are_refused(
    study: Record, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAM2LORA_CACHE", str(runtime.cache))
    study.write(question={**QUESTION, "materials": {}})
    assert command.main(["0", "--out", str(study.out)]) == 2
    assert "replayed on the images that it saw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("zz", "is none of 2 trials"), ("", r"means .* \(trial 1 of study\)"), ("abc", "has no epoch")],
)
def test_a_trial_that_cannot_be_meant_is_refused(study: Record, name: str, said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        find(study.storage_url, study.out, name, None)
    with pytest.raises(UnknownName, match="has no 'another'"):
        find(study.storage_url, study.out, name, "another")


def test_comparisons() -> None:
    assert compare({"a": 1.0}, {"a": 1.0}, 1e-4) == Equal()
    assert compare({"a": 1000.0, "b": 0.5}, {"a": 1000.05, "b": 0.5}, 1e-4) == Rounded(pytest.approx(5e-5), "a")
    assert compare({"a": 0.5, "b": 1.0}, {"a": 0.6, "b": 2.0}, 1e-4) == Different("a", 0.5, 0.6)
    assert compare({"a": 0.5}, {}, 1e-4) == Different("a", 0.5, None)
    assert isinstance(compare({"a": 0.5}, {"a": math.nan}, 1e-4), Different)
